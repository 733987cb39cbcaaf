"""The stage on two subjects: layout on disk, truth, resume, same bytes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from stages import synthesize_people as stage
from stages._core.runtime import Runtime
from stages._core.splits import split_of
from stages._core.stage import Paths
from stages.people.truth import open_truth
from stages.sources.card import read_card
from stages.sources.scans import Limits, load_scan

PARAMS = stage.SynthesizePeopleParams(seed=3, train=1, val=1, gate=0, test=0, poses=2)


def _run(folder: Path) -> tuple[dict, Paths]:
    outputs = Paths({"raw": folder / "raw", "truth": folder / "truth"})
    return stage.run(PARAMS, Paths({}), outputs, Runtime(work_root=folder / "work")), outputs


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("people"))


def test_quotas_are_filled_by_the_hash_of_the_name():
    params = stage.SynthesizePeopleParams(seed=0, train=5, val=1, gate=1, test=2)
    names = stage.subject_names(params)
    assert [sum(split_of(n) == s for n in names) for s in ("train", "val", "gate", "test")] == [5, 1, 1, 2]


def test_scans_are_read_by_the_scan_adapter(made):
    summary, outputs = made
    assert summary == {"scans": 4, "train": 1, "val": 1, "gate": 0, "test": 0}
    card = read_card(Path("data/catalog/synthetic.yaml"))
    for folder in sorted(outputs["raw"].iterdir()):
        scan = load_scan(folder, card, Limits())
        assert scan.textures[0].shape == (1024, 1024, 4)
        assert scan.texture_parts is not None
        assert scan.texture_parts.max() <= 19
        assert card.subject_of(folder.name) in stage.subject_names(PARAMS)


def test_the_truth_lies_inside_its_scan(made):
    _, outputs = made
    truth = open_truth(outputs["truth"])
    assert truth.index["scan"].tolist() == sorted(p.name for p in outputs["raw"].iterdir())
    card = read_card(Path("data/catalog/synthetic.yaml"))
    for name in truth.index["scan"]:
        scan, body = load_scan(outputs["raw"] / name, card, Limits()), truth.body(name)
        low, high = scan.vertices.min(axis=0) - 0.01, scan.vertices.max(axis=0) + 0.01
        assert ((body.vertices > low) & (body.vertices < high)).mean() > 0.999
        assert ((body.joints > low) & (body.joints < high)).all()
    with pytest.raises(KeyError, match="no truth for scan 'nobody'"):
        truth.body("nobody")


def test_two_poses_of_a_subject_share_the_texture_and_differ_in_shape(made):
    _, outputs = made
    a, b = sorted(outputs["raw"].iterdir())[:2]
    assert (a / "material0.png").read_bytes() == (b / "material0.png").read_bytes()
    assert (a / f"{a.name}.obj").read_bytes() != (b / f"{b.name}.obj").read_bytes()


def test_a_killed_run_resumes_and_ends_with_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SUBJECTS_PER_SHARD", 1)
    calls = []

    def killed(subject, folder, params):
        calls.append(subject)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(subject, folder, params)

    original = stage._make_subject
    monkeypatch.setattr(stage, "_make_subject", killed)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path)
    assert not (tmp_path / "raw").exists()
    _, outputs = _run(tmp_path)
    assert len(calls) == 3  # the finished subject was not made again
    first = {p.relative_to(made[1]["raw"]): p.read_bytes() for p in made[1]["raw"].rglob("*") if p.is_file()}
    again = {p.relative_to(outputs["raw"]): p.read_bytes() for p in outputs["raw"].rglob("*") if p.is_file()}
    assert first == again
    vertices = [np.load(o["truth"] / "vertices.npy") for o in (made[1], outputs)]
    np.testing.assert_array_equal(*vertices)
    shutil.rmtree(tmp_path)
