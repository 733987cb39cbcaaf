"""A training step as the stages make it, against the same networks in plain fp32: `python -m benchmarks.training`.

The stages themselves run, each way in a process of its own, by turns, on batches that lie in memory. *Plain* is the
same step in float32, tensors and weights contiguous, operators as their definitions say them (benchmarks/plain.py),
memory as torch uses it. *Whole* is plain, and images are rendered whole, as in the paper, not in windows around the
bodies. A time is the mean over some steps, the least of all rounds.

`--losses` makes 100 steps, or as many as it is told, both ways from the same start on the same batches instead, and
compares how well they reconstruct over the last quarter.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from unittest import mock

import numpy as np
import pandas as pd
import torch.nn.functional as F
import yaml
from torch import Tensor

from benchmarks.plain import plain_operators, whole_images
from dinar_models.diffusion import LATENT_CHANNELS
from flows.profiles import profile_names, render_profile
from stages import train_avatar, train_diffusion, train_parser, train_vqgan
from stages._core.params import StageParams, parse_section, read_params
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths
from stages._core.train_loop import TrainLoop
from stages._core.weights import read_body_digests, save_weights
from stages._data import objective
from stages._data.labelled import BatchRules, LabelledPeople, StepBatches
from stages._data.offers import offer_of, write_offer
from stages._data.pairs import Pairs, PairSource

STORES, BODY, PARAMS = Path("data/stores/synthetic"), Path("data/models/body"), Path("params.yaml")
IMAGE_STORES = ("views", "parsing", "bodies", "textures")
WARM_UP = 2
"""Steps that do not count: caches are cold, and the discriminator's gradient penalty comes in the first of 16."""

LOSS_STEPS = 100
LATENT_ROWS = 64

Mode = Literal["ours", "plain", "whole"]
STAGES: dict[str, ModuleType] = {
    "train_avatar": train_avatar,
    "train_vqgan": train_vqgan,
    "train_diffusion": train_diffusion,
    "train_parser": train_parser,
}
RECONSTRUCTION = {
    "train_avatar": ("l2", "perceptual", "dice"),
    "train_vqgan": ("texture_generated", "texture_rgb", "texture_masks"),
    "train_diffusion": ("loss",),
}
"""Terms in the history that say how well something is reconstructed."""


