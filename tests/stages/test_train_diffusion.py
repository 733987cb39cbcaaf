"""Training the prior: killed for good and resumed it ends with the same weights; held-out people stay unseen."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from diffusers.training_utils import EMAModel

from dinar_models.diffusion import LatentDiffusion
from stages import train_diffusion as stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._core.weights import load_weights
from stages._data.offers import offer_of, write_offer
from tests.stages.tiny_world import save_store

ROOT = Path(__file__).parents[2]
SIDE, STEPS = 8, 8
SECTION = {
    "datasets": ["tiny"],
    "steps": STEPS,
    "batch": 4,
    "warmup": 2,
    "widths": [8, 16],
    "attention": [False, True],
    "layers": 1,
    "groups": 4,
    "head_width": 8,
    "dropout": 0.2,  # draws from torch's global generator, whose state a checkpoint must hold too
    "checkpoint_every": 3,
    "validate_every": 4,
    "dtype": "float32",
}
PARAMS = stage.TrainDiffusionParams(seed=4, **SECTION)

KILLED_AT_STEP_5 = """
import os, signal, sys
from stages import train_diffusion
from stages._core.cli import main
from stages._core.train_loop import TrainLoop

class Killed(TrainLoop):
    def log(self, **values):
        super().log(**values)
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

train_diffusion.TrainLoop = Killed
main(train_diffusion.STAGE, sys.argv[1:])
"""


def write_latents(path: Path, *, val_seed: int = 0, train: int = 12, guess: str = "none") -> Path:
    """A store of random latents: train, then val, then test people; the partial half is what is known."""
    splits = ["train"] * train + ["val"] * 4 + ["test"] * 2
    index = pd.DataFrame({"split": splits, "subject": [f"s{i}" for i in range(len(splits))]})
    index = index.assign(scan=index["subject"], source="made", ok=index["split"] != "test", reason="")
    index.loc[~index["ok"], "reason"] = "held out"
    z = np.random.default_rng(1).normal(size=(len(splits), 6, SIDE, SIDE))
    z[train : train + 4] = np.random.default_rng(val_seed).normal(size=(4, 6, SIDE, SIDE))
    mask = np.zeros((len(splits), 1, SIDE, SIDE), np.float16)
    mask[..., : SIDE // 2] = 1
    arrays = {"z_merged": 2 * z + 1, "z_partial": (2 * z + 1) * mask, "mask": mask}
    arrays = {name: values.astype(np.float16) for name, values in arrays.items()}
    save_store(path, "latents", index, arrays, attrs={"body": "b", "atlas": "a", "guess": guess})
    write_offer(offers_of(path) / "tiny.json", offer_of("tiny", {"latents": path}))
    return path


def offers_of(latents: Path) -> Path:
    """The folder that a training stage is given for a store."""
    return latents.with_name(f"{latents.name}_offers")


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_latents(tmp_path_factory.mktemp("latents") / "latents")


def train(latents: Path, root: Path, params: stage.TrainDiffusionParams = PARAMS) -> dict:
    """Run the stage; its summary. The weights lie under `root/diffusion`."""
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    inputs = Paths({"data": offers_of(latents)})
    return stage.run(params, inputs, Paths({"diffusion": root / "diffusion"}), runtime)


@pytest.fixture(scope="module")
def unbroken(latents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that nothing stopped."""
    root = tmp_path_factory.mktemp("unbroken")
    train(latents, root)
    return root / "diffusion"


def same_files(first: Path, second: Path) -> bool:
    names = sorted(p.name for p in first.iterdir())
    assert names == sorted(p.name for p in second.iterdir())
    return all((first / n).read_bytes() == (second / n).read_bytes() for n in names)


