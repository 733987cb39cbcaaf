"""Workers of this machine and of a scheduler elsewhere: same bytes, deaths survived, clear refusals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from stages import render_views
from stages._core import cluster
from stages._core.cluster import ClusterError
from stages._core.executor import map_shards
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import open_store
from tests.stages.dask_processes import ROOT, DaskProcesses, wait_until
from tests.stages.raw_scans import ingest_boxes

SCANS = 12
RENDER = render_views.RenderViewsParams(seed=1, image_size=64, views=8, variants=8)
"""64 images a scan: each scan is a shard."""


def square_unless_killed(number: int, *, deadly: int, folder: Path, deaths: int) -> int:
    """The square; but the first workers that get the deadly number die of it."""
    markers = len(list(folder.iterdir()))
    if number == deadly and markers < deaths:
        (folder / str(markers)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def refuse_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is refused")
    return number


def test_a_worker_killed_midway_is_replaced_and_its_shard_done_again(tmp_path: Path) -> None:
    work = partial(square_unless_killed, deadly=2, folder=tmp_path, deaths=1)
    runtime = Runtime(workers=2, work_root=tmp_path.parent / "work")
    assert map_shards(work, range(5), runtime, "squares") == [0, 1, 4, 9, 16]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_shard_that_kills_three_workers_ends_the_stage_and_is_named(tmp_path: Path) -> None:
    work = partial(square_unless_killed, deadly=1, folder=tmp_path, deaths=100)
    runtime = Runtime(workers=2, work_root=tmp_path.parent / "work")
    with pytest.raises(ClusterError, match=r"squares: shard 1 of 3 \(1\) ended 3 workers"):
        map_shards(work, range(3), runtime, "squares")
    assert len(list(tmp_path.iterdir())) == 3


def test_the_environment_of_this_process_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask left MKL_NUM_THREADS=1 behind, and a training resumed by a subprocess ended with other bytes."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    map_shards(abs, [-1, -2], Runtime(workers=2, work_root=tmp_path), "numbers")
    assert dict(os.environ) == before


class Watched(Sequence[int]):
    """Numbers that remember how many of them were asked for."""

    taken = 0

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, place: int) -> int:  # type: ignore[override]
        self.taken = max(self.taken, place + 1)
        return place


def test_an_error_of_the_work_is_raised_as_it_is_and_ends_the_stage(tmp_path: Path) -> None:
    shards = Watched()
    with pytest.raises(ValueError, match=r"^three is refused$"):
        map_shards(refuse_three, shards, Runtime(workers=2, work_root=tmp_path), "numbers")
    assert 4 <= shards.taken <= 10, "only as many shards are handed out as there are workers"


class Heavy:
    """Work that counts how often it is sent somewhere."""

    sent = 0

    def __call__(self, number: int) -> int:
        return number

    def __getstate__(self) -> dict[str, object]:
        Heavy.sent += 1
        return {}


def test_the_work_does_not_travel_with_every_shard(tmp_path: Path) -> None:
    assert map_shards(Heavy(), range(50), Runtime(workers=2, work_root=tmp_path), "numbers") == list(
        range(50)
    )
    assert 1 <= Heavy.sent <= 4


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of boxes."""
    return ingest_boxes(tmp_path_factory.mktemp("scans"), SCANS)


def start_render(scans: Path, root: Path, scheduler: str) -> subprocess.Popen[bytes]:
    """render_views as DVC starts it, in `root`."""
    params = root / "params.yaml"
    params.write_text(f"seed: 1\nimage_size: 64\nrender_views: {{variants: {RENDER.variants}}}\n")
    paths = ("--input", f"scans={scans}", "--output", f"views={root / 'boxes' / 'views'}")
    return subprocess.Popen(
        [sys.executable, "-m", "stages.render_views", "--params", str(params), *paths],
        cwd=ROOT,
        env=os.environ
        | {
            "DASK_SCHEDULER_ADDRESS": scheduler,
            "DINAR_WORK": str(root / "work"),
            "DINAR_RUNS": str(root / "runs"),
        },
    )


def test_two_workers_elsewhere_of_which_one_is_killed_give_the_same_bytes(
    tmp_path: Path, scans: Path
) -> None:
    inline = Paths({"views": tmp_path / "boxes" / "inline"})
    runtime = Runtime(work_root=tmp_path / "inline")
    expected = render_views.run(RENDER, Paths({"scans": scans}), inline, runtime)["digest"]
    with DaskProcesses(tmp_path) as processes:
        address = processes.scheduler()
        victim, _ = processes.worker(address), processes.worker(address)
        stage = start_render(scans, tmp_path, address)
        assert wait_until(lambda: list(tmp_path.glob("work/boxes.views/*/done/*.json")), 120)
        victim.kill()
        assert len(list(tmp_path.glob("work/boxes.views/*/done/*.json"))) < SCANS
        assert stage.wait(120) == 0
    assert open_store(tmp_path / "boxes" / "views", "views").digest == expected


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with DaskProcesses(tmp_path_factory.mktemp("dask")) as started:
        yield started


def negate(number: int) -> int:
    return -number


def on_scheduler(address: str, work_root: Path) -> list[int]:
    return map_shards(negate, range(3), Runtime(scheduler=address, work_root=work_root), "numbers")


def test_workers_that_are_not_fit_are_refused_with_what_to_do(
    processes: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = processes.scheduler()
    worker = processes.worker(address)
    assert on_scheduler(address, tmp_path) == [0, -1, -2]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClusterError, match=rf"does not see work/.*start it in {tmp_path}"):
        on_scheduler(address, Path("work"))
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "_environment", lambda: {"code": "changed since"})
        with pytest.raises(ClusterError, match=r"its code is [0-9a-f]{16}, the stage's is changed since"):
            on_scheduler(address, tmp_path)
    worker.kill()
    shadow = tmp_path / "shadow" / "stages" / "__init__.py"
    shadow.parent.mkdir(parents=True)
    shadow.touch()
    for options, message in (
        ({"threads": 2}, "2 threads, 1 is needed"),
        ({"cwd": tmp_path, "path": tmp_path / "shadow"}, "cannot import"),
    ):
        worker = processes.worker(address, **options)
        with pytest.raises(ClusterError, match=message):
            on_scheduler(address, tmp_path)
        worker.kill()
        worker.wait()


def test_a_scheduler_that_does_not_answer_or_has_no_workers_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(cluster, "WORKERS_SECONDS", 1)
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9: no scheduler answers within 1 s"):
        on_scheduler("tcp://127.0.0.1:9", tmp_path)
    with DaskProcesses(tmp_path) as processes:
        address = processes.scheduler()
        monkeypatch.setattr(cluster, "ANSWER_SECONDS", 20)
        with pytest.raises(ClusterError, match="no worker for 1 s; start some with `dask worker"):
            on_scheduler(address, tmp_path)
