"""The neural renderer: a rasterised neural texture → image and mask (paper section 3.1, eq. 3).

Following the paper, the texture is preprocessed as an image, after rasterising it (the published code does so
in texture space). The mask is not clamped to the body's silhouette: there the published code's Dice gradient is
zero, and clothes thinner than the fitted body cannot be carved.
"""

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dinar_models.stylegan2 import Activation, EqualConv2d, without_autocast
from dinar_models.types import CHANNELS, NeuralTexture

UV_WIDTH, MASK_WIDTH = 8, 4

HEAD_WIDTH = 16
"""Channels between the U-Net and the heads."""

SKIP_PRIOR = 3.0
"""Logit with which skipped colours and the body's silhouette start: a start that the net can overrule."""

PRIOR_REACH = 12
"""Pixels beside the body in which the mask's start is undecided."""

SPREAD = (2, 12)
"""Reach of each round in which colours spread beyond the body, px."""


def norm(width: int, *, activate: bool = True) -> list[nn.Module]:
    """Batch norm and leaky ReLU; the norm's own shift and scale are the activation's bias and gain √2."""
    layer = nn.BatchNorm2d(width)
    if not activate:
        return [layer]
    nn.init.constant_(layer.weight, math.sqrt(2))
    return [layer, Activation()]


class ReflectionPad(nn.ReflectionPad2d):
    """In the image's own type: autocast would turn it into float32 and back."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        with without_autocast(x.device.type):
            return super().forward(x)


class ConvBlock(nn.Sequential):
    """Convolution without bias, batch norm, activation; padded with zeros, or by reflection."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, reflect: bool = False,
        activate: bool = True,
    ) -> None:  # fmt: skip
        side = kernel // 2
        conv = EqualConv2d(inputs, outputs, kernel, stride, 0 if reflect else side)
        padding = [ReflectionPad(side)] if reflect else []
        super().__init__(*padding, conv, *norm(outputs, activate=activate))


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBlock(width, width, reflect=True), ConvBlock(width, width, reflect=True, activate=False)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.body(x)


class Head(nn.Sequential):
    """Norm, activation, some 3 × 3 blocks and a last convolution that starts near zero."""

    def __init__(self, width: int, blocks: int, outputs: int) -> None:
        last = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.normal_(last.weight, std=0.01)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        super().__init__(*norm(width), *(ConvBlock(width, width) for _ in range(blocks)), last)


