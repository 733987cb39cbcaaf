"""StyleGAN2's layers in plain torch (Karras et al., CVPR 2020): equalised learning rate, blur, modulation.

No compiled operators: up- and downsampling are padded convolutions, modulation scales activations instead of
weights, so that a batch is one convolution and not one per sample.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.draws import Draws, draw

BLUR = (1.0, 3.0, 3.0, 1.0)
SLOPE = 0.2


def widths(size: int, base: int) -> dict[int, int]:
    """Channels at each resolution from 4 to `size`: `base` up to 64 px, then halved per octave.

    base = 256 is the published networks' channel multiplier 2: 256 up to 64 px, 128, 64, 32 at 512 px.
    """
    return {s: max(base * 64 // max(s, 64), 8) for s in (2**i for i in range(2, size.bit_length()))}


def without_autocast(device: str) -> AbstractContextManager[object]:
    """A block in which types stay as they are; the meta device, on which sizes are counted, has no autocast."""
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


class Activation(nn.LeakyReLU):
    """Leaky ReLU after layers that have the bias and the gain √2 already.

    leaky(√2 x) = √2 leaky(x): the published layers' bias and gain cost nothing inside the convolution and two
    passes over the image outside.
    """

    def __init__(self) -> None:
        super().__init__(SLOPE)


class EqualConv2d(nn.Module):
    """Convolution whose weights are N(0, 1) and scaled when used, so that all learn at one rate.

    Args:
        gain: factor on weights and bias.
        lr_mul: learning rate multiplier of the weights, which are stored divided by it.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, *,
        bias: bool = False, gain: float = 1.0, lr_mul: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / lr_mul)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.gain = gain * lr_mul / math.sqrt(inputs * kernel * kernel), gain
        self.stride, self.padding = stride, padding

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        bias = None if self.bias is None else self.bias * self.gain
        return F.conv2d(x, self.weight * self.scale, bias, self.stride, self.padding)


class EqualLinear(nn.Module):
    """Fully connected layer with equalised learning rate; `activate` adds a fused leaky ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        lr_mul: float = 1.0,
        bias_init: float = 0.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias_init / lr_mul))
        self.scale, self.lr_mul, self.activate = lr_mul / math.sqrt(inputs), lr_mul, activate

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b m"]:
        out = F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)
        return F.leaky_relu(out, SLOPE) * math.sqrt(2) if self.activate else out


class LowPass(nn.Module):
    """Holds the separable [1, 3, 3, 1] filter around a change of resolution; its weights add up to 1."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor(BLUR) / sum(BLUR)
        self.register_buffer("kernel", line[:, None] * line, persistent=False)


class Blur(LowPass):
    """The filter alone.

    Args:
        pad: rows and columns of zeros on every side.
    """

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return _filter(x, self.kernel, padding=self.pad)


class Upsample(LowPass):
    """Twice the size: zeros between pixels, then the filter with a gain of 4."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return _Double.apply(x, self.kernel)


class Downsample(LowPass):
    """Half the size: every second pixel of the filtered image."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return _Halve.apply(x, self.kernel)


