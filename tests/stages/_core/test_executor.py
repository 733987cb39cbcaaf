"""Workers end with their stage: killed for good, or told to stop."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages.dask_processes import wait_until

ROOT = Path(__file__).parents[3]

SLEEPERS = """
import os, signal, sys, time
from pathlib import Path
from stages._core.executor import map_shards
from stages._core.runtime import Runtime

def sleep(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(120)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background ignores it
    map_shards(sleep, [sys.argv[1]] * 2, Runtime(workers=2, work_root=Path(sys.argv[2])), "sleeping")
"""


def alive(pid: int) -> bool:
    """A process that has ended but was not waited for by anybody counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_when_their_stage_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    script, pids = tmp_path / "sleepers.py", tmp_path / "pids"
    script.write_text(SLEEPERS)
    pids.mkdir()
    stage = subprocess.Popen(
        [sys.executable, str(script), str(pids), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    assert wait_until(lambda: len(list(pids.iterdir())) == 2)
    workers = [int(path.name) for path in pids.iterdir()]
    assert all(map(alive, workers))
    stage.send_signal(end)
    assert stage.wait(15) != 0
    assert wait_until(lambda: not any(map(alive, workers)), 15)