class Renderer(nn.Module):
    """U-Net with residual blocks and heads for colour and mask.

    Args:
        base: channels after the first convolution (64 in the published net; ×2 per level, three levels).
        blocks: residual blocks at the bottom.
        kernel: of the first and last convolutions (7 in the published net).
        rgb_blocks, mask_blocks: 3 × 3 blocks in the heads.
        colour_skip: the colour head also says, per pixel, how much of the rasterised colour to keep, which is
            spread a little beyond the body, and the body's silhouette is added to the mask's logits. Not in the
            paper: it lets minutes on a CPU be spent on what the texture does not hold.
    """

    def __init__(
        self, base: int = 64, blocks: int = 3, kernel: int = 7, rgb_blocks: int = 2, mask_blocks: int = 4,
        *, colour_skip: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.colour_skip = colour_skip
        texture = len(CHANNELS)
        self.texture_block = nn.Sequential(ConvBlock(texture, texture), ConvBlock(texture, texture))
        self.uv_block = nn.Sequential(ConvBlock(2, UV_WIDTH), ConvBlock(UV_WIDTH, UV_WIDTH))
        self.mask_block = nn.Sequential(ConvBlock(1, MASK_WIDTH), ConvBlock(MASK_WIDTH, MASK_WIDTH))
        self.stem = ConvBlock(texture + UV_WIDTH + MASK_WIDTH, base, kernel, reflect=True)
        levels = [base, base * 2, base * 4, base * 8]
        self.downs = nn.ModuleList(ConvBlock(a, b, stride=2) for a, b in itertools.pairwise(levels))
        self.middle = nn.Sequential(*(ResidualBlock(levels[-1]) for _ in range(blocks)))
        outputs = [base * 4, base * 2, base]
        self.ups = nn.ModuleList(ConvBlock(2 * a, b) for a, b in zip(reversed(levels), outputs, strict=False))
        side = kernel // 2
        self.last = nn.Sequential(ReflectionPad(side), EqualConv2d(base, HEAD_WIDTH, kernel))
        self.rgb_head = Head(HEAD_WIDTH, rgb_blocks, 4 if colour_skip else 3)
        self.mask_head = Head(HEAD_WIDTH, mask_blocks, 1)

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
        blocks = [
            self.texture_block(raster),
            self.uv_block(uv.permute(0, 3, 1, 2)),
            self.mask_block(covered),
        ]
        x = self.last(self._u_net(self.stem(torch.cat(blocks, dim=1))))
        rgb, logits = self.rgb_head(x).float(), self.mask_head(x).float()
        if not self.colour_skip:
            return torch.tanh(rgb), torch.sigmoid(logits)
        texture = NeuralTexture(raster.float())
        near, known = spread_colours(texture.rgb, texture.filled)
        keep = known * torch.sigmoid(rgb[:, 3:] + SKIP_PRIOR)
        colour = keep * (2 * near - 1) + (1 - keep) * torch.tanh(rgb)[:, :3]  # whole tensors are faster
        return colour, torch.sigmoid(logits + mask_prior(covered.float()))

    def _u_net(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Each level is joined by what comes up to it, at its own size; there is no join at full size."""
        levels = []
        for down in self.downs:
            x = down(x)
            levels.append(x)
        x = self.middle(x)
        for up, level in zip(self.ups, reversed(levels), strict=True):
            joined = torch.cat([x, level], dim=1)
            x = up(F.interpolate(joined, scale_factor=2, mode="bilinear", align_corners=False))
        return x


def mask_prior(covered: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Logits with which masks start: SKIP_PRIOR on the body, falling from 0 beside it to −SKIP_PRIOR at PRIOR_REACH.

    Hair and skirts lie beside the body. A steep prior there is right for most pixels, but leaves the loss so little
    gradient that minutes of training do not overrule it.
    """
    near = box_mean(covered, PRIOR_REACH)
    return SKIP_PRIOR * torch.where(covered > 0, 1.0, 2 * near.clamp_max(0.5) - 1)


def spread_colours(
    rgb: Float[Tensor, "b 3 h w"], filled: Float[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
    """Carry rasterised colours to pixels near them that have none: hair and cloth mostly go on as they are.

    Args:
        rgb: in [0, 1], mixed with 0 where `filled` is less than 1.
        filled: B_fill as rasterised, in [0, 1].

    Returns:
        Colours unmixed and spread; and 1 where there is one, else 0.
    """
    known = (filled > 0.5).to(rgb)
    colours = known * rgb / filled.clamp_min(0.5)
    for reach in SPREAD:
        share, total = box_mean(known, reach), box_mean(colours, reach)
        fresh = (known == 0) & (share > 0)
        colours = torch.where(fresh, total / share.clamp_min(1e-6), colours)
        known = torch.where(fresh, 1.0, known)
    return colours, known


def box_mean(image: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b c h w"]:
    """Mean over the square of so many pixels on each side, as far as it lies in the image."""
    return _BoxMean.apply(image, reach)


class _BoxMean(torch.autograd.Function):
    """A pixel lies in another's square when the other lies in its own: sums over squares are their own gradient."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, reach: int) -> Tensor:
        ctx.reach = reach
        return _box_sum(image, reach) / _box_area(image, reach)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _box_sum(gradient / _box_area(gradient, ctx.reach), ctx.reach), None


def _box_sum(image: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b c h w"]:
    """Differences of running sums: ten times faster than pooling, whose time grows with the reach."""
    side = 2 * reach + 1
    rows = F.pad(image, (reach + 1, reach, reach + 1, reach)).cumsum(3)
    columns = (rows[..., side:] - rows[..., :-side]).cumsum(2)
    return columns[:, :, side:] - columns[:, :, :-side]


def _box_area(image: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "h w"]:
    """Pixels of each square that lie in the image."""
    spans = []
    for length in image.shape[-2:]:
        place = torch.arange(length, device=image.device)
        spans.append((place + reach + 1).clamp(max=length) - (place - reach).clamp(min=0))
    return (spans[0][:, None] * spans[1]).to(image)
