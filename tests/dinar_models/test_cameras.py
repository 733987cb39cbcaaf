"""Cameras and crops with answers known by hand."""

import math

import pytest
import torch

from dinar_models.cameras import (
    Camera,
    Crop,
    crop_camera,
    crop_image,
    mask_box,
    orbit_camera,
    points_box,
    seen_from_behind,
    square_crop,
)

ORIGIN = torch.zeros(3)


def front(size: int = 100, **lens: float) -> Camera:
    return orbit_camera(0.0, 0.0, 2.0, target=ORIGIN, size=size, **(lens or {"focal": 100.0}))


def test_front_camera_sees_the_subjects_left_on_the_right_and_up_above() -> None:
    points = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]]])
    expected = torch.tensor([[[50.0, 50], [75, 50], [50, 25]]])
    torch.testing.assert_close(front().project(points), expected)


def test_depth_grows_away_from_the_camera() -> None:
    depth = front().transform(torch.tensor([[[0.0, 0, 0.5], [0, 0, -0.5]]]))[0, :, 2]
    torch.testing.assert_close(depth, torch.tensor([1.5, 2.5]))


@pytest.mark.parametrize(
    ("yaw", "pitch", "center"),
    [
        (0.0, 0.0, (0.0, 0.0, 2.0)),
        (math.pi / 2, 0.0, (2.0, 0.0, 0.0)),
        (math.pi, 0.0, (0.0, 0.0, -2.0)),
        (0.0, math.pi / 6, (0.0, 1.0, math.sqrt(3))),
    ],
)
def test_orbit_positions(yaw: float, pitch: float, center: tuple[float, float, float]) -> None:
    camera = orbit_camera(yaw, pitch, 2.0, target=ORIGIN, size=64, fov=0.5)
    torch.testing.assert_close(camera.centers[0], torch.tensor(center), atol=1e-6, rtol=0)
    torch.testing.assert_close(camera.R[0] @ camera.R[0].T, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(camera.R[0]) == pytest.approx(1, abs=1e-6)


def test_field_of_view_touches_the_borders() -> None:
    camera = front(fov=math.pi / 2)
    torch.testing.assert_close(
        camera.project(torch.tensor([[[2.0, -2, 0]]]))[0, 0], torch.tensor([100.0, 100])
    )
    with pytest.raises(ValueError, match="either fov or focal"):
        orbit_camera(0.0, 0.0, 2.0, target=ORIGIN, size=8)


def test_batches_broadcast_and_select() -> None:
    camera = orbit_camera(torch.tensor([0.0, 1.0, 2.0]), 0.1, 3.0, target=ORIGIN, size=32, focal=40.0)
    points = torch.rand(1, 5, 3, generator=torch.Generator().manual_seed(0))
    everything = camera.project(points)
    assert everything.shape == (3, 5, 2)
    torch.testing.assert_close(camera.select(1).project(points)[0], everything[1])
    torch.testing.assert_close(camera.resize(64).project(points), 2 * everything)


def test_several_cameras_become_one_batch() -> None:
    one, other = (orbit_camera(yaw, 0.0, 4.0, target=torch.zeros(3), size=64, fov=0.5) for yaw in (0.0, 1.0))
    both = Camera.cat([one, other])
    assert len(both) == 2
    assert torch.equal(both.R[1], other.R[0])
    larger = orbit_camera(0.0, 0.0, 4.0, target=torch.zeros(3), size=65, fov=0.5)
    with pytest.raises(ValueError, match=r"images with \[64, 65\] pixels a side"):
        Camera.cat([one, larger])
    crops = Crop.cat(
        [Crop(torch.ones(1), torch.zeros(1), torch.ones(1)), Crop(torch.zeros(2), *[torch.ones(2)] * 2)]
    )
    assert crops.x.tolist() == [1, 0, 0]


def test_from_behind_pixels_are_mirrored_and_what_was_far_is_near() -> None:
    """Three points, also for a camera whose principal point is not in the middle; the triangle keeps its turn."""
    whole = orbit_camera(0.4, 0.2, 4.0, target=ORIGIN, size=64, fov=0.5)
    camera = crop_camera(whole, Crop(torch.tensor([9.0]), torch.tensor([-3.0]), torch.tensor([40.0])), 32)
    points = torch.tensor([[[0.3, 0.1, 0.2], [-0.2, 0.4, 0.0], [0.1, -0.3, -0.5]]])
    turned, behind = seen_from_behind(points, camera)
    before, after = camera.project(points), behind.project(turned)
    torch.testing.assert_close(after[..., 0], 32 - before[..., 0])
    torch.testing.assert_close(after[..., 1], before[..., 1])
    depths, middle = camera.transform(points)[0, :, 2], camera.transform(points)[..., 2].mean()
    torch.testing.assert_close(turned[0, :, 2], 2 * middle - depths)
    about = torch.tensor(
        [0.0, 0.0, float(middle)]
    )  # a body near the axis is turned about it, no mirror image
    assert torch.linalg.det(camera.transform(points)[0] - about) * torch.linalg.det(turned[0] - about) > 0


def test_boxes() -> None:
    mask = torch.zeros(2, 6, 8)
    mask[0, 2:4, 3:7] = 1
    assert mask_box(mask).tolist() == [[3, 2, 7, 4], [0, 0, 8, 6]]
    assert points_box(torch.tensor([[[1.0, 5], [4, 2]]])).tolist() == [[1, 2, 4, 5]]


def test_square_crop_holds_both_boxes_with_their_longer_side() -> None:
    crop = square_crop(torch.tensor([[10.0, 0, 20, 50]]), torch.tensor([[5.0, 30, 15, 100]]), margin=1.2)
    assert (crop.x.item(), crop.y.item(), crop.side.item()) == pytest.approx((12.5 - 60, -10, 120))


def test_whole_image_crop_changes_nothing() -> None:
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = Crop(torch.zeros(1), torch.zeros(1), torch.full((1,), 8.0))
    torch.testing.assert_close(crop_image(image, whole, 8, fill=0.5), image)


def test_crop_outside_is_fill_and_halving_averages() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    outside = crop_image(
        image, Crop(torch.tensor([-4.0]), torch.tensor([0.0]), torch.tensor([4.0])), 4, fill=-1.0
    )
    assert (outside == -1).all()
    half = crop_image(image, Crop(torch.zeros(1), torch.zeros(1), torch.tensor([4.0])), 2, fill=0.0)
    torch.testing.assert_close(half[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))


def test_camera_follows_the_crop() -> None:
    """A dot drawn at a projected point is found where the cropped camera projects that point."""
    camera, point = front(size=64, focal=70.0), torch.tensor([[[0.3, -0.2, 0.1]]])
    column, row = (camera.project(point)[0, 0] - 0.5).round().long().tolist()
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, row, column] = 1
    crop = Crop(torch.tensor([20.0]), torch.tensor([22.0]), torch.tensor([32.0]))
    place = crop_image(image, crop, 64, fill=0.0)[0, 0].flatten().argmax().item()
    expected = crop_camera(camera, crop, 64).project(point)[0, 0]
    assert (place % 64 + 0.5, place // 64 + 0.5) == pytest.approx(tuple(expected.tolist()), abs=1.6)
