"""StyleGAN2's image discriminator, unconditional, without minibatch deviation (as published)."""

import itertools
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.stylegan2 import ConvLayer, EqualLinear, ResBlock, widths


class Discriminator(nn.Module):
    """Images in [−1, 1] → one score each, high for real ones.

    Args:
        size: pixels per side, a power of two.
        base: channels at 64 px and below (256 in the published net).
    """

    def __init__(self, size: int, base: int = 256) -> None:
        super().__init__()
        self.config = {"size": size, "base": base}
        channels = widths(size, base)
        sizes = sorted(channels, reverse=True)
        self.stem = ConvLayer(3, channels[size], 1)
        self.blocks = nn.Sequential(
            *(ResBlock(channels[a], channels[b]) for a, b in itertools.pairwise(sizes))
        )
        self.last = ConvLayer(channels[4], channels[4], 3)
        self.hidden = EqualLinear(channels[4] * 16, channels[4], activate=True)
        self.out = EqualLinear(channels[4], 1)

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "Discriminator":
        """From the values that weights carry."""
        return Discriminator(**config)

    def config_dict(self) -> dict[str, Any]:
        """What weights carry: the inverse of `from_config`."""
        return dict(self.config)

    def forward(self, rgb: Float[Tensor, "b 3 s s"]) -> Float[Tensor, " b"]:
        """One score per image."""
        x = self.last(self.blocks(self.stem(rgb)))
        return self.out(self.hidden(x.flatten(1)))[:, 0]
