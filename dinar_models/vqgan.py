"""The compressor of neural textures: VQGAN (paper section 3.3), over diffusers' encoder and decoder.

A codebook of thousands collapses onto a few codes when it starts at random and the data are few. So training
has two phases: first the latent is not quantised, then the codebook starts at k-means centres of the latents
(`start_codebook`); codes that stay unused move to latents of the day (`restart_dead_codes`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder, Encoder
from jaxtyping import Float, Int
from torch import Tensor, nn

from dinar_models import ranks
from dinar_models.cpu_layers import replace_slow_layers
from dinar_models.types import CHANNELS, NeuralTexture

LATENT_CHANNELS = 6
KMEANS_ROUNDS = 10
USAGE_DECAY = 0.98
"""Of the running mean of how often a code is used."""

DEAD_SHARE = 0.03
"""A code used less often than this share of the average one is dead."""


@dataclass(frozen=True)
class VQGANConfig:
    """Sizes; the defaults are the published ones.

    Attributes:
        texture_size: texels per side.
        widths: channels per level; each level but the last halves the size.
        layers: residual blocks per level, one more in the decoder.
        groups: of the group norms.
        codes: entries of the codebook.
        skip: a linear path beside encoder and decoder carries the mean colours (not in the paper): minutes on a
            CPU then go into what a mean does not tell.
        snap: decode from codes, as published; else from latents as they are: a codebook from few people lacks
            other people's colours.
    """

    texture_size: int = 256
    widths: tuple[int, ...] = (64, 128, 256)
    layers: int = 2
    groups: int = 16
    codes: int = 8192
    skip: bool = False
    snap: bool = True

    @property
    def latent_size(self) -> int:
        """Side of the latent texture."""
        return self.texture_size >> (len(self.widths) - 1)


@dataclass
class Quantised:
    """What quantising gives.

    Attributes:
        z: codes in place of latents; gradients pass straight through.
        loss: codebook and commitment terms, per sample.
        codes: index of each place's code.
    """

    z: Float[Tensor, "b 6 h w"]
    loss: Float[Tensor, " b"]
    codes: Int[Tensor, "b h w"]


class Codebook(nn.Module):
    """Vectors that latents snap to.

    Attributes:
        vectors: the codes.
        usage: running mean of each code's share of the latents.
    """

    usage: Tensor

    def __init__(self, codes: int, size: int = LATENT_CHANNELS) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(codes, size))
        self.register_buffer("usage", torch.full((codes,), 1 / codes))

    def forward(self, z: Float[Tensor, "b c h w"]) -> Quantised:
        """Nearest codes, always in single precision; counts usage while training.

        The loss is |sg[z_q] − z|² + ¼ |z_q − sg[z]|²: the small weight lies on the codebook's term, as in the
        published code, so that latents move to codes rather than codes to latents.
        """
        z = z.float()
        rows = z.permute(0, 2, 3, 1)
        codes = self.nearest(rows.reshape(-1, rows.shape[-1])).view(rows.shape[:-1])
        chosen = self.vectors[codes].permute(0, 3, 1, 2)
        loss = (chosen.detach() - z).square() + 0.25 * (chosen - z.detach()).square()
        if self.training:
            share = torch.bincount(codes.flatten(), minlength=len(self.vectors)) / codes.numel()
            self.usage.lerp_(ranks.mean(share.to(self.usage)), 1 - USAGE_DECAY)
        return Quantised(z + (chosen - z).detach(), loss.mean((1, 2, 3)), codes)

    @torch.no_grad()
    def nearest(self, rows: Float[Tensor, "n c"]) -> Int[Tensor, " n"]:
        """Index of each row's nearest code; |z − e|² without |z|², which is the same for all codes."""
        with torch.autocast(rows.device.type, enabled=False):
            vectors = self.vectors.float()
            half_norm = vectors.square().sum(1) / 2
            return torch.cat(
                [(part @ vectors.t() - half_norm).argmax(1) for part in rows.float().split(1 << 15)]
            )

    @property
    def perplexity(self) -> Tensor:
        """How many codes are in use: e to the entropy of the running usage."""
        share = self.usage / self.usage.sum()
        return torch.exp(-(share * (share + 1e-10).log()).sum())

    @torch.no_grad()
    def start(self, rows: Float[Tensor, "n c"], generator: torch.Generator) -> None:
        """Lloyd's k-means from a random draw of latents; empty clusters are drawn anew each round."""
        self.vectors.copy_(_draw(rows, len(self.vectors), generator))
        for _ in range(KMEANS_ROUNDS):
            codes = self.nearest(rows)
            count = torch.bincount(codes, minlength=len(self.vectors))
            total = torch.zeros_like(self.vectors).index_add_(0, codes, rows.to(self.vectors))
            fresh = _draw(rows, len(self.vectors), generator)
            mean = total / count.clamp_min(1)[:, None]
            self.vectors.copy_(torch.where(count[:, None] > 0, mean, fresh))
        self.usage.fill_(1 / len(self.vectors))

    @torch.no_grad()
    def restart_dead(self, z: Float[Tensor, "b c h w"], generator: torch.Generator) -> int:
        """Move codes that are hardly used to random latents of this batch; says how many."""
        dead = self.usage < DEAD_SHARE / len(self.usage)
        count = int(dead.sum())
        if count:
            rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
            self.vectors[dead] = _draw(rows, count, generator).to(self.vectors)
            self.usage[dead] = 1 / len(self.usage)
        return count