class _Double(torch.autograd.Function):
    """Upsampling and downsampling are each other's gradients but for the gain.

    They are stated here because CPUs take ten times longer for depthwise convolutions with strides when these are
    transposed in bf16, as autograd would do it. Zeros put between pixels by hand are slower still.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(kernel)
        precise = torch.promote_types(x.dtype, torch.float32)
        weight = 4 * _of_each_channel(kernel.to(precise), x)
        with without_autocast(x.device.type):
            out = F.conv_transpose2d(x.to(precise), weight, stride=2, padding=1, groups=x.shape[1])
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kernel,) = ctx.saved_tensors
        return 4 * _Halve.apply(gradient, kernel), None


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(kernel)
        return _filter(x, kernel, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kernel,) = ctx.saved_tensors
        return _Double.apply(gradient / 4, kernel), None


def _filter(x: Tensor, kernel: Tensor, *, padding: int, stride: int = 1) -> Tensor:
    weight = _of_each_channel(kernel.to(x.dtype), x)
    return F.conv2d(x, weight, stride=stride, padding=padding, groups=x.shape[1])


def _of_each_channel(kernel: Float[Tensor, "k k"], x: Tensor) -> Float[Tensor, "c 1 k k"]:
    return kernel.expand(x.shape[1], 1, -1, -1)


class ConvLayer(nn.Sequential):
    """(Blur and stride 2,) convolution, bias, leaky ReLU with gain √2: what encoder and discriminator are made of."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, down: bool = False, activate: bool = True,
        lr_mul: float = 1.0,
    ) -> None:  # fmt: skip
        layers: list[nn.Module] = []
        stride, padding = 1, kernel // 2
        if down and kernel == 1:  # pixels that the convolution would skip need not be blurred
            layers.append(Downsample())
        elif down:
            layers.append(Blur((len(BLUR) - 2 + kernel - 1) // 2))
            stride, padding = 2, 0
        gain = math.sqrt(2) if activate else 1.0
        layers.append(
            EqualConv2d(inputs, outputs, kernel, stride, padding, bias=activate, gain=gain, lr_mul=lr_mul)
        )
        if activate:
            layers.append(Activation())
        super().__init__(*layers)


class ResBlock(nn.Module):
    """Two convolutions, the second halving the size, beside a blurred 1 × 1 shortcut."""

    def __init__(self, inputs: int, outputs: int, *, lr_mul: float = 1.0) -> None:
        super().__init__()
        self.conv1 = ConvLayer(inputs, inputs, 3, lr_mul=lr_mul)
        self.conv2 = ConvLayer(inputs, outputs, 3, down=True, lr_mul=lr_mul)
        self.skip = ConvLayer(inputs, outputs, 1, down=True, activate=False, lr_mul=lr_mul)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by a style, the output renormalised (demodulated).

    Equal to modulating the weights (eq. 1–3 of the StyleGAN2 paper), because a convolution is linear.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, *, demodulate: bool = True, gain: float = 1.0
    ) -> None:  # fmt: skip
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(style, inputs, bias_init=1.0)
        self.scale = 1 / math.sqrt(inputs * kernel * kernel)
        self.padding, self.demodulate = kernel // 2, demodulate

    def forward(self, x: Float[Tensor, "b c h w"], style: Float[Tensor, "b s"]) -> Float[Tensor, "b c2 h w"]:
        scales = self.modulation(style)
        weight = self.weight * self.scale
        out = F.conv2d(x * scales[:, :, None, None].to(x.dtype), weight, padding=self.padding)
        if not self.demodulate:
            return out
        energy = scales.square() @ weight.square().sum((2, 3)).t()
        return out * (self.gain * torch.rsqrt(energy + 1e-8))[:, :, None, None].to(out.dtype)


class StyledConv(nn.Module):
    """(Upsampling,) modulated convolution, noise of learnt strength, bias, leaky ReLU with gain √2."""

    def __init__(self, inputs: int, outputs: int, style: int, *, up: bool = False) -> None:
        super().__init__()
        self.up = Upsample() if up else nn.Identity()
        self.conv = ModulatedConv2d(inputs, outputs, 3, style, gain=math.sqrt(2))
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        self.activate = Activation()

    def forward(
        self, x: Float[Tensor, "b c h w"], style: Float[Tensor, "b s"], generator: Draws
    ) -> Float[Tensor, "b c2 h2 w2"]:
        out = self.conv(self.up(x), style)
        shape = (len(out), 1, *out.shape[2:])
        noise = draw(torch.randn, shape, generator, device=out.device)
        noise, bias = (math.sqrt(2) * part for part in (self.noise_strength * noise, self.bias))
        return self.activate(out + noise.to(out.dtype) + bias.to(out.dtype))


class ToTexture(nn.Module):
    """1 × 1 head without demodulation, added to the upsampled result of the level below."""

    def __init__(self, inputs: int, channels: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, channels, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.up = Upsample()

    def forward(
        self, x: Float[Tensor, "b c h w"], style: Float[Tensor, "b s"], below: Tensor | None
    ) -> Float[Tensor, "b t h w"]:
        out = self.conv(x, style) + self.bias
        return out if below is None else out + self.up(below)
