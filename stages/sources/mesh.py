"""What the readers of all mesh formats give, and the errors and bounds that they share."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np


class ScanError(ValueError):
    """A scan that cannot be used; the text is one sentence saying why."""


class MissingFileError(ScanError):
    """A file that a mesh names and that is not there."""


@dataclass(frozen=True)
class Limits:
    """What a scan may cost.

    Attributes:
        vertices: largest number of vertices, and of faces divided by 4.
        texture_pixels: largest image that is decoded, and the most that all textures of a scan may hold.
        texture_side: larger textures are reduced to this many texels a side.
        file_bytes: largest mesh file, with the buffers that it names.
        materials: largest number of materials.
    """

    vertices: int = 2_000_000
    texture_pixels: int = 16384 * 16384
    texture_side: int = 4096
    file_bytes: int = 512 << 20
    materials: int = 1000


@dataclass(frozen=True)
class Material:
    """How some faces look.

    Attributes:
        rgba: colour of faces without texture, 0–255, sRGB.
        texture: (h, w, 4) uint8 RGBA, or None.
        parts: (h, w) uint8 CIHP labels beside the texture, or None.
    """

    rgba: tuple[int, int, int, int] = (255, 255, 255, 255)
    texture: np.ndarray | None = None
    parts: np.ndarray | None = None


@dataclass(frozen=True)
class RawMesh:
    """A mesh as its file has it: its own units and axes.

    Attributes:
        vertices: (V, 3) float64.
        faces: (F, 3) int64.
        corner_uv: (F, 3, 2) float64, v down; NaN where a corner has none.
        face_material: (F,) int64 index into `materials`.
        materials: at least one.
        vertex_rgb: (V, 3) uint8 sRGB, or None; counts for faces without texture.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_uv: np.ndarray
    face_material: np.ndarray
    materials: list[Material]
    vertex_rgb: np.ndarray | None = None


def check_mesh(mesh: RawMesh, limits: Limits) -> None:
    """Raise ScanError for a mesh that is too large, not finite, out of range, or without any area."""
    vertices, faces = mesh.vertices, mesh.faces
    if not len(vertices) or not len(faces):
        raise ScanError(f"the mesh has {len(vertices)} vertices and {len(faces)} faces, some are needed")
    if len(vertices) > limits.vertices or len(faces) > 4 * limits.vertices:
        raise ScanError(
            f"the mesh has {len(vertices)} vertices and {len(faces)} faces, "
            f"at most {limits.vertices} and {4 * limits.vertices} are read"
        )
    if len(mesh.materials) > limits.materials:
        raise ScanError(f"the mesh has {len(mesh.materials)} materials, at most {limits.materials} are read")
    if not np.isfinite(vertices).all():
        raise ScanError(f"{int((~np.isfinite(vertices)).any(axis=1).sum())} vertices are not finite numbers")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ScanError(f"a face names a vertex that does not exist ({len(vertices)} are there)")
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    if not np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() > 0:
        raise ScanError("the mesh has no area")


def file_beside(folder: Path, name: str) -> Path:
    """The file that a mesh names, which must lie in the scan's own folder.

    Only the name is judged: a link is followed, because data sets are linked from elsewhere.

    Raises:
        ScanError: an absolute path or one that leaves the folder.
        MissingFileError: a file that is not there.
    """
    plain = PurePosixPath(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or ":" in name or "\0" in name:
        raise ScanError(f"the path {name!r} points outside the scan's folder")
    path = folder / plain
    if not path.is_file():
        raise MissingFileError(f"the file {name!r} is missing")
    return path


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file. Raises ScanError where it has more than `limit` of them or cannot be read."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise ScanError(f"{path.name} has {size >> 20} MiB, at most {limit >> 20} are read")
        return path.read_bytes()
    except OSError as error:
        raise ScanError(f"{path.name} cannot be read ({error.strerror})") from None
