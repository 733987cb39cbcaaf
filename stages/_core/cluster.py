"""Shards on Dask workers: processes of this machine, or whoever answers to a scheduler elsewhere."""

import importlib.metadata
import logging
import os
import platform
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from distributed import (
    Client,
    KilledWorker,
    LocalCluster,
    Nanny,
    Status,
    Worker,
    WorkerPlugin,
    as_completed,
    get_worker,
)
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError

from stages._core.digests import code_digest
from stages._core.memory import keep_freed_memory
from stages._core.runtime import Runtime

log = logging.getLogger(__name__)

S = TypeVar("S")
R = TypeVar("R")

DEATHS = 3
"""Workers of this machine that may die over one shard: the last of them ends the stage."""

ANSWER_SECONDS = 20
"""How long a scheduler elsewhere may take to answer."""

WORKERS_SECONDS = 60
"""How long it may take until such a scheduler has a first worker."""

REAP_SECONDS = 60
"""How long a busy machine may take to let a killed process go."""

SHARED_PACKAGES = ("numpy", "torch", "zarr", "numcodecs", "opencv-contrib-python", "mediapipe")
"""Packages whose version can change the bytes of a store."""


class ClusterError(RuntimeError):
    """Workers that cannot be reached, are not fit for this work, or die over it."""


def map_on_dask(
    fn: Callable[[S], R], shards: Sequence[S], runtime: Runtime, label: str
) -> Iterator[tuple[int, R]]:
    """Yield (number of the shard, result) as shards are done, in any order.

    There are never more shards under way than workers. So memory does not grow with the number of shards, and
    when a worker dies exactly one shard is to blame: it is done again by another worker, `DEATHS` times at most.

    Raises:
        ClusterError: no scheduler, no worker, a worker unfit for this work, or a shard that kills its workers.
        Whatever `fn` raises.
    """
    with _client(runtime, len(shards)) as client, _everywhere(fn, client, runtime) as name:
        waiting = iter(enumerate(shards))
        running: dict[Any, int] = {}
        done = as_completed(loop=client.loop)
        while True:
            for i, shard in islice(waiting, max(_threads(client) - len(running), 0)):
                future = client.submit(_do, name, shard, key=f"{name}-{i}")
                running[future] = i
                done.add(future)
            if not running:
                return
            future = next(done)
            i = running.pop(future)
            yield i, _result(future, f"{label}: shard {i} of {len(shards)} ({str(shards[i])[:80]})")


def use_one_thread() -> None:
    """One thread a worker: the sums, and so the bytes, do not depend on how many workers there are.

    And freed memory is kept: Dask has workers give it back at once, and two of them then wait for the kernel.
    """
    keep_freed_memory()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    from stages._core.logs import set_up_logging

    set_up_logging()
    import cv2
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


@contextmanager
def _client(runtime: Runtime, shards: int) -> Iterator[Client]:
    if runtime.scheduler is None:
        with _local_cluster(min(runtime.workers, shards)) as client:
            yield client
    else:
        with _remote(runtime.scheduler) as client:
            yield client


