"""Recordings: other frame rates, which way is up, whom they face, and who performs them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dinar_models.body import SIZES, BodyModel, BodyParams
from dinar_models.keypoints import SMPLX_NAMES
from dinar_models.recordings import Recording, Vertical, perform, resample

PERSON = BodyParams.zeros(1)


def recording(root: Rotation | None = None, frames: int = 3, **more: object) -> Recording:
    turned = np.zeros((frames, 3)) if root is None else np.broadcast_to(root.as_rotvec(), (frames, 3)).copy()
    return Recording(
        **{"global_orient": turned, "body_pose": np.zeros((len(turned), 63)), "vertical": "y", **more}
    )


def about(axis: str, degrees: float | list[float]) -> Rotation:
    return Rotation.from_euler(axis, np.atleast_1d(degrees)[:, None], degrees=True)


@pytest.mark.parametrize(
    ("rate", "angles"),
    [(50.0, [0, 1, 2, 3, 4]), (25.0, [0, 2, 4]), (100.0, np.arange(9) / 2), (30.0, [0, 5 / 3, 10 / 3])],
)
def test_another_rate_passes_through_the_same_angles_at_the_same_times(rate, angles) -> None:
    """A joint and a hand turn by a degree a frame, 50 frames a second, and the path goes by a metre a frame."""
    turning, path = np.zeros((5, 63)), np.zeros((5, 3))
    turning[:, 3], path[:, 2] = np.radians(np.arange(5)), np.arange(5)
    source = recording(frames=5, body_pose=turning, left_hand_pose=turning[:, :45], path=path, rate=50.0)
    new = resample(source, rate)
    np.testing.assert_allclose(np.degrees(new.body_pose[:, 3]), angles, atol=1e-9)
    np.testing.assert_allclose(np.degrees(new.left_hand_pose[:, 3]), angles, atol=1e-9)
    np.testing.assert_allclose(new.path[:, 2], angles, atol=1e-9)
    assert new.rate == rate
    assert new.right_hand_pose is None


def test_between_two_frames_a_joint_turns_the_short_way() -> None:
    """From 170° to −170° lie 20°, through 180°."""
    poses = np.zeros((2, 63))
    poses[:, 0] = np.radians([170, -170])
    half = resample(recording(frames=2, body_pose=poses, rate=1.0), 2.0).body_pose[1, :3]
    assert abs(abs(math.degrees(half[0])) - 180) < 1e-6


@pytest.mark.parametrize("frames", [1, 2])
def test_one_frame_stays_and_an_unknown_rate_means_frame_by_frame(frames: int) -> None:
    assert len(resample(recording(frames=frames, rate=120.0), 25.0)) == 1
    taken = resample(recording(frames=frames), 25.0)
    assert (len(taken), taken.rate) == (frames, 25.0)


AMASS = about("x", 90)
"""How somebody stands in a world with z up, facing −y."""


@pytest.mark.parametrize(("vertical", "stands"), [("z", AMASS), ("y", about("x", 0)), ("y", about("x", 180))])
def test_who_stands_in_the_file_stands_here(vertical: Vertical, stands: Rotation) -> None:
    """In AMASS, in SMPL-X's own world, and before a camera, whose y points down."""
    moved = perform(PERSON, recording(stands, vertical=vertical))
    torch.testing.assert_close(moved.global_orient, torch.zeros(3, 3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("heading", [0, 90, 180, 270])
def test_who_lies_lies_on(heading: float) -> None:
    """Whatever axis of AMASS's ground the head points along."""
    lying = perform(PERSON, recording(about("z", heading) * AMASS * about("x", 90), vertical="z"))
    back = Rotation.from_rotvec(lying.global_orient.numpy()).apply([0.0, 1, 0])
    np.testing.assert_allclose(back[:, 1], 0, atol=1e-6)


def test_a_turn_about_the_files_vertical_is_one_about_y_and_the_whole_faces_the_camera() -> None:
    """Somebody of AMASS who turns from 80° to 120° is taken to turn from −20° to 20°."""
    roots = (about("z", [80, 100, 120]) * AMASS).as_rotvec()
    moved = perform(PERSON, recording(global_orient=roots, vertical="z"))
    expected = np.zeros((3, 3))
    expected[:, 1] = np.radians([-20, 0, 20])
    np.testing.assert_allclose(moved.global_orient, expected, atol=1e-6)


def test_heights_stay_and_the_camera_follows_the_path_smoothly() -> None:
    """A jump of 0.5 m on the way of 10 m straight ahead, in a world with z up; to the front it is all followed."""
    frames = 250
    path = np.zeros((frames, 3))
    path[:, 1] = -np.linspace(0, 10, frames)  # who faces −y in AMASS's world walks ahead
    path[120:130, 2] = 0.5
    path[:, 0] = 0.1 * np.sin(np.arange(frames) * (2 * math.pi / 25))  # sways once a second
    person = BodyParams.from_dict({**PERSON.as_dict(), "scale": torch.full((1, 1), 2.0)})
    moved = perform(person, recording(AMASS, frames, path=path, rate=25.0, vertical="z"))
    height = moved.transl[:, 1] - moved.transl[0, 1]
    torch.testing.assert_close(height, 2 * torch.from_numpy(path[:, 2]).float(), atol=1e-5, rtol=0)
    middle = slice(50, -50)
    assert moved.transl[middle, 2].abs().max() < 0.01
    assert moved.transl[:, 2].abs().max() < 1.0  # of 20 m
    assert moved.transl[middle, 0].abs().max() == pytest.approx(0.2, rel=0.05)


def test_the_person_keeps_shape_and_face_and_takes_recorded_hands_only() -> None:
    generator = torch.Generator().manual_seed(3)
    person = BodyParams.from_dict({n: 0.3 * torch.randn(1, s, generator=generator) for n, s in SIZES.items()})
    moved = perform(person, recording(left_hand_pose=np.full((3, 45), 0.5)))
    for name in ("betas", "expression", "right_hand_pose", "jaw_pose", "leye_pose", "scale"):
        assert torch.equal(getattr(moved, name), getattr(person, name).expand(3, -1)), name
    assert (moved.left_hand_pose == 0.5).all()
    assert not moved.transl.any()


def test_an_amass_pose_has_its_head_above_its_feet(tiny_body: Path) -> None:
    poses = np.zeros((1, 63))
    poses[:, 9] = 0.7  # left knee, about x
    moved = perform(PERSON, recording(AMASS, 1, body_pose=poses, vertical="z"))
    assert moved.body_pose[0, 9].item() == pytest.approx(0.7)
    joints = BodyModel.load(tiny_body)(moved).joints[0]
    height = {
        name: float(joints[SMPLX_NAMES.index(name), 1]) for name in ("head", "left_ankle", "right_ankle")
    }
    assert height["head"] > height["right_ankle"] + 1
    assert height["left_ankle"] > height["right_ankle"] + 0.05
