"""Metrics of images, fits and parsing. A metric bears a name only when it is that metric."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim_measure

from dinar_models.labels import CLASSES, GROUPS, UNKNOWN, to_groups

MS_SSIM_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales (Wang et al., 2003)."""


def psnr(
    image: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    where: Bool[Tensor, "b h w"] | None = None,
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio in dB of images in [0, 1], over a region if given; at most 100 dB."""
    error = (image - target).square().mean(1)
    if where is None:
        mean = error.mean((1, 2))
    else:
        mean = (error * where).sum((1, 2)) / where.sum((1, 2)).clamp_min(1)
    return -10 * torch.log10(mean.clamp_min(1e-10))


def ms_ssim(image: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Multi-scale structural similarity of images in [0, 1].

    Five scales with an 11-pixel window need sides above 160 px; smaller images get as many scales as fit, their
    weights renormalised.
    """
    scales = min(5, max(1, int(math.log2((min(image.shape[-2:]) - 1) / 10)) + 1))
    weights = np.array(MS_SSIM_BETAS[:scales])
    betas = tuple(float(w) for w in weights / weights.sum())
    values = [
        ms_ssim_measure(a[None], b[None], data_range=1.0, betas=betas, normalize="relu")
        for a, b in zip(image.float(), target.float(), strict=True)
    ]
    return torch.stack([torch.as_tensor(v).reshape(()) for v in values])


def kernel_distance(
    first: Float[Tensor, "n d"],
    second: Float[Tensor, "m d"],
    *,
    subset: int,
    subsets: int,
    rng: np.random.Generator,
) -> float:
    """Unbiased MMD² with the kernel (x·y/d + 1)³, averaged over random subsets (Bińkowski et al., ICLR 2018)."""
    size = min(subset, len(first), len(second))
    if size < 2:
        raise ValueError(f"{len(first)} and {len(second)} samples: at least 2 of each are needed")
    values = []
    for _ in range(subsets):
        x = first[torch.from_numpy(rng.choice(len(first), size, replace=False))].double()
        y = second[torch.from_numpy(rng.choice(len(second), size, replace=False))].double()
        values.append(_mmd(x, y))
    return float(np.mean(values))


def confusion_matrix(
    predicted: UInt8[Tensor, "*shape"], target: UInt8[Tensor, "*shape"], classes: int
) -> Int[Tensor, "classes classes"]:
    """Pixel counts by [target, predicted]; unknown targets do not count."""
    known = target != UNKNOWN
    pairs = target[known].long() * classes + predicted[known].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def mean_iou(confusion: Int[Tensor, "c c"]) -> float:
    """Intersection over union, averaged over the classes that occur in the target."""
    intersection = confusion.diagonal().double()
    present = confusion.sum(dim=1) > 0
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - confusion.diagonal()
    return float((intersection[present] / union[present]).mean())


def parsing_scores(predicted: UInt8[Tensor, "n h w"], target: UInt8[Tensor, "n h w"]) -> dict[str, float]:
    """{miou, miou_coarse, foreground_iou} over all pixels of all images."""
    fine = confusion_matrix(predicted, target, len(CLASSES))
    coarse = confusion_matrix(to_groups(predicted), to_groups(target), len(GROUPS))
    overlap = int(coarse[1:, 1:].sum())
    return {
        "miou": mean_iou(fine),
        "miou_coarse": mean_iou(coarse),
        "foreground_iou": overlap / max(int(coarse.sum() - coarse[0, 0]), 1),
    }


def mask_iou(first: Bool[np.ndarray, "*s"], second: Bool[np.ndarray, "*s"]) -> float:
    """Intersection over union of two masks; 1 when both are empty."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0


def pa_mpjpe(joints: Float[np.ndarray, "j 3"], truth: Float[np.ndarray, "j 3"]) -> float:
    """Mean joint error after the best similarity transform, in the unit given."""
    return float(np.linalg.norm(procrustes(joints, truth) - truth, axis=1).mean())


def procrustes(
    points: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """`points` turned, scaled and moved to fit `target` best (Umeyama, 1991); never mirrored."""
    middle, goal = points.mean(0), target.mean(0)
    a, b = points - middle, target - goal
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.ones(3)
    sign[2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign) @ vt
    scale = (s * sign).sum() / max((a**2).sum(), 1e-12)
    return scale * a @ rotation + goal


def vertex_error(vertices: Float[np.ndarray, "v 3"], truth: Float[np.ndarray, "v 3"]) -> float:
    """Mean vertex distance after moving the mean of one onto the other's (translation aligned)."""
    moved = vertices - vertices.mean(0) + truth.mean(0)
    return float(np.linalg.norm(moved - truth, axis=1).mean())


def _mmd(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    n, d = x.shape
    xx, yy, xy = ((a @ b.t() / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    inner = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1))
    return float(inner - 2 * xy.mean())
