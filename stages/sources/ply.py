"""PLY files as scans: coloured vertices, or one texture that a comment names."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from trimesh.exchange.ply import load_ply

from stages.sources.mesh import Limits, Material, RawMesh, ScanError, file_beside, read_bounded
from stages.sources.textures import TextureReader, to_bytes


class _Names:
    """Stands for a folder: remembers the texture that a file asks for, and gives an empty picture for it."""

    def __init__(self) -> None:
        self.texture = ""

    def get(self, name: str) -> bytes:
        self.texture = name
        blank = BytesIO()
        Image.new("RGB", (1, 1)).save(blank, "PNG")
        return blank.getvalue()


def read_ply(path: Path, limits: Limits) -> RawMesh:
    """An ascii or binary PLY file with triangles or quads.

    Raises:
        ScanError: one sentence on why the scan cannot be used.
    """
    names = _Names()
    try:
        mesh = load_ply(BytesIO(read_bounded(path, limits.file_bytes)), resolver=names)  # type: ignore[arg-type]  # all it asks for
        vertices = np.asarray(mesh["vertices"], np.float64)
        faces = np.asarray(mesh["faces"], np.int64)
        faces = np.concatenate([faces[:, [0, i, i + 1]] for i in range(1, faces.shape[1] - 1)])
        uv = mesh["visual"].uv if "visual" in mesh else None
    except ScanError:
        raise
    except Exception as error:  # trimesh raises whatever it meets in a damaged file
        raise ScanError(f"{path.name} is damaged or no mesh in PLY format ({type(error).__name__})") from None
    _check_length(path, mesh["metadata"]["_ply_raw"])
    colours = mesh.get("vertex_colors")
    corner_uv = np.full((len(faces), 3, 2), np.nan)
    material = Material()
    if uv is not None and names.texture:
        corner_uv = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)[faces]
        material = Material(texture=TextureReader(limits).read(file_beside(path.parent, names.texture)))
        colours = None  # trimesh has split vertices along the texture's seams, but not their colours
    elif colours is None:
        raise ScanError(f"{path.name} has no colours: neither on its vertices nor as a texture")
    return RawMesh(
        vertices=vertices,
        faces=faces,
        corner_uv=corner_uv,
        face_material=np.zeros(len(faces), np.int64),
        materials=[material],
        vertex_rgb=None if colours is None else _rgb(np.asarray(colours)[:, :3]),
    )


def _check_length(path: Path, elements: dict) -> None:
    """Refuse a file with fewer lines than its header announces: trimesh reads what is there."""
    for name in ("vertex", "face"):
        data = elements[name]["data"]
        found = len(next(iter(data.values()))) if isinstance(data, dict) else len(data)
        if found != elements[name]["length"]:
            raise ScanError(f"{path.name} is cut off: {found} of {elements[name]['length']} {name} lines")


def _rgb(colours: np.ndarray) -> np.ndarray:
    """uint8 colours from 8 or 16 bits, or floats in [0, 1]."""
    if colours.dtype == np.uint8:
        return colours
    if np.issubdtype(colours.dtype, np.integer):
        return to_bytes(colours / np.iinfo(colours.dtype).max)
    return to_bytes(np.nan_to_num(colours))
