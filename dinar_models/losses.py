"""Losses of the avatar model (paper eq. 4), one value per sample; the caller weighs and averages."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dinar_models.cameras import Crop, crop_image

Distance = Callable[[Tensor, Tensor], Tensor]
"""Perceptual distance of image pairs in [−1, 1], one per pair."""


@dataclass
class Rendering:
    """An image and its mask, rendered or true.

    Attributes:
        rgb: in [−1, 1], on white (+1).
        mask: in [0, 1].
    """

    rgb: Float[Tensor, "b 3 h w"]
    mask: Float[Tensor, "b 1 h w"]


def image_terms(
    made: Rendering,
    true: Rendering,
    face: Float[Tensor, "b 1 h w"],
    centre: Float[Tensor, "b 2"],
    distance: Distance,
) -> dict[str, Float[Tensor, " b"]]:
    """The terms of eq. 4 but the adversarial one, unweighted.

    `l2` and `dice` on the image; `perceptual` on a square of half its side around `centre`, a projected vertex
    (px); `face_l2` on the region of the face and `face_perceptual` on a square of a quarter of the side around
    it, 0 where no face is seen.
    """
    side = made.rgb.shape[-1]
    near = [crop_around(image, centre, side // 2) for image in (made.rgb, true.rgb)]
    return {
        "l2": squared_error(made.rgb, true.rgb),
        "dice": dice(made.mask, true.mask),
        "perceptual": distance(*near),
        "face_l2": squared_error(made.rgb, true.rgb, face),
        "face_perceptual": _face_distance(made.rgb, true.rgb, face, distance),
    }


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
    """1 − Dice coefficient of soft masks (Sudre et al., 2017); the added 1 keeps empty masks defined."""
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
    image: Float[Tensor, "b c h w"], centre: Float[Tensor, "b 2"], side: int
) -> Float[Tensor, "b c side side"]:
    """Squares around pixels, moved inside the image, on its pixel grid."""
    height, width = image.shape[-2:]
    side = min(side, height, width)
    x = (centre[:, 0] - side / 2).clamp(0, width - side).floor()
    y = (centre[:, 1] - side / 2).clamp(0, height - side).floor()
    return crop_image(image, Crop(x, y, torch.full_like(x, side)), side, fill=0.0)


def _face_distance(
    image: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    face: Float[Tensor, "b 1 h w"],
    distance: Distance,
) -> Float[Tensor, " b"]:
    height, width = face.shape[-2:]
    area = face.sum((1, 2, 3))
    seen = (area > 0).nonzero()[:, 0]
    out = image.new_zeros(len(image))
    if len(seen) == 0:
        return out
    x = (face.sum((1, 2))[seen] * torch.arange(width, device=face.device)).sum(1) / area[seen]
    y = (face.sum((1, 3))[seen] * torch.arange(height, device=face.device)).sum(1) / area[seen]
    centre = torch.stack([x, y], dim=1) + 0.5
    near = [crop_around(picture[seen], centre, width // 4) for picture in (image, target)]
    return out.index_put((seen,), distance(*near).to(out.dtype))
