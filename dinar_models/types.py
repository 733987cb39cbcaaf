"""Value ranges of images and the named channels of a neural texture."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

GENERATED = 16
"""Channels that the generator makes."""

CHANNELS = (
    *(f"generated_{i}" for i in range(GENERATED)),
    "rgb_r",
    "rgb_g",
    "rgb_b",
    "sampled",
    "filled",
)
"""The channels of a neural texture in order; stores carry these names."""

_RGB = slice(GENERATED, GENERATED + 3)
_SAMPLED = slice(GENERATED + 3, GENERATED + 4)
_FILLED = slice(GENERATED + 4, GENERATED + 5)


def to_net_range(image: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """uint8 0–255 → float32 [−1, 1]; inverse of `to_store_range`."""
    return image.to(torch.float32) / 127.5 - 1


def to_store_range(image: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """[−1, 1] → uint8, rounded and clamped: +1 is 255 (the published code wrapped white to black)."""
    return ((image.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass
class NeuralTexture:
    """A texture of 21 channels (paper §3.1), row 0 at v = 0; or what an image's pixels look up in it.

    Attributes:
        data: 16 generated channels (unbounded), RGB in [0, 1] (0 where unseen), B_smp and B_fill in [0, 1].
    """

    data: Float[Tensor, "b 21 h w"]

    @property
    def generated(self) -> Float[Tensor, "b 16 h w"]:
        """The generator's channels, dense."""
        return self.data[:, :GENERATED]

    @property
    def rgb(self) -> Float[Tensor, "b 3 h w"]:
        """Colour in [0, 1]."""
        return self.data[:, _RGB]

    @property
    def sampled(self) -> Float[Tensor, "b 1 h w"]:
        """B_smp: the texel's colour was sampled from an image."""
        return self.data[:, _SAMPLED]

    @property
    def filled(self) -> Float[Tensor, "b 1 h w"]:
        """B_fill: sampled, or filled from sampled neighbours; the mask of every condition and merge."""
        return self.data[:, _FILLED]

    def clipped(self) -> "NeuralTexture":
        """Colours and masks clipped to [0, 1], which nets only come near to."""
        masks = (self.sampled.clamp(0, 1), self.filled.clamp(0, 1))
        return NeuralTexture.assemble(self.generated, self.rgb.clamp(0, 1), *masks)

    @staticmethod
    def assemble(
        generated: Float[Tensor, "b 16 h w"],
        rgb: Float[Tensor, "b 3 h w"],
        sampled: Float[Tensor, "b 1 h w"],
        filled: Float[Tensor, "b 1 h w"],
    ) -> "NeuralTexture":
        """Put the parts together in the order of CHANNELS."""
        return NeuralTexture(torch.cat([generated, rgb, sampled, filled], dim=1))
