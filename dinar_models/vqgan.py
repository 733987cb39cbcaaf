"""The texture autoencoder: 21 × T × T ↔ 6 × t × t (paper section 3.3), on diffusers' encoder and decoder.

`encode` gives the latent before quantisation, `decode` quantises first: the diffusion works on continuous latents
and its result is snapped to the codebook.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.vae import Decoder, Encoder
from jaxtyping import Float, Int
from torch import Tensor, nn

from dinar_models.types import CHANNELS, NeuralTexture

LATENT_CHANNELS = 6
COMMITMENT = 0.25
"""Weight β of the codebook's part of the loss (the published code's, legacy form)."""

LIVELY = 0.02
"""A code that is taken less often than this share of the mean is dead and restarts at a latent in use."""


@dataclass(frozen=True)
class VQGANConfig:
    """Sizes; the defaults are the published ones.

    Attributes:
        texture_size: texels per side; each level after the first halves it.
        widths: channels per level.
        layers: residual blocks per level of the encoder; the decoder has one more.
        groups: of the group norms.
        codes: entries of the codebook.
    """

    texture_size: int = 256
    widths: tuple[int, ...] = (64, 128, 256)
    layers: int = 2
    groups: int = 16
    codes: int = 8192

    @property
    def latent_size(self) -> int:
        """Side of the latent."""
        return self.texture_size // 2 ** (len(self.widths) - 1)


class Codebook(nn.Module):
    """Nearest-entry quantisation with straight-through gradients.

    It starts by k-means and restarts dead entries: with small data, thousands of codes otherwise collapse to
    a few dozen.
    """

    usage: Tensor

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.randn(codes, LATENT_CHANNELS) / codes)
        self.register_buffer("usage", torch.ones(codes) / codes)

    def nearest(self, z: Float[Tensor, "b 6 t t"]) -> Int[Tensor, "b t t"]:
        """Index of the entry nearest to each latent vector."""
        flat = z.float().permute(0, 2, 3, 1).reshape(-1, LATENT_CHANNELS)
        # ‖z‖² does not change which entry is nearest
        distance = self.entries.square().sum(1) - 2 * flat @ self.entries.t()
        return distance.argmin(1).view(len(z), *z.shape[2:])

    def forward(self, z: Float[Tensor, "b 6 t t"]) -> Float[Tensor, "b 6 t t"]:
        """The nearest entries; the gradient passes through to z."""
        return z + (self.look_up(self.nearest(z)) - z).detach()

    def look_up(self, index: Int[Tensor, "b t t"]) -> Float[Tensor, "b 6 t t"]:
        """Entries by index."""
        return self.entries[index].permute(0, 3, 1, 2)

    def loss(self, z: Float[Tensor, "b 6 t t"]) -> Float[Tensor, " b"]:
        """Pull latents to their entries, and entries, with weight β, to the latents."""
        index = self.nearest(z)
        self._count(index)
        entry = self.look_up(index)
        to_entry = (z - entry.detach()).square().mean((1, 2, 3))
        to_latent = (entry - z.detach()).square().mean((1, 2, 3))
        return to_entry + COMMITMENT * to_latent

    @torch.no_grad()
    def perplexity(self) -> Float[Tensor, ""]:
        """How many codes are in use, were they used evenly."""
        share = self.usage / self.usage.sum()
        return torch.exp(-(share * (share + 1e-10).log()).sum())

    @torch.no_grad()
    def start(self, latents: Float[Tensor, "n 6"], *, generator: torch.Generator, rounds: int = 12) -> None:
        """k-means of latents (Lloyd), entries without members restarting at random latents."""
        pick = torch.randint(0, len(latents), (len(self.entries),), generator=generator)
        self.entries.copy_(latents[pick])
        for _ in range(rounds):
            distance = self.entries.square().sum(1) - 2 * latents @ self.entries.t()
            nearest = distance.argmin(1)
            count = torch.bincount(nearest, minlength=len(self.entries)).to(latents.dtype)
            sums = torch.zeros_like(self.entries).index_add_(0, nearest, latents)
            fresh = latents[torch.randint(0, len(latents), (len(self.entries),), generator=generator)]
            self.entries.copy_(torch.where(count[:, None] > 0, sums / count[:, None].clamp_min(1), fresh))
        self.usage.fill_(1 / len(self.entries))

    @torch.no_grad()
    def restart_dead(self, latents: Float[Tensor, "n 6"], *, generator: torch.Generator) -> int:
        """Move dead entries to random latents. Returns how many."""
        dead = self.usage < LIVELY * self.usage.mean()
        if dead.any():
            pick = torch.randint(0, len(latents), (int(dead.sum()),), generator=generator)
            self.entries[dead] = latents[pick]
            self.usage[dead] = self.usage.mean()
        return int(dead.sum())

    @torch.no_grad()
    def _count(self, index: Tensor, decay: float = 0.97) -> None:
        share = torch.bincount(index.flatten(), minlength=len(self.usage)).to(self.usage) / index.numel()
        self.usage.mul_(decay).add_(share, alpha=1 - decay)


class VQGAN(nn.Module):
    """Encoder, codebook and decoder of neural textures."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        channels, levels = len(CHANNELS), len(config.widths)
        shape = {
            "block_out_channels": config.widths,
            "layers_per_block": config.layers,
            "norm_num_groups": config.groups,
        }
        self.encoder = Encoder(
            channels, LATENT_CHANNELS, ("DownEncoderBlock2D",) * levels, double_z=False, **shape
        )
        self.to_latent = nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 1)
        self.codebook = Codebook(config.codes)
        self.from_latent = nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 1)
        self.decoder = Decoder(LATENT_CHANNELS, channels, ("UpDecoderBlock2D",) * levels, **shape)
        self.rgb_head, self.mask_head = _head(3), _head(2)

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "VQGAN":
        """From the values that weights carry."""
        return VQGAN(VQGANConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}))

    def config_dict(self) -> dict[str, Any]:
        """What weights carry: the inverse of `from_config`."""
        return asdict(self.config)

    def encode(self, texture: Float[Tensor, "b 21 s s"]) -> Float[Tensor, "b 6 t t"]:
        """The latent before quantisation. Colours and masks enter in [−1, 1], like the other channels' size."""
        return self.to_latent(self.encoder(_centred(texture)))

    def decode(self, z: Float[Tensor, "b 6 t t"], quantise: bool = True) -> Float[Tensor, "b 21 s s"]:
        """Quantise and decode. `quantise=False` is the training's warm-up."""
        decoded = self.decoder(self.from_latent(self.codebook(z) if quantise else z))
        texture = NeuralTexture(decoded)
        masks = self.mask_head(torch.cat([texture.sampled, texture.filled], dim=1))
        rgb = self.rgb_head(texture.rgb)
        return NeuralTexture.assemble(
            texture.generated, rgb * 0.5 + 0.5, masks[:, :1] * 0.5 + 0.5, masks[:, 1:] * 0.5 + 0.5
        ).data

    def forward(
        self, texture: Float[Tensor, "b 21 s s"], quantise: bool = True
    ) -> tuple[Float[Tensor, "b 21 s s"], Float[Tensor, "b 6 t t"]]:
        """Reconstruction and latent."""
        z = self.encode(texture)
        return self.decode(z, quantise), z


def _head(channels: int) -> nn.Sequential:
    """The published decoder's extra head for colours and for masks."""
    head = nn.Sequential(
        nn.BatchNorm2d(channels), nn.LeakyReLU(0.01), nn.Conv2d(channels, channels, 3, padding=1)
    )
    return Residual(head)


class Residual(nn.Sequential):
    """x + body(x): the head starts as a small correction."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self[0](x)


def _centred(texture: Float[Tensor, "b 21 s s"]) -> Float[Tensor, "b 21 s s"]:
    """Colours and masks from [0, 1] to [−1, 1]."""
    t = NeuralTexture(texture)
    return NeuralTexture.assemble(t.generated, 2 * t.rgb - 1, 2 * t.sampled - 1, 2 * t.filled - 1).data
