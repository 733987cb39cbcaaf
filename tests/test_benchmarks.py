"""Every benchmark of `make bench` runs and gives numbers; how fast things are is not tested."""

import json
import math
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from benchmarks import model_size, rasterizers, rendering, run_all, scaling, unit_costs
from benchmarks.memory import own_peak_mib
from benchmarks.scaling import Case, Span
from benchmarks.unit_costs import Cost, Step
from stages import render_views
from stages._core.runtime import Runtime
from stages._core.scan_store import open_scans
from stages._core.stage import Paths
from stages._core.store import open_store
from tests.conftest import ROOT
from tests.stages.raw_scans import ingest_boxes

PUBLISHED = {
    "encoder": 7.38e6,
    "generator": 8.12e6,
    "renderer": 18.99e6,
    "discriminator": 7.25e6,
    "vqgan": 13.93e6,
    "unet": 387.3e6,
}
"""Parameters of the published networks, counted in their code."""


def test_without_data_each_benchmark_says_what_to_run_and_the_others_go_on(tmp_path: Path) -> None:
    said, result = StringIO(), tmp_path / "reports/bench.json"
    run_all.run(list(run_all.BENCHMARKS), tmp_path / "none", result, Console(file=said, width=500))
    written = json.loads(result.read_text())
    assert set(written) == set(run_all.BENCHMARKS)
    assert all("run `dvc repro " in figures["missing"] for figures in written.values())
    assert said.getvalue().count("left out: ") == len(written)


def test_figures_are_tabled_and_those_of_other_benchmarks_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, result = StringIO(), tmp_path / "bench.json"
    result.write_text('{"first": {"old_s": 1}, "second": {"old_s": 2}}')
    monkeypatch.setattr(run_all, "BENCHMARKS", {"second": lambda data: {"seconds_s": 0.12345}})
    run_all.run(["second"], tmp_path, result, Console(file=said, width=100))
    assert json.loads(result.read_text()) == {"first": {"old_s": 1}, "second": {"seconds_s": 0.12345}}
    assert re.search(r"second\s+│\s+seconds_s\s+│\s+0\.1235 ", said.getvalue())


def test_the_memory_of_a_program_is_its_own_not_that_of_who_started_it() -> None:
    held = np.ones(40_000_000)  # 305 MiB
    assert own_peak_mib() > held.nbytes / 2**20
    told = "from benchmarks.memory import own_peak_mib; print(own_peak_mib())"
    output = subprocess.run(
        [sys.executable, "-c", told], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert 1 < float(output) < 150


def test_rasterisers_agree_while_they_are_timed(tiny_body: Path) -> None:
    figures = rasterizers.measure(tiny_body, size=64)
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["same_face"] >= 0.999
    assert figures["barycentric_difference"] <= 1e-4


def test_without_a_body_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="dvc repro build_body"):
        rasterizers.measure(tmp_path / "none")


def test_frames_are_rendered_while_they_are_timed(tiny_body: Path, tmp_path: Path) -> None:
    figures = rendering.measure(tiny_body, paper="tiny", small="tiny", rounds=1)
    assert set(figures) == {
        *(f"tiny_{name}_frame_s" for name in ("published", "whole", "window")),
        "tiny_speedup",
        "tiny_frames_per_s",
    }
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    with pytest.raises(SystemExit, match="dvc repro build_body"):
        rendering.measure(tmp_path / "none")


def test_without_a_run_scaling_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="dvc repro fit_body"):
        scaling.measure(tmp_path, tmp_path, scans=1)


def test_throughput_counts_what_was_done_while_both_were_busy() -> None:
    one = [Span(1, 0, 5), Span(1, 5, 7), Span(1, 7, 9), Span(1, 9, 11)]
    two = [Span(2, 2, 6), Span(2, 6, 10), Span(2, 10, 14)]
    # From 6 (the second worker's first shard is done) to 11 (the first worker ends): half of 5–7, 7–9, 9–11,
    # 6–10 and a quarter of 10–14 are 3.75 shards in 5 s.
    assert scaling.throughput(one + two) == pytest.approx(3.75 / 5)
    assert scaling.throughput(one) == pytest.approx(3 / 6)
    with pytest.raises(ValueError, match="at least 3 a worker"):
        scaling.throughput([Span(1, 0, 1), Span(2, 0, 3)])


