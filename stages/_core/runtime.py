"""What may differ between machines without changing a result: workers, device, progress, folders."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from stages._core import torchrun


@dataclass(frozen=True)
class Runtime:
    """Where and how a stage runs; read from the environment, never from params.yaml.

    Attributes:
        workers: processes for data stages (DINAR_WORKERS; default: the cores, or a training process's part of them).
        scheduler: address of a Dask scheduler whose workers do the shards instead (DASK_SCHEDULER_ADDRESS).
        device: "cpu" or "cuda" (DINAR_DEVICE; default: cuda when there is one); "cuda:K" for torchrun's process K.
        progress: draw progress bars (DINAR_PROGRESS=0 for plain lines; default: only on a terminal).
        work_root: unfinished shards and checkpoints, never an output.
        runs_root: provenance of each run.
    """

    workers: int = 1
    scheduler: str | None = None
    device: str = "cpu"
    progress: bool = False
    work_root: Path = field(default=Path("data/.work"))
    runs_root: Path = field(default=Path("data/.runs"))

    @staticmethod
    def from_environment() -> "Runtime":
        """Settings from DINAR_* variables. Raises ValueError naming the variable that is wrong."""
        cores = max((os.cpu_count() or 1) // torchrun.local_world(), 1)
        workers = os.environ.get("DINAR_WORKERS", str(cores))
        if not workers.isdigit() or int(workers) < 1:
            raise ValueError(f"DINAR_WORKERS={workers!r}: a whole number of at least 1 is expected")
        progress = os.environ.get("DINAR_PROGRESS")
        return Runtime(
            workers=int(workers),
            scheduler=os.environ.get("DASK_SCHEDULER_ADDRESS") or None,
            device=_device(),
            progress=torchrun.rank() == 0 and (sys.stderr.isatty() if progress is None else progress != "0"),
            work_root=Path(os.environ.get("DINAR_WORK", "data/.work")),
            runs_root=Path(os.environ.get("DINAR_RUNS", "data/.runs")),
        )

    def work_dir(self, stage: str, key: str) -> Path:
        """The folder in which work with this key lives and resumes."""
        folder = self.work_root / stage / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _device() -> str:
    asked = os.environ.get("DINAR_DEVICE")
    if asked not in (None, "cpu", "cuda"):
        raise ValueError(f"DINAR_DEVICE={asked!r}: cpu or cuda is expected")
    if asked == "cpu":
        return "cpu"
    import torch  # costs a second, and data stages on the CPU need none of it

    if torch.cuda.is_available():
        return _own_gpu(torch.cuda.device_count()) if torchrun.launched() else "cuda"
    if asked == "cuda":
        raise ValueError("DINAR_DEVICE=cuda, but torch sees no CUDA device; unset it to run on the CPU")
    return "cpu"


def _own_gpu(count: int) -> str:
    """One for each of torchrun's processes."""
    processes = torchrun.local_world()
    if processes > count:
        raise ValueError(
            f"{processes} processes on a machine with {count} GPUs; start torchrun with --nproc-per-node {count}"
        )
    return f"cuda:{torchrun.local_rank()}"
