"""Pairs of latents, read from their stores as steps need them.

Blocks of neighbouring rows are read at once, in shuffled order; step k draws from a window that moves over them.
So memory is bounded whatever the size of the data, and every batch is a pure function of (seed, step). Data that
the window holds are all in use at every step.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages._core.seeds import rng_for
from stages._core.store import Store

BLOCK = 64
"""Rows read at once: a shard of the store, 1.7 MB in `demo`, 7 MB in `paper`."""

WINDOW = 64
"""Blocks in use at a time."""


class LatentPairs(NamedTuple):
    """Some pairs, float32.

    Attributes:
        z_merged, z_partial: (B, 6, t, t).
        mask: (B, 1, t, t) B_fill at the latents' size.
    """

    z_merged: Tensor
    z_partial: Tensor
    mask: Tensor

    def to(self, device: str) -> "LatentPairs":
        """On the training device."""
        return LatentPairs(*(t.to(device) for t in self))


class Block(NamedTuple):
    """Neighbouring valid rows of one store."""

    store: int
    rows: np.ndarray


class LatentPairSource:
    """The valid pairs of one split.

    Args:
        stores: of latents, of one size.
        seed: of the draws.
        batch: pairs per step.
        rows: which of them this process takes; all are drawn.
    """

    def __init__(
        self, stores: Sequence[Store], split: str, *, seed: int, batch: int, block: int = BLOCK,
        window: int = WINDOW, rows: slice = slice(None),
    ) -> None:  # fmt: skip
        self.stores, self.split, self.seed, self.batch, self.window = stores, split, seed, batch, window
        self.rows = rows
        self.blocks: list[Block] = []
        for number, store in enumerate(stores):
            own = store.ok_rows(split)
            # Cut where shards end, so that none is read for two blocks.
            parts = np.split(own, np.flatnonzero(np.diff(own // block)) + 1)
            self.blocks += [Block(number, part) for part in parts if len(part)]
        self.turnover = batch * len(self.blocks) / max(len(self), 1)
        self._read = functools.lru_cache(maxsize=window + 1)(self._read_block)

    def __len__(self) -> int:
        return sum(len(block.rows) for block in self.blocks)

    def step(self, step: int) -> LatentPairs:
        """The batch of a step, drawn with repetition from the window's pairs, all alike likely."""
        blocks = self._window(step)
        ends = np.cumsum([len(self.blocks[number].rows) for number in blocks])
        drawn = rng_for(self.seed, "latent pairs", self.split, step).integers(0, ends[-1], self.batch)
        return self._take(blocks, ends, drawn[self.rows])

    def fixed(self, count: int) -> LatentPairs:
        """So many pairs, the same every time."""
        drawn = rng_for(self.seed, "latent pairs", self.split, "fixed").integers(0, len(self), count)
        ends = np.cumsum([len(block.rows) for block in self.blocks])
        return self._take(range(len(self.blocks)), ends, drawn)

    def first_window(self) -> LatentPairs:
        """All pairs from which the first step draws."""
        parts = [self._read(number) for number in self._window(0)]
        return LatentPairs(*(torch.cat([t.float() for t in tensors]) for tensors in zip(*parts, strict=True)))

    def _window(self, step: int) -> list[int]:
        """Numbers of the blocks in use, oldest first: as many new ones per step as keep all pairs equally in use."""
        count = len(self.blocks)
        width = min(self.window, count)
        newest = width + int(step * self.turnover)
        places = (divmod(position, count) for position in range(newest - width, newest))
        return [int(_round(self.seed, self.split, number, count)[place]) for number, place in places]

    def _take(self, blocks: Sequence[int], ends: np.ndarray, drawn: np.ndarray) -> LatentPairs:
        """Pairs by their place in the blocks, of which `ends` says where each one ends."""
        which = np.searchsorted(ends, drawn, side="right")
        place = drawn - np.concatenate([[0], ends])[which]
        # Single precision before anything else: under autocast CPUs stack no halves.
        pairs = [
            tuple(t[p].float() for t in self._read(blocks[w])) for w, p in zip(which, place, strict=True)
        ]
        return LatentPairs(*(torch.stack(tensors) for tensors in zip(*pairs, strict=True)))

    def _read_block(self, number: int) -> LatentPairs:
        """As it is stored, float16."""
        block = self.blocks[number]
        store = self.stores[block.store]
        return LatentPairs(*(torch.from_numpy(store.read(name, block.rows)) for name in LatentPairs._fields))


@functools.lru_cache(maxsize=4)
def _round(seed: int, split: str, number: int, count: int) -> np.ndarray:
    """The order of all blocks in one round of the endless list."""
    return rng_for(seed, "latent pairs", split, "round", number).permutation(count)