@dataclass(frozen=True)
class Case:
    """A training stage on some data.

    Attributes:
        stage: its name.
        params, inputs: the stage's.
        texture_size: texels per side that textures are resized to; the stores may have others.
        in_memory: two batches are read before the clock starts, and used by turns; else as the stage reads.
    """

    stage: str
    params: StageParams
    inputs: dict[str, Path]
    texture_size: int
    in_memory: bool = True

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What can be compared; the diffusion renders nothing."""
        return ("ours", "plain") if self.stage == "train_diffusion" else ("ours", "plain", "whole")

    def run(self, mode: Mode, folder: Path) -> "Run":
        """Train in this process."""
        module, run = STAGES[self.stage], Run()
        (output,) = module.STAGE.outputs
        params = self.params if mode == "ours" else self.params.model_copy(update={"dtype": "float32"})
        with ExitStack() as stack:
            if mode != "ours":
                stack.enter_context(plain_operators(module, objective))
            if mode == "whole":
                stack.enter_context(whole_images())
            stack.enter_context(_resized_textures(self.texture_size))
            for name, value in _LITTLE_READING.items() if self.in_memory else ():
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, value))
            stack.enter_context(mock.patch.object(module, "TrainLoop", run.loop))
            runtime = Runtime(work_root=folder / "work", runs_root=folder / "runs")
            module.run(params, Paths(self.inputs), Paths({output: folder / output}), runtime)
        return run


@dataclass
class Run:
    """What a training left: seconds of each step, and lines of its history."""

    seconds: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)

    def loop(self, **options: Any) -> TrainLoop:
        """In the stage's loop's place: the same, with a clock."""
        seconds, history = self.seconds, self.history

        class Timed(TrainLoop):
            def __iter__(self) -> Iterator[int]:
                for step in super().__iter__():
                    start = time.perf_counter()
                    yield step
                    seconds.append(time.perf_counter() - start)

            def save_history(self, folder: Path) -> None:
                super().save_history(folder)
                history.extend(self.history)

        return Timed(**options)

    @property
    def step(self) -> float:
        """Mean seconds after the warm-up."""
        return float(np.mean(self.seconds[WARM_UP:]))


def measure(
    stores: Path = STORES,
    body: Path = BODY,
    params: Path = PARAMS,
    *,
    values: Mapping[str, Any] | None = None,
    steps: int = 6,
    rounds: int = 3,
    stages: Sequence[str] = tuple(RECONSTRUCTION),
) -> dict[str, float]:
    """Seconds of a step of each stage in each mode, and ratios.

    Args:
        values: params by section instead of those in the file `params`, e.g. of another profile.
        steps: that count; an even number, as the autoencoder renders images in every second step.
        rounds: of all stages and modes.
        stages: of RECONSTRUCTION.

    Raises:
        SystemExit: saying what to run when the stores are not there.
    """
    check_stores(stores, body)
    with tempfile.TemporaryDirectory() as folder:
        short = short_cases(values or read_params(params), stores, body, Path(folder), WARM_UP + steps)
        short = [case for case in short if case.stage in stages]
        times = _times(short, rounds, Path(folder))
    figures: dict[str, float] = {}
    for case in short:
        least = {mode: min(times[case.stage, mode]) for mode in case.modes}
        figures |= {f"{case.stage}_{mode}_s": seconds for mode, seconds in least.items()}
        figures |= {f"{case.stage}_speedup": least["plain"] / least["ours"]}
        if "whole" in least:
            figures[f"{case.stage}_speedup_whole"] = least["whole"] / least["ours"]
    return figures


def _times(cases: Sequence[Case], rounds: int, folder: Path) -> dict[tuple[str, Mode], list[float]]:
    """Seconds of a step, round by round; each mode has a process, and only one works at a time."""
    times: dict[tuple[str, Mode], list[float]] = {}
    with ExitStack() as stack:
        spawn = get_context("spawn")
        modes: tuple[Mode, ...] = ("ours", "plain", "whole")
        pools = {m: stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for m in modes}
        for round_ in range(rounds):
            for case in cases:
                for mode in case.modes:
                    place = folder / f"{case.stage}-{mode}-{round_}"
                    run = pools[mode].submit(_timed, case, mode, place).result()
                    times.setdefault((case.stage, mode), []).append(run)
    return times


def _timed(case: Case, mode: Mode, folder: Path) -> float:
    return case.run(mode, folder).step


def compare_losses(
    stores: Path = STORES,
    models: Path = BODY.parent,
    params: Path = PARAMS,
    *,
    steps: int = LOSS_STEPS,
    stages: Sequence[str] = tuple(RECONSTRUCTION),
) -> dict[str, float]:
    """Ours over plain, for each term of reconstruction, over the last quarter of `steps` steps.

    Args:
        models: with `body`, and `avatar`, whose textures the autoencoder learns.
    """
    check_stores(stores, models / "body")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in long_cases(read_params(params), stores, models, Path(folder), steps):
            if case.stage not in stages:
                continue
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                runs = [
                    pool.submit(case.run, mode, Path(folder) / f"{case.stage}-{mode}").result()
                    for mode in ("plain", "ours")  # plain first: ours changes how the process uses memory
                ]
            for term in RECONSTRUCTION[case.stage]:
                plain, ours = (_late_mean(run.history, term, steps) for run in runs)
                figures[f"{case.stage}_{term}_ratio"] = ours / plain
    return figures


def _late_mean(history: Sequence[Mapping[str, float]], term: str, steps: int) -> float:
    return float(np.mean([line[term] for line in history if line["step"] > 0.75 * steps]))


def short_cases(values: Mapping[str, Any], stores: Path, body: Path, folder: Path, steps: int) -> list[Case]:
    """All stages for so many steps, on untrained weights and made-up latents of the sizes that the params say."""
    update = {"steps": steps, "checkpoint_every": steps, "validate_every": steps + 1, "continuous_share": 0.0}
    avatar, vqgan, diffusion = _params(values, stores, update)
    offers = _offers(folder, stores.name, {name: stores / name for name in IMAGE_STORES})
    nets = train_avatar.build(avatar)
    save_weights(folder / "avatar", "avatar", nets, nets.config_dict(), read_body_digests(body))
    latent = train_vqgan.build(vqgan).config.latent_size
    write_noise(folder / "latents", latent)
    latents = _offers(folder / "for_diffusion", stores.name, {"latents": folder / "latents"})
    images = {"data": offers, "body": body}
    size = avatar.texture_size
    return [
        Case("train_avatar", avatar, images, size),
        Case("train_vqgan", vqgan, {**images, "avatar": folder / "avatar"}, size),
        Case("train_diffusion", diffusion, {"data": latents}, size),
    ]


def long_cases(values: Mapping[str, Any], stores: Path, models: Path, folder: Path, steps: int) -> list[Case]:
    """The same on the data of a finished run."""
    avatar, vqgan, diffusion = _params(values, stores, {"steps": steps, "checkpoint_every": steps})
    offers = _offers(folder, stores.name, {name: stores / name for name in IMAGE_STORES})
    latents = _offers(folder / "for_diffusion", stores.name, {"latents": stores / "latents"})
    images = {"data": offers, "body": models / "body"}
    cases = [
        Case("train_avatar", avatar, images, avatar.texture_size),
        Case("train_vqgan", vqgan, {**images, "avatar": models / "avatar"}, avatar.texture_size),
        Case("train_diffusion", diffusion, {"data": latents}, avatar.texture_size),
    ]
    return [replace(case, in_memory=False) for case in cases]


def _params(values: Mapping[str, Any], stores: Path, update: Mapping[str, Any]) -> list[Any]:
    """The sections of the three stages, on this data set, with what of `update` a section has."""
    parsed = []
    for name in RECONSTRUCTION:
        module = STAGES[name]
        params = parse_section(module.STAGE.params, name, dict(values))
        known = {k: v for k, v in update.items() if k in type(params).model_fields}
        parsed.append(params.model_copy(update={"datasets": [stores.name], **known}))
    return parsed


def _offers(folder: Path, name: str, stores: Mapping[str, Path]) -> Path:
    """The folder of offers that a training stage is given."""
    write_offer(folder / "offers" / f"{name}.json", offer_of(name, stores))
    return folder / "offers"


def write_noise(path: Path, size: int) -> None:
    """A store of latents that are noise."""
    index = pd.DataFrame({"subject": [f"s{i}" for i in range(LATENT_ROWS)], "split": "train"})
    index = index.assign(scan=index["subject"], source="made", ok=True, reason="")
    rng = np.random.default_rng(0)

    def noise(rows: range) -> ShardResult:
        z = rng.normal(size=(2, len(rows), LATENT_CHANNELS, size, size)).astype(np.float16)
        return ShardResult(
            {"z_partial": z[0], "z_merged": z[1], "mask": np.ones((len(rows), 1, size, size), np.float16)}
        )

    build_store(
        out=path,
        schema="latents",
        index=index,
        sizes={"t": size},
        attrs={"body": "none", "atlas": "none", "guess": "none"},
        shard_rows=LATENT_ROWS,
        work=noise,
        runtime=Runtime(work_root=path.parent / ".work"),
        key="noise",
    )


@contextmanager
def _resized_textures(size: int) -> Iterator[None]:
    """Batches with textures of another size than their store's, so that every profile runs on any data."""
    unpack = Pairs.unpack

    def resized(packed: Mapping[str, Tensor], device: str) -> Pairs:
        pairs = unpack(packed, device)
        return replace(pairs, **{n: _to_size(getattr(pairs, n), size) for n in ("texture", "merged")})

    with mock.patch.object(Pairs, "unpack", resized):
        yield


