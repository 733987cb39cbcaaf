"""Metrics against answers known by hand."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dinar_models import metrics
from dinar_models.labels import CLASSES, UNKNOWN


def test_psnr_of_a_constant_offset():
    target = torch.full((2, 3, 4, 4), 0.5)
    assert metrics.psnr(target + 0.1, target) == pytest.approx(torch.tensor([20.0, 20.0]), abs=1e-4)


def test_psnr_in_a_region_ignores_the_rest():
    target = torch.zeros(1, 3, 2, 2)
    image = target.clone()
    image[..., 0, 0] = 0.1
    image[..., 1, 1] = 1.0
    where = torch.tensor([[[True, False], [False, False]]])
    assert float(metrics.psnr(image, target, where)) == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("side", [64, 192])
def test_ms_ssim_of_equal_images_is_one_and_falls_with_noise(side):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, side, side, generator=generator)
    assert metrics.ms_ssim(image, image) == pytest.approx(torch.ones(2), abs=1e-5)
    noisy = (image + 0.2 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    assert (metrics.ms_ssim(noisy, image) < 0.99).all()


def test_kernel_distance_is_near_zero_for_one_distribution_and_grows_with_a_shift():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 300, 8, generator=generator)
    options = {"subset": 100, "subsets": 20}
    near = metrics.kernel_distance(first, second, rng=np.random.default_rng(0), **options)
    far = metrics.kernel_distance(first, second + 1, rng=np.random.default_rng(0), **options)
    assert abs(near) < 0.1
    assert far > 1


def test_kernel_distance_by_hand():
    # d = 1, x = {0, 1}, y = {2, 3}: k(a, b) = (ab + 1)³; E k(x, x') = 1, E k(y, y') = 343, E k(x, y) = 23.25
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    value = metrics.kernel_distance(x, y, subset=2, subsets=1, rng=np.random.default_rng(0))
    assert value == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)


def test_intersection_over_union_by_hand() -> None:
    target = torch.tensor([[[0, 0, 1, 1, UNKNOWN]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 1, 1, 1, 0]]], dtype=torch.uint8)
    confusion = metrics.confusion_matrix(predicted, target, 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert metrics.mean_iou(confusion) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_confusing_arms_costs_the_fine_score_only() -> None:
    left_arm, right_arm = CLASSES.index("left_arm"), CLASSES.index("right_arm")
    target = torch.tensor([[[0, left_arm, left_arm, right_arm]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, left_arm, right_arm, right_arm]]], dtype=torch.uint8)
    scores = metrics.parsing_scores(predicted, target)
    assert scores["miou"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert scores["miou_coarse"] == 1.0
    assert scores["foreground_iou"] == 1.0


def test_mask_iou():
    first, second = np.array([True, True, False]), np.array([False, True, True])
    assert metrics.mask_iou(first, second) == pytest.approx(1 / 3)
    assert metrics.mask_iou(np.zeros(2, bool), np.zeros(2, bool)) == 1


def test_pa_mpjpe_ignores_similarity_but_not_mirroring():
    joints = np.random.default_rng(0).normal(size=(20, 3))
    turned = 1.7 * joints @ Rotation.from_rotvec([0.3, -1, 2]).as_matrix() + [1, 2, 3]
    assert metrics.pa_mpjpe(turned, joints) == pytest.approx(0, abs=1e-9)
    assert metrics.pa_mpjpe(joints * [-1, 1, 1], joints) > 0.1


def test_vertex_error_ignores_translation_only():
    vertices = np.random.default_rng(0).normal(size=(30, 3))
    assert metrics.vertex_error(vertices + np.array([1, 2, 3]), vertices) == pytest.approx(0, abs=1e-12)
    assert metrics.vertex_error(vertices * 1.1, vertices) > 0.05
