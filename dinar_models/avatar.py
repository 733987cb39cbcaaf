"""The avatar model: encoder, texture generator and renderer, assembled (paper section 3.1)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dinar_models import ranks
from dinar_models.draws import Draws
from dinar_models.encoder import Encoder
from dinar_models.generator import TextureGenerator
from dinar_models.renderer import Renderer
from dinar_models.texture import rasterise_texture
from dinar_models.types import GENERATED, NeuralTexture

WINDOW_STEP = 16
"""Sides of windows are multiples of this many pixels: the U-Net halves them three times."""

Texture = Literal["both", "rgb", "neural"]
"""What a texture holds: generated channels beside sampled colours (the paper's choice), or one of them alone."""

Window = tuple[int, int, int, int]
"""Rows and columns [y0, y1, x0, x1) of an image."""


@dataclass(frozen=True)
class AvatarConfig:
    """Sizes of the three networks; the defaults are the published ones.

    Attributes:
        image_size: pixels per side that the encoder sees.
        texture_size: texels per side.
        encoder_base, generator_base: channels at 64 px and below.
        renderer_base, renderer_blocks, renderer_kernel, rgb_blocks, mask_blocks, colour_skip: see Renderer.
        style: length of the vector between encoder and generator.
        margin: the renderer works on the body's box plus this share of the image's side on each side; beyond
            lies background. 1 renders whole images, as the paper does.
        texture: `rgb` leaves the generated channels out, `neural` colours and masks: what the paper ablates.
    """

    image_size: int = 512
    texture_size: int = 256
    encoder_base: int = 256
    generator_base: int = 256
    renderer_base: int = 64
    renderer_blocks: int = 3
    renderer_kernel: int = 7
    rgb_blocks: int = 2
    mask_blocks: int = 4
    colour_skip: bool = False
    style: int = 512
    margin: float = 1.0
    texture: Texture = "both"


class AvatarNets(nn.Module):
    """Photo → generated channels, and neural texture → image."""

    def __init__(self, config: AvatarConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.image_size, config.encoder_base, config.style)
        self.generator = TextureGenerator(config.texture_size, config.generator_base, config.style)
        self.renderer = Renderer(
            config.renderer_base,
            config.renderer_blocks,
            config.renderer_kernel,
            config.rgb_blocks,
            config.mask_blocks,
            colour_skip=config.colour_skip,
        )

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "AvatarNets":
        """From the values that weights carry."""
        return AvatarNets(AvatarConfig(**config))

    def config_dict(self) -> dict[str, Any]:
        """What weights carry: the inverse of `from_config`."""
        return asdict(self.config)

    def generate(
        self,
        rgb: Float[Tensor, "b 3 s s"],
        mask: Float[Tensor, "b 1 s s"],
        generator: Draws = None,
    ) -> Float[Tensor, "b 16 t t"]:
        """The generated channels that a photo gives; zeros where textures hold colours alone.

        Args:
            rgb: in [−1, 1], the person on black (−1).
            mask: of the person, in [0, 1].
            generator: draws the encoder's and the generator's noise.
        """
        if self.config.texture == "rgb":
            return rgb.new_zeros(len(rgb), GENERATED, self.config.texture_size, self.config.texture_size)
        return self.generator(self.encoder(rgb, mask, generator), generator)

    def render(
        self, texture: NeuralTexture | Float[Tensor, "b 21 t t"], uv: Float[Tensor, "b h w 2"]
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
        """Colour in [−1, 1] and mask in [0, 1] of an avatar whose UV raster is `uv` (−1 on the background).

        Beyond the body's box and its margin the colour is white and the mask 0.
        """
        data = self._held(texture if isinstance(texture, NeuralTexture) else NeuralTexture(texture)).data
        height, width = uv.shape[1:3]
        windows = body_windows(uv[..., 0] >= 0, round(self.config.margin * max(height, width)))
        near = torch.stack([uv[i, y0:y1, x0:x1] for i, (y0, y1, x0, x1) in enumerate(windows)])
        rgb, mask = (image.contiguous() for image in self.renderer(rasterise_texture(data, near), near))
        return (
            torch.stack(
                [_paste(image, w, height, width, 1.0) for image, w in zip(rgb, windows, strict=True)]
            ),
            torch.stack(
                [_paste(image, w, height, width, 0.0) for image, w in zip(mask, windows, strict=True)]
            ),
        )

    def _held(self, texture: NeuralTexture) -> NeuralTexture:
        """Zeros in the channels that textures of this model do not hold."""
        t, held = texture, self.config.texture
        if held == "both":
            return t
        if held == "rgb":
            return NeuralTexture.assemble(torch.zeros_like(t.generated), t.rgb, t.sampled, t.filled)
        nothing = torch.zeros_like(t.sampled)
        return NeuralTexture.assemble(t.generated, torch.zeros_like(t.rgb), nothing, nothing)


def over_white(rgb: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """An image in [−1, 1] over white (+1)."""
    return rgb * mask + (1 - mask)


def body_windows(covered: Bool[Tensor, "b h w"], margin: int) -> list[Window]:
    """Windows of one size, a multiple of WINDOW_STEP or the whole side, around each image's covered pixels.

    An image without any gets a window in its middle. Processes that share a batch have windows of one size too.
    """
    height, width = covered.shape[1:]
    y0, y1, rows = _spans(covered.any(dim=2), margin, height)
    x0, x1, columns = _spans(covered.any(dim=1), margin, width)
    rows, columns = ranks.largest([rows, columns], covered.device)
    tops = ((y0 + y1 - rows) // 2).clamp(0, height - rows).tolist()
    lefts = ((x0 + x1 - columns) // 2).clamp(0, width - columns).tolist()
    return [(y, y + rows, x, x + columns) for y, x in zip(tops, lefts, strict=True)]


def _spans(hit: Bool[Tensor, "b n"], margin: int, length: int) -> tuple[Tensor, Tensor, int]:
    """First and one past the last covered place of each line, and the length that holds all of them."""
    place = torch.arange(length, device=hit.device).expand_as(hit)
    first = place.masked_fill(~hit, length).amin(dim=1)
    end = place.masked_fill(~hit, -1).amax(dim=1) + 1
    empty = first >= end
    first, end = first.masked_fill(empty, length // 2), end.masked_fill(empty, length // 2)
    needed = int((end - first).max()) + 2 * margin
    return first, end, min(-(-needed // WINDOW_STEP) * WINDOW_STEP, length)


def _paste(
    image: Float[Tensor, "c h w"], window: Window, height: int, width: int, fill: float
) -> Float[Tensor, "c H W"]:
    y0, y1, x0, x1 = window
    return F.pad(image, (x0, width - x1, y0, height - y1), value=fill)
