"""Human parsing: a small encoder–decoder that gives every pixel one of CIHP's 20 classes."""

import math
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from segmentation_models_pytorch.base import SegmentationHead
from torch import Tensor, nn

from dinar_models.cameras import Crop, crop_image, mask_box, square_crop
from dinar_models.depthwise import depthwise_in_float32
from dinar_models.labels import CLASSES, GROUPS, UNKNOWN, allowed_classes, to_groups
from dinar_models.masks import largest_person

DEFAULT_CONFIG: dict[str, Any] = {"architecture": "unet", "size": 256}

CROP_BELOW = 0.75
"""A square around the person smaller than this share of the image is parsed on its own."""

_ENCODER = "tu-tf_efficientnet_lite0"  # "tu-": built by timm
_DECODER_CHANNELS = (128, 64, 40, 24)


class Parser(nn.Module):
    """A segmentation-models-pytorch net on an EfficientNet-Lite0 encoder.

    Args:
        architecture: "unet" or "deeplabv3plus".
        size: pixels per side at which images are parsed; others are resized to it and the result back.

    Attributes:
        stride: pixels of the image per logit: the nets stop where upsampling would only cost time.
    """

    def __init__(self, architecture: str, size: int) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture={architecture!r}: one of {', '.join(ARCHITECTURES)} is expected")
        if size % 32:
            raise ValueError(f"size={size}: a multiple of 32 is expected, the encoder's stride")
        self.size = size
        net, self.stride = ARCHITECTURES[architecture]()
        self.net: Any = net  # nn.Module has no names for what the two decoders share
        depthwise_in_float32(self.net)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 20 _ _"]:
        """Logits, one per `stride` pixels.

        Images are in [−1, 1], which is also the encoder's own normalisation (mean ½, std ½).
        """
        return self.net(image)


def _unet() -> tuple[nn.Module, int]:
    """A U-Net without its last, most expensive block, whose only input are the block's before it."""
    net = smp.Unet(
        _ENCODER, encoder_weights=None, classes=len(CLASSES), decoder_channels=(*_DECODER_CHANNELS, 8)
    )
    net.decoder.blocks = net.decoder.blocks[:-1]
    net.segmentation_head = SegmentationHead(_DECODER_CHANNELS[-1], len(CLASSES), kernel_size=1)
    return net, 2


def _deeplabv3plus() -> tuple[nn.Module, int]:
    net = smp.DeepLabV3Plus(_ENCODER, encoder_weights=None, classes=len(CLASSES), upsampling=1)
    return net, 4


ARCHITECTURES = {"unet": _unet, "deeplabv3plus": _deeplabv3plus}


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


def train_mode(parser: Parser, frozen_stages: int = 2) -> None:
    """Training mode but for what ImageNet taught best: batch statistics of the encoder, and its first stages.

    Statistics of eight images before made-up backgrounds say less than ImageNet's, and no gradient need be taken
    through the stages with the largest feature maps: better scores from less time.
    """
    parser.train()
    encoder = parser.net.encoder.eval().model
    for part in (encoder.conv_stem, encoder.bn1, *encoder.blocks[:frozen_stages]):
        part.requires_grad_(False)


@torch.no_grad()
def start_at_prior(parser: Parser, background: float = 0.85) -> None:
    """Let an untrained parser say that a pixel is background with this probability, all else being equal.

    The first steps then go into telling classes apart, not into learning that most of an image is background.
    """
    rest = (1 - background) / (len(CLASSES) - 1)
    bias = parser.net.segmentation_head[0].bias
    bias.fill_(math.log(rest))
    bias[0] = math.log(background)


class Parsed(NamedTuple):
    """What the parser says of images.

    Attributes:
        parts: class of each pixel.
        kinds: the most probable class besides background, for those who know better where the person is.
        foreground: probability that a pixel belongs to a person.
    """

    parts: UInt8[Tensor, "*n h w"]
    kinds: UInt8[Tensor, "*n h w"]
    foreground: Float[Tensor, "*n h w"]


