"""Two processes started by torchrun train as one does: same losses, one set of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from stages import train_diffusion
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.train_loop import TrainLoop
from tests.stages.test_train_diffusion import PARAMS as DIFFUSION
from tests.stages.test_train_diffusion import SECTION, offers_of, write_latents
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
    """All stages that train on images; without the averaged gradients losses differ by 7e-4 and more."""

    def job(stage: str, params: StageParams, output: str, reads: tuple[str, ...], **changes: object) -> Job:
        inputs = {name: str(path) for name, path in world.inputs(*reads).items()}
        return Job(stage, params.model_copy(update=changes).model_dump(), inputs, output)

    images = ("data", "body")
    return [
        job("train_avatar", AVATAR, "avatar", images, rate=5e-5),
        job("train_vqgan", VQGAN, "vqgan", (*images, "avatar"), batch=4, restart_every=1),
        job("finetune_avatar", FINETUNE, "avatar", (*images, "avatar", "vqgan"), trains="all", adversarial=0.0,
            rate=1e-5),
        job(
            "train_parser", PARSER, "parser", ("views.tiny",),
            datasets=["tiny"], val_images=1, architecture="deeplabv3plus", learning_rate=2e-5,
        ),
    ]  # fmt: skip


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
    """At every step, in single precision: batch norms, Dice and the codebook see the whole batch."""
    alone, shared = (history(root / stage) for root in runs)
    assert len(alone) == 4
    for one, two in zip(alone, shared, strict=True):
        assert two == pytest.approx(one, rel=1e-4)


def test_two_processes_go_on_from_the_checkpoint_of_one_and_write_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, with dropout; the losses are those of a run by one process that nothing stopped."""
    inputs = Paths({"data": offers_of(write_latents(tmp_path / "latents"))})

    def alone(root: Path) -> None:
        runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
        train_diffusion.run(DIFFUSION, inputs, Paths({"diffusion": root / "diffusion"}), runtime)

    alone(tmp_path / "one")

    class Killed(TrainLoop):
        def log(self, **values: float | torch.Tensor) -> None:
            super().log(**values)
            if self.step == 5:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train_diffusion, "TrainLoop", Killed)
        with pytest.raises(KeyboardInterrupt):
            alone(tmp_path / "two")
    two, sections = tmp_path / "two", {"seed": DIFFUSION.seed, "train_diffusion": SECTION}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    paths = ["--input", f"data={inputs['data']}", "--output", f"diffusion={two / 'diffusion'}"]
    command = ["-m", "stages.train_diffusion", "--params", str(tmp_path / "params.yaml"), *paths]
    done = torchrun(command, DINAR_WORK=two / "work", DINAR_RUNS=two / "runs")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("resumes at step 3 of 8") == 1
    assert history(two / "diffusion")[-1] == pytest.approx(history(tmp_path / "one/diffusion")[-1], rel=1e-4)
    assert sorted(p.name for p in two.iterdir()) == ["diffusion", "runs", "work"]
    assert not list((two / "work").rglob("checkpoint.pt"))
    assert json.loads((two / "runs/train_diffusion.json").read_text())["processes"] == 2
    curve = (two / "runs/train_diffusion/plots/metrics/loss.tsv").read_text().splitlines()
    assert len(curve) == 2  # its head, and the one line of the history
