"""Networks that no longer learn, made faster: batch norms become part of the convolutions before them."""

import itertools
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dinar_models.stylegan2 import EqualConv2d

Net = TypeVar("Net", bound=nn.Module)


def fold_batch_norms(net: Net) -> Net:
    """A copy in eval mode without gradients, whose outputs are the net's own in eval mode up to rounding.

    In every container a convolution that is followed by a batch norm takes it in; of a batch norm that holds an
    activation (timm's), that remains. Equalised convolutions become plain ones of their scaled weights.
    """
    folded = deepcopy(net).eval().requires_grad_(False)
    for parent in list(folded.modules()):
        _plain_convolutions(parent)
        for (name, conv), (after, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, after, getattr(norm, "act", nn.Identity()))
    return folded.requires_grad_(False)


def for_inference(net: Net, dtype: torch.dtype) -> Net:
    """The same with its convolutions in `dtype`, channels last; run it under autocast of that type."""
    folded = fold_batch_norms(net)
    for part in folded.modules():
        if type(part) is nn.Conv2d:  # Float32Depthwise stays as it is
            part.to(dtype)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not know it


def _plain_convolutions(parent: nn.Module) -> None:
    """Replace a module's equalised convolutions, in place."""
    for name, child in list(parent.named_children()):
        if isinstance(child, EqualConv2d):
            setattr(parent, name, _plain(child))


@torch.no_grad()
def _plain(conv: EqualConv2d) -> nn.Conv2d:
    outputs, inputs, kernel, _ = conv.weight.shape
    plain = torch.nn.utils.skip_init(
        nn.Conv2d, inputs, outputs, kernel, conv.stride, conv.padding, bias=conv.bias is not None
    )
    plain.to(conv.weight).weight.copy_(conv.weight * conv.scale)
    if conv.bias is not None:
        assert plain.bias is not None
        plain.bias.copy_(conv.bias * conv.gain)
    return plain.eval()
