"""Scan folders: `NAME/NAME.obj` with its `.mtl` and textures, one folder a scan (the layout of THuman2.0)."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages._core.scan_store import Scan
from stages.sources.card import METRES_PER_UNIT, Card
from stages.sources.obj import ObjMesh, ScanError, file_beside, read_mtl, read_obj

PARTS_SUFFIX = "_parts.png"


@dataclass(frozen=True)
class Limits:
    """What a scan may cost.

    Attributes:
        vertices: largest number of vertices, and of faces divided by 4.
        texture_pixels: largest image that is decoded.
        texture_side: larger textures are reduced to this many texels a side.
    """

    vertices: int = 2_000_000
    texture_pixels: int = 16384 * 16384
    texture_side: int = 4096


def list_scans(root: Path) -> list[Path]:
    """The scan folders of a data set, by name; hidden folders do not count."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def load_obj_folder(folder: Path, card: Card, limits: Limits) -> Scan:
    """Read one scan folder: metres, y up, feet at the raw height.

    A texture `material0.png` may have a twin `material0_parts.png` with CIHP labels (255 = unknown).

    Raises:
        ScanError: one sentence on why the scan cannot be used.
    """
    mesh = read_obj(_find_obj(folder))
    _check_mesh(mesh, limits)
    paths = _texture_paths(folder, mesh)
    textures = [_load_rgba(path, limits) for path in paths]
    vertices = mesh.vertices * _metres(mesh.vertices, card)
    uv = mesh.uv[mesh.uv_faces]
    return Scan(
        vertices=vertices.astype(np.float32),
        faces=mesh.faces.astype(np.int32),
        corner_uv=np.stack([uv[..., 0], 1.0 - uv[..., 1]], axis=-1).astype(np.float32),
        face_material=mesh.face_material.astype(np.int16),
        textures=textures,
        texture_parts=_load_parts(paths[0], limits) if len(paths) == 1 else None,
    )


LOADERS: dict[str, Callable[[Path, Card, Limits], Scan]] = {"scans": load_obj_folder}
"""Adapters whose raw data are meshes, by the card's `adapter`."""


def _find_obj(folder: Path) -> Path:
    """`NAME/NAME.obj`, or the only OBJ of the folder."""
    named = folder / f"{folder.name}.obj"
    if named.is_file():
        return named
    found = sorted(folder.glob("*.obj"))
    if not found:
        raise ScanError("the folder holds no .obj file")
    if len(found) > 1:
        raise ScanError(f"the folder holds {len(found)} .obj files and none is named {folder.name}.obj")
    return found[0]


def _check_mesh(mesh: ObjMesh, limits: Limits) -> None:
    if len(mesh.vertices) > limits.vertices or len(mesh.faces) > 4 * limits.vertices:
        raise ScanError(f"the mesh has {len(mesh.vertices)} vertices, at most {limits.vertices} are read")
    if not np.isfinite(mesh.vertices).all():
        raise ScanError(
            f"{int((~np.isfinite(mesh.vertices)).any(axis=1).sum())} vertices are not finite numbers"
        )
    if mesh.uv_faces.min() < 0:
        raise ScanError("the mesh has faces without texture coordinates")
    if not np.isfinite(mesh.uv).all():
        raise ScanError("some texture coordinates are not finite numbers")
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    if not np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() > 0:
        raise ScanError("the mesh has no area")


def _metres(vertices: np.ndarray, card: Card) -> float:
    """Metres per unit: the card's, or what makes the height that of a person in any pose."""
    if card.units != "auto":
        return METRES_PER_UNIT[card.units]
    height = float(np.ptp(vertices[:, 1]))
    for unit, low, high in (("m", 0.4, 3.0), ("cm", 40.0, 300.0), ("mm", 400.0, 3000.0)):
        if low <= height < high:
            return METRES_PER_UNIT[unit]
    raise ScanError(f"a height of {height:.4g} is no person's in metres, centimetres or millimetres")


def _texture_paths(folder: Path, mesh: ObjMesh) -> list[Path]:
    """The colour texture of every material in use."""
    if not mesh.libraries:
        raise ScanError("the mesh names no material file (mtllib), so it has no texture")
    textures: dict[str, str | None] = {}
    for library in mesh.libraries:
        textures.update(read_mtl(file_beside(folder, library)))
    paths = []
    for material in mesh.materials:
        name = textures.get(material)
        if name is None:
            raise ScanError(f"the material {material!r} has no colour texture (map_Kd)")
        paths.append(file_beside(folder, name))
    return paths


def _load_rgba(path: Path, limits: Limits) -> np.ndarray:
    image = _open_image(path, limits).convert("RGBA")
    factor = -(-max(image.size) // limits.texture_side)
    return np.array(image.reduce(factor) if factor > 1 else image)


def _load_parts(texture: Path, limits: Limits) -> np.ndarray | None:
    """The label texture beside a colour texture: a grey or palette image of class numbers."""
    path = texture.with_name(f"{texture.stem}{PARTS_SUFFIX}")
    if not path.is_file():
        return None
    image = _open_image(path, limits)
    if image.mode not in ("L", "P"):
        raise ScanError(f"{path.name} holds {image.mode} pixels, 8-bit labels (grey or palette) are expected")
    labels = np.array(image)
    factor = -(-max(labels.shape) // limits.texture_side)
    return labels[factor // 2 :: factor, factor // 2 :: factor] if factor > 1 else labels


def _open_image(path: Path, limits: Limits) -> Image.Image:
    """Decode an image whole; a bomb or a damaged file is a ScanError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
            with Image.open(path) as image:
                if image.width * image.height > limits.texture_pixels:
                    raise ScanError(
                        f"{path.name} has {image.width} × {image.height} pixels, too many to read"
                    )
                image.load()
                return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(f"{path.name} is damaged or no image ({error})") from None
