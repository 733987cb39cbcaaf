"""Human parsing: a small encoder–decoder that gives every pixel one of CIHP's 20 classes."""

import math
from typing import Any

import segmentation_models_pytorch as smp
import torch
from jaxtyping import Float
from segmentation_models_pytorch.base import SegmentationHead
from torch import Tensor, nn

from dinar_models.depthwise import depthwise_in_float32
from dinar_models.labels import CLASSES

DEFAULT_CONFIG: dict[str, Any] = {"architecture": "unet", "size": 256}

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
