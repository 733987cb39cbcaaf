from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.sources.mesh import Limits, RawMesh, ScanError
from stages.sources.ply import read_ply

HEAD = "ply\nformat ascii 1.0\n{comment}element vertex 4\n{vertex}element face {faces}\n{face}end_header\n"
XYZ = "property float x\nproperty float y\nproperty float z\n"
CORNERS = ("0 0 0", "1 0 0", "1 1 0", "0 1 0")
QUAD = "property list uchar int vertex_indices\n"


def read(tmp_path: Path, vertex: str, rows: list[str], face: str, line: str, comment: str = "") -> RawMesh:
    path = tmp_path / "a.ply"
    text = HEAD.format(comment=comment, vertex=XYZ + vertex, face=face, faces=line.count("\n") + 1)
    path.write_text(text + "\n".join([*rows, line, ""]))
    return read_ply(path, Limits())


@pytest.mark.parametrize(
    ("kind", "values", "rgb"),
    [
        ("uchar", "10 20 255", [10, 20, 255]),
        ("ushort", "0 32768 65535", [0, 128, 255]),
        ("float", "0 0.5 1", [0, 128, 255]),
    ],
)
def test_a_quad_with_colours_of_any_kind(tmp_path: Path, kind: str, values: str, rgb: list[int]) -> None:
    properties = "".join(f"property {kind} {name}\n" for name in ("red", "green", "blue"))
    mesh = read(tmp_path, properties, [f"{c} {values}" for c in CORNERS], QUAD, "4 0 1 2 3")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.vertex_rgb is not None
    assert mesh.vertex_rgb.tolist() == [rgb] * 4
    assert np.isnan(mesh.corner_uv).all()


def test_a_texture_by_corner_as_meshlab_writes_it(tmp_path: Path) -> None:
    """v points up in the file; the texture lies beside it."""
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "skin.png")
    face = QUAD + "property list uchar float texcoord\n"
    line = "3 0 1 2 6 0 0 1 0.25 1 1\n3 0 2 3 6 0 0 1 1 0 0.5"
    mesh = read(tmp_path, "", list(CORNERS), face, line, "comment TextureFile skin.png\n")
    np.testing.assert_allclose(mesh.corner_uv, [[[0, 1], [1, 0.75], [1, 0]], [[0, 1], [1, 0], [0, 0.5]]])
    np.testing.assert_array_equal(mesh.vertices[mesh.faces[1]], [[0, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert mesh.materials[0].texture is not None
    assert mesh.materials[0].texture[0, 0].tolist() == [1, 2, 3, 255]


@pytest.mark.parametrize(("name", "reason"), [("../skin.png", "outside"), ("skin.png", "missing")])
def test_no_texture_outside_the_folder(tmp_path: Path, name: str, reason: str) -> None:
    face = QUAD + "property list uchar float texcoord\n"
    line = "3 0 1 2 6 0 0 1 0 1 1"
    with pytest.raises(ScanError, match=reason):
        read(tmp_path, "", list(CORNERS), face, f"{line}\n{line}", f"comment TextureFile {name}\n")
