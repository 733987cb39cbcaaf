"""Raw scans on disk in the layout of THuman2.0: NAME/NAME.obj, material0.mtl, material0.png."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from stages._core.publish import write_file
from stages.people.scan import ScanMesh

MATERIAL = "material0"
_MTL = f"newmtl {MATERIAL}\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\nmap_Kd {MATERIAL}.png\n"


def write_scan(folder: Path, mesh: ScanMesh, texture_png: bytes, parts_png: bytes) -> None:
    """Write one scan folder; the OBJ comes last, so a folder with an OBJ is complete."""
    write_file(folder / f"{MATERIAL}.png", texture_png)
    write_file(folder / f"{MATERIAL}_parts.png", parts_png)
    write_file(folder / f"{MATERIAL}.mtl", _MTL)
    write_file(folder / f"{folder.name}.obj", obj_text(mesh))


def obj_text(mesh: ScanMesh) -> str:
    """The mesh as Wavefront OBJ: tenths of a millimetre, texture coordinates to a tenth of a texel."""
    corners = np.stack([mesh.faces, mesh.uv_faces], axis=-1) + 1
    return "".join([
        f"# metres, y up, facing +z\nmtllib {MATERIAL}.mtl\nusemtl {MATERIAL}\n",
        _lines("v %.4f %.4f %.4f\n", mesh.vertices),
        _lines("vt %.4f %.4f\n", mesh.uv),
        _lines("f %d/%d %d/%d %d/%d\n", corners.reshape(-1, 6)),
    ])  # fmt: skip


def png_bytes(image: np.ndarray) -> bytes:
    """Encode (H, W) or (H, W, 3) uint8 quickly rather than tightly."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _lines(pattern: str, rows: np.ndarray) -> str:
    # One formatting call for all rows: about 10 times faster than np.savetxt.
    return (pattern * len(rows)) % tuple(rows.ravel().tolist())
