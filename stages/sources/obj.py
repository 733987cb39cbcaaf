"""Wavefront OBJ and MTL as NumPy arrays, without trusting the file."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.sources.mesh import Limits, ScanError, read_bounded
from stages.sources.textures import to_bytes

MAX_MTL_BYTES = 1 << 20


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
        vertex_rgb: (V, 3) uint8 from `v x y z r g b` lines, or None.
    """

    vertices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    uv_faces: np.ndarray
    face_material: np.ndarray
    materials: list[str]
    libraries: list[str]
    vertex_rgb: np.ndarray | None = None


@dataclass
class MtlEntry:
    """One material of an MTL file: its colour (Kd, 0–1) and the files that it names."""

    colour: tuple[float, float, float] | None = None
    map_colour: str | None = None
    map_opacity: str | None = None


def read_obj(path: Path, limits: Limits | None = None) -> ObjMesh:
    """Parse an OBJ file.

    Raises:
        ScanError: too large, no vertices, no faces, malformed numbers, or indices out of range.
    """
    text = read_bounded(path, (limits or Limits()).file_bytes)
    lines = _lines(text)
    places = {kind: [i for i, line in enumerate(lines) if line.startswith(kind)] for kind in (b"v ", b"vt ")}
    vertices = _table([lines[i][2:] for i in places[b"v "]], path, "v", 3)
    uv = _table([lines[i][3:] for i in places[b"vt "]], path, "vt", 2)
    face_places = np.array([i for i, line in enumerate(lines) if line[:2] == b"f "], dtype=int)
    if not len(vertices):
        raise ScanError(f"{path.name} has no vertices")
    if not len(face_places):
        raise ScanError(f"{path.name} has no faces")
    corners, face_line = _read_faces([lines[i][2:] for i in face_places], path)
    line = face_places[face_line]
    for column, kind in enumerate(places):
        corners[..., column] = _from_zero(corners[..., column], line, places[kind])
    _check_range(corners[..., 0], len(vertices), path, "vertex")
    _check_range(corners[..., 1], len(uv), path, "texture vertex", optional=True)
    face_material, materials = _materials(lines, line)
    libraries = [_text(line[7:]) for line in lines if line[:7] == b"mtllib "]
    return ObjMesh(
        vertices=vertices[:, :3],
        uv=uv[:, :2],
        faces=corners[..., 0],
        uv_faces=corners[..., 1],
        face_material=face_material,
        materials=materials,
        libraries=libraries,
        vertex_rgb=_vertex_rgb(vertices[:, 3:6]) if vertices.shape[1] >= 6 else None,
    )


def read_mtl(path: Path) -> dict[str, MtlEntry]:
    """The materials of an MTL file by name.

    Uniform opacity (`d`, `Tr`) is left out: exporters do not agree on which of 0 and 1 is opaque.
    """
    entries: dict[str, MtlEntry] = {}
    entry = MtlEntry()
    for line in _lines(read_bounded(path, MAX_MTL_BYTES)):
        key, _, rest = _text(line).partition(" ")
        rest = rest.strip()
        if key == "newmtl":
            entry = entries[rest] = MtlEntry()
        elif key == "map_Kd":
            entry.map_colour = _file_name(rest)
        elif key == "map_d":
            entry.map_opacity = _file_name(rest)
        elif key == "Kd":
            entry.colour = _colour(rest, path)
    return entries


def _colour(text: str, path: Path) -> tuple[float, float, float]:
    """The three numbers of a Kd line; one number is grey."""
    numbers = _numbers(text.encode(), path, "Kd")
    if len(numbers) not in (1, 3) or not np.isfinite(numbers).all():
        raise ScanError(f"{path.name}: a 'Kd' line does not hold 3 numbers")
    red, green, blue = np.broadcast_to(numbers, 3).tolist()
    return red, green, blue


def _file_name(text: str) -> str:
    """The file of a map line: all of it, or its last word where options stand before."""
    return text.split()[-1] if text.startswith("-") else text


def _vertex_rgb(colours: np.ndarray) -> np.ndarray:
    """(V, 3) colours in [0, 1] or, where any is above 1, in 0–255."""
    colours = np.nan_to_num(colours)
    return to_bytes(colours / 255 if colours.max() > 1 else colours)


def _lines(data: bytes) -> list[bytes]:
    """Lines of an OBJ or MTL file; a backslash at the end of one joins the next."""
    return data.replace(b"\r", b"").replace(b"\t", b" ").replace(b"\\\n", b" ").split(b"\n")


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").strip()


def _table(rows: list[bytes], path: Path, kind: str, columns: int) -> np.ndarray:
    """Number lines of equal length, at least `columns` long, as (N, …)."""
    if not rows:
        return np.zeros((0, columns))
    width = len(rows[0].split())
    values = _numbers(b" ".join(rows), path, kind)
    if width < columns or len(values) != width * len(rows):
        raise ScanError(f"{path.name}: the '{kind}' lines do not all hold {width} numbers")
    return values.reshape(-1, width)


def _numbers(text: bytes, path: Path, kind: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy's way to say that a token is no number
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            raise ScanError(f"{path.name}: a '{kind}' line holds something that is not a number") from None


def _read_faces(rows: list[bytes], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Polygons as fans of triangles: corners (F, 3, 2) = vertex, texture vertex as written (0: none); lines."""
    rows = [b" ".join(row.split()) for row in rows]
    layouts: dict[bytes, list[int]] = {}  # rows whose corners have the same slashes are read at once
    for number, row in enumerate(rows):
        layouts.setdefault(row.translate(None, b"+-0123456789"), []).append(number)
    triangles, lines = [], []
    for layout, members in sorted(layouts.items()):
        corner = _read_polygons([rows[i] for i in members], layout.split(b" "), path)
        count = corner.shape[1]
        fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=1)
        triangles.append(corner[:, fan].reshape(-1, 3, 2))
        lines.append(np.repeat(members, count - 2))
    line = np.concatenate(lines)
    order = np.argsort(line, kind="stable")
    return np.concatenate(triangles)[order], line[order]


def _read_polygons(rows: list[bytes], slashes: list[bytes], path: Path) -> np.ndarray:
    """Polygons whose corners are v, v/vt, v/vt/vn or v//vn by their slashes: (N, corners, 2), 0 = no vt."""
    if len(slashes) < 3:
        raise ScanError(f"{path.name}: a face has {len(slashes)} corners")
    if not set(slashes) <= {b"", b"/", b"//"}:
        raise ScanError(f"{path.name}: an 'f' line holds something that is not a number")
    text = b" ".join(rows).replace(b"//", b"/0/").replace(b"/", b" ")
    fields = np.array([len(s) + 1 for s in slashes])
    values = _numbers(text, path, "f")
    if len(values) != len(rows) * fields.sum():
        raise ScanError(f"{path.name}: an 'f' line lacks a number between slashes")
    values = values.reshape(-1, fields.sum()).astype(np.int64)
    first = np.cumsum(fields) - fields
    texture = np.where(fields > 1, values[:, np.minimum(first + 1, values.shape[1] - 1)], 0)
    return np.stack([values[:, first], texture], axis=-1)


def _from_zero(index: np.ndarray, line: np.ndarray, places: list[int]) -> np.ndarray:
    """Numbers from 0 of (F, 3) indices as written: from 1, or relative to those defined before the line.

    Args:
        line: (F,) where the face stands.
        places: where the vertices stand, in order.
    """
    before = np.searchsorted(places, line)[:, None]
    relative = np.where(before + index < 0, -2, before + index)  # −1 would mean none
    return np.where(index < 0, relative, index - 1)


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