class VQGAN(nn.Module):
    """Neural textures of 21 channels ↔ latents of 6 channels, a quarter of the size.

    Colours and masks have output heads of their own, as in the published net.
    """

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.widths)
        sizes: dict[str, Any] = {
            "block_out_channels": config.widths,
            "layers_per_block": config.layers,
            "norm_num_groups": config.groups,
        }
        self.encoder = Encoder(
            len(CHANNELS), LATENT_CHANNELS, ("DownEncoderBlock2D",) * levels, double_z=False, **sizes
        )
        self.decoder = Decoder(LATENT_CHANNELS, len(CHANNELS), ("UpDecoderBlock2D",) * levels, **sizes)
        for net in (self.encoder, self.decoder):
            replace_slow_layers(net)
        self.to_latent = nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 1)
        self.from_latent = nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 1)
        self.skip = LinearSkip(2 ** (levels - 1)) if config.skip else None
        if self.skip is not None:
            self._start_linear()
        self.codebook = Codebook(config.codes)
        self.rgb_head, self.mask_head = OutputHead(3), OutputHead(2)

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "VQGAN":
        """From the values that weights carry."""
        return VQGAN(VQGANConfig(**{**config, "widths": tuple(config["widths"])}))

    def config_dict(self) -> dict[str, Any]:
        """What weights carry: the inverse of `from_config`."""
        return asdict(self.config)

    def encode(self, texture: Float[Tensor, "b 21 t t"]) -> Float[Tensor, "b 6 h w"]:
        """The latent before quantising."""
        z = self.encoder(texture)
        return self.to_latent(z if self.skip is None else z + self.skip.down(texture))

    def decode(self, z: Float[Tensor, "b 6 h w"]) -> Float[Tensor, "b 21 t t"]:
        """Quantise (unless `snap` is off), then decode. RGB and masks are near [0, 1], not clamped to it."""
        return self.decode_codes(self.codebook(z).z if self.config.snap else z)

    def decode_codes(self, z: Float[Tensor, "b 6 h w"]) -> Float[Tensor, "b 21 t t"]:
        """Decode without quantising."""
        h = self.from_latent(z)
        out = self.decoder(h)
        texture = NeuralTexture(out if self.skip is None else out + self.skip.up(h))
        masks = self.mask_head(torch.cat([texture.sampled, texture.filled], dim=1))
        return NeuralTexture.assemble(
            texture.generated, self.rgb_head(texture.rgb), masks[:, :1], masks[:, 1:]
        ).data

    @torch.no_grad()
    def _start_linear(self) -> None:
        """Let the linear path alone speak at first: nothing changes the latent, the nets whisper."""
        for conv in (self.to_latent, self.from_latent):
            nn.init.dirac_(conv.weight)
            _zero_bias(conv)
        for net in (self.encoder, self.decoder):
            net.conv_out.weight.mul_(0.1)
            _zero_bias(net.conv_out)

    @torch.no_grad()
    def start_codebook(self, latents: Float[Tensor, "n 6 h w"], generator: torch.Generator) -> None:
        """End of the unquantised phase: standardise the latent, then start the codebook at its k-means.

        Standardising folds into the 1 × 1 convolutions around the codebook and changes no output; distances
        then weigh all channels alike, and the diffusion meets latents of unit variance.
        """
        mean = latents.mean((0, 2, 3))
        deviation = latents.std((0, 2, 3)).clamp_min(1e-4)
        into, out = self.to_latent, self.from_latent
        assert out.bias is not None
        assert into.bias is not None
        out.bias.add_(out.weight[:, :, 0, 0] @ mean)
        out.weight.mul_(deviation[:, None, None])
        into.bias.copy_((into.bias - mean) / deviation)
        into.weight.div_(deviation[:, None, None, None])
        rows = ((latents - mean[:, None, None]) / deviation[:, None, None]).permute(0, 2, 3, 1)
        self.codebook.start(rows.reshape(-1, LATENT_CHANNELS), generator)


