"""The one training loop: steps, checkpoints, exact resume, running means, progress."""

import json
import logging
import math
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from dinar_models import ranks
from stages._core.memory import keep_freed_memory
from stages._core.progress import progress
from stages._core.runtime import Runtime

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.jsonl"


class Stateful(Protocol):
    """Anything whose state a checkpoint can hold: modules, optimisers, EMA, schedulers, samplers."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


class TrainLoop:
    """Iterate over the steps that are still to do; log, checkpoint, and resume where the last checkpoint was.

    The random state at step k is a function of (seed, k) and of what was drawn since the last checkpoint, and
    a checkpoint holds torch's, NumPy's and Python's: a killed and resumed run ends with the same weights.
    Under torchrun all ranks iterate alike and resume from one checkpoint; rank 0 alone writes. A run may go on with
    another number of processes.

    Args:
        name: for the progress line.
        work: folder of this run's checkpoints; its name carries the digest of params, inputs and code.
        steps: how many optimiser steps there are in all.
        seed: of the global generators, set once at step 0 (dropout and noise layers draw from them).
        checkpoint_every: steps between checkpoints.
        state: everything that changes during training.
        log_every: steps between lines of the history.
    """

    def __init__(
        self,
        *,
        name: str,
        work: Path,
        steps: int,
        seed: int,
        checkpoint_every: int,
        runtime: Runtime,
        state: Mapping[str, Stateful],
        log_every: int = 20,
    ) -> None:
        keep_freed_memory()
        self.name, self.work, self.steps = name, work, steps
        self.checkpoint_every, self.log_every = checkpoint_every, log_every
        self.runtime, self.state = runtime, dict(state)
        self.history: list[dict[str, float]] = []
        self._sums: dict[str, tuple[float, int]] = {}
        self._live = _live(runtime.runs_root / name)
        self.start = self._resume()
        self._agree()
        if self.start == 0:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
        self.step = self.start

    def __iter__(self) -> Iterator[int]:
        with progress(self.name, self.steps, self.start, bar=self.runtime.progress) as advance:
            for step in range(self.start, self.steps):
                self.step = step
                yield step
                advance(text=self._end_step(step + 1))

    def log(self, **values: float | torch.Tensor) -> None:
        """Add values of this step to the running means of the next history line."""
        for name, value in values.items():
            number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + number, count + 1)
            if not math.isfinite(number):
                raise FloatingPointError(f"{self.name}: {name} is {number} at step {self.step}")

    def save_history(self, folder: Path) -> None:
        """Write the whole curve, one JSON object a line, for the report."""
        lines = [json.dumps(line, sort_keys=True) for line in self.history]
        (folder / HISTORY).write_text("\n".join(lines) + "\n")

    def clean(self) -> None:
        """Remove the checkpoints; call after the output was published."""
        if ranks.rank() == 0:
            shutil.rmtree(self.work, ignore_errors=True)

    def _end_step(self, done: int) -> str:
        if done % self.log_every == 0 or done == self.steps:
            self._write_line(done)
        if done % self.checkpoint_every == 0 or done == self.steps:
            self._save(done)
        if not self.history:
            return ""
        shown = [f"{k} {v:.4g}" for k, v in self.history[-1].items() if k != "step"]
        return " ".join(shown[:4])

    def _write_line(self, done: int) -> None:
        self._share_sums()
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        if not means:
            return
        self.history.append({"step": done, **means})
        if ranks.rank() == 0:
            self._live.log(done, means)

    def _share_sums(self) -> None:
        """Each rank logged its own samples: their mean over the ranks is that of the whole batch."""
        if ranks.world() == 1 or not self._sums:
            return
        totals = torch.tensor([total for total, _ in self._sums.values()], dtype=torch.float64)
        shared = ranks.mean(totals.to(self.runtime.device)).tolist()
        counts = [count for _, count in self._sums.values()]
        self._sums = dict(zip(self._sums, zip(shared, counts, strict=True), strict=True))

    def _save(self, done: int) -> None:
        self._share_sums()
        if ranks.rank() > 0:
            return
        checkpoint = {
            "step": done,
            "state": {name: item.state_dict() for name, item in self.state.items()},
            "rng": _rng_state(),
            "history": self.history,
            "sums": {name: list(pair) for name, pair in self._sums.items()},
        }
        partial = self.work / f".{CHECKPOINT}.partial"
        torch.save(checkpoint, partial)
        os.replace(partial, self.work / CHECKPOINT)

    def _agree(self) -> None:
        """Raise RuntimeError unless all ranks start at the same step; none is beyond this before all have read."""
        starts = ranks.whole_batch(torch.tensor([float(self.start)], device=self.runtime.device)).tolist()
        if len(set(starts)) > 1:
            places = ", ".join(f"{start:.0f}" for start in starts)
            raise RuntimeError(
                f"processes would start at steps {places}: {self.work} must be one folder for all"
            )

    def _resume(self) -> int:
        path = self.work / CHECKPOINT
        self.work.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return 0
        checkpoint = torch.load(path, map_location=self.runtime.device, weights_only=True)
        for name, item in self.state.items():
            item.load_state_dict(checkpoint["state"][name])
        _set_rng_state(checkpoint["rng"])
        self.history = checkpoint["history"]
        self._sums = {name: (pair[0], int(pair[1])) for name, pair in checkpoint["sums"].items()}
        log.info("%s: resumes at step %d of %d", self.name, checkpoint["step"], self.steps)
        return int(checkpoint["step"])


def cosine_rate(step: int, *, steps: int, warmup: int = 0, end: float = 0.1) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine from 1 down to `end`."""
    if step < warmup:
        return (step + 1) / warmup
    share = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return end + (1 - end) / 2 * (1 + math.cos(math.pi * share))


class _live:
    """DVCLive, told to write nothing into dvc.yaml and to make no experiment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run: Any = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self._run is None:
            from dvclive import Live

            self._run = Live(
                str(self.folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False
            )
        self._run.step = step
        for name, value in values.items():
            self._run.log_metric(name, value)
        self._run.make_summary()


def _rng_state() -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "numpy": [str(kind), [int(k) for k in keys], int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }


def _set_rng_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0].cpu())  # of one's own GPU
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
