"""Photo → one style vector: StyleGAN2's discriminator body (paper section 3.1; widths in the published nets)."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.draws import Draws, draw
from dinar_models.stylegan2 import ConvLayer, EqualLinear, ResBlock, widths

LR_MUL = 0.01
"""The published encoder's multiplier on every convolution and linear layer."""

IMAGE_CHANNELS = 5
"""RGB, mask, one plane of noise."""


class Encoder(nn.Module):
    """Image, mask and noise → a vector of `style` numbers.

    Args:
        size: pixels per side, a power of two.
        base: channels at 64 px and below (256 in the published net).
        style: length of the vector.
    """

    def __init__(self, size: int, base: int = 256, style: int = 512) -> None:
        super().__init__()
        channels = widths(size, base)
        self.stem = ConvLayer(IMAGE_CHANNELS, channels[size], 1, lr_mul=LR_MUL)
        sizes = sorted(channels, reverse=True)
        self.blocks = nn.Sequential(
            *(ResBlock(channels[a], channels[b], lr_mul=LR_MUL) for a, b in itertools.pairwise(sizes))
        )
        self.last = ConvLayer(channels[4], channels[4], 3, lr_mul=LR_MUL)
        self.hidden = EqualLinear(channels[4] * 16, channels[4], lr_mul=LR_MUL, activate=True)
        self.out = EqualLinear(channels[4], style, lr_mul=LR_MUL)

    def forward(
        self,
        rgb: Float[Tensor, "b 3 s s"],
        mask: Float[Tensor, "b 1 s s"],
        generator: Draws = None,
    ) -> Float[Tensor, "b style"]:
        """`rgb` in [−1, 1] on black (−1), `mask` in [0, 1]; the generator draws the noise plane."""
        noise = draw(torch.randn, mask.shape, generator, device=mask.device, dtype=mask.dtype)
        x = self.stem(torch.cat([rgb, mask, noise], dim=1))
        x = self.last(self.blocks(x))
        return self.out(self.hidden(x.flatten(1)))
