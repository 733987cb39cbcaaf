import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.sources.card import Card
from stages.sources.mesh import ScanError
from stages.sources.scans import Limits, list_scans, load_scan
from tests.stages.raw_scans import FRONT_LABEL, HEIGHT, RED, write_box_scan
from tests.stages.sources.box_person import write_ply

CARD = Card(adapter="scans", path="data/raw/x", licence="CC0-1.0", facing="+z")


@pytest.mark.parametrize("scale", [1.0, 100.0, 1000.0])
def test_units_are_inferred_from_the_height(tmp_path: Path, scale: float) -> None:
    scan = load_scan(write_box_scan(tmp_path, "a", scale), CARD, Limits())
    assert np.ptp(scan.vertices[:, 1]) == pytest.approx(HEIGHT, rel=1e-5)


def test_texture_row_0_is_v_0(tmp_path: Path) -> None:
    folder = write_box_scan(tmp_path, "a")
    scan = load_scan(folder, CARD, Limits())
    # The first face's first corner is vt (1/48, 0.1): from the left and from the *bottom* in OBJ.
    np.testing.assert_allclose(scan.corner_uv[0, 0], [1 / 48, 0.9], atol=1e-6)
    assert scan.textures[0][24, 8, :3].tolist() == list(RED)
    assert scan.texture_parts is not None
    assert scan.texture_parts[24, 8] == FRONT_LABEL


def test_large_textures_are_reduced_with_their_labels(tmp_path: Path) -> None:
    scan = load_scan(write_box_scan(tmp_path, "a"), CARD, Limits(texture_side=24))
    assert scan.texture_parts is not None
    assert scan.textures[0].shape == (24, 24, 4)
    assert scan.texture_parts.shape == (24, 24)
    assert scan.texture_parts[0].tolist() == [5] * 8 + [7] * 8 + [9] * 8


def no_texture(folder: Path) -> None:
    (folder / "material0.mtl").write_text("newmtl material0\nKs 0 0 0\n")
    (folder / "material0.png").unlink()


def missing_texture(folder: Path) -> None:
    (folder / "material0.png").unlink()


def truncated_texture(folder: Path) -> None:
    data = (folder / "material0.png").read_bytes()
    (folder / "material0.png").write_bytes(data[: len(data) * 2 // 3])


def texture_elsewhere(folder: Path) -> None:
    (folder / "material0.mtl").write_text("newmtl material0\nmap_Kd ../../../etc/passwd\n")


def nan_vertex(folder: Path) -> None:
    obj = next(folder.glob("*.obj"))
    obj.write_text(obj.read_text().replace("v -0.250000 0.000000 0.150000", "v -0.25 nan 0.15"))


def no_area(folder: Path) -> None:
    obj = next(folder.glob("*.obj"))
    lines = [("v 0 1 0" if line.startswith("v ") else line) for line in obj.read_text().split("\n")]
    obj.write_text("\n".join(lines))


def indices_out_of_range(folder: Path) -> None:
    obj = next(folder.glob("*.obj"))
    obj.write_text(obj.read_text() + "f 1/1 2/2 900/3\n")


def mtl_elsewhere(folder: Path) -> None:
    obj = next(folder.glob("*.obj"))
    obj.write_text(obj.read_text().replace("mtllib material0.mtl", "mtllib ../b/material0.mtl"))


def texture_bomb(folder: Path) -> None:
    """A PNG of a few bytes that says it has 60,000 × 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    body = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    (folder / "material0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + body)


def truncated_obj(folder: Path) -> None:
    obj = next(folder.glob("*.obj"))
    obj.write_text(obj.read_text()[:200])


def two_objs(folder: Path) -> None:
    obj = next(folder.glob("*.obj"))
    obj.rename(folder / "x.obj")
    (folder / "y.obj").write_bytes((folder / "x.obj").read_bytes())


def no_colours(folder: Path) -> None:
    obj = next(folder.glob("*.obj"))
    obj.write_text(obj.read_text().replace("mtllib material0.mtl\n", ""))
    (folder / "material0.png").unlink()


def see_through(folder: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 255, 255, 20)).save(folder / "material0.png")


def ply(edit: Callable[[bytes], bytes], binary: bool = True) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        emptied(folder)
        path = write_ply(folder / "a.ply", binary)
        path.write_bytes(edit(path.read_bytes()))

    return damage


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def giant(folder: Path) -> None:
    obj = next(folder.glob("*.obj"))
    obj.write_text(obj.read_text().replace("1.800000", "9.000000"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_texture, "neither texture nor Kd"),
        (missing_texture, "'material0.png' is missing"),
        (truncated_texture, "material0.png is damaged"),
        (texture_elsewhere, "outside the scan's folder"),
        (nan_vertex, "1 vertices are not finite"),
        (no_area, "no area"),
        (emptied, "no mesh file"),
        (giant, "no person's"),
        (indices_out_of_range, "vertex that does not exist"),
        (mtl_elsewhere, "outside the scan's folder"),
        (texture_bomb, "material0.png has"),
        (truncated_obj, "do not all hold 3 numbers"),
        (two_objs, r"2 \.obj files"),
        (no_colours, "names no material file"),
        (see_through, "every texel of the scan is transparent"),
        (ply(lambda data: b"solid"), "damaged or no mesh in PLY format"),
        (ply(lambda data: data[:-100]), "damaged or no mesh in PLY format"),
        (ply(lambda data: data[:-100], binary=False), "cut off"),
        (ply(lambda data: data.replace(b"face 108", b"face 999999999")), "damaged or no mesh in PLY"),
        (ply(lambda data: data.replace(b"red", b"reb")), "no colours"),
    ],
)
def test_damaged_scans_are_refused(tmp_path: Path, damage: Callable[[Path], None], reason: str) -> None:
    folder = write_box_scan(tmp_path, "a")
    damage(folder)
    with pytest.raises(ScanError, match=reason):
        load_scan(folder, CARD, Limits())


def test_too_many_vertices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="at most 7"):
        load_scan(write_box_scan(tmp_path, "a"), CARD, Limits(vertices=7))


def test_scans_are_listed_by_name_without_hidden_folders(tmp_path: Path) -> None:
    for name in ("b_1", "a_2", ".git"):
        (tmp_path / name).mkdir()
    (tmp_path / "people.json").touch()
    assert list(list_scans(tmp_path)) == ["a_2", "b_1"]


def test_subject_is_what_stands_before_the_last_underscore() -> None:
    assert [CARD.subject_of(n) for n in ("anna_red_walk", "0123", "_x")] == ["anna_red", "0123", "_x"]
    assert CARD.model_copy(update={"subject": "whole"}).subject_of("anna_walk") == "anna_walk"