def test_the_size_of_two_layers_by_hand() -> None:
    """Eight pixels of 2 channels → 3 → 1: 48 and 24 multiplications; the backward pass needs both inputs."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 1, 1, bias=False))
        image = torch.zeros(1, 2, 2, 4)
    size = model_size.size_of(model_size.Case(net, lambda: net(image)))
    assert size == {"parameters": 9 + 3, "macs": 48 + 24, "activation_bytes": 4 * 8 * (2 + 3)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_profile_has_networks_of_the_published_size(name: str) -> None:
    parameters = sum(p.numel() for p in model_size.build_cases("paper")[name].net.parameters())
    assert parameters == pytest.approx(PUBLISHED[name], rel=0.02)


def test_every_network_can_be_counted() -> None:
    sizes = model_size.measure("tiny")
    assert sizes.keys() == PUBLISHED.keys()
    assert all(number > 0 for size in sizes.values() for number in size.values())


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of six boxes, and their views in two variants."""
    root = tmp_path_factory.mktemp("boxes")
    scans = ingest_boxes(root, 6)
    params = render_views.RenderViewsParams(seed=1, image_size=16, views=8, variants=2)
    outputs = Paths({"views": scans.parent / "views"})
    render_views.run(params, Paths({"scans": scans}), outputs, Runtime(work_root=root / "work"))
    return scans.parent


def test_two_workers_are_compared_with_one(boxes: Path, tmp_path: Path) -> None:
    params = render_views.RenderViewsParams(seed=1, image_size=16, views=8, variants=8)
    figures = scaling.compare(Case(render_views.STAGE, params, Paths({"scans": boxes / "scans"})), tmp_path)
    assert set(figures) >= {"render_views_speedup_steady", "render_views_speedup_whole"}
    assert all(value > 0 for value in figures.values())
    alone, together = (open_store(tmp_path / f"render_views{n}/some/views", "views") for n in (1, 2))
    assert alone.digest == together.digest


def test_some_scans_are_taken_with_their_images_without_jitter(boxes: Path, tmp_path: Path) -> None:
    some = scaling.take_scans(boxes, tmp_path / "some", 3, ("views",))
    assert open_scans(some / "scans").index["scan"].tolist() == ["box00_1", "box01_1", "box02_1"]
    views, all_views = open_store(some / "views", "views"), open_store(boxes / "views", "views")
    assert len(views) == 24
    assert (views.index["variant"] == 0).all()
    np.testing.assert_array_equal(views["K"][8:16], all_views["K"][16:24])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """What a run of render_views over the 96 images of the boxes would have left."""
    record = {"seconds": 12.0, "workers": 2, "scheduler": None, "peak_mib": 700}
    (tmp_path / "render_views@boxes.json").write_text(json.dumps(record))
    return tmp_path


RENDER = Step("render_views", "views", "image", "image")


def test_unit_costs_are_those_of_the_run(boxes: Path, runs: Path) -> None:
    cost, peak = unit_costs.measured(RENDER, runs, boxes)
    assert (cost.seconds, peak) == (12 * 2 / 96, 700)
    assert cost.bytes * 96 == sum(p.stat().st_size for p in (boxes / "views").rglob("*") if p.is_file())
    index = open_store(boxes / "views", "views").index
    assert [unit_costs.count_units(index, unit) for unit in ("scan", "front image")] == [6, 48]
    with pytest.raises(SystemExit, match="dvc repro segment"):
        unit_costs.measured(Step("segment", "parsing", "image", "image"), runs, boxes)


def test_the_table_multiplies_units_costs_and_sizes(
    boxes: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_costs, "STEPS", (RENDER,))
    row, total = unit_costs.table(runs, boxes, {"render_views": Cost(2.0, 3.0)}).splitlines()[2:]
    # 936,000 images of 0.25 s × 2 are 130 hours of a core.
    assert row.startswith("| render_views | image | 936,000 | 0.250 | 2.0 | 130 | 65.0 | 0.5 |")
    size = unit_costs.measured(RENDER, runs, boxes)[0].bytes * 3 * 936_000 / 1e9
    assert f" 3.0 | {size:,.1f} | 700 |" in row
    assert f"| 130 | 65.0 | 0.5 |  |  | {size:,.1f} |" in total
