"""A wrong params.yaml or list of data sets stops here, before any other stage; a right one leaves no trace."""

from pathlib import Path

import pytest
import yaml

from flows import graph
from flows.profiles import render_profile
from stages import check_params
from stages._core.params import ParamsError
from stages._core.registry import STAGE_NAMES
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._data.loss_weights import LPIPS_BACKBONE

ENABLED = {
    "datasets": ["synthetic", "mine-000", "mine-001"],
    "scans": ["synthetic"],
    "images": ["mine-000", "mine-001"],
    "part_of": {
        "datasets": {"synthetic": "synthetic", "mine-000": "mine", "mine-001": "mine"},
        "scans": {"synthetic": "synthetic"},
    },
}


def check(folder: Path, changes: dict, enabled: dict = ENABLED) -> Path:
    """Run the stage on the tiny profile with changes: `{"stage.key": value}`."""
    values = yaml.safe_load(render_profile("tiny"))
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "enabled.yaml").write_text(yaml.safe_dump(enabled))
    files = {"params": folder / "params.yaml", "enabled": folder / "enabled.yaml"}
    inputs = Paths({**files, "weights": folder})
    check_params.run(check_params.CheckParams(), inputs, Paths({"ok": folder / "ok.txt"}), Runtime())
    return folder / "ok.txt"


def test_the_output_is_the_same_for_every_right_file(tmp_path: Path) -> None:
    """So a change of one stage's parameters reruns only what depends on that stage."""
    first = check(tmp_path, {}).read_bytes()
    assert check(tmp_path, {"train_avatar.steps": 3, "seed": 5}).read_bytes() == first
    assert check(tmp_path, {"train_avatar.datasets": ["synthetic", "mine"]}).read_bytes() == first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_avatar.stpes": 9}, ["train_avatar.stpes: unknown key", "did you mean steps?"]),
        ({"render_views.views": "many"}, ["render_views.views: got 'many'", "allowed: int"]),
        ({"train_diffusion.batch": 0}, ["train_diffusion.batch: got 0", "greater than or equal to 1"]),
        ({"reconstruct.sampler": "euler"}, ["reconstruct.sampler: got 'euler'", "'ddim'", "'dpm++'"]),
        ({"image_size": 100}, ["image_size: got 100", "multiple of 16"]),
        ({"trian_avatar.steps": 9}, ["trian_avatar: unknown section", "did you mean train_avatar?"]),
        ({"fit_body": 3}, ["fit_body: a mapping is expected, got 3"]),
        ({"evaluate.datasets": ["mine-000"]}, ["evaluate.datasets: 'mine-000' is not enabled"]),
        ({"evaluate.datasets": ["other"]}, ["evaluate.datasets: 'other' is not enabled", "mine, synthetic"]),
    ],
)
def test_a_mistake_names_key_value_and_what_is_allowed(
    tmp_path: Path, changes: dict, words: list[str]
) -> None:
    with pytest.raises(ParamsError) as error:
        check(tmp_path, changes)
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / "ok.txt").exists()


@pytest.mark.parametrize(
    ("enabled", "words"),
    [
        ({**ENABLED, "images": []}, "datasets must hold exactly the names"),
        ({**ENABLED, "part_of": {}}, r"part_of\.scans must name the data set of each of scans"),
        ({**ENABLED, "scans": "synthetic"}, "scans must be a list of data set names, got 'synthetic'"),
    ],
)
def test_lists_of_data_sets_that_disagree_are_refused(tmp_path: Path, enabled: dict, words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        check(tmp_path, {}, enabled)


def test_a_loss_whose_weights_are_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    lpips = {"train_vqgan.distance": "lpips"}
    with pytest.raises(
        ParamsError, match=r"train_vqgan\.distance: lpips needs .* `dinar weights add lpips_vgg FILE`"
    ):
        check(tmp_path, lpips)
    (tmp_path / LPIPS_BACKBONE).touch()
    assert check(tmp_path, lpips).is_file()


def test_every_other_stage_waits_for_it() -> None:
    """DVC starts nothing else when it fails."""
    waiting = [e.module for e in graph.read_graph()[1] if graph.CHECKED in e.body.get("deps", [])]
    assert {*waiting, "check_params"} == set(STAGE_NAMES)
