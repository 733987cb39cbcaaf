"""Random numbers of a batch that processes share: each sample gets the same, however many processes there are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Which samples of a batch one process takes: as many as every other, in the order of the ranks.

    Attributes:
        batch: samples of all processes together.
        rank, world: number of this process, and how many there are.

    Raises:
        ValueError: the batch cannot be shared evenly.
    """

    batch: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch % self.world:
            raise ValueError(
                f"batch: {self.batch} samples cannot be shared evenly by {self.world} processes; take a multiple"
            )

    @property
    def rows(self) -> slice:
        """The samples' places in the batch."""
        size = self.batch // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def draws(self, generator: torch.Generator) -> "torch.Generator | SharedDraws":
        """The generator, to be drawn from for the samples of this share."""
        return generator if self.world == 1 else SharedDraws(generator, self)


@dataclass(frozen=True)
class SharedDraws:
    """A generator that stands alike in all processes, and the samples that this one keeps of what it gives."""

    generator: torch.Generator
    share: Share


Draws = torch.Generator | SharedDraws | None
"""Where random numbers come from; None is torch's global generator."""


def draw(make: Callable[..., Tensor], shape: Sequence[int], source: Draws, **options: Any) -> Tensor:
    """`make(shape, generator=…, **options)`, one row per sample; `make` is torch.randn, torch.rand or the like.

    Of a shared batch all is drawn, and the rows of the process's own samples are given.
    """
    if not isinstance(source, SharedDraws):
        return make(tuple(shape), generator=source, **options)
    whole = make((source.share.batch, *shape[1:]), generator=source.generator, **options)
    return whole[source.share.rows]
