"""Backgrounds that training puts behind cut-out people: made-up ones, and photographs that come in a wheel."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from skimage import data
from torch import Generator, Tensor

TRAINING_PHOTOGRAPHS = (
    "brick", "chelsea", "clock", "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon",
    "rocket",
)  # fmt: skip
"""scikit-image's pictures that show nobody; grey ones get colours."""

UNSEEN_PHOTOGRAPHS = ("coffee", "motorcycle")
"""Those that training never uses: what the parser makes of people before them is what is reported."""

LONGER_SIDE = 400
WHITE_SHARE, CLOTH_SHARE, PHOTO_SHARE = 0.12, 0.15, 0.6


@functools.cache
def photograph(name: str) -> UInt8[Tensor, "3 h w"]:
    """One of scikit-image's pictures, its longer side at most LONGER_SIDE pixels."""
    image = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    planar = torch.from_numpy(np.ascontiguousarray(image[..., :3])).permute(2, 0, 1).float()
    scale = min(LONGER_SIDE / max(planar.shape[1:]), 1.0)
    if scale < 1:
        planar = F.interpolate(planar[None], scale_factor=scale, mode="bilinear", antialias=True)[0]
    return planar.round().clamp(0, 255).to(torch.uint8)


def make_backgrounds(people: Float[Tensor, "b 3 s s"], *, generator: Generator) -> Float[Tensor, "b 3 s s"]:
    """A collage for each person: noise or pieces of photographs, with rectangles of one colour or of a neighbour's
    background pasted in; some are enlarged clothes of other people, some white.
    """
    batch, _, size, _ = people.shape
    image = _noise(batch, size, generator) * uniform((batch, 3, 1, 1), 0.1, 1.0, generator)
    image = image + uniform((batch, 3, 1, 1), 0.0, 0.8, generator) + _gradient(batch, size, generator)
    shown = _chosen(batch, PHOTO_SHARE, generator)
    image[shown] = photograph_pieces(TRAINING_PHOTOGRAPHS, len(shown), size, generator=generator)
    _paste_rectangles(image.clamp_(0, 1), generator)
    dressed = _chosen(batch, CLOTH_SHARE, generator)
    image[dressed] = 0.7 * _enlarged_cloth(people.roll(1, dims=0)[dressed], generator) + 0.3 * image[dressed]
    image[_chosen(batch, WHITE_SHARE, generator)] = 1
    return image.clamp_(0, 1)


def photograph_pieces(
    names: tuple[str, ...], count: int, size: int, *, generator: Generator, recolour: bool = True
) -> Float[Tensor, "n 3 s s"]:
    """Square pieces of photographs, in [0, 1], mirrored by chance; if `recolour`, in other colours too.

    Recoloured pieces swap, scale and invert channels, or run between two colours by their brightness: few
    photographs then give many backgrounds, and the grey ones get colours.
    """
    pieces = []
    for _ in range(count):
        source = photograph(names[_integer(len(names), generator)])
        height, width = source.shape[1:]
        side = max(int(min(height, width) * float(uniform(1, 0.3, 1.0, generator))), 2)
        top, left = _integer(height - side + 1, generator), _integer(width - side + 1, generator)
        piece = source[None, :, top : top + side, left : left + side].float() / 255
        piece = F.interpolate(piece, (size, size), mode="bilinear", antialias=side > size)[0]
        piece = piece.flip(-1) if _integer(2, generator) else piece
        pieces.append(_recolour(piece, generator) if recolour else piece)
    return torch.stack(pieces) if pieces else torch.empty(0, 3, size, size)


def uniform(shape: int | tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    """Equally likely numbers between two bounds."""
    shape = (shape,) if isinstance(shape, int) else shape
    return torch.rand(shape, generator=generator) * (high - low) + low


def _recolour(piece: Tensor, generator: Generator) -> Tensor:
    kind = _integer(4, generator)
    if kind == 0:
        return piece
    if kind == 1:
        ends = uniform((2, 3, 1, 1), 0.0, 1.0, generator)
        return torch.lerp(ends[0], ends[1], piece.mean(dim=0, keepdim=True))
    mixed = piece[torch.randperm(3, generator=generator)] if kind == 2 else piece
    mixed = 1 - mixed if _integer(4, generator) == 0 else mixed
    return mixed * uniform((3, 1, 1), 0.6, 1.4, generator) + uniform((3, 1, 1), -0.15, 0.15, generator)


def _chosen(batch: int, share: float, generator: Generator) -> Tensor:
    """Numbers of the images that are drawn, each with the same chance."""
    return (uniform(batch, 0.0, 1.0, generator) < share).nonzero()[:, 0]


def _integer(bound: int, generator: Generator) -> int:
    return int(torch.randint(bound, (1,), generator=generator))


def _noise(batch: int, size: int, generator: Generator) -> Tensor:
    """Octaves of smooth noise around 0, enlarged step by step; each image weighs them in its own way."""
    total = torch.zeros(batch, 3, 1, 1)
    for cells in (2, 5, 12, 32, 96):
        values = torch.rand(batch, 3, cells, cells, generator=generator) - 0.5
        weight = uniform((batch, 1, 1, 1), 0.0, 1.0, generator) ** 3
        total = F.interpolate(total, (cells, cells), mode="bilinear") + weight * values
    return F.interpolate(total, (size, size), mode="bilinear")


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
    x, y = (uniform((batch, 3, 1, 1), -0.3, 0.3, generator) for _ in range(2))
    return x * axis[None, None, None, :] + y * axis[None, None, :, None]


def _paste_rectangles(image: Tensor, generator: Generator, count: int = 6) -> None:
    """Up to `count` rectangles and bars, in place: stand-ins for furniture, poles, windows, limbs.

    Each is of one colour, or shows what the image before has there.
    """
    batch, _, size, _ = image.shape
    for _ in range(count):
        centre, half = uniform((2, batch, 2), 0.0, 1.0, generator)
        half = half**2 / 2 + 0.01
        low, high = (
            ((edge * size).round().long().clamp(0, size)).tolist() for edge in (centre - half, centre + half)
        )
        colours, plain = uniform((batch, 3, 1, 1), 0.0, 1.0, generator), uniform(batch, 0.0, 1.0, generator)
        for k in _chosen(batch, 0.4, generator).tolist():
            rows, columns = (slice(low[k][axis], high[k][axis]) for axis in (1, 0))
            image[k, :, rows, columns] = colours[k] if plain[k] < 0.5 else image[k - 1, :, rows, columns]
