"""A project small enough to add data sets to: the real graph and profile, an untrained parser, the tiny body."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dinar_models.parser import build_parser, start_at_prior
from flows import engine
from flows.datasets.catalog import Places
from flows.profiles import use_profile
from stages._core.runtime import Runtime
from stages._core.weights import save_weights
from tests.stages.raw_scans import write_box_scan

COPIED = ("dvc.yaml", ".dvcignore", ".gitignore", "data/catalog/enabled.yaml", "data/catalog/synthetic.yaml")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A Git and DVC repository with the graph, and nothing made yet."""
    root = tmp_path / "project"
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(engine.ROOT / name, root / name)
    use_profile("tiny", root / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    init = [sys.executable, "-m", "dvc", "init", "-q"]
    subprocess.run(init, cwd=root, env=engine.environment(), check=True)
    return Places(root)


@pytest.fixture
def models(places: Places, tiny_body: Path) -> Path:
    """The two models that a check needs."""
    folder = places.data / "models"
    shutil.copytree(tiny_body, folder / "body")
    torch.manual_seed(0)
    parser = build_parser({"architecture": "unet", "size": 64})
    start_at_prior(parser)
    save_weights(folder / "parser", "parser", parser, {"architecture": "unet", "size": 64})
    return folder


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Four scans of a box, in which nobody is found."""
    for name in ("a_1", "b_1", "c_1", "d_1"):
        write_box_scan(tmp_path / "boxes", name)
    return tmp_path / "boxes"


@pytest.fixture
def runtime() -> Runtime:
    """One process; the commands choose the folders."""
    return Runtime()
