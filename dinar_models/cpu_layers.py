"""Layers of diffusers' networks that CPUs are slow at in bf16, and what takes their place.

Measured on one core of an EPYC with AVX-512 BF16: the gradient of a group norm over 4 × 32 × 128 × 128, channels
last, takes 18 ms by torch's kernel and 6 ms as stated here; attention among 1024 tokens of width 96, batch 4, with
its gradient 43 ms by the fused kernel and 18 ms step by step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEW_PLACES = 256
"""Pixels below which torch's gradient of a group norm is as fast."""


def replace_slow_layers(net: nn.Module) -> None:
    """Replace group norms and how attention is computed, in place; names and tensors of its state stay the same."""
    for parent in list(net.modules()):
        if isinstance(parent, Attention):
            parent.set_processor(AttentionByDevice())
            parent.upcast_softmax = False  # torch's softmax of bf16 computes in float32 itself
        for name, child in list(parent.named_children()):
            if type(child) is nn.GroupNorm:
                setattr(parent, name, GroupNorm(child))


class GroupNorm(nn.GroupNorm):
    """A group norm whose gradient is stated here for large channels-last tensors on a CPU.

    Args:
        norm: what is replaced; its weights are shared.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        with torch.device("meta"):
            super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Float[Tensor, "b c *places"]) -> Float[Tensor, "b c *places"]:
        """The norm over each group of channels and all places of images, or of tokens (b, c, n)."""
        rows = x.movedim(1, -1)
        if x.device.type != "cpu" or x[0, 0].numel() < FEW_PLACES or not rows.is_contiguous():
            return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        # Torch guesses from strides that channels lie last, and goes by those of a single sample or row too.
        image = rows.flatten().view(len(x), -1, x.shape[-1], x.shape[1]).movedim(-1, 1)
        out = _GroupNorm.apply(image, self.weight, self.bias, self.num_groups, self.eps)
        return out.view_as(x) if x.ndim == 4 else out[:, :, 0]


class _GroupNorm(torch.autograd.Function):
    """y = γ (x − μ) / σ + β. With m numbers in a group, x̂ = (x − μ) / σ and g the gradient of y,

    dx = (γ g − mean(γ g) − x̂ mean(γ g x̂)) / σ,

    which is a g + b x + c with a per channel, b and c per group. Sums are over places first, by channel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels = x.shape[:2]
        out, mean, inverse = torch.native_group_norm(
            x, weight, bias, batch, channels, x[0, 0].numel(), groups, eps
        )
        ctx.save_for_backward(x, weight, mean, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        batch, channels = x.shape[:2]
        g, flat = (t.movedim(1, -1).reshape(batch, -1, channels) for t in (gradient, x))
        size, count = channels // mean.shape[1], flat.shape[1] * channels // mean.shape[1]
        mean, inverse = mean.float(), inverse.float()

        def per_group(values: Tensor) -> Tensor:
            return (values * weight.float()).view(batch, -1, size).sum(2)

        def per_channel(values: Tensor) -> Tensor:
            return values.repeat_interleave(size, dim=1)

        sum_g, sum_gx = (t.sum(1, dtype=torch.float32) for t in (g, g * flat))
        b = inverse**3 * (per_group(sum_g) * mean - per_group(sum_gx)) / count
        c = -b * mean - inverse * per_group(sum_g) / count
        a = weight.float() * per_channel(inverse)
        a, b, c = (t[:, None].to(x.dtype) for t in (a, per_channel(b), per_channel(c)))
        along = torch.addcmul(c, flat, b).addcmul_(g, a).view(batch, *x.shape[2:], channels).movedim(-1, 1)
        to_weight = ((sum_gx - sum_g * per_channel(mean)) * per_channel(inverse)).sum(0)
        return along, to_weight.to(weight.dtype), sum_g.sum(0).to(weight.dtype), None, None


class AttentionByDevice(AttnProcessor):
    """Step by step on a CPU, by the fused kernel elsewhere; both are diffusers'."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        more = (encoder_hidden_states, attention_mask, temb)
        if hidden_states.device.type == "cpu":
            return super().__call__(attn, hidden_states, *more)
        return AttnProcessor2_0()(attn, hidden_states, *more)
