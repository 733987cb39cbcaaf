"""A Dask scheduler and workers as processes of their own on 127.0.0.1, as they would run on other machines."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def wait_until(true: Callable[[], object], seconds: float = 60) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return False


class DaskProcesses:
    """A context manager: all processes end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "DaskProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def scheduler(self) -> str:
        """Start a scheduler on a free port. Returns its address."""
        file = self.folder / "scheduler.json"
        options = (
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--dashboard-address",
            "127.0.0.1:0",
        )
        self._start("scheduler", *options, "--scheduler-file", str(file), cwd=self.folder, path=ROOT)
        assert wait_until(file.is_file)
        return str(json.loads(file.read_text())["address"])

    def worker(
        self, address: str, threads: int = 1, cwd: Path = ROOT, path: Path = ROOT
    ) -> subprocess.Popen[bytes]:
        """Start a worker that nobody starts again; `path`: where it finds the project's code."""
        options = ("--host", "127.0.0.1", "--nthreads", str(threads), "--no-nanny", "--no-dashboard")
        local = ("--local-directory", str(self.folder / "local"))
        return self._start("worker", address, *options, *local, cwd=cwd, path=path)

    def _start(self, *arguments: str, cwd: Path, path: Path) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self.processes)}-{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                cwd=cwd,
                env=os.environ | {"PYTHONPATH": str(path)},
                stderr=log,
            )
        self.processes.append(process)
        return process