@contextmanager
def _local_cluster(workers: int) -> Iterator[Client]:
    """Spawned processes of one thread each, reachable from this machine only, without a dashboard.

    They have no memory limit of Dask's: it would pause a worker, for good, that holds more than its share.
    """
    with (
        _quiet(),
        _environment_restored(),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            worker_class=_ShortLivedNanny,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would mean port 8787
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            scheduler_kwargs={"allowed_failures": DEATHS - 1, "dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class _ShortLivedNanny(Nanny):
    """Starts a worker anew when it dies, and ends it at once when the stage ends: Ctrl-C waits for nobody."""

    started = False

    async def instantiate(self) -> Status:
        """Start a worker."""
        if self.started:
            log.warning("a worker process died; another takes its place, and its shard is done again")
        self.started = True
        return await super().instantiate()

    async def kill(self, timeout: float = REAP_SECONDS, reason: str = "stage ends") -> None:
        """End the worker at once: its shards are finished, or given up."""
        process = self.process
        if process is not None and process.status == Status.running and process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await super().kill(timeout=REAP_SECONDS, reason=reason)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from telling every step: what matters reaches the user as an error of ours."""
    loggers = [
        logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado", "asyncio")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Dask sets the environment of its workers in this process too, and leaves it so.

    One thread for every later subprocess of this one: its sums would round in another order.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _remote(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"DASK_SCHEDULER_ADDRESS={address}: no scheduler answers within {ANSWER_SECONDS} s ({error}); "
            "start one with `dask scheduler`, or unset the variable to work on this machine"
        ) from error
    with _quiet(), client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError as error:
            raise ClusterError(
                f"the scheduler at {address} has had no worker for {WORKERS_SECONDS} s; start some with "
                f"`dask worker {address} --nthreads 1` in {Path.cwd()}"
            ) from error
        try:
            yield client
        except (CommClosedError, FutureCancelledError) as error:
            raise ClusterError(
                f"the scheduler at {address} was lost ({error}); run the stage again, it goes on from here"
            ) from error


@contextmanager
def _everywhere(fn: Callable[[S], R], client: Client, runtime: Runtime) -> Iterator[str]:
    """Bring `fn` to every worker, those that join later included. Yields its name there.

    It travels once a worker instead of once a shard: with it go tables of all rows.
    """
    name = uuid.uuid4().hex
    probe = runtime.work_root / f".seen-by-workers-{name}"
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.touch()
    try:
        _register(client, _Work(fn, probe), name)
        yield name
    finally:
        if runtime.scheduler is not None:  # workers of this machine end anyway, and Ctrl-C waits for none
            with suppress(Exception):  # workers that could not take it, a scheduler that is gone
                client.unregister_worker_plugin(name)
        probe.unlink(missing_ok=True)


def _register(client: Client, work: "_Work[Any, Any]", name: str) -> None:
    """Tell all workers; anew where one of them died meanwhile, which ends the round of calls."""
    for attempt in range(DEATHS):
        try:
            client.register_plugin(work, name=name)
            return
        except CommClosedError:
            if attempt == DEATHS - 1:
                raise
            time.sleep(1)
        except Exception as error:
            # What a worker could not unpickle reaches us as text, whatever it was.
            if isinstance(error, ClusterError) or "ModuleNotFoundError" not in repr(error):
                raise
            raise ClusterError(
                f"a worker cannot import what this stage is made of ({error}); start the workers in the "
                f"environment of this project and in {Path.cwd()}"
            ) from error


class _Work(WorkerPlugin, Generic[S, R]):
    """The function on a worker, and whether the worker may use it."""

    def __init__(self, fn: Callable[[S], R], probe: Path) -> None:
        self.fn = fn
        self.environment = _environment()
        self.probe = probe
        self.folder = Path.cwd()
        self.unfit = "it was never checked"

    def setup(self, worker: Worker) -> None:
        """Check this worker. Raises ClusterError, which the client sees if the worker was there before."""
        use_one_thread()
        wrong = self._mistake(worker)
        self.unfit = f"worker {worker.address} on {platform.node()}: {wrong}" if wrong else ""
        if self.unfit:
            raise ClusterError(self.unfit)

    def do(self, shard: S) -> R:
        """Dask lets a worker that joined later and failed its check work all the same: not here."""
        if self.unfit:
            raise ClusterError(self.unfit)
        return self.fn(shard)

    def _mistake(self, worker: Worker) -> str:
        if worker.state.nthreads != 1:
            return f"it has {worker.state.nthreads} threads, 1 is needed; start it with `--nthreads 1`"
        here = _environment()
        for what, expected in self.environment.items():
            if here[what] != expected:
                return (
                    f"its {what} is {here[what]}, the stage's is {expected}; restart the worker in the stage's "
                    "environment and with its code"
                )
        if not self.probe.exists():
            return (
                f"it works in {Path.cwd()} and does not see {self.probe}; start it in {self.folder}, which must "
                "be on a file system that all machines share"
            )
        return ""


def _do(name: str, shard: S) -> Any:
    work = get_worker().plugins[name]
    assert isinstance(work, _Work)
    return work.do(shard)


def _environment() -> dict[str, str]:
    """What must be the same on all machines for stores to have the same bytes."""
    versions = {f"version of {name}": importlib.metadata.version(name) for name in SHARED_PACKAGES}
    return {"code": code_digest(), "Python": platform.python_version(), **versions}


def _threads(client: Client) -> int:
    """Workers at the moment, at least one: while all of them restart, one shard waits for the first."""
    return max(int(client.scheduler_info(n_workers=0)["total_threads"]), 1)


def _result(future: Any, what: str) -> Any:
    try:
        return future.result()
    except KilledWorker as error:
        raise ClusterError(
            f"{what} ended {error.allowed_failures + 1} workers: they ran out of memory or crashed; "
            "see the system's log, and set DINAR_WORKERS lower or give the workers more memory"
        ) from error
