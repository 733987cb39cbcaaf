"""The report's pictures and page: sheets keep every pixel, pages load nothing from elsewhere."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from stages.reporting import pictures
from stages.reporting.graph_picture import graph_svg, stage_edges
from stages.reporting.page import Section, render_page

GRAPH = {
    "stages": {
        "check_params": {"cmd": "python -m stages.check_params --output ok=data/stores/check_params.txt"},
        "ingest": {"do": {"cmd": "x --input raw=data/raw/${item} --output scans=data/stores/${item}/scans"}},
        "render": {
            "do": {
                "cmd": "x --input scans=data/stores/${item}/scans --output views=data/stores/${item}/views"
            }
        },
        "train": {"cmd": "x --input views.a=data/stores/a/views --output net=data/models/net"},
    }
}


def test_a_sheet_puts_images_row_by_row():
    colours = [np.full((2, 3, 3), v, np.uint8) for v in (10, 20, 30)]
    sheet = pictures.sheet(colours, columns=2, gap=1)
    assert sheet.shape == (6, 8, 3)
    assert sheet[0, 0, 0] == 10
    assert sheet[0, 4, 0] == 20
    assert sheet[3, 0, 0] == 30
    assert sheet[3, 4, 0] == 255
    with pytest.raises(ValueError, match="at least one"):
        pictures.sheet([], columns=2)


def test_overlays_change_only_what_they_mark():
    rgb = np.full((4, 4, 3), 100, np.uint8)
    parts = np.zeros((4, 4), np.uint8)
    parts[1, 2] = 5
    changed = (pictures.parts_overlay(rgb, parts) != rgb).any(-1)
    assert changed.sum() == 1
    assert changed[1, 2]
    marked = pictures.keypoints_overlay(rgb, np.array([[1.5, 1.5, 0.9], [3.5, 3.5, 0.1]]))
    assert tuple(marked[1, 1]) == (230, 30, 30)
    assert tuple(marked[3, 3]) == (100, 100, 100)


def test_a_texture_keeps_its_channel_order():
    texture = np.zeros((3, 2, 2), np.float32)
    texture[0, 0, 1] = 1
    assert pictures.texture_image(texture)[0, 1].tolist() == [255, 0, 0]


def test_an_animation_holds_its_frames():
    frames = [np.full((8, 8, 3), v, np.uint8) for v in (0, 120, 255)]
    data = base64.b64decode(pictures.animation_uri(frames).split(",", 1)[1])
    assert Image.open(io.BytesIO(data)).n_frames == 3


def test_edges_cross_from_per_dataset_stages_to_training():
    assert stage_edges(GRAPH) == {"ingest": set(), "render": {"ingest"}, "train": {"render"}}
    svg = graph_svg(GRAPH, {"train": 61.4})
    assert "61 s" in svg
    assert svg.count("<rect") == 3


def test_texts_are_escaped_and_nulls_are_dashes():
    page = render_page(
        "t", [Section("a < b", "<script>", [["metric", "value"], ["lpips", None], ["psnr", 24.123456]])]
    )
    assert "<script>" not in page
    assert "a &lt; b" in page
    assert "–</td>" in page
    assert "24.12" in page
