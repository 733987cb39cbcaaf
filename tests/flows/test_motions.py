"""Motions by name and from files in AMASS's and SMPL-X's layouts; files are not trusted."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dinar_models.body import BodyParams
from flows.avatar_folder import AvatarError
from flows.motions import find_motion, read_recording

PERSON = BodyParams.zeros(1)


def amass_smplh(frames: int, rate: float = 120.0) -> dict[str, Any]:
    """The arrays of an AMASS file of SMPL+H: z up, standing, facing −y."""
    poses = np.zeros((frames, 156))
    poses[:, 0] = np.pi / 2
    poses[:, 3:6] = 0.3  # the first joint of the body
    poses[:, 66:111], poses[:, 111:] = 0.1, 0.2  # hands
    trans = np.array([1.0, 2, 0.9]) + np.zeros((frames, 3))
    return {
        **{"poses": poses, "trans": trans, "betas": np.full(16, 3.0), "gender": np.array("male")},
        **{"mocap_framerate": np.array(rate), "dmpls": np.zeros((frames, 8))},
    }


def amass_smplx(frames: int, rate: float = 120.0) -> dict[str, Any]:
    """The same pose in AMASS's file of SMPL-X, which holds it under two sets of names."""
    old = amass_smplh(frames, rate)
    poses = np.concatenate([old["poses"][:, :66], np.zeros((frames, 9)), old["poses"][:, 66:]], axis=1)
    return {
        **{"poses": poses, "trans": old["trans"], "betas": old["betas"], "gender": np.array("neutral")},
        **{"root_orient": poses[:, :3], "pose_body": poses[:, 3:66], "pose_hand": poses[:, 75:]},
        **{"pose_jaw": poses[:, 66:69], "pose_eye": poses[:, 69:75], "surface_model_type": np.array("smplx")},
        **{"mocap_frame_rate": np.array(rate), "mocap_time_length": np.array(frames / rate)},
    }


@pytest.mark.parametrize("layout", [amass_smplh, amass_smplx])
def test_both_layouts_of_amass_give_the_same_motion(
    layout: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """A second and one frame at 120 a second become a second at 25; shape and gender are the person's own."""
    np.savez(tmp_path / "a.npz", **layout(121))
    motion = find_motion(str(tmp_path / "a.npz"), PERSON)
    moved = motion.params
    assert (len(moved), motion.rate, motion.name) == (26, 25.0, "a")
    np.testing.assert_allclose(moved.global_orient, 0, atol=1e-6)
    np.testing.assert_allclose(moved.body_pose[:, :3], 0.3, rtol=1e-6)
    np.testing.assert_allclose(moved.body_pose[:, 3:], 0, atol=1e-7)
    np.testing.assert_allclose(moved.left_hand_pose, 0.1, rtol=1e-6)
    np.testing.assert_allclose(moved.right_hand_pose, 0.2, rtol=1e-6)
    np.testing.assert_allclose(moved.transl, 0, atol=1e-6)  # followed wherever they stand
    assert not moved.betas.any()


def test_the_z_of_amass_is_height(tmp_path: Path) -> None:
    arrays = amass_smplh(100, 25.0)
    arrays["trans"][50:60, 2] += 0.4
    np.savez(tmp_path / "jump.npz", **arrays)
    height = find_motion(str(tmp_path / "jump.npz"), PERSON).params.transl[:, 1]
    np.testing.assert_allclose(height[50:60] - height[0], 0.4, atol=1e-6)
    np.testing.assert_allclose(height[60:] - height[0], 0, atol=1e-6)


def test_smplx_parameters_move_the_person_in_its_own_shape(tmp_path: Path) -> None:
    someone = BodyParams.zeros(1)
    someone.betas[:], someone.left_hand_pose[:], someone.transl[:] = 1.5, 0.4, 9.0
    body_pose = np.arange(10)[:, None, None] * np.full((10, 21, 3), 0.1)
    np.savez(tmp_path / "a.npz", global_orient=np.zeros((10, 3)), body_pose=body_pose)
    moved = find_motion(str(tmp_path / "a.npz"), someone, 4).params
    assert len(moved) == 4
    np.testing.assert_allclose(moved.body_pose[:, 0], [0, 0.1, 0.2, 0.3], atol=1e-6)
    assert (moved.betas == 1.5).all()
    assert (moved.left_hand_pose == 0.4).all()
    assert (moved.transl == 0).all()


def test_exported_fits_of_a_video_stand_upright(tmp_path: Path) -> None:
    """They have AMASS's names, but y points down as in their camera."""
    poses = np.zeros((3, 165))
    poses[:, 0] = np.pi
    np.savez(tmp_path / "a.npz", poses=poses, trans=np.zeros((3, 3)), frame=np.array("ingested"))
    np.testing.assert_allclose(
        find_motion(str(tmp_path / "a.npz"), PERSON).params.global_orient, 0, atol=1e-6
    )


def test_named_motions_go_round_without_a_seam() -> None:
    walk, longer = find_motion("walk", PERSON), find_motion("walk", PERSON, 40)
    stride = len(walk.params)
    assert stride / walk.rate == pytest.approx(1.08)  # seconds of two steps
    assert torch.equal(longer.params.body_pose[stride:], walk.params.body_pose[: 40 - stride])
    for frames in (None, 12):
        turning = find_motion("turntable", PERSON, frames)
        assert len(turning.params) / turning.rate == pytest.approx(3)


def test_an_unknown_motion_names_those_that_are_known() -> None:
    with pytest.raises(AvatarError, match=r"'dance' is unknown; walk, turntable or an \.npz"):
        find_motion("dance", PERSON)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"poses": np.zeros((5, 72))}, r"shape \(5, 72\), \(frames, 156 or 165\)"),
        ({"poses": np.full((5, 156), np.nan)}, "no rotations"),
        ({"poses": np.full((5, 156), 1e30)}, "no rotations"),
        ({"poses": np.zeros((0, 156))}, "shape"),
        ({"poses": np.full((5, 156), "a")}, "holds <U1"),
        (
            {"poses": np.zeros((5, 156)), "trans": np.full((5, 3), np.inf)},
            "`trans` holds numbers that are no places",
        ),
        ({"poses": np.zeros((5, 156)), "trans": np.zeros((4, 3))}, "frames differ: path 4, global_orient 5"),
        ({"global_orient": np.zeros((5, 3)), "body_pose": np.zeros((4, 63))}, "frames differ"),
        ({"body_pose": np.zeros((4, 63))}, "neither `poses`"),
        ({"poses": np.zeros((5, 156)), "fps": np.zeros(0)}, "cannot be read"),
    ],
)
def test_strange_motions_are_refused(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(AvatarError, match=words):
        read_recording(tmp_path / "a.npz")


def test_motions_that_would_fill_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.motions.MAX_FILE_MIB", 1)
    np.savez_compressed(tmp_path / "a.npz", poses=np.zeros((1000, 156)))  # 1.2 MiB, packed to a few KiB
    with pytest.raises(AvatarError, match="unpacks to more than 1 MiB"):
        read_recording(tmp_path / "a.npz")


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickled_motion_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    np.savez(tmp_path / "a.npz", poses=np.array([Trap(trap)], dtype=object), allow_pickle=True)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap(trap)))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(AvatarError, match="cannot be read as a motion"):
            read_recording(tmp_path / name)
    assert not trap.exists()
