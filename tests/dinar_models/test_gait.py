"""The walk: what repeats, what swings against what, and where the feet are."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dinar_models.animation import body_row
from dinar_models.body import SIZES, BodyModel, BodyParams
from dinar_models.gait import GAIT, SHANK, THIGH, hip_height, joint_angle, walk_cycle
from dinar_models.keypoints import SMPLX_NAMES


@pytest.fixture(scope="module")
def body(tiny_body: Path) -> BodyModel:
    return BodyModel.load(tiny_body)


def joint(positions: Tensor, name: str) -> Tensor:
    """(frames, 3)."""
    return positions[:, SMPLX_NAMES.index(name)]


@pytest.mark.parametrize("name", GAIT)
def test_angles_are_those_of_the_table_and_go_on_without_a_jump(name: str) -> None:
    share = np.array(list(GAIT[name])) / 100
    np.testing.assert_allclose(np.degrees(joint_angle(name, share)), list(GAIT[name].values()), atol=1e-9)
    np.testing.assert_allclose(joint_angle(name, share + 1), joint_angle(name, share), atol=1e-12)
    ends = joint_angle(name, np.array([0.999, 1.0, 1.001]))
    assert np.abs(np.diff(ends)).max() < math.radians(1)


def test_hip_height_by_hand() -> None:
    """Straight; on tiptoe, the ball 13 cm below the ankle; the thigh ahead, the shank hanging from the knee."""
    right = math.pi / 2
    hip, knee, ankle = np.array([0.0, 0, right]), np.array([0.0, 0, right]), np.array([0.0, -right, 0])
    expected = [THIGH + SHANK + 0.08, THIGH + SHANK + 0.13, SHANK + 0.08]
    np.testing.assert_allclose(hip_height(hip, knee, ankle), expected, atol=1e-12)


def test_more_frames_pass_through_the_same_poses() -> None:
    coarse, fine = walk_cycle(BodyParams.zeros(1), 6), walk_cycle(BodyParams.zeros(1), 12)
    torch.testing.assert_close(fine.body_pose[::2], coarse.body_pose)
    steps = (fine.body_pose.roll(-1, 0) - fine.body_pose).abs().amax(1)
    assert steps.max() < 0.6  # the step from the last frame to the first is no jump
    assert steps[-1] <= 1.01 * steps[5]  # half a stride before, with the sides exchanged


def test_half_a_stride_exchanges_the_sides() -> None:
    walking = walk_cycle(BodyParams.zeros(1), 10)
    pose, mirror = walking.body_pose.view(10, 21, 3), torch.tensor([1.0, -1.0, -1.0])
    later = pose.roll(-5, 0)
    for part in ("hip", "knee", "ankle", "foot", "shoulder", "elbow"):
        left, right = body_row(f"left_{part}"), body_row(f"right_{part}")
        torch.testing.assert_close(later[:, left], pose[:, right] * mirror, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        walking.global_orient.roll(-5, 0), walking.global_orient * mirror, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        walking.transl.roll(-5, 0), walking.transl * mirror[[1, 0, 0]], atol=1e-6, rtol=0
    )


def test_somebody_keeps_shape_and_hands_and_moves_by_their_size() -> None:
    generator = torch.Generator().manual_seed(3)
    person = BodyParams.from_dict({n: 0.3 * torch.randn(1, s, generator=generator) for n, s in SIZES.items()})
    walking, mean = walk_cycle(person, 5), walk_cycle(BodyParams.zeros(1), 5)
    for name in ("betas", "expression", "left_hand_pose", "right_hand_pose", "jaw_pose", "scale"):
        assert torch.equal(getattr(walking, name), getattr(person, name).expand(5, -1)), name
    torch.testing.assert_close(walking.transl, mean.transl * person.scale)


def test_legs_and_arms_swing_against_each_other_and_the_feet_stand_on_the_ground(body: BodyModel) -> None:
    walking = body(walk_cycle(BodyParams.zeros(1), 10))
    positions = walking.joints
    left, right = joint(positions, "left_ankle"), joint(positions, "right_ankle")
    assert left[0, 2] > right[0, 2] + 0.4  # the left heel touches the ground
    assert right[5, 2] > left[5, 2] + 0.4
    hands = joint(positions, "left_wrist") - joint(positions, "right_wrist")
    assert hands[0, 2] < -0.15
    assert hands[5, 2] > 0.15
    assert joint(positions, "left_big_toe")[0, 1] > joint(positions, "left_heel")[0, 1] + 0.05
    for side in ("left", "right"):
        knee = joint(positions, f"{side}_knee")
        straight = (joint(positions, f"{side}_hip") + joint(positions, f"{side}_ankle")) / 2
        assert (knee[:, 2] > straight[:, 2]).all()  # shins bend backwards only
    lowest = walking.vertices[..., 1].amin(1)
    assert lowest.max() - lowest.min() < 0.02
    standing = left[1:4, 0] - left[1, 0]
    assert standing.abs().max() < 0.015  # the pelvis sways over a foot that does not
