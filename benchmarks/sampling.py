"""DPM-Solver++ in few steps against the published sampler, DDIM in 200 steps: `python -m benchmarks.sampling`.

The avatars of the held-out people of a finished run are completed by both from the same noise, rendered in all views
and measured as `evaluate` measures them: `perceptual` over novel views, `kid_effnet` over all. Two values agree when
each lies in the other's 95 % interval over people: a bootstrap for the mean of `perceptual`, and for `kid_effnet`,
which repeated images would bias, the spread over halves of the people. Colours are not tuned: tuning hides what a
sampler makes of texels beside those that the photo shows. Both start from full noise (`--temperature 1`): less of it
favours the sampler that adds none on its way.
"""

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dinar_models.diffusion import LATENT_CHANNELS, Sampler
from dinar_models.perceptual import PerceptualDistance, PooledFeatures
from stages import evaluate, reconstruct
from stages._core.params import parse_section, read_params
from stages._core.precision import autocast, resolve_dtype
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for, rng_for
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._data.models import load_models
from stages.evaluation.images import kernel_estimate, reference_features

DATA, PARAMS, DATASET = Path("data"), Path("params.yaml"), "synthetic"
FAST: tuple[Sampler, int] = ("dpm++", 25)
PUBLISHED: tuple[Sampler, int] = ("ddim", 200)
PEOPLE = 24
"""All held-out people of `demo`: those of the splits `gate` and `test`."""

RESAMPLES = 1000
VIEWS_AT_ONCE = 16


@dataclass(frozen=True)
class Score:
    """A metric of all test people and its 95 % interval."""

    value: float
    low: float
    high: float

    def agrees(self, other: "Score") -> bool:
        """Each value lies in the other's interval."""
        return self.low <= other.value <= self.high and other.low <= self.value <= other.high


def measure(
    data: Path = DATA,
    params: Path = PARAMS,
    *,
    dataset: str = DATASET,
    values: Mapping[str, Any] | None = None,
    fast: tuple[Sampler, int] = FAST,
    published: tuple[Sampler, int] = PUBLISHED,
    temperature: float = 1.0,
    people: int = PEOPLE,
    paths: Mapping[str, Path] | None = None,
    batch: int = 4,
) -> dict[str, float]:
    """Both samplers' metrics with intervals, whether they agree, seconds of a batch of people, and their ratio.

    Args:
        data: folder of a finished run.
        values: params by section instead of those in the file `params`.
        fast, published: sampler and steps.
        temperature: of the noise from which both start.
        people: at most so many are measured.
        paths: inputs of `reconstruct` by name, where they do not lie as in `data`.

    Raises:
        SystemExit: saying what to run when there is no finished run.
    """
    inputs = dict(paths or input_paths(data, dataset))
    missing = [path for path in inputs.values() if not path.is_dir()]
    if missing:
        raise SystemExit(f"{missing[0]} is missing: run `dvc repro train_diffusion` first")
    values = values or read_params(params)
    made = parse_section(reconstruct.ReconstructParams, "reconstruct", dict(values))
    made = made.model_copy(update={"datasets": [dataset], "tune_steps": 0, "temperature": temperature})
    bench = Bench(
        inputs, dataset, made, parse_section(evaluate.EvaluateParams, "evaluate", dict(values)), people
    )
    figures: dict[str, float] = {}
    scores: dict[str, dict[str, Score]] = {}
    for name, sampler in (("fast", fast), ("published", published)):
        scores[name] = bench.scores(*sampler)
        for metric, score in scores[name].items():
            figures |= {f"{name}_{metric}": score.value}
            figures |= {f"{name}_{metric}_low": score.low, f"{name}_{metric}_high": score.high}
        figures[f"{name}_s"] = _seconds(sampler, inputs, batch)
    for metric, score in scores["fast"].items():
        figures[f"{metric}_agrees"] = float(score.agrees(scores["published"][metric]))
    return figures | {"speedup": figures["published_s"] / figures["fast_s"]}


def input_paths(data: Path, dataset: str) -> dict[str, Path]:
    """Inputs of `reconstruct` by name, as dvc.yaml places them."""
    stores, models = data / "stores" / dataset, data / "models"
    paths = {f"{name}.{dataset}": stores / name for name in ("views", "parsing", "bodies_single")}
    paths |= {name: models / name for name in ("body", "vqgan", "diffusion")}
    return {**paths, "avatar": models / "avatar_finetuned"}


