"""The only parallelism of data stages: one function over shards, inline or on Dask workers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from stages._core.memory import keep_freed_memory
from stages._core.progress import progress
from stages._core.runtime import Runtime

S = TypeVar("S")
R = TypeVar("R")


def map_shards(
    fn: Callable[[S], R], shards: Sequence[S], runtime: Runtime, label: str, done: int = 0
) -> list[R]:
    """Apply `fn` to every shard; results in the order of the shards.

    Args:
        fn: picklable; what it returns must not depend on the worker, and is small: all results are kept.
        shards: small, picklable descriptions of work.
        runtime: `workers` processes of one torch thread each (1 = inline), or the workers of `scheduler`.
        label: for the progress line.
        done: shards that an earlier run finished, counted in the progress line only.

    Raises:
        ClusterError: workers that cannot be reached or used, or that die again and again over one shard.
        Whatever `fn` raises; shards that are not under way by then are not begun.
    """
    results: dict[int, R] = {}
    with progress(label, len(shards) + done, done, bar=runtime.progress) as advance:
        for i, result in _completed(fn, shards, runtime, label):
            results[i] = result
            advance()
    return [results[i] for i in range(len(shards))]


def _completed(
    fn: Callable[[S], R], shards: Sequence[S], runtime: Runtime, label: str
) -> Iterator[tuple[int, R]]:
    if shards and (runtime.scheduler is not None or (runtime.workers > 1 and len(shards) > 1)):
        from stages._core.cluster import map_on_dask  # half a second that inline work need not wait for

        yield from map_on_dask(fn, shards, runtime, label)
    else:
        keep_freed_memory()
        with _one_thread():
            for i, shard in enumerate(shards):
                yield i, fn(shard)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inline work runs with the same single thread as a worker's, then the old setting returns."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # NumPy's BLAS, whose second thread waits more than it works
            yield
    finally:
        torch.set_num_threads(threads)
