"""The neural renderer: a rasterised neural texture → image and mask (paper section 3.1, eq. 3).

Following the paper, the texture is preprocessed as an image, after rasterising it (the published code does so
in texture space). The mask is not clamped to the body's silhouette: there the published code's Dice gradient is
zero, and clothes thinner than the fitted body cannot be carved.
"""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.stylegan2 import EqualConv2d, FusedLeakyReLU
from dinar_models.types import CHANNELS, NeuralTexture

UV_WIDTH, MASK_WIDTH = 8, 4
MASK_PRIOR = 3.0
"""Logit of the skipped body mask: a start that the net can overrule, with a gradient everywhere."""


class ConvBlock(nn.Sequential):
    """Convolution without bias, batch norm, fused leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.ReflectionPad2d(kernel // 2),
            EqualConv2d(inputs, outputs, kernel, stride),
            nn.BatchNorm2d(outputs),
            FusedLeakyReLU(outputs),
        )


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBlock(width, width),
            nn.ReflectionPad2d(1),
            EqualConv2d(width, width, 3),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.body(x)


class Renderer(nn.Module):
    """U-Net with residual blocks and heads for colour and mask.

    Args:
        base: channels after the first convolution (64 in the published net; ×2 per level, three levels).
        blocks: residual blocks at the bottom.
        kernel: of the first and last convolutions (7 in the published net).
        colour_skip: add the rasterised colours to the head's output, and the body's mask to the logits. Not in
            the paper: it lets minutes on a CPU be spent on what the texture does not hold.
    """

    def __init__(self, base: int = 64, blocks: int = 3, kernel: int = 7, colour_skip: bool = False) -> None:
        super().__init__()
        self.colour_skip = colour_skip
        texture = len(CHANNELS)
        self.texture_block = nn.Sequential(ConvBlock(texture, texture), ConvBlock(texture, texture))
        self.uv_block = nn.Sequential(ConvBlock(2, UV_WIDTH), ConvBlock(UV_WIDTH, UV_WIDTH))
        self.mask_block = nn.Sequential(ConvBlock(1, MASK_WIDTH), ConvBlock(MASK_WIDTH, MASK_WIDTH))
        self.stem = ConvBlock(texture + UV_WIDTH + MASK_WIDTH, base, kernel)
        widths = [base, base * 2, base * 4, base * 8]
        self.downs = nn.ModuleList(ConvBlock(a, b, stride=2) for a, b in itertools.pairwise(widths))
        self.middle = nn.Sequential(*(ResidualBlock(widths[3]) for _ in range(blocks)))
        self.ups = nn.ModuleList(
            ConvBlock(2 * b, a) for a, b in ((widths[2], widths[3]), (widths[1], widths[2]))
        )
        self.ups.append(ConvBlock(2 * widths[1], base))
        self.last = nn.Sequential(nn.ReflectionPad2d(kernel // 2), EqualConv2d(base, 16, kernel))
        self.rgb_head, self.mask_head = Head(16, 2, 3), Head(16, 4, 1)

    def forward(
        self,
        raster: Float[Tensor, "b 21 h w"],
        uv: Float[Tensor, "b h w 2"],
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
        """Colour in [−1, 1] and mask in [0, 1].

        Args:
            raster: the neural texture looked up at `uv`, 0 on the background.
            uv: texture coordinates in [0, 1], −1 on the background.
        """
        covered = (uv[..., :1] >= 0).permute(0, 3, 1, 2).to(raster.dtype)
        x = torch.cat(
            [
                self.texture_block(raster),
                self.uv_block(uv.permute(0, 3, 1, 2)),
                self.mask_block(covered),
            ],
            dim=1,
        )
        x = self.last(self._u_net(self.stem(x)))
        rgb, logits = self.rgb_head(x), self.mask_head(x)
        if self.colour_skip:
            texture = NeuralTexture(raster)
            known = (2 * texture.rgb - 1) * texture.filled
            return rgb + known, torch.sigmoid(logits + MASK_PRIOR * (2 * covered - 1))
        return torch.tanh(rgb), torch.sigmoid(logits)

    def _u_net(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Each level down is joined, at its own size, by the level that comes up to it; none at full size."""
        levels = []
        for down in self.downs:
            x = down(x)
            levels.append(x)
        x = self.middle(x)
        for up, level in zip(self.ups, reversed(levels), strict=True):
            x = up(
                F.interpolate(
                    torch.cat([x, level], dim=1), scale_factor=2, mode="bilinear", align_corners=False
                )
            )
        return x


class Head(nn.Sequential):
    """Norm, activation, some 3 × 3 blocks and a last convolution."""

    def __init__(self, width: int, blocks: int, outputs: int) -> None:
        last = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.normal_(last.weight, std=0.01)  # starts near the skip, or near grey without it
        nn.init.zeros_(last.bias)
        layers: list[nn.Module] = [nn.BatchNorm2d(width), FusedLeakyReLU(width)]
        layers += [ConvBlock(width, width) for _ in range(blocks)]
        super().__init__(*layers, last)
