"""Wavefront OBJ and MTL as NumPy arrays, without trusting the file."""

import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

MAX_OBJ_BYTES = 512 << 20
MAX_MTL_BYTES = 1 << 20


class ScanError(ValueError):
    """A scan that cannot be used; the text is one sentence saying why."""


@dataclass(frozen=True)
class ObjMesh:
    """What an OBJ file says, polygons split into triangles.

    Attributes:
        vertices: (V, 3) float64, in the file's units.
        uv: (T, 2) float64, v up as in the format.
        faces: (F, 3) int64 vertex numbers from 0.
        uv_faces: (F, 3) int64 texture vertex numbers from 0, −1 where a corner has none.
        face_material: (F,) int64 index into `materials`.
        materials: names in order of first use.
        libraries: names of the .mtl files.
    """

    vertices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    uv_faces: np.ndarray
    face_material: np.ndarray
    materials: list[str]
    libraries: list[str]


def read_obj(path: Path) -> ObjMesh:
    """Parse an OBJ file.

    Raises:
        ScanError: too large, no vertices, no faces, malformed numbers, or indices out of range.
    """
    lines = _read_bounded(path, MAX_OBJ_BYTES).split(b"\n")
    vertices = _table([line[2:] for line in lines if line[:2] == b"v "], path, "v", 3)
    uv = _table([line[3:] for line in lines if line[:3] == b"vt "], path, "vt", 2)
    places = [i for i, line in enumerate(lines) if line[:2] == b"f "]
    if not len(vertices):
        raise ScanError(f"{path.name} has no vertices")
    if not places:
        raise ScanError(f"{path.name} has no faces")
    corners, face_line = _read_faces([lines[i][2:] for i in places], path)
    _check_range(corners[..., 0], len(vertices), path, "vertex")
    _check_range(corners[..., 1], len(uv), path, "texture vertex", optional=True)
    face_material, materials = _materials(lines, np.asarray(places)[face_line])
    libraries = [_text(line[7:]) for line in lines if line[:7] == b"mtllib "]
    return ObjMesh(vertices, uv, corners[..., 0], corners[..., 1], face_material, materials, libraries)


def read_mtl(path: Path) -> dict[str, str | None]:
    """Material name → file name of its colour texture (map_Kd), None where it has none."""
    textures: dict[str, str | None] = {}
    name = ""
    for line in _read_bounded(path, MAX_MTL_BYTES).split(b"\n"):
        key, _, rest = _text(line).partition(" ")
        if key == "newmtl":
            name = rest.strip()
            textures[name] = None
        elif key == "map_Kd" and name:
            textures[name] = rest.split()[-1] if rest.lstrip().startswith("-") else rest.strip()
    return textures


def file_beside(folder: Path, name: str) -> Path:
    """The file that an OBJ or MTL names, which must lie in the scan's own folder.

    Raises:
        ScanError: an absolute path or one that leaves the folder, or a file that is not there.
    """
    plain = PurePosixPath(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or ":" in name:
        raise ScanError(f"the path {name!r} points outside the scan's folder")
    path = folder / plain
    if not path.is_file():
        raise ScanError(f"the file {name!r} is missing")
    return path


def _read_bounded(path: Path, limit: int) -> bytes:
    size = path.stat().st_size
    if size > limit:
        raise ScanError(f"{path.name} has {size >> 20} MiB, at most {limit >> 20} are read")
    return path.read_bytes().replace(b"\r", b"").replace(b"\t", b" ")


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").strip()


def _table(rows: list[bytes], path: Path, kind: str, columns: int) -> np.ndarray:
    """Number lines of equal length as (N, columns); further numbers (w, vertex colours) are left out."""
    if not rows:
        return np.zeros((0, columns))
    width = len(rows[0].split())
    values = _numbers(b" ".join(rows), path, kind)
    if width < columns or len(values) != width * len(rows):
        raise ScanError(f"{path.name}: the '{kind}' lines do not all hold {width} numbers")
    return values.reshape(-1, width)[:, :columns]


def _numbers(text: bytes, path: Path, kind: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy's way to say that a token is no number
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            raise ScanError(f"{path.name}: a '{kind}' line holds something that is not a number") from None


def _read_faces(rows: list[bytes], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Polygons as fans of triangles: corners (F, 3, 2) = vertex, texture vertex (−1: none); their lines."""
    counts = np.array([len(row.split()) for row in rows])
    slashes = np.array([row.count(b"/") for row in rows])
    if counts.min() < 3:
        raise ScanError(f"{path.name}: a face has {counts.min()} corners")
    triangles, lines = [], []
    for count, slash in sorted(set(zip(counts.tolist(), slashes.tolist(), strict=True))):
        members = np.flatnonzero((counts == count) & (slashes == slash))
        corner = _read_polygons([rows[i] for i in members], count, slash // count + 1, path)
        fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=1)
        triangles.append(corner[:, fan].reshape(-1, 3, 2) - 1)
        lines.append(np.repeat(members, count - 2))
    line = np.concatenate(lines)
    order = np.argsort(line, kind="stable")
    return np.concatenate(triangles)[order], line[order]


def _read_polygons(rows: list[bytes], count: int, fields: int, path: Path) -> np.ndarray:
    """Polygons of `count` corners of v (1 field), v/vt (2), v/vt/vn or v//vn (3) as (N, count, 2), 0 = no vt."""
    text = b" ".join(rows).replace(b"//", b" 0 ").replace(b"/", b" ")
    values = _numbers(text, path, "f")
    if len(values) != len(rows) * count * fields:
        raise ScanError(f"{path.name}: an 'f' line mixes corners with and without texture")
    values = values.reshape(-1, count, fields).astype(np.int64)
    if values[..., :2].min() < 0:
        raise ScanError(f"{path.name}: negative (relative) indices are not supported")
    if fields == 1:
        return np.concatenate([values, np.zeros_like(values)], axis=2)
    return values[..., :2]


def _check_range(index: np.ndarray, count: int, path: Path, what: str, optional: bool = False) -> None:
    low = -1 if optional else 0
    if index.min() < low or index.max() >= count:
        raise ScanError(f"{path.name}: a face names a {what} that does not exist ({count} are there)")


def _materials(lines: list[bytes], face_line: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The material in force at each face's line; "" before the first usemtl."""
    switches = [(i, _text(line[7:])) for i, line in enumerate(lines) if line[:7] == b"usemtl "]
    place = np.searchsorted([i for i, _ in switches], face_line)  # 0: before the first
    names = ["", *(name for _, name in switches)]
    materials = list(dict.fromkeys(names[p] for p in np.unique(place)))
    number = np.array([materials.index(n) if n in materials else -1 for n in names])
    return number[place], materials
