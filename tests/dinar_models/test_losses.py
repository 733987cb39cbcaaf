"""Losses on images and scores of a few numbers, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from dinar_models.losses import (
    crop_around,
    dice,
    discriminator_loss,
    generator_loss,
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
    crop, double = crop_around([image, 2 * image], torch.tensor([centre]), 2)
    column, row = first
    torch.testing.assert_close(crop, image[:, :, row : row + 2, column : column + 2], atol=1e-3, rtol=0)
    torch.testing.assert_close(double, 2 * crop, atol=1e-3, rtol=0)


def test_crop_larger_than_the_image_is_the_largest_square() -> None:
    (crop,) = crop_around([numbered(5, 4)], torch.tensor([[2.0, 2.0]]), 99)
    torch.testing.assert_close(crop, numbered(5, 4)[:, :, :4], atol=1e-3, rtol=0)
