"""Each layout that people have scans in, made in the test: the render shows the right colour at the right place."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.sources.card import Card
from stages.sources.mesh import Limits, ScanError
from stages.sources.scans import find_mesh, list_scans, load_scan
from tests.stages.sources.box_person import (
    PARTS,
    BoxPerson,
    GltfFile,
    assert_is_the_person,
    obj_text,
    picture,
    write_ply,
    write_renderpeople,
    write_thuman,
)

CARD = Card(adapter="scans", path="data/raw/x", licence="CC0-1.0")
INPUTS = Path(os.environ.get("DINAR_TEST_INPUTS", Path(__file__).parents[4] / "shared"))


def load(path: Path) -> None:
    """Load with nothing said in the card, and look."""
    assert_is_the_person(load_scan(path, CARD, Limits()), atol=6)


def test_thuman(tmp_path: Path) -> None:
    load(write_thuman(tmp_path))


@pytest.mark.parametrize(
    "mtl",
    [
        "newmtl rp_anna_mat\nmap_Kd tex/rp_anna_posed_001_dif.jpg\n",
        "newmtl rp_anna_mat\nmap_Kd TEX\\RP_ANNA_POSED_001_DIF.JPG\n",
        "newmtl rp_anna_mat\nKd 1 1 1\n",
        "newmtl something_else\n",
    ],
    ids=["named", "named in capitals", "not named", "material missing"],
)
def test_renderpeople(tmp_path: Path, mtl: str) -> None:
    load(write_renderpeople(tmp_path, mtl))


def test_renderpeople_with_several_candidates_is_refused(tmp_path: Path) -> None:
    folder = write_renderpeople(tmp_path, "newmtl rp_anna_mat\n")
    picture().save(folder / "tex" / "rp_anna_posed_001_color.png")
    with pytest.raises(ScanError, match="2 images could be it"):
        load(folder)


def test_obj_with_a_material_a_part_and_no_texture(tmp_path: Path) -> None:
    person = BoxPerson.make()
    lines = obj_text(person, "mtllib a.mtl\n", vt=False).split("\n")
    faces = [line for line in lines if line.startswith("f ")]
    rest = [line for line in lines if not line.startswith("f ")]
    for number, name in enumerate(PARTS):
        rest += [f"usemtl {name}", *faces[12 * number : 12 * number + 12]]
    (tmp_path / "a.obj").write_text("\n".join(rest))
    values = (f"newmtl {n}\nKd " + " ".join(f"{c / 255:.4f}" for c in p[2]) for n, p in PARTS.items())
    (tmp_path / "a.mtl").write_text("\n".join(values))
    load(tmp_path / "a.obj")


def test_obj_with_vertex_colours_and_neither_vt_nor_mtl(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(obj_text(BoxPerson.make(), "", vt=False, rgb=True))
    scan = load_scan(tmp_path / "a.obj", CARD, Limits())
    assert scan.vertex_rgb is not None
    assert_is_the_person(scan)


def test_obj_whose_head_has_vertex_colours_and_the_rest_a_texture(tmp_path: Path) -> None:
    write_thuman(tmp_path, "a")
    text = obj_text(BoxPerson.make(), "mtllib material0.mtl\nusemtl material0\n", rgb=True).split("\n")
    faces = [i for i, line in enumerate(text) if line.startswith("f ")]
    for i in faces[:12]:
        text[i] = "f " + " ".join(corner.split("/")[0] for corner in text[i].split()[1:])
    (tmp_path / "a" / "a.obj").write_text("\n".join(text))
    scan = load_scan(tmp_path / "a", CARD, Limits())
    assert [t.shape[:2] for t in scan.textures] == [(16, 144), (3, 4)]  # 12 faces: a texel each
    assert_is_the_person(scan, atol=6)


@pytest.mark.parametrize("binary", [True, False])
def test_ply_with_vertex_colours(tmp_path: Path, binary: bool) -> None:
    scan = load_scan(write_ply(tmp_path / "a.ply", binary), CARD, Limits())
    assert scan.vertex_rgb is not None
    assert_is_the_person(scan)


@pytest.mark.parametrize("name", ["a.glb", "a.gltf"])
def test_gltf(tmp_path: Path, name: str) -> None:
    load(GltfFile.of_person().save(tmp_path / name))


def test_gltf_with_an_image_beside(tmp_path: Path) -> None:
    file = GltfFile.of_person()
    file.json["images"] = [{"uri": "my%20skin.png"}]
    picture().save(tmp_path / "my skin.png")
    load(file.save(tmp_path / "a.gltf"))


def test_a_flat_folder_of_files_and_a_folder(tmp_path: Path) -> None:
    GltfFile.of_person().save(tmp_path / "anna_1.glb")
    write_ply(tmp_path / "anna_2.ply", binary=True)
    write_ply(tmp_path / "anna_1.PLY", binary=False)
    write_thuman(tmp_path, "0000")
    (tmp_path / "readme.txt").touch()
    (tmp_path / ".hidden.ply").touch()
    scans = list_scans(tmp_path)
    assert list(scans) == ["0000", "anna_1.PLY", "anna_1.glb", "anna_2"]
    for path in scans.values():
        load(path)


def test_the_mesh_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.obj", "b.obj", "scan.glb"):
        (tmp_path / name).touch()
    with pytest.raises(ScanError, match=r"2 \.obj files"):
        find_mesh(tmp_path)
    (tmp_path / f"{tmp_path.name}.obj").touch()
    assert find_mesh(tmp_path).stem == tmp_path.name
    (tmp_path / "x" / "OBJ").mkdir(parents=True)
    (tmp_path / "x" / "OBJ" / "model.obj").touch()
    assert find_mesh(tmp_path / "x").name == "model.obj"


@pytest.mark.parametrize("map_d", [False, True], ids=["RGBA picture", "map_d"])
def test_texels_without_alpha_are_holes(tmp_path: Path, map_d: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chest is cut out: the front shows the inside of the back, and what is beside it stays."""
    folder = write_thuman(tmp_path, "a")
    opaque = np.full((16, 16 * len(PARTS)), 255, np.uint8)
    opaque[:, 16:32] = 100  # of 255: less than half
    image = picture()
    if map_d:
        Image.fromarray(opaque[:, ::4]).save(folder / "hair.png")
    else:
        image.putalpha(Image.fromarray(opaque))
    image.save(folder / "material0.png")
    line = "map_d hair.png\n" if map_d else ""
    (folder / "material0.mtl").write_text(f"newmtl material0\nmap_Kd material0.png\n{line}")
    scan = load_scan(folder, CARD, Limits())
    with pytest.raises(AssertionError, match="chest"):
        assert_is_the_person(scan)
    monkeypatch.setitem(PARTS, "chest", (*PARTS["chest"][:2], PARTS["back"][2]))
    assert_is_the_person(scan)


def test_real_scans_as_they_are() -> None:
    """Six people that are known to stand in metres, y up, facing +z: nothing is to be moved."""
    root = INPUTS / "scans"
    if not root.is_dir():
        pytest.skip(f"{root} does not exist")
    scans = list_scans(root)
    assert len(scans) == 6
    for name in ("mh_f_sport01_walk", "mh_m_worksuit01_t"):
        scan = load_scan(scans[name], CARD, Limits(texture_side=512))
        first = (scans[name] / f"{name}.obj").read_text().split("\nv ", 2)[1]
        np.testing.assert_allclose(scan.vertices[0], [float(x) for x in first.split()], atol=1e-6)
        assert (scan.textures[0][..., 3] < 128).any()