class LinearSkip(nn.Module):
    """Block means to the latent and back, bilinearly: at first colours in three channels, B_fill in a fourth."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.into = nn.Conv2d(len(CHANNELS), LATENT_CHANNELS, 1, bias=False)
        self.out = nn.Conv2d(LATENT_CHANNELS, len(CHANNELS), 1, bias=False)
        nn.init.zeros_(self.into.weight)
        nn.init.zeros_(self.out.weight)
        carried = [CHANNELS.index(name) for name in ("rgb_r", "rgb_g", "rgb_b", "filled")]
        with torch.no_grad():
            for latent, channel in enumerate(carried):
                self.into.weight[latent, channel] = self.out.weight[channel, latent] = 1.0
            self.out.weight[CHANNELS.index("sampled"), carried.index(CHANNELS.index("filled"))] = 1.0

    def down(self, texture: Float[Tensor, "b 21 t t"]) -> Float[Tensor, "b 6 h w"]:
        """Part of the latent."""
        return self.into(F.avg_pool2d(texture, self.factor))

    def up(self, h: Float[Tensor, "b 6 h w"]) -> Float[Tensor, "b 21 t t"]:
        """Part of the decoded texture."""
        return F.interpolate(self.out(h), scale_factor=self.factor, mode="bilinear", align_corners=False)


class OutputHead(nn.Sequential):
    """Batch norm, leaky ReLU and a 3 × 3 convolution beside an identity, for one group of channels."""

    def __init__(self, channels: int) -> None:
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        super().__init__(nn.BatchNorm2d(channels), nn.LeakyReLU(), last)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + super().forward(x)


def texture_error(
    decoded: Float[Tensor, "b 21 t t"], texture: Float[Tensor, "b 21 t t"], island: Tensor
) -> dict[str, Float[Tensor, " b"]]:
    """Mean squared difference per sample on the islands, by group: generated, rgb, masks.

    Colours count where the texture has some; elsewhere the texture's zeros mean nothing.
    """
    error = (decoded - texture).square()
    inside = island.to(error)
    filled = NeuralTexture(texture).filled * inside
    groups = NeuralTexture(error)
    return {
        "generated": _mean_over(groups.generated.mean(1, keepdim=True), inside),
        "rgb": _mean_over(groups.rgb.mean(1, keepdim=True), filled),
        "masks": _mean_over((groups.sampled + groups.filled) / 2, inside),
    }


def _zero_bias(conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def _mean_over(values: Float[Tensor, "b 1 t t"], weight: Tensor) -> Float[Tensor, " b"]:
    weight = weight.expand_as(values)
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1.0)


def _draw(rows: Float[Tensor, "n c"], count: int, generator: torch.Generator) -> Float[Tensor, "k c"]:
    """Rows at random, with repetition where there are too few."""
    return rows[torch.randint(len(rows), (count,), generator=generator, device=generator.device)]