@torch.no_grad()
def parse_images(
    parser: Parser,
    rgb: UInt8[Tensor, "n h w 3"],
    batch: int = 8,
    device: str = "cpu",
    labels: UInt8[Tensor, "n h w"] | None = None,
) -> Parsed:
    """Classes of photos or renders.

    Args:
        labels: what is known of the pixels (dinar_models/labels.py); only classes that agree with it become parts.
    """
    rows = []
    for start in range(0, len(rgb), batch):
        chosen = slice(start, start + batch)
        x = rgb[chosen].to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        resized = F.interpolate(x, (parser.size, parser.size), mode="bilinear", antialias=True)
        logits = parser(resized.contiguous(memory_format=torch.channels_last)).float()
        logits = F.interpolate(logits, x.shape[2:], mode="bilinear").cpu()
        rows.append(_decide(logits, None if labels is None else labels[chosen]))
    return Parsed(*(torch.cat(tensors) for tensors in zip(*rows, strict=True)))


def _decide(logits: Float[Tensor, "n 20 h w"], labels: UInt8[Tensor, "n h w"] | None) -> Parsed:
    """The best classes of every pixel."""
    best, kinds = _best_class(logits[:, 1:])
    top = torch.maximum(best, logits[:, 0])
    background = torch.exp(logits[:, 0] - top) / torch.exp(logits - top[:, None]).sum(dim=1)
    if labels is None:
        parts = torch.where(logits[:, 0] >= best, 0, kinds + 1)
    else:
        parts = _best_class(logits.masked_fill(~allowed_classes(labels), -torch.inf))[1]
    return Parsed(parts.to(torch.uint8), kinds + 1, 1 - background)


def _best_class(scores: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n h w"], UInt8[Tensor, "n h w"]]:
    """Highest score and its class. `argmax` over a dimension that is not the last takes eight times as long."""
    best, where = scores[:, 0], torch.zeros_like(scores[:, 0], dtype=torch.uint8)
    for k in range(1, scores.shape[1]):
        higher = scores[:, k] > best
        where.masked_fill_(higher, k)
        best = torch.maximum(best, scores[:, k])
    return best, where


@torch.no_grad()
def parse_crop(parser: Parser, image: UInt8[Tensor, "h w 3"], crop: Crop, device: str = "cpu") -> Parsed:
    """Parse one square of an image and put the answer back; background outside. Beyond the image is white."""
    planar = image.permute(2, 0, 1)[None].float()
    small = crop_image(planar, crop, parser.size, fill=255.0).round().clamp(0, 255).to(torch.uint8)
    parts, kinds, foreground = parse_images(parser, small.permute(0, 2, 3, 1).contiguous(), device=device)
    grid = crop_grid(crop, image.shape[0], image.shape[1])
    both = torch.stack([parts, kinds], dim=1).float()
    both = F.grid_sample(both, grid, mode="nearest", align_corners=False)[0].to(torch.uint8)
    return Parsed(both[0], both[1], F.grid_sample(foreground[:, None], grid, align_corners=False)[0, 0])


def crop_grid(crop: Crop, height: int, width: int) -> Float[Tensor, "1 h w 2"]:
    """Where each pixel of an image lies in a square of it, as `grid_sample` wants it."""
    x = 2 * (torch.arange(width) + 0.5 - crop.x) / crop.side - 1
    y = 2 * (torch.arange(height) + 0.5 - crop.y) / crop.side - 1
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)[None]


def closer_crop(person: Float[Tensor, "h w"]) -> Crop | None:
    """The square around a person who fills too little of an image to be parsed well in it; None for others."""
    if float(person.max()) <= 0.5:
        return None
    crop = square_crop(mask_box(person[None]))
    return crop if float(crop.side) < CROP_BELOW * max(person.shape) else None


@torch.no_grad()
def parse_closely(
    parser: Parser, rgb: UInt8[Tensor, "n h w 3"], batch: int = 8, device: str = "cpu"
) -> UInt8[Tensor, "n h w"]:
    """The parts; small people are parsed again in the square around them, as large as in training."""
    parts, _, foreground = parse_images(parser, rgb, batch, device)
    for i, image in enumerate(rgb):
        crop = closer_crop(torch.from_numpy(largest_person(foreground[i].float().numpy())))
        if crop is not None:
            parts[i] = parse_crop(parser, image, crop, device).parts
    return parts


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
