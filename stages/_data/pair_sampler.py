"""Training pairs of the avatar model: two frames of one person that differ in camera and, where possible, in pose."""

from dataclasses import dataclass

import numpy as np

from stages._core.seeds import rng_for
from stages._data.frames import Frames, Inputs, Targets

CROSS_SCAN_SHARE = 0.75
"""Of the pairs of people seen in several poses: the paper calls differing poses essential (section 3.1)."""


@dataclass
class Pairs:
    """B pairs: what the networks see, and what they should render."""

    inputs: Inputs
    targets: Targets


class PairSampler:
    """Pairs as a pure function of (seed, step); both frames share a variant, hence the colour shift.

    Args:
        frames: of one split.
        purpose: separates the random draws of stages and splits.
    """

    def __init__(self, frames: Frames, *, seed: int, purpose: str, batch: int) -> None:
        self.frames, self.seed, self.purpose, self.batch = frames, seed, purpose, batch
        self.people = [g for g in frames.groups(["subject", "variant"]) if len(g) > 1]
        if not self.people:
            raise ValueError(f"{purpose}: no person with two valid frames; see the stores' rejects.parquet")
        self.scan = frames.table["scan"].to_numpy()

    def __call__(self, step: int) -> Pairs:
        """The pairs of one training step."""
        rng = rng_for(self.seed, self.purpose, step)
        chosen = [self._pair(rng) for _ in range(self.batch)]
        first, second = (np.array(side) for side in zip(*chosen, strict=True))
        return Pairs(self.frames.inputs(first), self.frames.targets(second, rng))

    def _pair(self, rng: np.random.Generator) -> tuple[int, int]:
        person = self.people[int(rng.integers(len(self.people)))]
        first = int(rng.choice(person))
        others = person[person != first]
        crossing = others[self.scan[others] != self.scan[first]]
        if len(crossing) and rng.random() < CROSS_SCAN_SHARE:
            others = crossing
        return first, int(rng.choice(others))
