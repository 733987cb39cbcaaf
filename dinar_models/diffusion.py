"""The latent diffusion prior that completes a texture (paper section 3.3), thin over diffusers."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.cpu_layers import replace_slow_layers
from dinar_models.draws import Draws, draw
from dinar_models.fills import Guess

LATENT_CHANNELS = 6
Prediction = Literal["epsilon", "v_prediction", "mean"]
Sampler = Literal["ddim", "dpm++"]


@dataclass(frozen=True)
class DiffusionConfig:
    """Sizes and schedule; the defaults are the published ones.

    Attributes:
        latent_size: side of the latent texture.
        widths: channels per level, the first at full size.
        attention: per level, whether it has attention.
        layers: residual blocks per level.
        groups: of the group norms.
        head_width: channels per attention head…
        heads: …unless this says how many heads every level has.
        dropout: in residual blocks.
        prediction: what the net predicts: the noise (paper), or v (Salimans and Ho, ICLR 2022). With `mean`
            there is no chain: the same net maps the partial latent to the complete one at once, by least squares,
            hence to the mean of what is plausible: the direct mapping that the paper argues against.
        beta_start, beta_end: of the schedule linear in √β (the latent diffusion paper's).
        steps: of the forward process.
        guess: how hidden texels were filled before the partial latents were encoded. With a guess the chain runs
            over what is to be added to it, without (paper) over the latent itself: from the start of training,
            a guess is as good as it is, and minutes on a CPU go into where it is wrong.
    """

    latent_size: int = 64
    widths: tuple[int, ...] = (256, 512, 768, 1024)
    attention: tuple[bool, ...] = (False, True, True, True)
    layers: int = 2
    groups: int = 8
    head_width: int = 64
    heads: int = 0
    dropout: float = 0.5
    prediction: Prediction = "epsilon"
    beta_start: float = 3e-4
    beta_end: float = 2e-2
    steps: int = 1000
    guess: Guess = "none"


class LatentDiffusion(nn.Module):
    """p(z_merged | z_partial, mask) in the VQGAN's latent space, before quantisation.

    The U-Net sees the noisy latent, the partial latent and the mask B_fill, concatenated. Latents are
    standardised inside with the training set's mean and deviation, changes of a guess by theirs.
    """

    mean: Tensor
    deviation: Tensor
    scale: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet2DModel(
            sample_size=config.latent_size,
            in_channels=2 * LATENT_CHANNELS + 1,
            out_channels=LATENT_CHANNELS,
            block_out_channels=config.widths,
            layers_per_block=config.layers,
            norm_num_groups=config.groups,
            attention_head_dim=config.head_width,
            dropout=config.dropout,
            downsample_type="resnet",
            upsample_type="resnet",
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in config.attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.attention)),
        )
        if config.heads:  # diffusers has one width for all levels
            for module in self.unet.modules():
                if isinstance(module, Attention):
                    module.heads = config.heads
        replace_slow_layers(self.unet)
        self.register_buffer("mean", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("deviation", torch.ones(LATENT_CHANNELS))
        self.register_buffer("scale", torch.ones(LATENT_CHANNELS))
        self.noise = DDPMScheduler(**_schedule(config))

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "LatentDiffusion":
        """From the values that weights carry."""
        lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        return LatentDiffusion(DiffusionConfig(**lists))

    def config_dict(self) -> dict[str, Any]:
        """What weights carry: the inverse of `from_config`."""
        return asdict(self.config)

    def set_statistics(self, z_merged: Float[Tensor, "n 6 t t"], z_partial: Float[Tensor, "n 6 t t"]) -> None:
        """Take the training latents' mean and deviation per channel; with a guess, its changes' root mean square."""
        self.mean.copy_(z_merged.mean((0, 2, 3)))
        self.deviation.copy_(z_merged.std((0, 2, 3)).clamp_min(1e-3))
        if self.config.guess != "none":
            change = (z_merged - z_partial).square().mean((0, 2, 3)).sqrt()
            self.scale.copy_((change / self.deviation).clamp_min(1e-3))

    def loss(
        self,
        z_merged: Float[Tensor, "b 6 t t"],
        z_partial: Float[Tensor, "b 6 t t"],
        mask: Float[Tensor, "b 1 t t"],
        *,
        generator: Draws,
    ) -> Float[Tensor, " b"]:
        """Eq. 1 at random timesteps: mean squared error of the prediction, one value per sample."""
        known = self._standardise(z_partial)
        z = self._into_chain(self._standardise(z_merged), known)
        if self.config.prediction == "mean":
            return (self._predict_mean(known, mask) - z).square().mean((1, 2, 3))
        noise = draw(torch.randn, z.shape, generator, device=z.device, dtype=z.dtype)
        times = partial(torch.randint, 0, self.config.steps)
        t = draw(times, (len(z),), generator, device=z.device)
        noisy = self.noise.add_noise(z, noise, t)
        target = noise if self.config.prediction == "epsilon" else self.noise.get_velocity(z, noise, t)
        predicted = self._predict(noisy, t, known, mask)
        return (predicted.float() - target).square().mean((1, 2, 3))

    @torch.no_grad()
    def sample(
        self,
        z_partial: Float[Tensor, "b 6 t t"],
        mask: Float[Tensor, "b 1 t t"],
        *,
        generator: torch.Generator,
        steps: int = 25,
        sampler: Sampler = "dpm++",
        clamp_known: bool = False,
        temperature: float = 1.0,
        progress: Callable[[int], None] = lambda step: None,
    ) -> Float[Tensor, "b 6 t t"]:
        """Complete latents from noise.

        Args:
            steps: of the sampler; the published code takes 200 with ddim.
            sampler: `ddim` with η = 1 (published), or the second-order `dpm++`.
            clamp_known: before each step put the noised partial latent where the eroded mask says that it is
                known (RePaint; in the published code, not in the paper).
            temperature: deviation of the noise that sampling starts from. Below 1 samples lie nearer to the mean
                of what is plausible: less varied, and less blotched by a net that was trained for minutes.
            progress: called with each finished step.
        """
        known = self._standardise(z_partial)
        if self.config.prediction == "mean":
            progress(steps)
            return self._out_of_chain(self._predict_mean(known, mask), known)
        scheduler = SAMPLERS[sampler](self.config)
        scheduler.set_timesteps(steps)
        certain = self._into_chain(known, known)
        inner = -F.max_pool2d(-mask, 3, stride=1, padding=1)
        x = torch.randn(known.shape, generator=generator, device=known.device, dtype=known.dtype)
        x = temperature * x
        for i, t in enumerate(scheduler.timesteps):
            if clamp_known:
                noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
                x = inner * self.noise.add_noise(certain, noise, t[None]) + (1 - inner) * x
            predicted = self._predict(x, t.expand(len(x)).to(x.device), known, mask).float()
            more = {"eta": 1.0} if sampler == "ddim" else {}
            x = scheduler.step(predicted, t, x, generator=generator, **more).prev_sample
            progress(i + 1)
        return self._out_of_chain(x, known)

    def _predict(self, noisy: Tensor, t: Tensor, known: Tensor, mask: Tensor) -> Tensor:
        return self.unet(torch.cat([noisy, known, mask], dim=1), t).sample

    def _predict_mean(self, known: Tensor, mask: Tensor) -> Tensor:
        """The net without noise to look at, at the same time always."""
        time = torch.zeros(len(known), dtype=torch.long, device=known.device)
        return self._predict(torch.zeros_like(known), time, known, mask).float()

    def _base(self, known: Tensor) -> Tensor:
        """Where the chain's zero lies, in standard units."""
        return torch.zeros_like(known) if self.config.guess == "none" else known

    def _into_chain(self, z: Tensor, known: Tensor) -> Tensor:
        return (z - self._base(known)) / self.scale[:, None, None]

    def _out_of_chain(self, x: Tensor, known: Tensor) -> Tensor:
        z = x * self.scale[:, None, None] + self._base(known)
        return z * self.deviation[:, None, None] + self.mean[:, None, None]

    def _standardise(self, z: Tensor) -> Tensor:
        return (z - self.mean[:, None, None]) / self.deviation[:, None, None]


def latent_mask(filled: Float[Tensor, "b 1 s s"], size: int) -> Float[Tensor, "b 1 t t"]:
    """B_fill resized bilinearly to the latent size (paper section 3.3; the published code takes the nearest)."""
    return F.interpolate(filled, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def _schedule(config: DiffusionConfig) -> dict[str, Any]:
    return {
        "num_train_timesteps": config.steps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": "scaled_linear",
        "prediction_type": config.prediction,
    }


def _ddim(config: DiffusionConfig) -> DDIMScheduler:
    return DDIMScheduler(**_schedule(config), clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def _dpm(config: DiffusionConfig) -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(**_schedule(config), timestep_spacing="trailing")


SAMPLERS: dict[Sampler, Callable[[DiffusionConfig], Any]] = {"ddim": _ddim, "dpm++": _dpm}
