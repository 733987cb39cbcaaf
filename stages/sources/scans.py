"""Scans of any layout: which files of a folder are scans, and each as a mesh in metres, y up, facing +z."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from stages._core.scan_store import Scan
from stages.sources.card import Card
from stages.sources.gltf import read_gltf
from stages.sources.mesh import Limits, RawMesh, ScanError, check_mesh
from stages.sources.obj_scan import read_obj_scan
from stages.sources.placement import GLTF, UNKNOWN, Placement, place
from stages.sources.ply import read_ply
from stages.sources.textures import OPAQUE, face_palette, solid

READERS: dict[str, Callable[[Path, Limits], RawMesh]] = {
    ".obj": read_obj_scan,
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".ply": read_ply,
}
"""By the ending of the file's name in lower case; where a folder has several, the first of these counts."""


def list_scans(root: Path) -> dict[str, Path]:
    """The scans of a data set by name, in the order of names: its folders, and mesh files directly in it.

    A file's scan is named by its stem, or by its whole name where that is taken. Hidden ones do not count.
    """
    entries = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    entries = [p for p in entries if p.is_dir() or p.suffix.lower() in READERS]
    stems = [p.name if p.is_dir() else p.stem for p in entries]
    names = [s if stems.count(s) == 1 else p.name for s, p in zip(stems, entries, strict=True)]
    return dict(sorted(zip(names, entries, strict=True)))


def load_scan(path: Path, card: Card, limits: Limits) -> Scan:
    """Read one scan, a folder or a mesh file: metres, y up, facing +z.

    A texture `material0.png` may have a twin `material0_parts.png` with CIHP labels (255 = unknown).

    Raises:
        ScanError: one sentence on why the scan cannot be used.
    """
    return load_placed_scan(path, card, limits)[0]


def load_placed_scan(path: Path, card: Card, limits: Limits) -> tuple[Scan, Placement]:
    """The same, and how the raw mesh was moved: what was measured on it has to be moved alike."""
    file = find_mesh(path) if path.is_dir() else path
    suffix = file.suffix.lower()
    mesh = READERS[suffix](file, limits)
    check_mesh(mesh, limits)
    placement = place(mesh.vertices, mesh.faces, card, GLTF if suffix in (".glb", ".gltf") else UNKNOWN)
    corner_uv, material, textures = _surface(mesh)
    if textures and all((texture[..., 3] < OPAQUE).all() for texture in textures):
        raise ScanError("every texel of the scan is transparent")
    scan = Scan(
        vertices=placement.apply(mesh.vertices).astype(np.float32),
        faces=mesh.faces.astype(np.int32),
        corner_uv=corner_uv.astype(np.float32),
        face_material=material.astype(np.int16),
        textures=textures,
        texture_parts=mesh.materials[0].parts if len(textures) == 1 else None,
        vertex_rgb=None if textures else mesh.vertex_rgb,
    )
    return scan, placement


LOADERS: dict[str, Callable[[Path, Card, Limits], tuple[Scan, Placement]]] = {"scans": load_placed_scan}
"""Adapters whose raw data are meshes, by the card's `adapter`."""


def find_mesh(folder: Path) -> Path:
    """The mesh of a scan folder: the one named as the folder, else the only one.

    Looked for in the folder, then in the folders directly in it. Where names differ only in how many thousand
    faces they say (`_100k`, `_30k`), the most detailed counts.

    Raises:
        ScanError: none, or several.
    """
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    for files in (sorted(folder.iterdir()), [p for f in inner for p in sorted(f.iterdir())]):
        for suffix in READERS:
            found = [p for p in files if p.is_file() and p.suffix.lower() == suffix]
            named = [p for p in found if p.stem == folder.name]
            found = named or _finest(found)
            if len(found) > 1:
                raise ScanError(
                    f"the folder holds {len(found)} {suffix} files and none is named {folder.name}{suffix}"
                )
            if found:
                return found[0]
    raise ScanError(f"the folder holds no mesh file ({', '.join(READERS)})")


def _finest(files: list[Path]) -> list[Path]:
    """Of files that differ only in `_NUMBERk`, the one with the largest number."""
    detail = re.compile(r"_(\d{1,6})k$")
    sizes = [detail.search(p.stem) for p in files]
    if not all(sizes) or len({detail.sub("", p.stem) for p in files}) != 1:
        return files
    return [max(files, key=lambda p: int(detail.search(p.stem)[1]))]  # type: ignore[index]


def _surface(mesh: RawMesh) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Texture coordinates (F, 3, 2), texture numbers (F,) and textures.

    Materials with the same texture share it. Faces without texture get one texel: a colour per material, or
    per face where vertices have colours. There are no textures where vertex colours are all there is.
    """
    has_texture = np.array([m.texture is not None for m in mesh.materials])
    plain = ~has_texture[mesh.face_material] | np.isnan(mesh.corner_uv).any(axis=(1, 2))
    if plain.all() and mesh.vertex_rgb is not None:
        return np.zeros((len(plain), 3, 2)), np.zeros(len(plain), int), []
    textures: list[np.ndarray] = []
    number = np.zeros(len(mesh.faces), int)
    corner_uv = np.where(plain[:, None, None], 0.5, mesh.corner_uv)
    for here, texture in _looks(mesh, plain):
        same = [i for i, known in enumerate(textures) if known is texture]
        number[here] = same[0] if same else len(textures)
        textures += [] if same else [texture]
    if plain.any() and mesh.vertex_rgb is not None:
        mean = mesh.vertex_rgb[mesh.faces[plain]].mean(axis=1)
        texture, uv = face_palette((mean + 0.5).astype(np.uint8))
        corner_uv[plain] = uv[:, None]
        number[plain] = len(textures)
        textures.append(texture)
    return corner_uv, number, textures


def _looks(mesh: RawMesh, plain: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Faces (as a mask) and their texture, material by material."""
    for index in np.unique(mesh.face_material):
        material, here = mesh.materials[index], mesh.face_material == index
        if material.texture is not None and (here & ~plain).any():
            yield here & ~plain, material.texture
        if mesh.vertex_rgb is None and (here & plain).any():
            yield here & plain, solid(material.rgba)
