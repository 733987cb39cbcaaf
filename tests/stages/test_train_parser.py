import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from dinar_models.labels import PERSON, UNKNOWN
from dinar_models.parser import build_parser
from stages import render_views, segment, train_parser
from stages._core.runtime import Runtime
from stages._core.scan_store import Scan, create_scan_arrays, finish_scans, write_group
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._core.train_loop import TrainLoop
from stages._core.weights import load_weights
from stages._data.labelled import BatchRules, LabelledPeople, StepBatches, step_batches
from stages.sources.card import Card
from stages.sources.scans import Limits, load_scan
from tests.stages.raw_scans import write_box_scan

PARAMS = train_parser.TrainParserParams(
    seed=0,
    image_size=64,
    datasets=["boxes"],
    size=64,
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


def test_people_of_a_split_that_no_data_set_has_are_refused(views: Path) -> None:
    with pytest.raises(ValueError, match="no images of gate people in boxes"):
        LabelledPeople({"boxes": views}, "gate", 4, 64, seed=0)


def test_batches_of_another_process_are_those_of_this_one(views: Path) -> None:
    people = LabelledPeople({"boxes": views}, "train", 4, 64, seed=0)
    rules = BatchRules(seed=0, batch=2, image_size=32, label_size=16)
    ahead = list(step_batches(people, rules, range(3, 5), Runtime(workers=2)))
    here = [StepBatches(people, rules)[step] for step in (3, 4)]
    assert all(
        torch.equal(a, b) for pair in zip(ahead, here, strict=True) for a, b in zip(*pair, strict=True)
    )


def test_shares_of_a_batch_are_together_what_one_process_makes(views: Path) -> None:
    people = LabelledPeople({"boxes": views}, "train", 4, 64, seed=0)
    rules = BatchRules(seed=0, batch=4, image_size=32, label_size=16)
    whole = StepBatches(people, rules)[3]
    shares = [StepBatches(people, replace(rules, rows=slice(k, k + 2)))[3] for k in (0, 2)]
    for values, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert torch.equal(torch.cat(parts), values)


def test_masks_stand_in_for_labels_and_labels_for_masks(views: Path, tmp_path: Path) -> None:
    both = LabelledPeople({"boxes": views}, "train", 4, 64, seed=0).take(np.arange(4))
    masked = altered(views, tmp_path / "masked", parts=UNKNOWN)
    labelled = altered(views, tmp_path / "labelled", mask=0)
    _, _, labels = LabelledPeople({"a": masked}, "train", 4, 64, seed=0).take(np.arange(4))
    assert torch.equal(labels == PERSON, both[1] >= 128)
    assert set(labels.unique().tolist()) == {0, PERSON}
    _, mask, _ = LabelledPeople({"a": labelled}, "train", 4, 64, seed=0).take(np.arange(4))
    assert torch.equal(mask == 255, both[2] > 0)


def test_data_sets_that_know_nothing_are_refused(views: Path, tmp_path: Path) -> None:
    blank = altered(views, tmp_path / "blank", parts=UNKNOWN, mask=0)
    people = LabelledPeople({"blank": blank}, "train", 4, 64, seed=0)
    with pytest.raises(ValueError, match="blank: no image has labels or a mask"):
        people.take(np.arange(1))


def test_data_sets_of_other_sizes_and_coarser_labels_join(views: Path, tmp_path: Path) -> None:
    """One training over a store with classes and one with masks alone, held at another size."""
    masked = altered(views, tmp_path / "masked", parts=UNKNOWN)
    params = PARAMS.model_copy(update={"datasets": ["boxes", "masked"], "image_size": 32, "steps": 2})
    runtime = Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")
    inputs = Paths({"views.boxes": views, "views.masked": masked})
    summary = train_parser.run(params, inputs, Paths({"parser": tmp_path / "parser"}), runtime)
    assert summary["images"] == 8


def test_a_data_set_that_is_not_an_input_is_named(views: Path, tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"datasets": ["photos"]})
    with pytest.raises(ValueError, match="'photos' is no input; the inputs are boxes"):
        train_parser.run(params, Paths({"views.boxes": views}), Paths({"parser": tmp_path / "p"}), Runtime())


def altered(views: Path, to: Path, **values: int) -> Path:
    """A copy of a store some of whose arrays have one value everywhere."""
    shutil.copytree(views, to)
    arrays = zarr.open_group(to / "arrays.zarr", mode="r+")
    for name, value in values.items():
        arrays[name][:] = value
    return to
