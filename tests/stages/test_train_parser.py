import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from dinar_models.parser import build_parser
from stages import render_views, segment, train_parser
from stages._core.runtime import Runtime
from stages._core.scan_store import Scan, create_scan_arrays, finish_scans, write_group
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._core.train_loop import TrainLoop
from stages._core.weights import load_weights
from stages.sources.card import Card
from stages.sources.scans import Limits, load_scan
from tests.stages.raw_scans import write_box_scan

PARAMS = train_parser.TrainParserParams(
    seed=0,
    size=64,
    train_size=64,
    images=8,
    val_images=2,
    steps=4,
    batch=2,
    dtype="float32",
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Renders of a labelled box, of one train and of one val subject."""
    root = tmp_path_factory.mktemp("boxes")
    card = Card(adapter="scans", path="x", licence="CC0-1.0", facing="+z")
    box: Scan = load_scan(write_box_scan(root / "raw", "box_1"), card, Limits())
    create_scan_arrays(root / "scans", {})
    write_group(root / "scans", 0, [box, box])
    names = {"subject": ["a", "b"], "scan": ["a_1", "b_1"], "split": ["train", "val"]}
    finish_scans(root / "scans", pd.DataFrame({**names, "source": "scans", "ok": True, "reason": ""}))
    params = render_views.RenderViewsParams(seed=0, image_size=64, views=4, variants=1)
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    render_views.run(params, Paths({"scans": root / "scans"}), Paths({"views": root / "views"}), runtime)
    return root / "views"


def train(views: Path, root: Path) -> dict[str, torch.Tensor]:
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    train_parser.run(PARAMS, Paths({"views.boxes": views}), Paths({"parser": root / "parser"}), runtime)
    return load_weights(root / "parser", "parser", build_parser).state_dict()


@pytest.fixture(scope="module")
def unbroken(views: Path) -> Path:
    """Folder of a run that nothing stopped."""
    train(views, views.parent)
    return views.parent / "parser"


def test_the_output_has_weights_scores_and_the_curve(unbroken: Path) -> None:
    scores = json.loads((unbroken / "validation.json").read_text())
    assert set(scores) == {"miou", "miou_coarse", "foreground_iou"}
    assert json.loads((unbroken / "history.jsonl").read_text())["step"] == PARAMS.steps


def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one(
    views: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_weights(unbroken, "parser", build_parser).state_dict()

    class Killed(TrainLoop):
        def log(self, **values: float | torch.Tensor) -> None:
            super().log(**values)
            if self.step == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(train_parser, "TrainLoop", Killed)
    with pytest.raises(KeyboardInterrupt):
        train(views, tmp_path)
    assert not (tmp_path / "parser").exists()
    monkeypatch.undo()
    resumed = train(views, tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_segment_takes_the_renders_masks(views: Path, unbroken: Path, tmp_path: Path) -> None:
    params = segment.SegmentParams(person_prior=False, dtype="float32")
    runtime = Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")
    inputs = Paths({"views": views, "parser": unbroken})
    segment.run(params, inputs, Paths({"parsing": tmp_path / "parsing"}), runtime)
    parsing, source = open_store(tmp_path / "parsing", "parsing"), open_store(views, "views")
    assert (parsing["mask"][:] == source["mask"][:]).all()
    assert parsing.index["ok"].all()
    assert parsing.index["scan"].tolist() == source.index["scan"].tolist()


def test_unlabelled_renders_are_refused(views: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no labelled renders of gate people"):
        train_parser.People([open_store(views, "views")], "gate", 4, train_parser.rng_for(0, "x"))
