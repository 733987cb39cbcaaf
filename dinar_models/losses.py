"""Losses of the avatar model (paper eq. 4), one value per sample; the caller weighs and averages."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dinar_models.cameras import Crop, crop_image


def squared_error(
    image: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    where: Float[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, " b"]:
    """Mean squared difference, over a region if given; 0 for an empty region."""
    error = (image - target).square().mean(1, keepdim=True)
    if where is None:
        return error.mean((1, 2, 3))
    return (error * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp_min(1.0)


def dice(mask: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """1 − Dice coefficient of soft masks (Sudre et al.); the added 1 keeps empty masks defined."""
    overlap = (mask * target).sum((1, 2, 3))
    total = mask.sum((1, 2, 3)) + target.sum((1, 2, 3))
    return 1 - (2 * overlap + 1) / (total + 1)


def generator_loss(scores: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Non-saturating: −log σ(D(fake))."""
    return F.softplus(-scores)


def discriminator_loss(real: Float[Tensor, " b"], fake: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Logistic: −log σ(D(real)) − log(1 − σ(D(fake)))."""
    return F.softplus(-real) + F.softplus(fake)


def r1_penalty(scores: Float[Tensor, " b"], images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Squared gradient of the scores of real images (Mescheder et al., ICML 2018); `images` need a gradient."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def crop_around(
    images: list[Float[Tensor, "b c h w"]], centre: Float[Tensor, "b 2"], side: int
) -> list[Float[Tensor, "b c side side"]]:
    """The same square of several batches, around pixels, moved inside the image."""
    height, width = images[0].shape[-2:]
    side = min(side, height, width)
    x = (centre[:, 0] - side / 2).clamp(0, width - side).floor()
    y = (centre[:, 1] - side / 2).clamp(0, height - side).floor()
    crop = Crop(x, y, torch.full_like(x, side))
    return [crop_image(image, crop, side, fill=0.0) for image in images]
