"""Forward kinematics, skinning and the limits of the sampled poses."""

import numpy as np
import pytest

from stages.makehuman.joints import JOINTS, PARENTS
from stages.people.poses import POSES, pose_skeleton, sample_pose, skin


@pytest.fixture
def rest() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(55, 3))


def test_the_rest_pose_moves_nothing(rest):
    skeleton = pose_skeleton(rest, np.zeros((55, 3)))
    np.testing.assert_allclose(skeleton.joints, rest, atol=1e-12)
    np.testing.assert_allclose(skin(rest, np.eye(55), skeleton), rest, atol=1e-12)


def test_turning_the_pelvis_turns_the_whole_body_about_it(rest):
    rotations = np.zeros((55, 3))
    rotations[0] = [0, np.pi / 2, 0]  # +x goes to −z
    moved = pose_skeleton(rest, rotations).joints - rest[0]
    offset = rest - rest[0]
    np.testing.assert_allclose(
        moved, np.stack([offset[:, 2], offset[:, 1], -offset[:, 0]], axis=1), atol=1e-12
    )


def test_a_bent_elbow_moves_what_hangs_on_it_only(rest):
    rotations = np.zeros((55, 3))
    elbow, wrist = JOINTS.index("left_elbow"), JOINTS.index("left_wrist")
    rotations[elbow] = [0, -1.0, 0]
    joints = pose_skeleton(rest, rotations).joints
    np.testing.assert_allclose(joints[elbow], rest[elbow], atol=1e-12)
    assert np.linalg.norm(joints[wrist] - rest[wrist]) > 0.01
    unmoved = [j for j in range(55) if not _hangs_on(j, elbow)]
    np.testing.assert_allclose(joints[unmoved], rest[unmoved], atol=1e-12)


def _hangs_on(joint: int, ancestor: int) -> bool:
    while joint >= 0:
        if joint == ancestor:
            return True
        joint = int(PARENTS[joint])
    return False


@pytest.mark.parametrize("name", POSES)
def test_poses_stay_within_joint_limits(name):
    for seed in range(20):
        pose = dict(zip(JOINTS, sample_pose(name, np.random.default_rng(seed)), strict=True))
        angle = {joint: np.linalg.norm(r) for joint, r in pose.items()}
        for side, sign in (("left", 1), ("right", -1)):
            assert -0.01 <= -sign * pose[f"{side}_elbow"][1] < 2.4  # elbows fold forwards only
            assert -0.01 <= pose[f"{side}_knee"][0] < 1.0  # knees fold backwards only
            assert angle[f"{side}_hip"] < 0.8
            assert angle[f"{side}_wrist"] < 0.8
            assert angle[f"{side}_shoulder"] < 1.7
        assert angle["neck"] + angle["head"] < 0.7


def test_a_narrow_skirt_shortens_the_stride():
    hip = JOINTS.index("left_hip")
    wide, narrow = (sample_pose("walking", np.random.default_rng(4), stride)[hip, 0] for stride in (1.0, 0.5))
    assert abs(narrow) == pytest.approx(abs(wide) / 2, rel=1e-6)
