"""Distances in features: zero for equal images, growing with the difference, no other images involved."""

from pathlib import Path

import pytest
import skimage.data
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from dinar_models.perceptual import LPIPS, PerceptualDistance


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    return PerceptualDistance()


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """(1, 3, 64, 64) in [−1, 1]."""
    image = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None, :, :256, 96:352].float()
    return F.avg_pool2d(image / 127.5 - 1, 4)


def blurred(image: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(F.pad(image, (side // 2,) * 4, mode="reflect"), side, stride=1)


def test_equal_images_are_at_distance_0_and_order_does_not_matter(
    distance: PerceptualDistance, photo: Tensor
) -> None:
    assert distance(photo, photo).item() == 0
    other = photo.flip(-1)
    torch.testing.assert_close(distance(photo, other), distance(other, photo))
    assert 0 < distance(photo, other).item() < 4  # unit vectors: squares are at most 4


def test_distance_grows_with_blur(distance: PerceptualDistance, photo: Tensor) -> None:
    near, middle, far = (distance(photo, blurred(photo, side)).item() for side in (3, 5, 9))
    assert 0 < near < middle < far


def test_a_shift_of_colour_costs_less_than_another_picture(
    distance: PerceptualDistance, photo: Tensor
) -> None:
    """What squared errors get wrong."""
    darker, noise = (
        0.8 * photo - 0.1,
        photo + 0.15 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0)),
    )
    assert distance(photo, darker).item() < distance(photo, noise).item()


def test_pairs_of_a_batch_do_not_mix_even_in_training(distance: PerceptualDistance, photo: Tensor) -> None:
    """`train` leaves the batch norms at their ImageNet statistics."""
    distance.train()
    first, second = torch.cat([photo, photo.flip(-1)]), torch.cat([blurred(photo, 3), photo])
    together = distance(first, second)
    torch.testing.assert_close(together[:1], distance(first[:1], second[:1]), rtol=1e-3, atol=1e-6)
    assert not distance.features.training


def test_gradients_reach_the_image_and_not_the_net(distance: PerceptualDistance, photo: Tensor) -> None:
    """A step along the gradient brings the images nearer."""
    image = blurred(photo, 5).requires_grad_()
    loss = distance(image, photo)
    loss.sum().backward()
    assert image.grad is not None
    with torch.no_grad():
        nearer = image - 0.05 * image.grad / image.grad.abs().max()
        assert distance(nearer, photo).item() < loss.item()
    assert all(p.grad is None for p in distance.parameters())


def test_lpips_without_its_backbone_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dinar weights fetch lpips_alex"):
        LPIPS(tmp_path / "alexnet.pth", "alex")


@pytest.mark.slow
def test_lpips_takes_the_backbone_of_a_file(tmp_path: Path, photo: Tensor) -> None:
    """Random weights of AlexNet's size: they arrive in the package's slices in torchvision's order."""
    torch.manual_seed(0)
    net = torchvision.models.alexnet()
    torch.save(net.state_dict(), tmp_path / "alexnet.pth")
    measure = LPIPS(tmp_path / "alexnet.pth", "alex")
    image = F.interpolate(photo, size=(64, 64))
    scaled = measure.distance.scaling_layer(image)
    torch.testing.assert_close(measure.distance.net(scaled)[-1], net.features[:12](scaled))
    assert measure(photo, photo).item() == 0
    assert measure(photo, photo.flip(-1)).item() > 0
