"""Style vector → the generated channels of a neural texture: StyleGAN2's synthesis (paper section 3.1)."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.draws import Draws
from dinar_models.stylegan2 import StyledConv, ToTexture, widths
from dinar_models.types import GENERATED


class TextureGenerator(nn.Module):
    """A 4 × 4 constant grown to `size`, each level styled by the same vector, heads summed upwards.

    Args:
        size: texels per side, a power of two.
        base: channels at 64 px and below (256 in the published net).
        style: length of the vector.
    """

    def __init__(self, size: int, base: int = 256, style: int = 512) -> None:
        super().__init__()
        channels = widths(size, base)
        sizes = sorted(channels)
        self.constant = nn.Parameter(torch.randn(1, channels[4], 4, 4))
        self.first = StyledConv(channels[4], channels[4], style)
        self.first_head = ToTexture(channels[4], GENERATED, style)
        steps = list(itertools.pairwise(sizes))
        self.ups = nn.ModuleList(StyledConv(channels[a], channels[b], style, up=True) for a, b in steps)
        self.convs = nn.ModuleList(StyledConv(channels[b], channels[b], style) for _, b in steps)
        self.heads = nn.ModuleList(ToTexture(channels[b], GENERATED, style) for _, b in steps)

    def forward(self, style: Float[Tensor, "b style"], generator: Draws = None) -> Float[Tensor, "b 16 t t"]:
        """Unbounded channels; the generator draws the noise of every layer."""
        x = self.first(self.constant.expand(len(style), -1, -1, -1), style, generator)
        out = self.first_head(x, style, None)
        for up, conv, head in zip(self.ups, self.convs, self.heads, strict=True):
            x = conv(up(x, style, generator), style, generator)
            out = head(x, style, out)
        return out
