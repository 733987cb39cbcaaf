"""Every benchmark of `make bench` runs and gives numbers; how fast things are is not tested."""

import importlib
import math
from pathlib import Path

import pytest

from benchmarks import rasterizers
from benchmarks.run_all import BENCHMARKS


def test_each_benchmark_can_be_measured() -> None:
    assert all(callable(importlib.import_module(f"benchmarks.{name}").measure) for name in BENCHMARKS)


def test_rasterisers_agree_while_they_are_timed(tiny_body: Path) -> None:
    figures = rasterizers.measure(tiny_body, size=64)
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["same_face"] >= 0.999
    assert figures["barycentric_difference"] <= 1e-4


def test_without_a_body_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="dvc repro build_body"):
        rasterizers.measure(tmp_path / "none")
