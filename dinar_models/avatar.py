"""The avatar model: encoder, texture generator and renderer, assembled (paper section 3.1)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.encoder import Encoder
from dinar_models.generator import TextureGenerator
from dinar_models.renderer import Renderer
from dinar_models.texture import rasterise_texture
from dinar_models.types import NeuralTexture


@dataclass(frozen=True)
class AvatarConfig:
    """Sizes of the three networks; the defaults are the published ones.

    Attributes:
        image_size: pixels per side that the encoder sees.
        texture_size: texels per side.
        encoder_base, generator_base: channels at 64 px and below.
        renderer_base, renderer_blocks, renderer_kernel: see Renderer.
        style: length of the vector between encoder and generator.
        colour_skip: see Renderer.
    """

    image_size: int = 512
    texture_size: int = 256
    encoder_base: int = 256
    generator_base: int = 256
    renderer_base: int = 64
    renderer_blocks: int = 3
    renderer_kernel: int = 7
    style: int = 512
    colour_skip: bool = False


class AvatarNets(nn.Module):
    """Photo → generated channels, and neural texture → image."""

    def __init__(self, config: AvatarConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.image_size, config.encoder_base, config.style)
        self.generator = TextureGenerator(config.texture_size, config.generator_base, config.style)
        self.renderer = Renderer(
            config.renderer_base, config.renderer_blocks, config.renderer_kernel, config.colour_skip
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
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b 16 t t"]:
        """The generated channels that a photo gives.

        Args:
            rgb: in [−1, 1], the person on black (−1).
            mask: of the person, in [0, 1].
            generator: draws the encoder's and the generator's noise.
        """
        return self.generator(self.encoder(rgb, mask, generator), generator)

    def render(
        self, texture: NeuralTexture | Float[Tensor, "b 21 t t"], uv: Float[Tensor, "b h w 2"]
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
        """Colour in [−1, 1] and mask in [0, 1] of an avatar whose UV raster is `uv` (−1 on the background)."""
        data = texture.data if isinstance(texture, NeuralTexture) else texture
        return self.renderer(rasterise_texture(data, uv), uv)


def over_white(rgb: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """An image in [−1, 1] over white (+1)."""
    return rgb * mask + (1 - mask)
