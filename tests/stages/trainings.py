"""Trainings as plain values, run in this process or, by torchrun, in several that share each batch."""

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from stages._core import torchrun
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.train_loop import TrainLoop

EPS = 1e-3
"""Adam's own 1e-8 makes whole steps of gradients that rounding decides, which no two processors share; with this one
such gradients make no step, and the losses differ by rounding alone."""


@dataclass(frozen=True)
class Job:
    """A training stage, its params, the paths of its inputs, and the name of its output."""

    stage: str
    params: dict[str, Any]
    inputs: dict[str, str]
    output: str

    def run(self, root: Path) -> Path:
        """Train with a line of history per step; the folder `root/STAGE` with what is published."""
        module = importlib.import_module(f"stages.{self.stage}")
        module.TrainLoop = partial(TrainLoop, log_every=1)
        params, out = module.STAGE.params(**self.params), root / self.stage
        runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
        smooth = {name: partial(getattr(torch.optim, name), eps=EPS) for name in ("Adam", "AdamW")}
        try:
            with mock.patch.multiple(torch.optim, **smooth):
                module.run(params, Paths(self.inputs), Paths({self.output: out}), runtime)
        finally:
            module.TrainLoop = TrainLoop
        return out


def write_jobs(path: Path, jobs: list[Job]) -> None:
    """For `main`."""
    path.write_text(json.dumps([asdict(job) for job in jobs]))


def main(jobs: Path) -> None:
    """Run them in turn, next to their list."""
    with torchrun.process_group("cpu"):
        for job in json.loads(jobs.read_text()):
            Job(**job).run(jobs.parent)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
