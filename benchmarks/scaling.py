"""Two workers against one on render_views and fit_body, one torch thread each: `python -m benchmarks.scaling`.

Two figures for each stage. *Steady* counts shards while both workers are busy, after the first shard of each:
what a long run gets. *Whole* is the stage from call to return, start of the worker processes and loading of
models included: what a run as short as this one gets.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from stages import fit_body, render_views
from stages._core import shards
from stages._core.executor import map_shards
from stages._core.params import StageParams, parse_section, read_params
from stages._core.runtime import Runtime
from stages._core.scan_store import ARRAYS, SCANS_PER_GROUP, create_scan_arrays, finish_scans, open_scans
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage
from stages._core.store import open_store

STORES, BODY, PARAMS = Path("data/stores/synthetic"), Path("data/models/body"), Path("params.yaml")
IMAGE_STORES = ("views", "parsing", "keypoints")
SCANS = 128
"""Scans that are rendered and fitted: 8 shards of fit_body, 32 of render_views in `demo`."""

WORKERS = 2


@dataclass(frozen=True)
class Span:
    """When a worker was busy with a shard, s of one clock of the machine."""

    worker: int
    start: float
    end: float


@dataclass(frozen=True)
class Case:
    """A stage to be run on a data set of its own."""

    stage: Stage
    params: StageParams
    inputs: Paths


def measure(stores: Path = STORES, body: Path = BODY, scans: int = SCANS) -> dict[str, float]:
    """Both stages on the first scans of the embedded data set, with the params of params.yaml.

    Raises:
        SystemExit: what to run when there is none.
    """
    missing = [path for path in (body, *(stores / n for n in ("scans", *IMAGE_STORES))) if not path.is_dir()]
    if missing:
        raise SystemExit(f"{missing[0]} is missing: run `dvc repro fit_body` first")
    values = read_params(PARAMS)
    with tempfile.TemporaryDirectory() as folder:
        data = take_scans(stores, Path(folder) / "some", scans)
        inputs = {"render_views": {"scans": data / "scans"}, "fit_body": {"body": body}}
        inputs["fit_body"] |= {name: data / name for name in IMAGE_STORES}
        cases = [
            Case(stage, parse_section(stage.params, stage.name, values), Paths(inputs[stage.name]))
            for stage in (render_views.STAGE, fit_body.STAGE)
        ]
        return {k: v for case in cases for k, v in compare(case, Path(folder)).items()}


def take_scans(stores: Path, out: Path, scans: int, names: Sequence[str] = IMAGE_STORES) -> Path:
    """The first scans of a data set, their images without jitter only, as stores of their own."""
    source = open_scans(stores / "scans")
    index = source.index.head(scans)
    create_scan_arrays(out / "scans", {})
    for group in range(-(-len(index) // SCANS_PER_GROUP)):
        place = Path(ARRAYS) / f"scans_{group:05d}"
        shutil.copytree(stores / "scans" / place, out / "scans" / place)
    finish_scans(out / "scans", index)
    chosen = open_store(stores / "views", "views").index
    rows = np.flatnonzero(chosen["scan"].isin(index["scan"]) & (chosen["variant"] == 0))
    for name in names:
        take_rows(stores / name, name, rows, out / name)
    return out


def take_rows(path: Path, schema: str, rows: np.ndarray, out: Path) -> None:
    """Some rows of a store as a store."""
    store = open_store(path, schema)
    dims = {name: zip(spec.dims, store[name].shape[1:]) for name, spec in store.schema.arrays.items()}
    build_store(
        out=out,
        schema=schema,
        index=store.index.iloc[rows],
        sizes={dim: size for pairs in dims.values() for dim, size in pairs if isinstance(dim, str)},
        attrs=store.attrs,
        shard_rows=64,
        work=partial(_read_rows, path=path, schema=schema, rows=rows),
        runtime=Runtime(work_root=out.parent / ".work"),
        key="some",
    )


def _read_rows(places: range, *, path: Path, schema: str, rows: np.ndarray) -> ShardResult:
    store = open_store(path, schema)
    return ShardResult({name: store.read(name, rows[places]) for name in store.schema.arrays})


def compare(case: Case, folder: Path) -> dict[str, float]:
    """Seconds and throughput of a stage with one worker and with two, and their ratios."""
    name = case.stage.name
    seconds, steady = {}, {}
    for workers in (1, WORKERS):
        seconds[workers], steady[workers] = run_timed(case, folder / f"{name}{workers}", workers)
    figures = {f"{name}_seconds_{n}": value for n, value in seconds.items()}
    figures |= {f"{name}_shards_per_s_{n}": value for n, value in steady.items()}
    return figures | {
        f"{name}_speedup_steady": steady[WORKERS] / steady[1],
        f"{name}_speedup_whole": seconds[1] / seconds[WORKERS],
    }


def run_timed(case: Case, folder: Path, workers: int) -> tuple[float, float]:
    """Seconds of the whole stage, and shards a second of its first store while all workers are busy."""
    outputs = Paths({name: folder / "some" / name for name in case.stage.outputs})
    runtime = Runtime(workers=workers, work_root=folder / "work", runs_root=folder / "runs")
    with spans_of_shards() as stores:
        start = time.perf_counter()
        case.stage.run(case.params, case.inputs, outputs, runtime)
        seconds = time.perf_counter() - start
    return seconds, throughput(stores[0])


@contextmanager
def spans_of_shards() -> Iterator[list[list[Span]]]:
    """Record the spans of all shards of each store that is built meanwhile, store by store."""
    stores: list[list[Span]] = []

    def record(fn: Callable, items: Sequence, runtime: Runtime, label: str, done: int = 0) -> list:
        timed = map_shards(partial(_timed, fn=fn), items, runtime, label, done)
        stores.append([span for _, span in timed])
        return [result for result, _ in timed]

    with mock.patch.object(shards, "map_shards", record):
        yield stores


def _timed(shard: Any, *, fn: Callable[[Any], Any]) -> tuple[Any, Span]:
    start = time.monotonic()
    result = fn(shard)
    return result, Span(os.getpid(), start, time.monotonic())


def throughput(spans: Sequence[Span]) -> float:
    """Shards a second from when the last worker has done its first to when the first worker has no more.

    A shard that is partly outside counts with the part of it that is inside.

    Raises:
        ValueError: the workers had too few shards for such a time to exist.
    """
    workers = {span.worker for span in spans}
    begin = max(min(s.end for s in spans if s.worker == worker) for worker in workers)
    end = min(max(s.end for s in spans if s.worker == worker) for worker in workers)
    if end <= begin:
        raise ValueError(f"{len(spans)} shards on {len(workers)} workers: at least 3 a worker are needed")
    parts = [max(min(s.end, end) - max(s.start, begin), 0) / (s.end - s.start) for s in spans]
    return sum(parts) / (end - begin)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", type=Path, default=STORES)
    parser.add_argument("--body", type=Path, default=BODY)
    parser.add_argument("--scans", type=int, default=SCANS)
    args = parser.parse_args()
    print(json.dumps(measure(args.stores, args.body, args.scans), indent=1))


if __name__ == "__main__":
    main()
