"""Training images for the parser: rendered people moved, put before made-up backgrounds, and degraded."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Generator, Tensor
from torchvision.io import decode_jpeg, encode_jpeg

from dinar_models.parser import mirror_parts

MAX_SCALE_UP, MAX_SCALE_DOWN = 1.4, 0.55
MAX_ROTATION = math.radians(15)
WHITE_SHARE = 0.15
CLOTH_SHARE = 0.2


def augment_batch(
    rgb: UInt8[Tensor, "b h w 3"],
    mask: UInt8[Tensor, "b h w"],
    parts: UInt8[Tensor, "b h w"],
    size: int,
    *,
    generator: Generator,
) -> tuple[Float[Tensor, "b 3 s s"], UInt8[Tensor, "b s s"]]:
    """People rendered on white → images in [−1, 1] on made-up backgrounds, and their labels.

    Args:
        mask: coverage, 0–255.
        parts: CIHP classes, 255 = unknown.
        size: pixels per side of the result.
    """
    coverage = mask.float()[:, None] / 255
    premultiplied = rgb.permute(0, 3, 1, 2).float() / 255 - (1 - coverage)  # take the white away again
    moved, labels = move_people(premultiplied.clamp_min(0), coverage, parts, size, generator=generator)
    colour, coverage = moved[:, :3], moved[:, 3:]
    background = make_backgrounds(colour, generator=generator)
    image = colour * tone_curve(colour, generator=generator) + (1 - coverage) * background
    return degrade(image.clamp(0, 1), generator=generator) * 2 - 1, labels


def move_people(
    colour: Float[Tensor, "b 3 h w"],
    coverage: Float[Tensor, "b 1 h w"],
    parts: UInt8[Tensor, "b h w"],
    size: int,
    *,
    generator: Generator,
) -> tuple[Float[Tensor, "b 4 s s"], UInt8[Tensor, "b s s"]]:
    """Mirror, turn, scale and shift each person; returns premultiplied colour with coverage, and labels."""
    batch = len(colour)
    flip = _uniform(batch, 0.0, 1.0, generator) < 0.5
    images = torch.cat([colour, coverage], dim=1)
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    parts = torch.where(flip[:, None, None], mirror_parts(parts), parts)
    angle = _uniform(batch, -MAX_ROTATION, MAX_ROTATION, generator)
    scale = torch.exp(_uniform(batch, math.log(MAX_SCALE_DOWN), math.log(MAX_SCALE_UP), generator))
    cos, sin = angle.cos() / scale, angle.sin() / scale
    shift = (1 - scale).abs() / scale + 0.1  # as far as keeps most of the person in the image
    x, y = (_uniform(batch, -1.0, 1.0, generator) * shift for _ in range(2))
    matrix = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], dim=1)
    grid = F.affine_grid(matrix, [batch, 4, size, size], align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    labels = F.grid_sample(parts.float()[:, None], grid, mode="nearest", align_corners=False)[:, 0]
    return moved, labels.round().to(torch.uint8)


def make_backgrounds(people: Float[Tensor, "b 3 s s"], *, generator: Generator) -> Float[Tensor, "b 3 s s"]:
    """Noise of random coarseness, gradients, rectangles, enlarged clothes of other people; some are white."""
    batch, _, size, _ = people.shape
    image = _noise(batch, size, generator) * _uniform((batch, 3, 1, 1), 0.1, 1.0, generator)
    image = image + _uniform((batch, 3, 1, 1), 0.0, 0.8, generator) + _gradient(batch, size, generator)
    image = _paste_rectangles(image, generator)
    cloth = _enlarged_cloth(people.roll(1, dims=0), generator)
    lined = _uniform((batch, 1, 1, 1), 0.0, 1.0, generator) < CLOTH_SHARE
    image = torch.where(lined, 0.7 * cloth + 0.3 * image, image)
    white = _uniform((batch, 1, 1, 1), 0.0, 1.0, generator) < WHITE_SHARE
    return torch.where(white, torch.ones_like(image), image.clamp(0, 1))


def tone_curve(colour: Float[Tensor, "b 3 s s"], *, generator: Generator) -> Float[Tensor, "b 3 #s #s"]:
    """Gain of each person's channels: light that the renders do not have."""
    batch = len(colour)
    brightness = _uniform((batch, 1, 1, 1), 0.6, 1.35, generator)
    return brightness * _uniform((batch, 3, 1, 1), 0.85, 1.15, generator)


