"""Training images for the parser: cut-out people moved, put before other backgrounds, and degraded."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Generator, Tensor
from torchvision.io import decode_jpeg, encode_jpeg

from dinar_models.backgrounds import make_backgrounds, uniform
from dinar_models.labels import mirror_parts

CLOSE_SCALES, WIDE_SCALES = (0.8, 1.2), (0.45, 1.5)
CLOSE_SHARE = 0.7
"""Most people are about as large as in a render, which is how the second pass sees them (parse_closely)."""
MAX_ROTATION = math.radians(12)


def augment_batch(
    rgb: UInt8[Tensor, "b h w 3"],
    mask: UInt8[Tensor, "b h w"],
    parts: UInt8[Tensor, "b h w"],
    size: int,
    label_size: int,
    *,
    generator: Generator,
) -> tuple[Float[Tensor, "b 3 s s"], UInt8[Tensor, "b l l"]]:
    """People on white → images in [−1, 1] on other backgrounds, and their labels.

    Args:
        mask: coverage, 0–255.
        parts: labels as in dinar_models/labels.py.
        size: pixels per side of the images.
        label_size: pixels per side of the labels, which cover the same square.
    """
    moved, labels = move_people(*without_white(rgb, mask), parts, size, label_size, generator=generator)
    colour, coverage = moved[:, :3], moved[:, 3:]
    background = make_backgrounds(colour, generator=generator)
    image = colour * tone_curve(colour, generator=generator) + (1 - coverage) * background
    return degrade(image.clamp(0, 1), generator=generator) * 2 - 1, labels


def without_white(
    rgb: UInt8[Tensor, "b h w 3"], mask: UInt8[Tensor, "b h w"]
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
    """Premultiplied colour and coverage, both in [0, 1], of people on white."""
    coverage = mask.float()[:, None] / 255
    return (rgb.permute(0, 3, 1, 2).float() / 255 - (1 - coverage)).clamp_min(0), coverage


def paste_people(
    rgb: UInt8[Tensor, "b h w 3"], mask: UInt8[Tensor, "b h w"], backgrounds: Float[Tensor, "b 3 h w"]
) -> UInt8[Tensor, "b h w 3"]:
    """People on white → the same people before backgrounds in [0, 1], where they stand."""
    colour, coverage = without_white(rgb, mask)
    image = (colour + (1 - coverage) * backgrounds).clamp(0, 1)
    return (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def move_people(
    colour: Float[Tensor, "b 3 h w"],
    coverage: Float[Tensor, "b 1 h w"],
    parts: UInt8[Tensor, "b h w"],
    size: int,
    label_size: int,
    *,
    generator: Generator,
) -> tuple[Float[Tensor, "b 4 s s"], UInt8[Tensor, "b l l"]]:
    """Mirror, turn, scale and shift each person; returns premultiplied colour with coverage, and labels."""
    batch = len(colour)
    flipped = (uniform(batch, 0.0, 1.0, generator) < 0.5).nonzero()[:, 0]
    images, parts = torch.cat([colour, coverage], dim=1), parts.clone()
    images[flipped] = images[flipped].flip(-1)
    parts[flipped] = mirror_parts(parts[flipped])
    angle = uniform(batch, -MAX_ROTATION, MAX_ROTATION, generator)
    close = uniform(batch, 0.0, 1.0, generator) < CLOSE_SHARE
    wide = _log_uniform(batch, *WIDE_SCALES, generator)
    scale = torch.where(close, _log_uniform(batch, *CLOSE_SCALES, generator), wide)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    shift = (1 - scale).abs() / scale + 0.1  # as far as keeps most of the person in the image
    x, y = (uniform(batch, -1.0, 1.0, generator) * shift for _ in range(2))
    matrix = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], dim=1)
    grid = F.affine_grid(matrix, [batch, 4, size, size], align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    grid = F.affine_grid(matrix, [batch, 1, label_size, label_size], align_corners=False)
    labels = F.grid_sample(parts.float()[:, None], grid, mode="nearest", align_corners=False)[:, 0]
    return moved, labels.round().to(torch.uint8)


def tone_curve(colour: Float[Tensor, "b 3 s s"], *, generator: Generator) -> Float[Tensor, "b 3 #s #s"]:
    """Gain of each person's channels: light that the renders do not have."""
    batch = len(colour)
    brightness = uniform((batch, 1, 1, 1), 0.6, 1.35, generator)
    return brightness * uniform((batch, 3, 1, 1), 0.85, 1.15, generator)


def degrade(image: Float[Tensor, "b 3 s s"], *, generator: Generator) -> Float[Tensor, "b 3 s s"]:
    """Contrast, blur by a lower resolution, noise and JPEG's artefacts, each on a part of the images."""
    batch, _, size, _ = image.shape
    contrast = uniform((batch, 1, 1, 1), 0.7, 1.25, generator)
    image = (image - 0.5) * contrast + 0.5 + uniform((batch, 1, 1, 1), -0.1, 0.1, generator)
    factor = float(uniform(1, 0.35, 1.0, generator))
    choice = uniform(batch, 0.0, 1.0, generator)
    if len(soft := (choice < 0.35).nonzero()[:, 0]):
        low = F.interpolate(image[soft], scale_factor=factor, mode="bilinear", antialias=True)
        image[soft] = F.interpolate(low, (size, size), mode="bilinear")
    noise = torch.randn(image.shape, generator=generator) * uniform((batch, 1, 1, 1), 0.0, 0.04, generator)
    image = (image + noise).clamp(0, 1)
    quality = torch.randint(25, 95, (batch,), generator=generator).tolist()
    return torch.stack([_through_jpeg(x, q) if c > 0.7 else x for x, q, c in zip(image, quality, choice)])


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    data = encode_jpeg((image * 255).to(torch.uint8), quality)
    return decode_jpeg(data).to(image.dtype) / 255


def _log_uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return uniform(count, math.log(low), math.log(high), generator).exp()
