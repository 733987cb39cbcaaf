"""Photos of a flat sheet, texel by pixel, and nets of a few channels that show them: what tuning does is known."""

import torch
from torch import Tensor

from dinar_models.avatar import AvatarConfig, AvatarNets
from dinar_models.photos import PhotoInputs
from dinar_models.texture import TextureSample
from dinar_models.types import NeuralTexture

SIZE = 32
"""Pixels and texels per side."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_nets() -> AvatarNets:
    """Untrained: the renderer shows 95 % of the rasterised colour (`colour_skip`)."""
    torch.manual_seed(0)
    config = AvatarConfig(image_size=SIZE, texture_size=SIZE, encoder_base=8, generator_base=8, style=8,
                          renderer_base=4, renderer_blocks=1, renderer_kernel=3, rgb_blocks=1, mask_blocks=1,
                          colour_skip=True)  # fmt: skip
    return AvatarNets(config).eval()


def sheet_uv() -> Tensor:
    """(1, S, S, 2): every pixel shows the texel at its own place."""
    steps = (torch.arange(SIZE) + 0.5) / SIZE
    return torch.stack([steps.expand(SIZE, SIZE), steps[:, None].expand(SIZE, SIZE)], dim=-1)[None]


def flat_photo(colour: float, seen: Tensor) -> PhotoInputs:
    """A photo of the sheet, one grey everywhere; `seen` (T, T) says which texels it gives, from straight ahead."""
    image, known = torch.full((1, 3, SIZE, SIZE), 2 * colour - 1), seen.float()[None]
    sample = TextureSample(((image + 1) / 2) * known, known.clone(), known.clone(), known.clone())
    return PhotoInputs(image, image, torch.ones(1, 1, SIZE, SIZE), sheet_uv(), sample)


def together(*photos: PhotoInputs, person: list[int]) -> PhotoInputs:
    """Several photos as one batch that shows these people."""
    samples = [photo.sample for photo in photos]
    sample = TextureSample(
        *(
            torch.cat([getattr(s, name) for s in samples])
            for name in ("rgb", "sampled", "filled", "frontality")
        )
    )
    rgb, target, mask, uv = (
        torch.cat([getattr(p, n) for p in photos]) for n in ("rgb", "target", "mask", "uv")
    )
    return PhotoInputs(rgb, target, mask, uv, sample, torch.tensor(person))


def left_half() -> Tensor:
    seen = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    seen[:, : SIZE // 2] = True
    return seen


def of_colour(rgb: Tensor, filled: Tensor) -> NeuralTexture:
    """A texture with these colours, nothing in the generated channels."""
    masks = filled.float().expand(len(rgb), 1, -1, -1)
    return NeuralTexture.assemble(torch.zeros(len(rgb), 16, SIZE, SIZE), rgb, masks, masks)


def grey(value: float) -> NeuralTexture:
    """One grey everywhere."""
    return of_colour(torch.full((1, 3, SIZE, SIZE), value), torch.ones(SIZE, SIZE))
