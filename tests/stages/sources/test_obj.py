from pathlib import Path

import numpy as np
import pytest

from stages.sources.mesh import ScanError, file_beside
from stages.sources.obj import MtlEntry, read_mtl, read_obj

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "mesh.obj"
    path.write_text(text)
    return path


def test_quad_and_triangle_become_triangles_in_file_order(tmp_path: Path) -> None:
    mesh = read_obj(write(tmp_path, SQUARE + "f 1/4 2/3 3/2 4/1\nf 2/2 3/3 4/4\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [1, 2, 3]]
    assert mesh.uv_faces.tolist() == [[3, 2, 1], [3, 1, 0], [1, 2, 3]]


def test_corners_with_normals_and_without_texture(tmp_path: Path) -> None:
    mesh = read_obj(write(tmp_path, SQUARE + "vn 0 0 1\nf 1/1/1 2/2/1 3/3/1\nf 1//1 3//1 4//1\nf 1 2 4\n"))
    assert mesh.uv_faces.tolist() == [[0, 1, 2], [-1, -1, -1], [-1, -1, -1]]


def test_materials_follow_their_lines(tmp_path: Path) -> None:
    text = (
        SQUARE + "usemtl skin\nf 1/1 2/2 3/3\nusemtl cloth\nf 1/1 2/2 3/3 4/4\nusemtl skin\nf 2/2 3/3 4/4\n"
    )
    mesh = read_obj(write(tmp_path, text))
    assert [mesh.materials[m] for m in mesh.face_material] == ["skin", "cloth", "cloth", "skin"]


@pytest.mark.parametrize(("colour", "bytes_"), [("0 0.2 1", [0, 51, 255]), ("0 51 255", [0, 51, 255])])
def test_vertex_colours_of_either_range(tmp_path: Path, colour: str, bytes_: list[int]) -> None:
    mesh = read_obj(write(tmp_path, f"v 0 0 0 {colour}\nv 1 0 0 {colour}\nv 0 1 0 {colour}\nf 1 2 3\n"))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert mesh.vertex_rgb is not None
    assert mesh.vertex_rgb.tolist() == [bytes_] * 3


def test_corners_with_and_without_texture_in_one_face(tmp_path: Path) -> None:
    mesh = read_obj(write(tmp_path, SQUARE + "vn 0 0 1\nf 1/1/1 2/2 4\nf 1//1 3/3/1 4/4\n"))
    assert mesh.faces.tolist() == [[0, 1, 3], [0, 2, 3]]
    assert mesh.uv_faces.tolist() == [[0, 1, -1], [-1, 2, 3]]


def test_negative_indices_count_back_from_their_line(tmp_path: Path) -> None:
    mesh = read_obj(write(tmp_path, SQUARE + "f -4/-4 -3/-3 -2/-1\nv 9 9 9\nf -1 -2 -5//1\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [4, 3, 0]]
    assert mesh.uv_faces.tolist() == [[0, 1, 3], [-1, -1, -1]]


def test_a_backslash_joins_lines(tmp_path: Path) -> None:
    assert read_obj(write(tmp_path, SQUARE + "f 1 2 \\\r\n 3\r\n")).faces.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("f 1 2 3\n", "no vertices"),
        (SQUARE, "no faces"),
        (SQUARE + "f 1 2 9\n", "vertex that does not exist"),
        (SQUARE + "f 1/1 2/2 3/9\n", "texture vertex that does not exist"),
        (SQUARE + "f -1 -2 -5\n", "vertex that does not exist"),
        (SQUARE + "f 1/-1 2/-2 3/-5\n", "texture vertex that does not exist"),
        (SQUARE + "f 0 1 2\n", "vertex that does not exist"),
        (SQUARE + "f 1/ 2/ 3/\n", "lacks a number"),
        (SQUARE + "f 1 2 x\n", "not a number"),
        (SQUARE + "f 1/1/1/1 2 3\n", "not a number"),
        (SQUARE + "f 1 2\n", "2 corners"),
        (SQUARE + "v 1 2\nf 1 2 3\n", "do not all hold 3 numbers"),
        (SQUARE + "v 1 2 three\nf 1 2 3\n", "not a number"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ScanError, match=reason):
        read_obj(write(tmp_path, text))


def test_colours_of_materials(tmp_path: Path) -> None:
    path = tmp_path / "a.mtl"
    path.write_text(
        "newmtl a\nKd 1 0.5 0\nmap_Kd -s 1 1 1 skin.png\nnewmtl b\nKd 0.25\nd 0\n"
        "newmtl c\nmap_Kd my cloth.png\nmap_d my mask.png\n"
    )
    assert read_mtl(path) == {
        "a": MtlEntry((1.0, 0.5, 0.0), "skin.png"),
        "b": MtlEntry((0.25, 0.25, 0.25)),
        "c": MtlEntry(None, "my cloth.png", "my mask.png"),
    }


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.png", "a/../../secret.png", "C:\\x.png", "..\\x.png"]
)
def test_no_file_outside_the_folder_is_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").touch()
    (tmp_path / "scan").mkdir()
    with pytest.raises(ScanError, match="outside"):
        file_beside(tmp_path / "scan", name)
