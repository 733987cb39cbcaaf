"""Image metrics of rendered avatars (protocol: docs/design.md, section on metrics)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinar_models.metrics import kernel_distance, ms_ssim, psnr
from dinar_models.perceptual import PerceptualDistance, PooledFeatures
from stages._core.seeds import rng_for
from stages._core.store import Store

Table = dict[str, float | None]

WITHOUT_WEIGHTS: dict[str, None] = {"lpips": None, "dists": None}
"""Metrics whose backbones no package carries: null until their weights are there."""


@torch.no_grad()
def image_table(renders: Store, rows: Sequence[int], method: str, batch: int = 16) -> Table:
    """Means over views of one method (`avatar`, `mirror` or `mean_fill`) against the true views."""
    distance = _distance()
    sums: dict[str, list[Tensor]] = {k: [] for k in ("psnr", "psnr_person", "ms_ssim", "perceptual")}
    for start in range(0, len(rows), batch):
        part = list(rows[start : start + batch])
        image, target = (_unit(renders.read(name, part)) for name in (method, "target"))
        person = torch.from_numpy(
            (renders.read("avatar_mask", part) > 127) | (renders.read("target_mask", part) > 127)
        )
        sums["psnr"].append(psnr(image, target))
        sums["psnr_person"].append(psnr(image, target, person))
        sums["ms_ssim"].append(ms_ssim(image, target))
        sums["perceptual"].append(distance(2 * image - 1, 2 * target - 1))
    means: Table = {name: float(torch.cat(values).mean()) for name, values in sums.items()}
    return means | WITHOUT_WEIGHTS


@torch.no_grad()
def features(
    renders: Store, rows: Sequence[int], method: str, size: int | None = None, batch: int = 32
) -> Tensor:
    """Pooled features of renders or targets, (N, 1280), resized to `size` pixels per side if they differ."""
    net = _pooled()
    parts = [list(rows[s : s + batch]) for s in range(0, len(rows), batch)]
    return torch.cat([net(2 * _resized(_unit(renders.read(method, part)), size) - 1) for part in parts])


@dataclass(frozen=True)
class KernelEstimate:
    """`kid_effnet` and its 95 % interval over people; None where there are too few samples."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def kernel_estimate(
    fake: Tensor, real: Tensor, people: np.ndarray, *, subset: int, draws: int, seed: int
) -> KernelEstimate:
    """Renders against views of other people.

    The interval is the delete-half jackknife's: estimates from random halves of the people scatter as much as
    the estimate from all of them does, and no render is counted twice, which would bias an unbiased MMD.

    Args:
        fake: features of the renders.
        real: features of views of people who are not among them.
        people: the person of each render.
        subset: samples of each side per estimate; draws: estimates averaged, and halves drawn.
    """
    if len(fake) < 2 or len(real) < 2:
        return KernelEstimate()
    options = {"subset": subset, "subsets": draws}
    names = np.unique(people)
    halves = []
    for i in range(draws):
        rng = rng_for(seed, "kid half", i)
        half = np.isin(people, rng.choice(names, max(len(names) // 2, 1), replace=False))
        halves.append(kernel_distance(fake[torch.from_numpy(half)], real, rng=rng, subset=subset, subsets=4))
    low, high = np.quantile(halves, [0.025, 0.975])
    whole = kernel_distance(fake, real, rng=rng_for(seed, "kid"), **options)
    return KernelEstimate(whole, float(low), float(high))


@torch.no_grad()
def reference_features(views: Store, count: int, seed: int, size: int) -> Tensor:
    """Pooled features of views of train people, without jitter: what renders of other people should look like.

    They are as large as the renders, because features tell sizes apart.
    """
    rows = views.ok_rows("train", variant=0)
    chosen = np.sort(rng_for(seed, "kid reference").permutation(rows)[:count])
    return features(views, chosen.tolist(), "rgb", size)


@functools.cache
def _distance() -> PerceptualDistance:
    """Built once: reading its weights takes seconds."""
    return PerceptualDistance()


@functools.cache
def _pooled() -> PooledFeatures:
    return PooledFeatures().eval()


def _resized(images: Tensor, size: int | None) -> Tensor:
    if size is None or images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def _unit(images: np.ndarray) -> Tensor:
    """uint8, channels last → [0, 1], channels first."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