def _to_size(texture: Tensor, size: int) -> Tensor:
    if texture.ndim < 4 or texture.shape[-1] == size:
        return texture
    return F.interpolate(texture, size=(size, size))


def _two_pairs(source: PairSource, steps: range, runtime: Runtime) -> Iterator[Pairs]:
    """In the place of the loader of pairs."""
    batches = [Pairs.unpack(source[step], runtime.device) for step in (0, 1)]
    for step in steps:
        yield batches[step % 2]


def _two_batches(
    people: LabelledPeople, rules: BatchRules, steps: range, runtime: Runtime
) -> Iterator[tuple[Tensor, Tensor]]:
    """In the place of the parser's loader."""
    batches = [StepBatches(people, rules)[step] for step in (0, 1)]
    for step in steps:
        yield batches[step % 2]


_LITTLE_READING = {
    "pair_batches": _two_pairs,
    "step_batches": _two_batches,
    "FIXED_BATCHES": 1,
    "START_TEXTURES": 2,
}
"""What stages read at the start and the end takes longer than a few steps."""


def check_stores(stores: Path, body: Path) -> None:
    """Raise SystemExit saying what to run when something is missing."""
    missing = [path for path in (body, *(stores / name for name in IMAGE_STORES)) if not path.is_dir()]
    if missing:
        raise SystemExit(f"{missing[0]} is missing: run `dvc repro sample_textures` first")


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", type=Path, default=STORES)
    parser.add_argument("--models", type=Path, default=BODY.parent)
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--profile", choices=profile_names(), help="sizes of this profile; else of --params")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", nargs="+", choices=RECONSTRUCTION, default=list(RECONSTRUCTION))
    parser.add_argument(
        "--losses", type=int, nargs="?", const=LOSS_STEPS, metavar="STEPS",
        help="compare losses after so many steps",
    )  # fmt: skip
    args = parser.parse_args()
    if args.losses:
        figures = compare_losses(args.stores, args.models, args.params, steps=args.losses, stages=args.stages)
    else:
        values = yaml.safe_load(render_profile(args.profile)) if args.profile else None
        figures = measure(
            args.stores, args.models / "body", args.params,
            values=values, steps=args.steps, rounds=args.rounds, stages=args.stages,
        )  # fmt: skip
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
