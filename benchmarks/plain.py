"""The networks as their definitions say it, for comparison: contiguous tensors, textbook operators."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinar_models import avatar, diffusion, perceptual, renderer, vqgan
from dinar_models.avatar import Window
from dinar_models.perceptual import PerceptualDistance
from dinar_models.stylegan2 import Downsample, Upsample
from stages._core import train_loop


@contextmanager
def plain_operators(*stages: ModuleType) -> Iterator[None]:
    """Build and run networks plainly; `stages` are the modules that would lay channels last."""

    def same(net: Any) -> Any:
        return net

    def frozen(net: nn.Module, dtype: torch.dtype) -> nn.Module:
        return net.requires_grad_(False)

    def nothing(*_: Any) -> None:
        return None

    patches = [
        *((stage, "channels_last", same) for stage in stages if hasattr(stage, "channels_last")),
        *((stage, "for_inference", frozen) for stage in stages if hasattr(stage, "for_inference")),
        (Upsample, "forward", _zeros_between),
        (Downsample, "forward", _every_second_pixel),
        (renderer, "box_mean", _pooled_mean),
        (perceptual, "fold_batch_norms", same),
        (perceptual, "depthwise_in_float32", nothing),
        (PerceptualDistance, "forward", _both_at_once),
        (vqgan, "replace_slow_layers", nothing),
        (diffusion, "replace_slow_layers", nothing),
        (train_loop, "keep_freed_memory", nothing),
    ]
    with ExitStack() as stack:
        for place, name, value in patches:
            stack.enter_context(mock.patch.object(place, name, value))
        yield


@contextmanager
def whole_images() -> Iterator[None]:
    """Render whole images, not the windows around bodies."""

    def whole(covered: Tensor, margin: int) -> list[Window]:
        count, height, width = covered.shape
        return [(0, height, 0, width)] * count

    with mock.patch.object(avatar, "body_windows", whole):
        yield


def _filtered(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1), groups=x.shape[1])


def _zeros_between(self: Upsample, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    spaced = x.new_zeros(batch, channels, height, 2, width, 2)
    spaced[:, :, :, 0, :, 0] = x
    return _filtered(
        F.pad(spaced.view(batch, channels, 2 * height, 2 * width), (2, 1, 2, 1)), 4 * self.kernel
    )


def _every_second_pixel(self: Downsample, x: Tensor) -> Tensor:
    return _filtered(F.pad(x, (1, 1, 1, 1)), self.kernel)[..., ::2, ::2]


def _pooled_mean(image: Tensor, reach: int) -> Tensor:
    side = 2 * reach + 1
    rows = F.avg_pool2d(image, (side, 1), stride=1, padding=(reach, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), stride=1, padding=(0, reach), count_include_pad=False)


def _both_at_once(self: PerceptualDistance, first: Tensor, second: Tensor) -> Tensor:
    levels = self.features(torch.cat([first, second]))
    return torch.stack([perceptual._level_distance(*level.chunk(2)) for level in levels]).mean(0)
