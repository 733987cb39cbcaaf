"""The only parallelism of data stages: one function over shards, inline, on local processes, or on Dask."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from stages._core.progress import progress
from stages._core.runtime import Runtime

S = TypeVar("S")
R = TypeVar("R")

SCHEDULER = "DASK_SCHEDULER_ADDRESS"

PARENT_EVERY = 1.0
"""Seconds between a worker's looks at whether its parent lives."""


def map_shards(
    fn: Callable[[S], R], shards: Sequence[S], runtime: Runtime, label: str, done: int = 0
) -> list[R]:
    """Apply `fn` to every shard; results in the order of the shards.

    Args:
        fn: picklable; what it returns must not depend on the worker.
        shards: small, picklable descriptions of work.
        runtime: `workers` processes of one torch thread each; 1 = inline.
        label: for the progress line.
        done: shards that an earlier run finished, counted in the progress line only.

    Raises:
        Whatever `fn` raises, after the remaining shards have been cancelled.
    """
    results: dict[int, R] = {}
    with progress(label, len(shards) + done, done, bar=runtime.progress) as advance:
        for i, result in _completed(fn, shards, runtime):
            results[i] = result
            advance()
    return [results[i] for i in range(len(shards))]


def _completed(fn: Callable[[S], R], shards: Sequence[S], runtime: Runtime) -> Iterator[tuple[int, R]]:
    if os.environ.get(SCHEDULER):
        yield from _on_dask(fn, shards, os.environ[SCHEDULER])
    elif runtime.workers == 1 or len(shards) < 2:
        with _one_torch_thread():
            for i, shard in enumerate(shards):
                yield i, fn(shard)
    else:
        yield from _on_processes(fn, shards, min(runtime.workers, len(shards)))


def _on_processes(fn: Callable[[S], R], shards: Sequence[S], workers: int) -> Iterator[tuple[int, R]]:
    context = multiprocessing.get_context("spawn")  # forking a process with torch threads can deadlock
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        futures = {pool.submit(fn, shard): i for i, shard in enumerate(shards)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _on_dask(fn: Callable[[S], R], shards: Sequence[S], address: str) -> Iterator[tuple[int, R]]:
    from distributed import Client
    from distributed import as_completed as dask_completed

    with Client(address, set_as_default=False) as client:
        client.run(_use_one_thread)
        futures = {client.submit(fn, shard, pure=False, retries=2): i for i, shard in enumerate(shards)}
        for future in dask_completed(list(futures)):
            yield futures[future], future.result()


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _use_one_thread()


def _end_with_parent(parent: int) -> None:
    """A stage killed for good cannot stop its workers: they would finish their shards beside the next run."""
    while os.getppid() == parent:
        time.sleep(PARENT_EVERY)
    os._exit(1)


def _use_one_thread() -> None:
    """One thread a worker: the sums, and so the bytes, do not depend on how many workers there are."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    from stages._core.logs import set_up_logging

    set_up_logging()
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


class _one_torch_thread:
    """Inline work runs with the same single thread as a worker's, then the old setting returns."""

    def __enter__(self) -> None:
        import torch

        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: Any) -> None:
        import torch

        torch.set_num_threads(self._threads)