def degrade(image: Float[Tensor, "b 3 s s"], *, generator: Generator) -> Float[Tensor, "b 3 s s"]:
    """Contrast, blur by a lower resolution, noise and JPEG's artefacts, each on a part of the images."""
    batch, _, size, _ = image.shape
    contrast = _uniform((batch, 1, 1, 1), 0.7, 1.25, generator)
    image = (image - 0.5) * contrast + 0.5 + _uniform((batch, 1, 1, 1), -0.1, 0.1, generator)
    factor = float(_uniform(1, 0.35, 1.0, generator))
    low = F.interpolate(image, scale_factor=factor, mode="bilinear", antialias=True)
    blurred = F.interpolate(low, (size, size), mode="bilinear")
    choice = _uniform((batch, 1, 1, 1), 0.0, 1.0, generator)
    image = torch.where(choice < 0.35, blurred, image)
    noise = torch.randn(image.shape, generator=generator) * _uniform((batch, 1, 1, 1), 0.0, 0.04, generator)
    image = (image + noise).clamp(0, 1)
    quality = torch.randint(25, 95, (batch,), generator=generator).tolist()
    return torch.stack([_through_jpeg(x, q) if c > 0.7 else x for x, q, c in zip(image, quality, choice)])


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    data = encode_jpeg((image * 255).to(torch.uint8), quality)
    return decode_jpeg(data).to(image.dtype) / 255


def _noise(batch: int, size: int, generator: Generator) -> Tensor:
    """Octaves of smooth noise around 0; each image weighs them in its own way."""
    total = torch.zeros(batch, 3, size, size)
    for cells in (2, 5, 12, 32, 96):
        values = torch.rand(batch, 3, cells, cells, generator=generator) - 0.5
        weight = _uniform((batch, 1, 1, 1), 0.0, 1.0, generator) ** 3
        total = total + weight * F.interpolate(values, (size, size), mode="bilinear")
    return total


def _enlarged_cloth(people: Tensor, generator: Generator) -> Tensor:
    """A small piece of each person's middle over the whole image: colours of clothes without their shape."""
    size = people.shape[-1]
    piece = max(size // 12, 2)
    top = int(torch.randint(size // 3, 2 * size // 3, (1,), generator=generator))
    left = (size - piece) // 2
    return F.interpolate(people[:, :, top : top + piece, left : left + piece], (size, size), mode="bilinear")


def _gradient(batch: int, size: int, generator: Generator) -> Tensor:
    """A linear change of colour in a random direction."""
    axis = torch.linspace(-1, 1, size)
    x, y = (_uniform((batch, 3, 1, 1), -0.3, 0.3, generator) for _ in range(2))
    return x * axis[None, None, None, :] + y * axis[None, None, :, None]


def _paste_rectangles(image: Tensor, generator: Generator, count: int = 6) -> Tensor:
    """Up to `count` rectangles and bars of one colour: stand-ins for furniture, poles, windows, limbs."""
    batch, _, size, _ = image.shape
    axis = (torch.arange(size) + 0.5) / size
    for _ in range(count):
        centre = _uniform((batch, 2), 0.0, 1.0, generator)
        half = _uniform((batch, 2), 0.0, 1.0, generator) ** 2 / 2 + 0.01
        inside = ((axis - centre[:, :, None]).abs() < half[:, :, None]).float()
        area = (inside[:, 0, None, :] * inside[:, 1, :, None])[:, None] > 0
        colour = _uniform((batch, 3, 1, 1), 0.0, 1.0, generator)
        present = _uniform((batch, 1, 1, 1), 0.0, 1.0, generator) < 0.5
        image = torch.where(area & present, colour, image)
    return image


def _uniform(shape: int | tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    shape = (shape,) if isinstance(shape, int) else shape
    return torch.rand(shape, generator=generator) * (high - low) + low
