"""One optimisation step of the avatar model's losses (paper eq. 4), shared by the stages that train it."""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from dinar_models.avatar import AvatarNets, over_white
from dinar_models.discriminator import Discriminator
from dinar_models.losses import (
    crop_around,
    dice,
    discriminator_loss,
    generator_loss,
    r1_penalty,
    squared_error,
)
from dinar_models.perceptual import PerceptualDistance
from dinar_models.types import NeuralTexture
from stages._core.params import StageParams
from stages._data.frames import Inputs, Targets

Logs = dict[str, Tensor]


class ImageLossParams(StageParams):
    """Weights of eq. 4; the values are recalled from the paper, whose text lost them, except where noted."""

    l2_weight: float = Field(2.2, ge=0, description="of the squared error (recalled)")
    perceptual_weight: float = Field(
        1.0, ge=0, description="of the perceptual distance (recalled, for LPIPS)"
    )
    dice_weight: float = Field(1.0, ge=0, description="of the masks' Dice loss (recalled)")
    face_weight: float = Field(0.5, ge=0, description="of both image losses on the face (ours)")
    adversarial_weight: float = Field(0.01, ge=0, description="of the non-saturating loss; 0 = no GAN")
    r1_weight: float = Field(0.1, ge=0, description="of the R1 penalty (recalled)")
    r1_every: int = Field(16, ge=1, description="discriminator steps between penalties")


@dataclass
class ImageLosses:
    """Eq. 4 without the adversarial term."""

    params: ImageLossParams
    distance: PerceptualDistance

    def __call__(self, image: Tensor, mask: Tensor, targets: Targets) -> tuple[Tensor, Logs]:
        """Weighted sum, averaged over the batch, and its terms by name."""
        p = self.params
        side = image.shape[-1] // 2  # the paper crops 256 of 512 pixels
        crops = crop_around([image, targets.rgb], targets.centre, side)
        face = [targets.rgb * (1 - targets.face) + image * targets.face, targets.rgb]
        logs = {
            "l2": squared_error(image, targets.rgb).mean(),
            "perceptual": self.distance(*crops).mean(),
            "dice": dice(mask, targets.mask).mean(),
            "face": squared_error(image, targets.rgb, targets.face).mean(),
            "face_perceptual": self.distance(*face).mean(),
        }
        total = (
            p.l2_weight * logs["l2"] + p.perceptual_weight * logs["perceptual"] + p.dice_weight * logs["dice"]
        )
        face_terms = p.l2_weight * logs["face"] + p.perceptual_weight * logs["face_perceptual"]
        return total + p.face_weight * face_terms, logs


class Adversary(nn.Module):
    """The discriminator with its optimiser and lazy R1."""

    def __init__(self, size: int, base: int, params: ImageLossParams, rate: float) -> None:
        super().__init__()
        self.net = Discriminator(size, base)
        self.params = params
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=rate, betas=(0.0, 0.99))

    def fool(self, image: Tensor) -> Tensor:
        """The generator's term, weighted; the discriminator's own gradients are left alone."""
        self.net.requires_grad_(False)
        return self.params.adversarial_weight * generator_loss(self.net(image)).mean()

    def learn(self, step: int, real: Tensor, fake: Tensor) -> Tensor:
        """One step of the discriminator; every `r1_every`-th adds the penalty, scaled for the steps between."""
        self.net.requires_grad_(True)
        loss = discriminator_loss(self.net(real), self.net(fake.detach())).mean()
        total = self.params.adversarial_weight * loss
        if step % self.params.r1_every == 0:
            images = real.detach().requires_grad_(True)
            with torch.autocast(images.device.type, enabled=False):
                penalty = r1_penalty(self.net(images.float()), images).mean()
            total = total + self.params.r1_weight / 2 * self.params.r1_every * penalty
        self.optimiser.zero_grad()
        total.backward()
        self.optimiser.step()
        return loss.detach()


def generate(nets: AvatarNets, inputs: Inputs, generator: torch.Generator) -> NeuralTexture:
    """The neural textures of frames (eq. 2)."""
    generated = nets.generate(inputs.rgb, inputs.mask, generator).float()
    return NeuralTexture.assemble(generated, inputs.texture, inputs.sampled, inputs.filled)


def render(nets: AvatarNets, texture: NeuralTexture, targets: Targets) -> tuple[Tensor, Tensor]:
    """Image over white and mask in the targets' views, float32."""
    rgb, mask = nets.render(texture, targets.uv)
    return over_white(rgb, mask).float(), mask.float()