@dataclass(frozen=True)
class Bench:
    """What both samplers are measured with.

    Attributes:
        inputs: of `reconstruct`, by name.
        dataset: whose held-out people are completed.
        params: of `reconstruct`, but for the sampler.
        measured: of `evaluate`.
        people: at most so many.
    """

    inputs: dict[str, Path]
    dataset: str
    params: reconstruct.ReconstructParams
    measured: evaluate.EvaluateParams
    people: int

    def scores(self, sampler: Sampler, steps: int) -> dict[str, Score]:
        """Make the avatars and measure them."""
        with tempfile.TemporaryDirectory() as folder:
            index, made, true = self._renders(sampler, steps, Path(folder))
        people, novel = index["subject"].to_numpy(), (index["kind"] == "novel").to_numpy(copy=True)
        kernel = kernel_estimate(
            _features(made), self._reference, people,
            subset=self.measured.kid_subset, draws=self.measured.kid_draws, seed=self.measured.seed,
        )  # fmt: skip
        assert kernel.value is not None
        assert kernel.low is not None
        assert kernel.high is not None
        return {
            "perceptual": bootstrap(_distances(made[novel], true[novel]), people[novel], self.measured.seed),
            "kid_effnet": Score(kernel.value, kernel.low, kernel.high),
        }

    def _renders(self, sampler: Sampler, steps: int, folder: Path) -> tuple[pd.DataFrame, Tensor, Tensor]:
        """The lines of all views that have a fit, the avatars in them and the true images."""
        params = self.params.model_copy(update={"sampler": sampler, "steps": steps})
        runtime = replace(Runtime.from_environment(), work_root=folder / "work", runs_root=folder / "runs")
        front_views = reconstruct.front_views

        def some(*args: Any) -> pd.DataFrame:
            return front_views(*args).head(self.people)

        with mock.patch.object(reconstruct, "front_views", some):
            reconstruct.run(params, Paths(self.inputs), Paths({"avatars": folder / "avatars"}), runtime)
        inputs = {**self.inputs, "avatars": folder / "avatars"}
        index = evaluate.render_index(self.dataset, Paths(inputs))
        index = index[index["ok"]].reset_index(drop=True)
        with mock.patch.object(evaluate, "METHODS", ("avatar",)):  # the baselines are none of this
            shards = [
                evaluate.render_shard(
                    range(start, min(start + VIEWS_AT_ONCE, len(index))),
                    index=index, inputs=inputs, size=self.measured.image_size,
                ).arrays
                for start in range(0, len(index), VIEWS_AT_ONCE)
            ]  # fmt: skip
        made, true = (_unit(np.concatenate([s[name] for s in shards])) for name in ("avatar", "target"))
        return index, made, true

    @functools.cached_property
    def _reference(self) -> Tensor:
        views = open_store(self.inputs[f"views.{self.dataset}"], "views")
        measured = self.measured
        return reference_features(views, measured.kid_reference, measured.seed, measured.image_size)


def bootstrap(values: np.ndarray, people: np.ndarray, seed: int) -> Score:
    """The mean of values, and its interval when people are drawn anew with repetition."""
    groups = [values[people == person].astype(np.float64) for person in np.unique(people)]
    sums, counts = np.array([g.sum() for g in groups]), np.array([len(g) for g in groups])
    drawn = rng_for(seed, "bootstrap over people").integers(0, len(groups), (RESAMPLES, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Score(float(sums.sum() / counts.sum()), float(low), float(high))


def _seconds(sampler: tuple[Sampler, int], inputs: Mapping[str, Path], batch: int) -> float:
    """The second of two runs of the sampler alone on a batch of noise."""
    models = load_models({name: path for name, path in inputs.items() if "." not in name}, "cpu")
    assert models.diffusion is not None
    side, dtype = models.diffusion.config.latent_size, resolve_dtype("auto", "cpu")
    generator = generator_for(0, "sampling benchmark")
    z, mask = (
        torch.randn(batch, LATENT_CHANNELS, side, side, generator=generator),
        torch.ones(batch, 1, side, side),
    )
    seconds = 0.0
    for steps in (2, sampler[1]):  # the first warms up
        start = time.perf_counter()
        with autocast("cpu", dtype):
            models.diffusion.sample(z, mask, generator=generator, steps=steps, sampler=sampler[0])
        seconds = time.perf_counter() - start
    return seconds


@torch.no_grad()
def _distances(made: Tensor, true: Tensor) -> np.ndarray:
    distance = PerceptualDistance()
    parts = zip(made.split(VIEWS_AT_ONCE), true.split(VIEWS_AT_ONCE), strict=True)
    return torch.cat([distance(a, b) for a, b in parts]).numpy()


@torch.no_grad()
def _features(images: Tensor) -> Tensor:
    net = PooledFeatures()
    return torch.cat([net(part) for part in images.split(VIEWS_AT_ONCE)])


def _unit(images: np.ndarray) -> Tensor:
    """uint8, channels last → [−1, 1], channels first."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of a finished run")
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--dataset", default=DATASET)
    parser.add_argument("--steps", type=int, default=FAST[1], help="of DPM-Solver++")
    parser.add_argument("--published-steps", type=int, default=PUBLISHED[1], help="of DDIM")
    parser.add_argument("--people", type=int, default=PEOPLE, help="at most so many are measured")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the noise both start from")
    args = parser.parse_args()
    figures = measure(
        args.data, args.params, dataset=args.dataset, fast=("dpm++", args.steps),
        published=("ddim", args.published_steps), temperature=args.temperature, people=args.people,
    )  # fmt: skip
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
