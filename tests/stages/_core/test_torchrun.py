"""What torchrun's variables mean to a stage."""

from pathlib import Path

import pytest

from stages._core import torchrun
from stages._core.cli import run_stage
from stages._core.params import StageParams
from stages._core.runtime import Runtime, _own_gpu
from stages._core.stage import Paths, Stage


class NoParams(StageParams):
    pass


@pytest.fixture
def second_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process on the second of two machines."""
    values = {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "x"}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("DINAR_DEVICE", "cpu")


@pytest.mark.usefixtures("second_of_four")
def test_one_process_of_several_shows_no_progress_and_takes_its_part_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DINAR_PROGRESS", "1")
    monkeypatch.delenv("DINAR_WORKERS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 9)
    runtime = Runtime.from_environment()
    assert not runtime.progress
    assert runtime.workers == 4
    assert _own_gpu(2) == "cuda:1"
    with pytest.raises(ValueError, match="2 processes on a machine with 1 GPUs"):
        _own_gpu(1)


@pytest.mark.usefixtures("second_of_four")
def test_a_stage_that_does_not_train_is_refused(tmp_path: Path) -> None:
    stage = Stage("check", NoParams, inputs=(), outputs=(), run=lambda *_: {})
    with pytest.raises(ValueError, match="it runs in one process; start it without torchrun"):
        run_stage(stage, tmp_path / "params.yaml", Paths({}), Paths({}), Runtime())


def test_a_clusters_world_size_alone_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "2")
    assert (torchrun.world(), torchrun.rank(), torchrun.local_world()) == (1, 0, 1)
