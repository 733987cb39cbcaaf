"""Depthwise convolutions that train fast: libraries are slow at them, oneDNN backwards in bf16, cuDNN forwards."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Float32Depthwise(nn.Conv2d):
    """A depthwise convolution that leaves autocast on a CPU, and cuDNN on a GPU.

    Measured on one core of an EPYC with AVX-512 BF16, batch 8, channels last: the weights' gradient of 1152 × 6 × 6,
    kernel 5, takes 22 ms in bf16 and 4 ms in float32; the images' gradient of 96 × 97 × 97, stride 2, 42 ms and 4 ms.
    With channels last, cuDNN starts a kernel for each channel: two thirds of all that `train_avatar` started.

    Args:
        conv: what is replaced; its weights are shared.
        same: pad as TensorFlow's "SAME": the output has ⌈size / stride⌉ pixels a side; else `conv.padding`.
    """

    def __init__(self, conv: nn.Conv2d, same: bool) -> None:
        with torch.device("meta"):
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                _pair(conv.kernel_size),
                _pair(conv.stride),
                padding=0 if same or isinstance(conv.padding, str) else _pair(conv.padding),
                dilation=_pair(conv.dilation),
                groups=conv.groups,
                bias=conv.bias is not None,
            )
        self.weight, self.bias, self.same = conv.weight, conv.bias, same

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """The convolution, in the input's own dtype on both sides."""
        if self.same:
            x = F.pad(x, (*self._pad(x.shape[-1], 1), *self._pad(x.shape[-2], 0)))
        if x.device.type != "cpu":
            with torch.backends.cudnn.flags(enabled=False):
                return super().forward(x.contiguous())
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype)).to(x.dtype)

    def _pad(self, size: int, axis: int) -> tuple[int, int]:
        """Pixels before and after; the odd one is after."""
        stride, reach = self.stride[axis], self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        return total // 2, total - total // 2


def depthwise_in_float32(net: nn.Module) -> None:
    """Replace every depthwise convolution of a net, in place; names and tensors of its state stay the same."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.groups == child.in_channels > 1:
                same = type(child).__name__ == "Conv2dSame"  # timm's; it pads in its own forward()
                setattr(parent, name, Float32Depthwise(child, same))


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]
