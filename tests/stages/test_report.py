"""The page shows what the stages made, and loads nothing from elsewhere."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from stages import report as stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from tests.stages.conftest import Measured
from tests.stages.tiny_world import IMAGE, World

ROOT = Path(__file__).parents[2]
FRAMES = 3
SOURCE = re.compile(r'<img src="([^"]*)" alt="([^"]*)"')


@pytest.fixture(scope="module")
def page(
    world: World, merged: Path, avatars: Path, measured: Measured, tmp_path_factory: pytest.TempPathFactory
) -> str:
    root = tmp_path_factory.mktemp("report")
    (root / "parser").mkdir()
    (root / "parser/history.jsonl").write_text('{"step": 2, "loss": 3.0}\n{"step": 4, "loss": 1.5}\n')
    (root / "runs").mkdir()
    for item, seconds in (("one", 61.0), ("two", 30.4)):
        record = json.dumps({"stage": "render_views", "seconds": seconds})
        (root / f"runs/render_views@{item}.json").write_text(record)
    stores = [f"{name}.tiny" for name in ("views", "parsing", "keypoints", "bodies", "textures")]
    made = {
        "metrics": measured.outputs["metrics"],
        "renders": measured.outputs["renders"],
        "avatars": avatars,
    }
    more = {"graph": ROOT / "dvc.yaml", "parser": root / "parser", "merged.tiny": merged}
    inputs = world.inputs(*stores, "body", "avatar", "vqgan", "diffusion", **made, **more)
    params = stage.ReportParams(image_size=IMAGE, samples=2, animated_people=1, frames=FRAMES)
    stage.STAGE.check_paths(inputs, Paths({"page": root / "index.html"}))
    stage.run(params, inputs, Paths({"page": root / "index.html"}), Runtime(runs_root=root / "runs"))
    return (root / "index.html").read_text()


def pictures(page: str) -> dict[str, list[Image.Image]]:
    """All pictures by their captions."""
    found: dict[str, list[Image.Image]] = {}
    for uri, caption in SOURCE.findall(page):
        head, data = uri.split(",", 1)
        assert head == "data:image/webp;base64"
        found.setdefault(caption, []).append(Image.open(io.BytesIO(base64.b64decode(data))))
    return found


def test_it_loads_nothing(page: str) -> None:
    assert "<script" not in page
    assert "@import" not in page
    assert "url(http" not in page
    for attribute in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert attribute.startswith(("data:", "#"))


def test_every_test_person_is_shown_and_moves_and_no_other(page: str) -> None:
    found = pictures(page)
    fronts = [p for p in found["d"] if p.size[1] < 2 * IMAGE]  # six pictures in a row
    assert fronts[0].size == (6 * (IMAGE + 4), IMAGE + 4)
    assert "c" not in found
    for name in ("d turns", "d walks"):
        (animation,) = found[name]
        assert animation.size == (IMAGE, IMAGE)
        assert animation.n_frames == FRAMES


def test_every_store_has_samples(page: str) -> None:
    found = pictures(page)
    for name in ("views", "parsing", "keypoints", "fitted body", "partial textures", "merged textures"):
        assert len(found[name]) == 1
    assert "20 images of 4 subjects; 0 rejected, 0 without a fit." in page


def test_metrics_stand_beside_the_baselines_and_nulls_are_dashes(page: str, measured: Measured) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    cells = {line[0]: line[1:] for row in rows if (line := re.findall(r"<td[^>]*>(.*?)</td>", row))}
    metrics = json.loads(measured.outputs["metrics"].read_text())
    tables = (metrics["same_view"], metrics["novel_view"], *metrics["baselines"].values())
    assert cells["psnr"] == [f"{table['psnr']:.4g}" for table in tables]
    assert cells["lpips"] == ["–"] * 4
    assert cells["kid_effnet"][0] == "–"
    assert cells["single_view.iou"][0] == "1"


def test_the_graph_carries_times_added_over_data_sets_and_curves_their_stage(page: str) -> None:
    assert "91 s" in page
    assert "2 minutes in all" in page
    assert page.count("<svg") == 2


def test_metrics_without_any_test_person_are_dashes(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("same_view", "novel_view", "baselines", "kid_effnet_interval"))
    (tmp_path / "metrics.json").write_text(json.dumps({**nothing, "parsing": {"miou": 0.5}}))
    section = stage.metrics_section(tmp_path / "metrics.json")
    assert ["miou", 0.5, None, None, None] in section.table
