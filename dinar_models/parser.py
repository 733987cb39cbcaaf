"""Human parsing: CIHP's 20 classes, 7 groups, and a small encoder–decoder that labels every pixel."""

import math
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

CLASSES = (
    "background",
    "hat",
    "hair",
    "glove",
    "sunglasses",
    "upper_clothes",
    "dress",
    "coat",
    "socks",
    "pants",
    "torso_skin",
    "scarf",
    "skirt",
    "face",
    "left_arm",
    "right_arm",
    "left_leg",
    "right_leg",
    "left_shoe",
    "right_shoe",
)
"""CIHP's classes in its order; left and right are the person's own."""

GROUPS = ("background", "head", "upper_garment", "lower_garment", "arms", "legs", "shoes")

UNKNOWN = 255
"""Label of pixels whose class is not known: no loss, no vote in a metric."""

_GROUP_OF = {
    "head": ("hat", "hair", "sunglasses", "face", "torso_skin"),
    "upper_garment": ("upper_clothes", "dress", "coat", "scarf"),
    "lower_garment": ("pants", "skirt"),
    "arms": ("glove", "left_arm", "right_arm"),
    "legs": ("socks", "left_leg", "right_leg"),
    "shoes": ("left_shoe", "right_shoe"),
}
CLASS_TO_GROUP: tuple[int, ...] = tuple(
    next((GROUPS.index(g) for g, members in _GROUP_OF.items() if name in members), 0) for name in CLASSES
)
"""Group number of each class. Torso skin counts as head: in clothed people it is mostly the neck."""

MIRRORED_CLASS: tuple[int, ...] = tuple(
    CLASSES.index(
        name.replace("left_", "right_") if name.startswith("left_") else name.replace("right_", "left_")
    )
    for name in CLASSES
)
"""What each class becomes in a mirrored image."""

DEFAULT_CONFIG: dict[str, Any] = {"architecture": "unet", "size": 256}

_ENCODER = "tu-tf_efficientnet_lite0"  # "tu-": built by timm
_DECODER_CHANNELS = (128, 64, 48, 32, 16)


class Parser(nn.Module):
    """A segmentation-models-pytorch net on an EfficientNet-Lite0 encoder.

    Args:
        architecture: "unet" or "deeplabv3plus".
        size: pixels per side at which images are parsed; others are resized to it and the result back.
    """

    def __init__(self, architecture: str, size: int) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture={architecture!r}: one of {', '.join(ARCHITECTURES)} is expected")
        if size % 32:
            raise ValueError(f"size={size}: a multiple of 32 is expected, the encoder's stride")
        self.size = size
        self.net = ARCHITECTURES[architecture]()

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 20 h w"]:
        """Logits. Images are in [−1, 1], which is also the encoder's own normalisation (mean ½, std ½)."""
        return self.net(image)


ARCHITECTURES = {
    "unet": lambda: smp.Unet(
        _ENCODER, encoder_weights=None, classes=len(CLASSES), decoder_channels=_DECODER_CHANNELS
    ),
    "deeplabv3plus": lambda: smp.DeepLabV3Plus(_ENCODER, encoder_weights=None, classes=len(CLASSES)),
}


def build_parser(config: dict[str, Any]) -> Parser:
    """A parser with random weights from its config {architecture, size}."""
    return Parser(config["architecture"], config["size"])


def load_encoder(parser: Parser, imagenet: dict[str, Tensor]) -> None:
    """Put ImageNet weights (timm's names for tf_efficientnet_lite0) into the encoder.

    Raises:
        KeyError: when a tensor of the encoder is not among them.
    """
    encoder = parser.net.encoder.model
    encoder.load_state_dict({name: imagenet[name] for name in encoder.state_dict()}, strict=True)


@torch.no_grad()
def start_at_prior(parser: Parser, background: float = 0.85) -> None:
    """Let an untrained parser say that a pixel is background with this probability, all else being equal.

    The first steps then go into telling classes apart, not into learning that most of an image is background.
    """
    rest = (1 - background) / (len(CLASSES) - 1)
    bias = parser.net.segmentation_head[0].bias
    bias.fill_(math.log(rest))
    bias[0] = math.log(background)


@torch.no_grad()
def parse_images(
    parser: Parser, rgb: UInt8[Tensor, "n h w 3"], batch: int = 8, device: str = "cpu"
) -> tuple[UInt8[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Class of each pixel, and the probability that it belongs to a person, of photos or renders."""
    parts, foreground = [], []
    for images in rgb.split(batch):
        x = images.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        resized = F.interpolate(x, (parser.size, parser.size), mode="bilinear", antialias=True)
        logits = parser(resized.contiguous(memory_format=torch.channels_last)).float()
        probability = F.interpolate(logits, x.shape[2:], mode="bilinear").softmax(dim=1)
        parts.append(probability.argmax(dim=1).to(torch.uint8).cpu())
        foreground.append(1 - probability[:, 0].cpu())
    return torch.cat(parts), torch.cat(foreground)


def to_groups(parts: UInt8[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """CIHP classes → the 7 groups; unknown stays unknown."""
    table = torch.full((256,), UNKNOWN, dtype=torch.uint8, device=parts.device)
    table[: len(CLASSES)] = torch.tensor(CLASS_TO_GROUP, dtype=torch.uint8)
    return table[parts.long()]


def mirror_parts(parts: UInt8[Tensor, "*b h w"]) -> UInt8[Tensor, "*b h w"]:
    """Label images of mirrored photos: flipped left to right, left and right classes exchanged."""
    table = torch.full((256,), UNKNOWN, dtype=torch.uint8, device=parts.device)
    table[: len(CLASSES)] = torch.tensor(MIRRORED_CLASS, dtype=torch.uint8)
    return table[parts.flip(-1).long()]


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
