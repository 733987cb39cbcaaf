"""Workers of a stage that is killed for good end too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

SLEEPERS = """
import os, sys, time
from pathlib import Path
from stages._core.executor import map_shards
from stages._core.runtime import Runtime

def sleep(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(120)

if __name__ == "__main__":
    map_shards(sleep, [sys.argv[1]] * 2, Runtime(workers=2), "sleeping")
"""


def wait_until(true: object, seconds: float = 60) -> bool:
    """Whether something callable becomes true in time."""
    assert callable(true)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return False


def alive(pid: int) -> bool:
    """A process that has ended but was not waited for by anybody counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_workers_end_when_their_stage_is_killed(tmp_path: Path) -> None:
    script, pids = tmp_path / "sleepers.py", tmp_path / "pids"
    script.write_text(SLEEPERS)
    pids.mkdir()
    stage = subprocess.Popen(
        [sys.executable, str(script), str(pids)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert wait_until(lambda: len(list(pids.iterdir())) == 2)
    workers = [int(path.name) for path in pids.iterdir()]
    assert all(map(alive, workers))
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    assert wait_until(lambda: not any(map(alive, workers)), 15)
