"""Contours where one part of the body hides another (paper §3.5): pixels that must not be sampled."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dinar_models.texture import rasterise_texture

CANNY_LOW, CANNY_HIGH = 150, 200
"""Thresholds of the published code."""


def occlusion_contours(
    uv: Float[Tensor, "b h w 2"], limb_colour: Float[Tensor, "3 t t"]
) -> Bool[Tensor, "b h w"]:
    """Outlines of limbs in front of the body or of other limbs.

    Canny edges of the rasterised limb colours, without the outer silhouette, dilated by 2 pixels of a
    512-pixel image.

    Args:
        uv: UV raster of the body.
        limb_colour: a colour for each limb in [0, 1], with smooth transitions.
    """
    colours = rasterise_texture(limb_colour[None].expand(len(uv), -1, -1, -1), uv)
    images = (colours.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    bodies = (uv[..., 0] >= 0).to(torch.uint8).cpu().numpy()
    edges = [_inner_edges(image, body) for image, body in zip(images, bodies, strict=True)]
    return torch.from_numpy(np.stack(edges)).to(uv.device)


def _inner_edges(colours: np.ndarray, body: np.ndarray) -> np.ndarray:
    """(H, W) bool, from (H, W, 3) uint8 colours and the (H, W) 0/1 raster of the body."""
    edges = cv2.Canny(np.ascontiguousarray(colours), CANNY_LOW, CANNY_HIGH)
    outlines, _ = cv2.findContours(body, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(edges, outlines, -1, (0,), thickness=2)
    rounds = max(round(2 * len(body) / 512), 1)
    return cv2.dilate(edges, np.ones((3, 3), np.uint8), iterations=rounds) > 0
