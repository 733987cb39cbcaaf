"""The perceptual distance that params name; LPIPS needs a backbone that no package carries."""

from pathlib import Path

from torch import nn

from dinar_models.perceptual import LPIPS, DistanceName, PerceptualDistance
from stages._data.loss_weights import LPIPS_BACKBONE


def build_distance(name: DistanceName, weights: Path | None) -> nn.Module:
    """Image pairs in [−1, 1] → one distance each.

    Args:
        weights: folder of the optional backbone.

    Raises:
        ValueError: LPIPS is asked for and no such folder was given.
        FileNotFoundError: the backbone is not in it; the text says how to get it.
    """
    if name == "effnet":
        return PerceptualDistance()
    if weights is None:
        raise ValueError("distance: lpips needs the input weights=data/raw/weights/lpips_vgg")
    return LPIPS(weights / LPIPS_BACKBONE, "vgg")
