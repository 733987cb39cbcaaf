"""What the training loaders deliver, of what a step consumes: `python -m benchmarks.loading`.

One process of one thread reads batches from the sharded stores, as the process does that loads ahead of training;
its seconds a batch are compared with those of a step, made by all threads on batches in memory. Above 1 the step
never waits. Reading starts with cold memory at the first step, so the figure holds for the start of a run too.
`…_repeats` is 1 when a second loader makes the same batch.

`…_loader_mib` is the most memory of a process that reads from so many times the data: the same stores under other
names, in a window so small that it moves over all of them meanwhile.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.memory import own_peak_mib
from benchmarks.training import BODY, IMAGE_STORES, PARAMS, STORES, WARM_UP, Case, check_stores, short_cases
from stages import train_parser
from stages._core.params import parse_section, read_params
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages._data.labelled import BatchRules, LabelledPeople, StepBatches
from stages._data.latent_pairs import BLOCK, LatentPairSource
from stages._data.offers import offer_of, offered_stores, write_offer
from stages._data.pairs import PairRules, PairSource

BATCHES = 60
STEPS = 6
IN_WINDOWS = ("train_avatar", "train_diffusion")
"""Stages whose loaders differ in what they keep: `train_vqgan` reads as `train_avatar` does."""

COPIES = (1, 4)
MEMORY_WINDOW, MEMORY_BATCHES = 8, 24
PARSER_IMAGES = 64
"""Held in memory for the parser's steps; how many changes nothing."""


def measure(
    stores: Path = STORES,
    body: Path = BODY,
    params: Path = PARAMS,
    *,
    values: Mapping[str, Any] | None = None,
    batches: int = BATCHES,
    steps: int = STEPS,
) -> dict[str, float]:
    """Seconds of a batch and of a step of each training stage, and their ratio.

    Args:
        values: params by section instead of those in the file `params`.

    Raises:
        SystemExit: saying what to run when the stores are not there.
    """
    check_stores(stores, body)
    with tempfile.TemporaryDirectory() as folder:
        cases = short_cases(values or read_params(params), stores, body, Path(folder), WARM_UP + steps)
        cases.append(_parser_case(values or read_params(params), stores, WARM_UP + steps))
        figures: dict[str, float] = {}
        for case in cases:
            with _one_thread():
                load = _loader(case, stores)
                batch = _seconds_a_batch(load, batches)
                repeats = _same(load(batches - 1), _loader(case, stores)(batches - 1))
            step = case.run("ours", Path(folder) / case.stage).step
            figures |= {
                f"{case.stage}_batch_s": batch,
                f"{case.stage}_step_s": step,
                f"{case.stage}_delivers": step / batch,
                f"{case.stage}_repeats": float(repeats),
            }
        for case in cases:
            if case.stage in IN_WINDOWS:
                figures |= {f"{case.stage}_loader_mib_{n}_times": _peak_mib(case, stores, n) for n in COPIES}
    return figures


def _same(first: Any, second: Any) -> bool:
    """Whether two batches hold the same tensors."""
    both = (batch.values() if isinstance(batch, dict) else batch for batch in (first, second))
    return all(torch.equal(a, b) for a, b in zip(*both, strict=True))


def _peak_mib(case: Case, stores: Path, times: int) -> float:
    """Most memory of a fresh process that reads batches from `times` the data."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_read_copies, case, stores, times).result()


def _read_copies(case: Case, stores: Path, times: int) -> float:
    torch.set_num_threads(1)
    params: Any = case.params
    if case.stage == "train_diffusion":
        copies = [_latents(case, stores)] * times
        source = LatentPairSource(copies, "train", seed=0, batch=BLOCK, window=MEMORY_WINDOW)
        load: Callable[[int], Any] = source.step
    else:
        names = [f"{stores.name}-{copy}" for copy in range(times)]
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                write_offer(
                    Path(folder) / f"{name}.json", offer_of(name, {n: stores / n for n in IMAGE_STORES})
                )
            rules = PairRules(0, params.image_size, params.batch, window=MEMORY_WINDOW, turnover=params.batch)
            inputs = Paths({**case.inputs, "data": Path(folder)})
            load = PairSource(inputs, names, "train", rules).__getitem__
    for step in range(MEMORY_BATCHES):
        load(step)
    return own_peak_mib()


def _parser_case(values: Mapping[str, Any], stores: Path, steps: int) -> Case:
    """The parser's training, on a few images."""
    params = parse_section(train_parser.TrainParserParams, "train_parser", dict(values))
    few = {"steps": steps, "checkpoint_every": steps, "images": PARSER_IMAGES, "val_images": 1}
    return Case(
        "train_parser",
        params.model_copy(update={"datasets": [stores.name], **few}),
        {f"views.{stores.name}": stores / "views"},
        texture_size=0,
    )


def _loader(case: Case, stores: Path) -> Callable[[int], Any]:
    """Step → its batch, as the stage's loader makes it."""
    params: Any = case.params
    if case.stage == "train_diffusion":
        latents = [_latents(case, stores)]
        return LatentPairSource(latents, "train", seed=params.seed, batch=params.batch).step
    if case.stage == "train_parser":
        people = LabelledPeople(
            {stores.name: stores / "views"}, "train", params.images, params.image_size, params.seed
        )
        people.take(np.arange(1))  # reads them all
        rules = BatchRules(params.seed, params.batch, params.size, params.size // 2)
        return StepBatches(people, rules).__getitem__
    compressed = case.stage == "train_vqgan"
    pair_rules = PairRules(
        params.seed, params.image_size, params.batch,
        turnover=params.turnover, merged=compressed, same=compressed,
    )  # fmt: skip
    return PairSource(Paths(case.inputs), params.datasets, "train", pair_rules).__getitem__


def _latents(case: Case, stores: Path) -> Store:
    """The run's; where it is not that far, latents of noise."""
    path = stores / "latents"
    if not path.is_dir():
        path = offered_stores(case.inputs["data"], [stores.name])[0]["latents"]
    return open_store(path, "latents")


def _seconds_a_batch(load: Callable[[int], Any], batches: int) -> float:
    start = time.perf_counter()
    for step in range(batches):
        load(step)
    return (time.perf_counter() - start) / batches


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", type=Path, default=STORES)
    parser.add_argument("--body", type=Path, default=BODY)
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--batches", type=int, default=BATCHES)
    args = parser.parse_args()
    print(json.dumps(measure(args.stores, args.body, args.params, batches=args.batches), indent=1))


if __name__ == "__main__":
    main()
