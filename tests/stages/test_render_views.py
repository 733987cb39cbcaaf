from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import render_views
from stages._core.runtime import Runtime
from stages._core.scan_store import Scan, create_scan_arrays, finish_scans, write_group
from stages._core.stage import Paths
from stages._core.store import open_store
from stages.render_views import RenderViewsParams, render_scan
from stages.sources.card import Card
from stages.sources.scans import Limits, load_scan
from tests.stages.raw_scans import (
    BACK_LABEL,
    BLUE,
    FRONT_LABEL,
    HALF_WIDTH,
    HEIGHT,
    RED,
    SIDE_LABEL,
    write_box_scan,
)

SIZE = 64
PARAMS = RenderViewsParams(seed=3, image_size=SIZE, variants=2, shading=0.0, distance=20.0)


@pytest.fixture
def box(tmp_path: Path) -> Scan:
    card = Card(adapter="scans", path="x", licence="CC0-1.0", facing="+z")
    return load_scan(write_box_scan(tmp_path, "box_1"), card, Limits())


def test_front_is_red_back_is_blue_and_labels_follow(box: Scan) -> None:
    images = render_scan(box, "box", "box_1", PARAMS)
    middle = SIZE // 2
    for view, colour, label in ((0, RED, FRONT_LABEL), (4, BLUE, BACK_LABEL), (2, None, SIDE_LABEL)):
        assert images["parts"][view, middle, middle] == label
        assert images["mask"][view, middle, middle] == 255
        if colour:
            np.testing.assert_allclose(images["rgb"][view, middle, middle], colour, atol=1)
    assert (images["rgb"][:, 0, 0] == 255).all()
    assert (images["parts"][:, 0, 0] == 0).all()


def test_the_scan_times_margin_fills_the_image(box: Scan) -> None:
    images = render_scan(box, "box", "box_1", PARAMS)
    pixels_per_metre = SIZE / (PARAMS.margin * HEIGHT)
    area = 2 * HALF_WIDTH * HEIGHT * pixels_per_metre**2
    assert images["mask"][0].sum() / 255 == pytest.approx(area, rel=0.03)
    rows = np.flatnonzero(images["mask"][0].max(axis=1) > 127)
    assert rows[-1] + 1 - rows[0] == pytest.approx(SIZE / PARAMS.margin, abs=1.5)


def test_cameras_see_the_vertices_where_the_mask_is(box: Scan) -> None:
    images = render_scan(box, "box", "box_1", PARAMS)
    for view in range(16):
        in_camera = box.vertices @ images["R"][view].T + images["T"][view]
        pixels = in_camera @ images["K"][view].T
        pixels = pixels[:, :2] / pixels[:, 2:]
        rows, columns = np.nonzero(images["mask"][view])
        np.testing.assert_allclose(pixels.min(axis=0), (columns.min(), rows.min()), atol=1.01)
        np.testing.assert_allclose(pixels.max(axis=0), (columns.max() + 1, rows.max() + 1), atol=1.01)


def test_variants_share_colour_between_scans_of_a_subject_but_not_the_camera(box: Scan) -> None:
    first = render_scan(box, "box", "box_1", PARAMS)
    second = render_scan(box, "box", "box_2", PARAMS)
    other = render_scan(box, "tin", "tin_1", PARAMS)
    middle = SIZE // 2
    np.testing.assert_array_equal(first["rgb"][8, middle, middle], second["rgb"][8, middle, middle])
    assert (first["rgb"][8, middle, middle] != other["rgb"][8, middle, middle]).any()
    assert (first["rgb"][8, middle, middle] != first["rgb"][0, middle, middle]).any()
    assert not np.allclose(first["R"][8], second["R"][8])
    np.testing.assert_array_equal(first["R"][0], second["R"][0])


def test_unlabelled_scans_have_unknown_parts_inside_the_mask(box: Scan) -> None:
    bare = Scan(box.vertices, box.faces, box.corner_uv, box.face_material, box.textures)
    images = render_scan(bare, "box", "box_1", PARAMS)
    assert set(np.unique(images["parts"])) == {0, 255}
    np.testing.assert_array_equal(images["parts"] == 255, images["mask"] > 0)


