"""Distances in the features of a pretrained net.

`perceptual` is ours, on EfficientNet-Lite0 (ImageNet), and bears its own name: it is not LPIPS. LPIPS itself is
the `lpips` package's and needs backbone weights that no wheel carries.
"""

import warnings
from pathlib import Path
from typing import Literal

import lpips
import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.backbones import efficientnet_lite0
from dinar_models.depthwise import depthwise_in_float32
from dinar_models.folding import fold_batch_norms

DistanceName = Literal["effnet", "lpips"]
"""Of a loss: `PerceptualDistance`, or LPIPS, which needs weights that no package carries."""

LEVELS = (0, 1, 2, 3, 4)

LPIPS_NETS = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}


class PerceptualDistance(nn.Module):
    """Mean squared distance of unit-normalised features, averaged over levels (the form of LPIPS, unweighted)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = fold_batch_norms(efficientnet_lite0(features_only=True, out_indices=LEVELS))
        depthwise_in_float32(self.features)

    def forward(
        self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """One distance per pair of images in [−1, 1]; 0 for equal images."""
        # One after the other: the side that needs no gradient, the true image's, costs no backward pass.
        levels = zip(self.features(first), self.features(second), strict=True)
        return torch.stack([_level_distance(*level) for level in levels]).mean(0)

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """The features never train: batch norm keeps its ImageNet statistics."""
        return super().train(False)


class LPIPS(nn.Module):
    """LPIPS (Zhang et al., CVPR 2018), its linear heads from the `lpips` package.

    Args:
        backbone: torchvision's ImageNet weights of the net, a .pth file.
        net: "alex" (metric) or "vgg" (loss).

    Raises:
        FileNotFoundError: saying how to get the file.
    """

    def __init__(self, backbone: Path, net: str) -> None:
        super().__init__()
        if not backbone.is_file():
            raise FileNotFoundError(f"{backbone} does not exist; `dinar weights fetch lpips_{net}` gets it")
        whole = LPIPS_NETS[net]()
        whole.load_state_dict(torch.load(backbone, map_location="cpu", weights_only=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it calls torchvision in a way that is deprecated
            self.distance = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        # Its slices keep the places that the layers have in torchvision's `features`: sliceK.PLACE.weight.
        known, own = whole.features.state_dict(), self.distance.net.state_dict()
        self.distance.net.load_state_dict({name: known[name.split(".", 1)[1]] for name in own}, strict=True)
        self.eval().requires_grad_(False)

    def forward(
        self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """One distance per pair of images in [−1, 1]."""
        return self.distance(first, second).flatten()

    def train(self, mode: bool = True) -> "LPIPS":
        """Always in eval mode: the package's heads have dropout."""
        return super().train(False)


class PooledFeatures(nn.Module):
    """Images → one vector each: the pooled last features, for the kernel distance `kid_effnet`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = fold_batch_norms(efficientnet_lite0(num_classes=0))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Features of images in [−1, 1]."""
        return self.net(images)


def _level_distance(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