def test_killed_with_sigkill_and_resumed_it_ends_with_the_same_bytes(
    latents: Path, unbroken: Path, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"seed": PARAMS.seed, "train_diffusion": SECTION}))
    paths = ["--input", f"data={offers_of(latents)}", "--output", f"diffusion={tmp_path / 'diffusion'}"]
    command = [sys.executable, "-c", KILLED_AT_STEP_5, "--params", str(tmp_path / "params.yaml"), *paths]
    settings = {"DINAR_WORK": tmp_path / "work", "DINAR_RUNS": tmp_path / "runs", "DINAR_DEVICE": "cpu"}
    settings |= {"OMP_NUM_THREADS": torch.get_num_threads()}  # sums of other lengths round otherwise
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    killed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "diffusion").exists()
    (checkpoint,) = (tmp_path / "work").rglob("checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["step"] == 3
    train(latents, tmp_path)
    assert same_files(tmp_path / "diffusion", unbroken)
    assert not checkpoint.exists()


def test_it_trains_in_bf16_as_it_does_by_default(latents: Path, tmp_path: Path) -> None:
    """Latents are stored in halves, which CPUs do not stack under autocast."""
    params = PARAMS.model_copy(update={"dtype": "bfloat16", "steps": 2})
    assert np.isfinite(train(latents, tmp_path, params)["loss"])


def test_killed_between_the_last_step_and_publishing_no_step_is_repeated(
    latents: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def dies(out: Path) -> Iterator[Path]:
        raise KeyboardInterrupt
        yield out

    with monkeypatch.context() as patched:
        patched.setattr(stage, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            train(latents, tmp_path)

    def no_step(*args: object, **options: object) -> None:
        raise AssertionError("a step was made")

    monkeypatch.setattr(LatentDiffusion, "loss", no_step)
    assert train(latents, tmp_path)["steps"] == STEPS
    assert same_files(tmp_path / "diffusion", unbroken)


def test_weights_carry_their_sizes_statistics_and_the_body_they_belong_to(unbroken: Path) -> None:
    net = load_weights(unbroken, "diffusion", LatentDiffusion.from_config, {"body": "b", "atlas": "a"})
    assert net.config.latent_size == SIDE
    assert net.config.widths == (8, 16)
    torch.testing.assert_close(net.mean, torch.ones(6), atol=0.3, rtol=0)
    torch.testing.assert_close(net.deviation, torch.full((6,), 2.0), atol=0.3, rtol=0)
    history = [json.loads(line) for line in (unbroken / "history.jsonl").read_text().splitlines()]
    assert history[-1]["step"] == STEPS
    assert history[-1]["val"] > 0


def test_val_people_are_measured_and_never_learnt_from(unbroken: Path, tmp_path: Path) -> None:
    other = write_latents(tmp_path / "latents", val_seed=9)
    train(other, tmp_path)
    mine, theirs = (folder / "diffusion.safetensors" for folder in (tmp_path / "diffusion", unbroken))
    assert mine.read_bytes() == theirs.read_bytes()
    curves = [(folder / "history.jsonl").read_text() for folder in (tmp_path / "diffusion", unbroken)]
    assert curves[0] != curves[1]


def test_more_steps_bring_the_loss_below_that_of_predicting_nothing(latents: Path, tmp_path: Path) -> None:
    longer = PARAMS.model_copy(update={"steps": 60, "rate": 3e-3, "dropout": 0.0, "checkpoint_every": 60})
    assert train(latents, tmp_path, longer)["loss"] < 0.95  # v has unit variance: zeros cost 1


def test_the_latents_say_whether_they_start_from_a_guess(tmp_path: Path) -> None:
    train(write_latents(tmp_path / "latents", guess="mirror"), tmp_path)
    net = load_weights(tmp_path / "diffusion", "diffusion", LatentDiffusion.from_config)
    assert net.config.guess == "mirror"
    assert (net.scale - 1).abs().min() > 0.01


def test_latents_can_be_taken_as_they_are(latents: Path, tmp_path: Path) -> None:
    """As the published code does: scale factor 1."""
    train(latents, tmp_path, PARAMS.model_copy(update={"standardise": False}))
    net = load_weights(tmp_path / "diffusion", "diffusion", LatentDiffusion.from_config)
    assert net.mean.eq(0).all()
    assert net.deviation.eq(1).all()


def test_the_average_follows_the_published_decay() -> None:
    """min(0.9999, (1 + n) / (10 + n)) after n updates."""
    average = EMAModel([torch.nn.Parameter(torch.zeros(1))], decay=0.9999)
    decays = [average.get_decay(n + 1) for n in (1, 90, 10**6)]
    assert decays == [2 / 11, 91 / 100, 0.9999]


def test_latents_with_different_guesses_are_not_mixed(tmp_path: Path) -> None:
    stores = [
        open_store(write_latents(tmp_path / guess, guess=guess), "latents") for guess in ("none", "mirror")
    ]
    with pytest.raises(ValueError, match="different guesses cannot be mixed: mirror, none"):
        stage.read_guess(stores)


def test_a_store_without_train_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no pair of the train split.*rejects\.parquet"):
        train(write_latents(tmp_path / "latents", train=0), tmp_path)