def test_several_materials_and_vertex_colours(box: Scan) -> None:
    grey = np.full((4, 4, 4), (90, 90, 90, 255), np.uint8)
    front = box.face_material.copy()
    front[:2] = 1
    two = Scan(box.vertices, box.faces, box.corner_uv, front, [box.textures[0], grey])
    painted = Scan(
        box.vertices,
        box.faces,
        box.corner_uv,
        box.face_material,
        vertex_rgb=np.full((8, 3), (10, 20, 30), np.uint8),
    )
    middle = SIZE // 2
    assert render_scan(two, "a", "b", PARAMS)["rgb"][0, middle, middle].tolist() == [90, 90, 90]
    assert render_scan(painted, "a", "b", PARAMS)["rgb"][0, middle, middle].tolist() == [10, 20, 30]


def test_the_store_has_a_row_for_every_view_of_rejected_scans_too(box: Scan, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    create_scan_arrays(scans, {})
    write_group(scans, 0, [None, box])
    index = pd.DataFrame(
        {
            "subject": ["can", "box"],
            "scan": ["can_1", "box_1"],
            "split": ["train", "test"],
            "source": "scans",
            "ok": [False, True],
            "reason": ["no texture", ""],
        }
    )
    finish_scans(scans, index)
    runtime = Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")
    out = tmp_path / "views"
    render_views.run(PARAMS, Paths({"scans": scans}), Paths({"views": out}), runtime)
    views = open_store(out, "views")
    assert len(views) == 32
    assert set(views.index.loc[:15, "reason"]) == {"no texture"}
    assert views.index["variant"].tolist() == ([0] * 8 + [1] * 8) * 2
    assert views.index["yaw"].tolist()[:8] == [0, 45, 90, 135, 180, 225, 270, 315]
    assert views.ok_rows(split="test", view=4, variant=0).tolist() == [20]
    assert views.attrs["has_parts"] is True
    np.testing.assert_array_equal(views["rgb"][16:], render_scan(box, "box", "box_1", PARAMS)["rgb"])


def test_rays_go_on_through_holes_and_mask_and_labels_follow(box: Scan) -> None:
    """The front's left half is cut out: the inside of the back is seen there. Cut the back too: nothing is."""
    texture = box.textures[0].copy()
    texture[:, :8, 3] = 127  # columns 0–15 are the front, u from −x to +x
    texture[:, :8, :3] = (0, 255, 0)  # what colour holes have does not matter
    half = render_scan(replace(box, textures=[texture]), "box", "box_1", PARAMS)
    whole = render_scan(box, "box", "box_1", PARAMS)
    middle, left, right = SIZE // 2, SIZE // 2 - 4, SIZE // 2 + 3
    np.testing.assert_allclose(half["rgb"][0, middle, left], BLUE, atol=1)
    np.testing.assert_allclose(half["rgb"][0, middle, right], RED, atol=1)
    assert half["parts"][0, middle, [left, right]].tolist() == [BACK_LABEL, FRONT_LABEL]
    np.testing.assert_array_equal(half["mask"], whole["mask"])
    greens = (half["rgb"].astype(int) @ (-1, 2, -1)).max()
    assert greens < 60  # no green anywhere, not even at the edge of the hole
    texture[:, 16:32, 3] = 0
    texture[:, :16, 3] = 0
    tube = render_scan(replace(box, textures=[texture]), "box", "box_1", PARAMS)
    assert tube["mask"][0, middle, middle] == 0
    assert tube["parts"][0, middle, middle] == 0
    assert (tube["rgb"][0, middle, middle] == 255).all()
    assert tube["mask"][2, middle, middle] == 255


def test_a_texture_is_shrunk_by_what_its_own_faces_cover() -> None:
    """Another texture that repeats a hundred times over its face must not blur the checkerboard."""
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    vertices = np.concatenate([square, square * 0.5 + (0.25, 0.25, 0.1)]).astype(np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    board = np.zeros((32, 32, 4), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    board[..., 3] = 255
    grey = np.full((256, 256, 4), (90, 90, 90, 255), np.uint8)
    params = RenderViewsParams(seed=0, image_size=128, views=1, variants=1, shading=0.0)
    corner_uv = uv[faces % 4]
    corner_uv[:2] *= 100
    scan = Scan(vertices, faces, corner_uv, np.array([0, 0, 1, 1], np.int16), [grey, board])
    seen = render_scan(scan, "a", "a", params)["rgb"][0, 52:76, 52:76, 0]
    assert seen.std() > 25
