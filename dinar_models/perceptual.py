"""Distances in the features of a pretrained net.

`perceptual` is ours, on EfficientNet-Lite0 (ImageNet), and bears its own name: it is not LPIPS. LPIPS itself is
the `lpips` package's and needs backbone weights that no wheel carries.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.backbones import efficientnet_lite0

LEVELS = (0, 1, 2, 3, 4)


class PerceptualDistance(nn.Module):
    """Mean squared distance of unit-normalised features, averaged over levels (the form of LPIPS, unweighted)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = efficientnet_lite0(features_only=True, out_indices=LEVELS)

    def forward(
        self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """One distance per pair of images in [−1, 1]; 0 for equal images."""
        both = self.features(torch.cat([first, second]))
        distances = [_level_distance(*level.chunk(2)) for level in both]
        return torch.stack(distances).mean(0)

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """The features never train: batch norm keeps its ImageNet statistics."""
        return super().train(False)


class PooledFeatures(nn.Module):
    """Images → one vector each: the pooled last features, for the kernel distance `kid_effnet`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = efficientnet_lite0(num_classes=1000)
        self.net.reset_classifier(0)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Features of images in [−1, 1]."""
        return self.net(images)


def _level_distance(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
