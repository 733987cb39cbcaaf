"""Losses on images and scores of a few numbers, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from dinar_models.losses import (
    Rendering,
    crop_around,
    dice,
    discriminator_loss,
    generator_loss,
    image_terms,
    r1_penalty,
    squared_error,
)


def test_squared_error_by_hand() -> None:
    """Two samples; in the second one pixel of four is off by (1, 2) in two channels."""
    target = torch.zeros(2, 2, 2, 2)
    image = target.clone()
    image[1, :, 0, 1] = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(squared_error(image, target), torch.tensor([0.0, 5 / 8]))


def test_squared_error_counts_the_region_only() -> None:
    image = torch.tensor([[[[1.0, 3.0]]]]).expand(2, 1, 1, 2)
    where = torch.tensor([[[[0.0, 2.0]]], [[[0.0, 0.0]]]])
    error = squared_error(image, torch.zeros_like(image), where)
    torch.testing.assert_close(error, torch.tensor([9.0, 0.0]))


def test_dice_by_hand() -> None:
    """Overlap 1 of 2 + 1 pixels: 1 − (2 + 1) / (3 + 1); equal masks and empty ones cost nothing."""
    target = torch.tensor([[[[1.0, 1.0, 0.0]]]])
    one = torch.tensor([[[[1.0, 0.0, 0.0]]]])
    torch.testing.assert_close(dice(one, target), torch.tensor([0.25]))
    assert dice(target, target) == 0
    assert dice(torch.zeros_like(one), torch.zeros_like(one)) == 0


def test_dice_pulls_uncovered_pixels_up_and_stray_ones_down() -> None:
    mask = torch.tensor([[[[0.5, 0.5]]]], requires_grad=True)
    dice(mask, torch.tensor([[[[1.0, 0.0]]]])).sum().backward()
    assert mask.grad is not None
    uncovered, stray = mask.grad.flatten().tolist()
    assert uncovered < 0 < stray


def test_gan_losses_by_hand() -> None:
    """A score of ln 3 is a probability of 3/4."""
    score = torch.tensor([0.0, math.log(3)])
    torch.testing.assert_close(generator_loss(score), -torch.tensor([0.5, 0.75]).log())
    real, fake = torch.tensor([math.log(3)]), torch.tensor([-math.log(3)])
    torch.testing.assert_close(discriminator_loss(real, fake), -2 * torch.tensor([0.75]).log())
    assert discriminator_loss(fake, real) > discriminator_loss(real, fake)


def test_gan_losses_do_not_overflow() -> None:
    score = torch.tensor([-1e4], requires_grad=True)
    loss = generator_loss(score)
    loss.sum().backward()
    assert loss.item() == 1e4
    assert score.grad is not None
    assert score.grad.item() == -1


def test_r1_penalty_of_a_linear_critic_is_its_squared_weight() -> None:
    """D(x) = w · x for one sample and x² / 2 summed for the other: gradients w and x."""
    images = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]], requires_grad=True)
    weight = torch.tensor([2.0, -1.0], requires_grad=True)
    scores = torch.stack([(images[0].flatten() * weight).sum(), images[1].square().sum() / 2])
    penalty = r1_penalty(scores, images)
    torch.testing.assert_close(penalty, torch.tensor([5.0, 25.0]))
    (gradient,) = torch.autograd.grad(penalty[0], weight)
    torch.testing.assert_close(gradient, torch.tensor([4.0, -2.0]))


def numbered(height: int, width: int) -> Tensor:
    """Pixel (row, column) holds 100 row + column."""
    return (100 * torch.arange(height)[:, None] + torch.arange(width))[None, None].float()


@pytest.mark.parametrize(
    ("centre", "first"),
    [((3.0, 4.0), (2, 3)), ((0.0, 0.0), (0, 0)), ((99.0, -5.0), (4, 0)), ((6.0, 7.9), (4, 6))],
)
def test_crop_around_moves_inside_and_keeps_pixels(
    centre: tuple[float, float], first: tuple[int, int]
) -> None:
    """Squares of 2 in an image 6 wide and 8 high: whole pixels, never beyond the border."""
    image = numbered(8, 6)
    crop = crop_around(image, torch.tensor([centre]), 2)
    column, row = first
    torch.testing.assert_close(crop, image[:, :, row : row + 2, column : column + 2], atol=1e-3, rtol=0)


def test_each_sample_is_cropped_around_its_own_centre() -> None:
    crops = crop_around(numbered(8, 6).expand(2, -1, -1, -1), torch.tensor([[1.0, 1.0], [5.0, 7.0]]), 2)
    torch.testing.assert_close(crops[:, 0, 0, 0], torch.tensor([0.0, 604.0]), atol=1e-3, rtol=0)


def test_crop_larger_than_the_image_is_the_largest_square() -> None:
    crop = crop_around(numbered(5, 4), torch.tensor([[2.0, 2.0]]), 99)
    torch.testing.assert_close(crop, numbered(5, 4)[:, :, :4], atol=1e-3, rtol=0)


def mean_difference(first: Tensor, second: Tensor) -> Tensor:
    """A distance known by hand, standing where a net's features stand in training."""
    return (first - second).mean((1, 2, 3))


def test_image_terms_by_hand() -> None:
    """Images of 8 × 8, off by 1 in the quadrant where the second sample has its face (one pixel of it).

    The square of half the side around (6, 6) is that quadrant; around (2, 2) there is no difference. The face's
    own square, 2 × 2 around its pixel, lies in the quadrant as well.
    """
    true = Rendering(torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8))
    made = Rendering(true.rgb.clone(), torch.zeros(2, 1, 8, 8))
    made.rgb[:, :, 4:, 4:] = 1.0
    face = torch.zeros(2, 1, 8, 8)
    face[1, 0, 6, 6] = 1.0
    centre = torch.tensor([[2.0, 2.0], [6.0, 6.0]])
    terms = image_terms(made, true, face, centre, mean_difference)
    expected = {
        "l2": [0.25, 0.25],
        "dice": [1 - 1 / 65, 1 - 1 / 65],
        "perceptual": [0.0, 1.0],
        "face_l2": [0.0, 1.0],
        "face_perceptual": [0.0, 1.0],
    }
    assert {name: pytest.approx(value.tolist(), abs=1e-5) for name, value in terms.items()} == expected


def test_no_face_in_sight_costs_nothing() -> None:
    white = Rendering(torch.ones(1, 3, 8, 8), torch.ones(1, 1, 8, 8))
    black = Rendering(-white.rgb, white.mask)
    terms = image_terms(black, white, torch.zeros(1, 1, 8, 8), torch.full((1, 2), 4.0), mean_difference)
    assert terms["face_l2"].tolist() == terms["face_perceptual"].tolist() == [0.0]
    assert terms["l2"].item() == 4
