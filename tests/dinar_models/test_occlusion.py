"""Contours of a limb in front of the body: found inside, not along the silhouette."""

import torch
from torch import Tensor

from dinar_models.occlusion import occlusion_contours

BODY, LIMB = 0.25, 0.75


def scene(size: int = 64) -> Tensor:
    """UV raster of a body (32 px wide) with a limb (8 px wide) in front of it that ends outside the body."""
    uv = torch.full((1, size, size, 2), -1.0)
    uv[:, 8:56, 16:48] = BODY
    uv[:, 28:36, 30:60] = LIMB
    return uv


def colours() -> Tensor:
    """Left half of the texture red, right half blue."""
    texture = torch.zeros(3, 8, 8)
    texture[0, :, :4] = 1
    texture[2, :, 4:] = 1
    return texture


def test_outline_of_the_limb_over_the_body() -> None:
    found = occlusion_contours(scene(), colours())[0]
    for row, column in ((28, 38), (35, 38), (32, 30)):  # its upper, lower and inner ends
        assert found[row - 1 : row + 2, column - 1 : column + 2].any()
    assert not found[32, 38]  # inside the limb
    assert not found[16, 32]  # inside the body


def test_the_silhouette_is_no_occlusion() -> None:
    found = occlusion_contours(scene(), colours())[0]
    assert not found[12:24, 14:20].any()
    assert not found[26:38, 54:62].any()
    alone = torch.full((1, 64, 64, 2), -1.0)
    alone[:, 8:56, 16:48] = BODY
    assert not occlusion_contours(alone, colours()).any()


def test_a_smooth_transition_is_no_occlusion() -> None:
    """A limb along which the colour changes gradually."""
    uv = torch.full((1, 64, 64, 2), -1.0)
    uv[:, 20:40, 2:62] = torch.linspace(0.1, 0.9, 60)[None, None, :, None]
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    assert not occlusion_contours(uv, ramp).any()


def test_each_image_of_a_batch_is_its_own() -> None:
    empty = torch.full((1, 64, 64, 2), -1.0)
    both = occlusion_contours(torch.cat([empty, scene()]), colours())
    assert not both[0].any()
    assert torch.equal(both[1:], occlusion_contours(scene(), colours()))
