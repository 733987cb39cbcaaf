"""What the three stages that train on images share: neural textures and renders of pairs, eq. 4, validation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from dinar_models.adversary import Adversary, AdversaryRules
from dinar_models.avatar import AvatarNets, over_white
from dinar_models.discriminator import Discriminator
from dinar_models.draws import Draws
from dinar_models.losses import Distance, Rendering, crop_around, image_terms
from dinar_models.metrics import psnr
from dinar_models.perceptual import DistanceName
from dinar_models.types import NeuralTexture
from stages._core.params import StageParams
from stages._core.precision import autocast, channels_last
from stages._core.train_loop import Stateful
from stages._data.distances import build_distance
from stages._data.pairs import Pairs


class ObjectiveParams(StageParams):
    """Weights of eq. 4 and the discriminator; the paper's text lost its values, these are recalled."""

    l2: float = Field(2.2, ge=0, description="squared error")
    perceptual: float = Field(1.0, ge=0, description="perceptual distance on a random crop")
    dice: float = Field(1.0, ge=0, description="Dice loss of the mask")
    face: float = Field(0.5, ge=0, description="share of the l2 and perceptual weights for the face, added")
    adversarial: float = Field(0.01, ge=0, description="non-saturating loss; 0: no discriminator")
    distance: DistanceName = Field(
        "effnet", description="perceptual distance (paper: lpips, which needs the optional weights lpips_vgg)"
    )
    judged: Literal["image", "crop"] = Field(
        "image", description="what the discriminator sees: whole images, or the perceptual crops"
    )
    discriminator_base: int = Field(32, ge=8, description="channels at 64 px and below (paper: 256)")
    discriminator_rate: float = Field(4e-4, gt=0, description="Adam, betas 0 and 0.99")
    r1: float = Field(0.1, ge=0, description="weight of the gradient penalty")
    r1_every: int = Field(16, ge=1, description="steps between gradient penalties")

    def weights(self) -> dict[str, float]:
        """By term."""
        return {
            "l2": self.l2,
            "perceptual": self.perceptual,
            "dice": self.dice,
            "face_l2": self.face * self.l2,
            "face_perceptual": self.face * self.perceptual,
        }

    def judged_size(self, image_size: int) -> int:
        """Pixels per side of what the discriminator sees."""
        return image_size if self.judged == "image" else image_size // 2


class Objective:
    """What images are trained against. `state` goes into checkpoints."""

    def __init__(
        self,
        params: ObjectiveParams,
        image_size: int,
        dtype: torch.dtype,
        device: str,
        weights: Path | None = None,
        judge: Discriminator | None = None,
    ) -> None:
        """Build it.

        Args:
            weights: folder of optional weights, for LPIPS.
            judge: a discriminator that goes on learning, whatever its size; else a new one of the params' size.
        """
        self.params, self.dtype, self.device = params, dtype, device
        self.distance = channels_last(build_distance(params.distance, weights).to(device))
        self.adversary: Adversary | None = None
        if params.adversarial:
            net = judge or Discriminator(params.judged_size(image_size), params.discriminator_base)
            rules = AdversaryRules(params.discriminator_rate, params.adversarial, params.r1, params.r1_every)
            self.adversary = Adversary(channels_last(net.to(device)), rules, dtype)

    @property
    def state(self) -> Mapping[str, Stateful]:
        """For checkpoints."""
        return self.adversary.state if self.adversary else {}

    def loss(self, made: Rendering, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted mean of all terms, and each term's mean to be logged under its weight's name."""
        true = Rendering(pairs.target, pairs.target_mask)
        terms = image_terms(made, true, pairs.face, pairs.centre, self._autocast_distance())
        total = sum((w * terms[name].mean() for name, w in self.params.weights().items()), torch.zeros(()))
        logs = {name: term.mean().detach() for name, term in terms.items()}
        if self.adversary:
            judged = self.adversary.judge(self._judged(made.rgb, pairs)).mean()
            total = total + self.params.adversarial * judged
            logs["adversarial"] = judged.detach()
        return total, logs

    def update_discriminator(self, made: Rendering, pairs: Pairs, step: int) -> dict[str, Tensor]:
        """One step of the discriminator, if there is one; gives what to log."""
        if self.adversary is None:
            return {}
        with torch.no_grad():
            real, fake = self._judged(pairs.target, pairs), self._judged(made.rgb, pairs)
        return self.adversary.learn(real, fake, step)

    def _judged(self, image: Tensor, pairs: Pairs) -> Tensor:
        if self.params.judged == "image":
            return image
        return crop_around(image, pairs.centre, image.shape[-1] // 2)

    def _autocast_distance(self) -> Distance:
        def distance(first: Tensor, second: Tensor) -> Tensor:
            with autocast(self.device, self.dtype):
                return self.distance(first, second).float()

        return distance


def neural_texture(nets: AvatarNets, pairs: Pairs, generator: Draws) -> NeuralTexture:
    """The neural textures of the inputs (eq. 2)."""
    generated = nets.generate(pairs.rgb, pairs.mask, generator).float()
    return _with_samples(generated, pairs.texture)


def merged_texture(texture: NeuralTexture, pairs: Pairs) -> NeuralTexture:
    """The same with the colours and masks that all views of the input's shot show together (eq. 5).

    The generated channels stay those of the one input: to merge them too, all eight views would have to pass the
    encoder.
    """
    return _with_samples(texture.generated, pairs.merged)


def render(nets: AvatarNets, texture: NeuralTexture, pairs: Pairs) -> Rendering:
    """Textures in the targets' views, float32."""
    rgb, mask = nets.render(texture, pairs.uv)
    return Rendering(over_white(rgb, mask).float(), mask.float())


def validation_psnr(made: Rendering, pairs: Pairs) -> float:
    """Mean PSNR in dB of images, as evaluate measures it."""
    image, target = (made.rgb.clamp(-1, 1) + 1) / 2, (pairs.target + 1) / 2
    return float(psnr(image.float(), target).mean())


def _with_samples(generated: Tensor, samples: Tensor) -> NeuralTexture:
    return NeuralTexture.assemble(generated, samples[:, :3], samples[:, 3:4], samples[:, 4:])
