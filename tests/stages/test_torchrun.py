"""Two processes started by torchrun train as one does: same losses, one set of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages._core.params import StageParams
from stages._core.stage import Paths
from tests.stages.test_train_on_images import AVATAR, FINETUNE, VQGAN
from tests.stages.test_train_parser import PARAMS as PARSER
from tests.stages.tiny_world import World
from tests.stages.trainings import Job, write_jobs

ROOT = Path(__file__).parents[2]
TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]


def torchrun(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes on CPUs."""
    known = {"DINAR_DEVICE": "cpu", "DINAR_WORKERS": 1, "OMP_NUM_THREADS": 1, **settings}
    environment = os.environ | {name: str(value) for name, value in known.items()}
    return subprocess.run(
        [*TWO, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250
    )


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def jobs_of(world: World) -> list[Job]:
    """All stages that train on images."""

    def job(stage: str, params: StageParams, output: str, inputs: Paths) -> Job:
        return Job(stage, params.model_dump(), {name: str(path) for name, path in inputs.items()}, output)

    images = world.inputs("data", "body")
    trained = world.inputs("data", "body", "avatar")
    both = world.inputs("data", "body", "avatar", "vqgan")
    everything = FINETUNE.model_copy(update={"trains": "all", "adversarial": 0.0})
    parser = PARSER.model_copy(
        update={"datasets": ["tiny"], "val_images": 1, "architecture": "deeplabv3plus"}
    )
    return [
        job("train_avatar", AVATAR, "avatar", images),
        job("train_vqgan", VQGAN.model_copy(update={"batch": 4, "restart_every": 1}), "vqgan", trained),
        job("finetune_avatar", everything, "avatar", both),
        job("train_parser", parser, "parser", world.inputs("views.tiny")),
    ]


@pytest.fixture(scope="module")
def runs(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the same trainings by one process and by two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    jobs = jobs_of(world)
    for job in jobs:
        job.run(one)
    write_jobs(two / "jobs.json", jobs)
    done = torchrun(["-m", "tests.stages.trainings", str(two / "jobs.json")])
    assert done.returncode == 0, done.stderr
    return one, two


@pytest.mark.parametrize("stage", ["train_avatar", "train_vqgan", "finetune_avatar", "train_parser"])
def test_two_processes_have_the_losses_of_one(stage: str, runs: tuple[Path, Path]) -> None:
    """At every step, in single precision; batch norms, Dice and the codebook see the whole batch."""
    alone, shared = (history(root / stage) for root in runs)
    assert len(alone) == 4
    for one, two in zip(alone, shared, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
