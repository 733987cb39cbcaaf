"""Fits of others in the layouts of their programs; what a body model makes of them is known by formula."""

import json
import math
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dinar_models.body import SIZES, BodyModel, BodyParams
from stages.sources.body_tables import SMPLX_PELVIS, BodyTables
from stages.sources.fits import FitError, ImportedFit, read_fit

POSE = {
    "betas": 10,
    "expression": 10,
    "global_orient": 3,
    "body_pose": 63,
    "jaw_pose": 3,
    "leye_pose": 3,
    "reye_pose": 3,
}


@pytest.fixture(scope="module")
def body(tiny_body: Path) -> BodyModel:
    return BodyModel.load(tiny_body)


@pytest.fixture(scope="module")
def other(tiny_body: Path) -> BodyTables:
    """The open body: what others' coefficients mean nothing to."""
    return BodyTables.load(tiny_body)


@pytest.fixture(scope="module")
def same(other: BodyTables) -> BodyTables:
    """As if the small body were SMPL-X."""
    return replace(other, licensed=True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pose(rng: np.random.Generator, frames: int = 1, **sizes: int) -> dict[str, np.ndarray]:
    sizes = {**POSE, **sizes}
    return {name: rng.normal(0, 0.3, (frames, n)).astype(np.float32) for name, n in sizes.items()}


def vertices(body: BodyModel, values: dict[str, np.ndarray]) -> np.ndarray:
    """(F, V, 3) of absolute hands, the whole file's first frames; fields that are missing are neutral."""
    neutral = BodyParams.zeros(len(values["body_pose"])).as_dict()
    known = {name: torch.from_numpy(np.asarray(v, np.float32)) for name, v in values.items() if name in SIZES}
    with torch.no_grad():
        return body(BodyParams.from_dict({**neutral, **known})).vertices.numpy()


def save(path: Path, values: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **values)
    elif path.suffix == ".json":
        path.write_text(json.dumps({k: v.tolist() if hasattr(v, "tolist") else v for k, v in values.items()}))
    else:
        path.write_bytes(pickle.dumps(values, protocol=2))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_smplx_parameters_are_taken_as_they_are(
    tmp_path: Path, same: BodyTables, rng: np.random.Generator, suffix: str
) -> None:
    values = pose(rng, frames=3, left_hand_pose=45, right_hand_pose=45, transl=3)
    values["betas"] = values["betas"][0]  # one shape for all frames
    fit = read_fit(save(tmp_path / f"a{suffix}", {**values, "gender": "neutral", "note": "x"}), same)
    assert len(fit) == 3
    assert (fit.exact, fit.frame, fit.gender) == (True, "", "neutral")
    for name, value in values.items():
        np.testing.assert_allclose(
            fit.params[name], np.broadcast_to(value, fit.params[name].shape), rtol=1e-6
        )
    assert fit.at(2)["body_pose"].dtype == np.float32
    np.testing.assert_array_equal(fit.at(2)["body_pose"], values["body_pose"][2])
    with pytest.raises(FitError, match="frame 3 is wanted, the file holds 3"):
        fit.at(3)


def test_a_still_body_is_the_same_in_every_frame(
    tmp_path: Path, same: BodyTables, rng: np.random.Generator
) -> None:
    values = {name: value[0] for name, value in pose(rng, transl=3).items()}
    fit = read_fit(
        save(tmp_path / "a.npz", {**values, "body_pose": values["body_pose"].reshape(21, 3)}), same
    )
    np.testing.assert_array_equal(fit.at(7)["body_pose"], values["body_pose"])


def test_amass_poses_are_split_in_their_order(tmp_path: Path, same: BodyTables) -> None:
    poses = np.tile(np.arange(165) / 100, (2, 1))
    values = {
        "poses": poses,
        "trans": np.ones((2, 3)),
        "betas": np.arange(16.0),
        "gender": np.array("neutral"),
    }
    fit = read_fit(save(tmp_path / "a.npz", values), same)
    starts = {"global_orient": 0, "body_pose": 3, "jaw_pose": 66, "leye_pose": 69, "reye_pose": 72}
    starts |= {"left_hand_pose": 75, "right_hand_pose": 120}
    for name, start in starts.items():
        np.testing.assert_allclose(fit.params[name], poses[:, start : start + SIZES[name]])
    np.testing.assert_array_equal(fit.params["betas"][0], np.arange(10))
    np.testing.assert_array_equal(fit.params["transl"], 1)
    of_smplh = read_fit(save(tmp_path / "b.npz", {**values, "poses": poses[:, :156]}), same)
    assert not of_smplh.exact
    np.testing.assert_allclose(of_smplh.params["left_hand_pose"], poses[:, 66:111])
    assert not of_smplh.params["betas"].any()


@pytest.mark.parametrize("count", [6, 12])
def test_smplifyx_bodies_lie_before_its_camera(
    tmp_path: Path, same: BodyTables, body: BodyModel, rng: np.random.Generator, count: int
) -> None:
    values = pose(rng, left_hand_pose=count, right_hand_pose=count)
    turn = Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix()[None].astype(np.float32)
    camera = {"camera_rotation": turn, "camera_translation": np.array([[0.1, -0.2, 20]], np.float32)}
    fit = read_fit(
        save(tmp_path / "000.pkl", {**values, **camera, "pose_embedding": np.zeros((1, 32))}), same
    )
    assert (fit.frame, fit.focal, fit.exact) == ("camera", 5000, True)
    absolute = {
        f"{side}_hand_pose": same.hand_means[side]
        + values[f"{side}_hand_pose"] @ same.hand_components[side][:count]
        for side in ("left", "right")
    }
    before = vertices(body, {**values, **absolute}) @ turn[0].T + camera["camera_translation"]
    np.testing.assert_allclose(vertices(body, fit.params), before, atol=1e-5)


def test_dinar_nests_smplifyx_results(tmp_path: Path, same: BodyTables, rng: np.random.Generator) -> None:
    inner = {**pose(rng), "camera_translation": np.array([[0, 0, 20.0]])}
    fit = read_fit(save(tmp_path / "a.pkl", {"result": {"smplx": inner}, "ltrb": [0, 0, 1, 1]}), same)
    np.testing.assert_allclose(fit.params["transl"], [[0, 0, 20]], atol=1e-6)


@pytest.mark.parametrize(
    ("place", "formula"),
    [
        ("translation", lambda model, scale, moved: model * scale + moved),  # THuman2.0
        ("transl", lambda model, scale, moved: (model + moved) * scale),  # THuman2.1 from number 526 on
    ],
)
def test_thuman_bodies_are_scaled(
    tmp_path: Path, same: BodyTables, body: BodyModel, rng: np.random.Generator, place: str, formula: Any
) -> None:
    values = pose(rng, left_hand_pose=12, right_hand_pose=12)
    moved, scale = np.array([0.1, 0.5, -0.2], np.float32), np.array([0.43], np.float32)
    placed = {**values, place: moved, "scale": scale, "gender": "neutral"}
    fit = read_fit(save(tmp_path / "smplx_param.pkl", placed), same)
    hands = {
        f"{side}_hand_pose": same.hand_means[side]
        + values[f"{side}_hand_pose"] @ same.hand_components[side][:12]
        for side in ("left", "right")
    }
    np.testing.assert_allclose(
        vertices(body, fit.params), formula(vertices(body, {**values, **hands}), scale, moved), atol=1e-5
    )
    assert fit.exact
    del placed["gender"]
    untold = read_fit(save(tmp_path / "smplx_param.pkl", placed), same)
    assert untold.gender == ("male" if place == "translation" else "neutral")
    assert untold.exact == (place == "transl")
    assert read_fit(save(tmp_path / "smplx_param.pkl", placed), replace(same, gender=untold.gender)).exact


def test_fits_of_another_body_keep_pose_and_place(
    tmp_path: Path, other: BodyTables, body: BodyModel, rng: np.random.Generator
) -> None:
    values = pose(rng, left_hand_pose=12, right_hand_pose=45, transl=3)
    fit = read_fit(save(tmp_path / "a.pkl", {**values, "scale": np.array([2.0])}), other)
    assert not fit.exact
    assert not fit.params["betas"].any()
    assert not fit.params["expression"].any()
    np.testing.assert_allclose(fit.params["body_pose"], values["body_pose"])
    np.testing.assert_array_equal(fit.params["left_hand_pose"][0], other.hand_means["left"])
    right = other.hand_means["right"] + values["right_hand_pose"][0]
    np.testing.assert_allclose(fit.params["right_hand_pose"][0], right)
    joints = body(BodyParams.from_dict({k: v.astype(np.float32) for k, v in fit.params.items()})).joints
    pelvis = 2 * (SMPLX_PELVIS + values["transl"])
    np.testing.assert_allclose(joints[:, 0].numpy(), pelvis, atol=1e-5)


def test_transforming_a_fit_transforms_its_vertices(
    tmp_path: Path, same: BodyTables, body: BodyModel, rng: np.random.Generator
) -> None:
    values = {**pose(rng, frames=2, transl=3), "scale": np.array([1.2, 0.9])}
    fit = read_fit(save(tmp_path / "a.npz", values), same)
    turn, shift = Rotation.from_rotvec([1.0, -2.0, 0.5]).as_matrix(), np.array([1.0, 2.0, 3.0])
    moved = fit.transformed(turn, 0.01, shift)
    wanted = 0.01 * vertices(body, fit.params) @ turn.T + shift
    np.testing.assert_allclose(vertices(body, moved.params), wanted, atol=1e-5)


def test_another_focal_length_shows_the_pelvis_at_the_same_pixel(same: BodyTables) -> None:
    params = {name: np.zeros((1, n)) for name, n in SIZES.items()}
    params |= {"scale": np.ones((1, 1)), "transl": np.array([[0.3, 0.2, 20.0]])}
    fit = ImportedFit(params, np.array([[0.0, -0.35, 0.1]]), "camera", "neutral", True, focal=5000.0)
    near = fit.seen_with(1250.0)
    before, after = fit.world_pelvis()[0], near.world_pelvis()[0]
    assert after[2] == pytest.approx(20.1 / 4)
    np.testing.assert_allclose(before[:2] * 5000 / before[2], after[:2] * 1250 / after[2])


def test_turns_of_more_than_once_round_are_wrapped(tmp_path: Path, same: BodyTables) -> None:
    values = {"global_orient": [0, 2 * math.pi + 0.5, 0], "body_pose": [0.0] * 63, "transl": [0, 0, 0]}
    values["body_pose"][3:6] = [0, 0, -3 * math.pi]
    values["body_pose"][9:12] = [3.5, 0, 0]  # less than a whole turn stays as it is
    fit = read_fit(save(tmp_path / "a.json", values), same)
    np.testing.assert_allclose(fit.params["global_orient"], [[0, 0.5, 0]], atol=1e-12)
    turns = fit.params["body_pose"].reshape(21, 3)
    assert abs(turns[1, 2]) == pytest.approx(math.pi)
    assert turns[3].tolist() == [3.5, 0, 0]


GOOD = {"global_orient": [0.0] * 3, "body_pose": [0.0] * 63, "transl": [0.0] * 3}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"body_pose": [0.0] * 69}, r"`body_pose` has the shape \(69,\), \(frames, 63\) is expected"),
        ({"body_pose": [0.0] * 32}, "VPoser's 32 numbers"),
        ({"body_pose": None, "pose_embedding": [0.0] * 32}, "VPoser's 32 numbers"),
        ({"body_pose": None}, "`body_pose` is missing; `poses` "),
        ({"transl": None}, "does not say where the body is"),
        ({"transl": [0.0, float("nan"), 0.0]}, "`transl` holds nan, which is out of range"),
        ({"global_orient": [0.0, 200.0, 0.0]}, "`global_orient` holds 200, which is out of range"),
        ({"scale": [0.0]}, "`scale` holds 0, which is out of range"),
        ({"betas": ["a"]}, "`betas` holds <U1, numbers are expected"),
        ({"betas": [[1, 2], [3]]}, "inhomogeneous"),
        ({"body_pose": [[0.0] * 63] * 2, "transl": [[0.0] * 3] * 3}, "differ in their numbers of frames"),
        ({"gender": "other"}, "`gender` is 'other', one of neutral, male, female is expected"),
        ({"gender": ["male", "male"]}, "`gender` is no short text"),
        (
            {"camera_translation": [0, 0, 1], "camera_rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]},
            "no rotation",
        ),
        ({"left_hand_pose": [0.0] * 46}, r"`left_hand_pose` has the shape \(46,\), \(frames, 1 to 45\)"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, same: BodyTables, changed: dict[str, Any], message: str
) -> None:
    path = save(tmp_path / "a.json", {**GOOD, **changed})
    with pytest.raises(FitError, match=message) as refused:
        read_fit(path, same)
    assert str(refused.value).startswith(str(path))


def test_hostile_and_damaged_files_are_refused(tmp_path: Path, same: BodyTables) -> None:
    with pytest.raises(FitError, match=r"fits are read from \.npz, \.json, \.pkl files"):
        read_fit(tmp_path / "a.txt", same)
    with pytest.raises(FitError, match="cannot be read"):
        read_fit(tmp_path / "none.npz", same)
    for name, data in {
        "a.npz": b"PK",
        "b.npz": b"\x93NUMPY",
        "c.json": b"[" * 100_000,
        "d.json": b"[]",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FitError):
            read_fit(tmp_path / name, same)
    save(tmp_path / "e.npz", {**GOOD, "betas": np.array([{}], dtype=object)})
    with pytest.raises(FitError, match="`betas` holds pickled objects"):
        read_fit(tmp_path / "e.npz", same)
    (tmp_path / "f.pkl").write_bytes(pickle.dumps({"betas": print}))
    with pytest.raises(FitError, match=r"f\.pkl: `builtins\.print` is refused"):
        read_fit(tmp_path / "f.pkl", same)


def test_an_array_that_claims_more_than_its_file_holds_is_refused(tmp_path: Path, same: BodyTables) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**12}, 63), }}".ljust(117) + "\n"
    claim = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("body_pose.npy", claim + b"\0" * 504)
    with pytest.raises(FitError, match="claims the shape"):
        read_fit(tmp_path / "a.npz", same)
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("poses.npy", b"\0" * (257 << 20))
    assert (tmp_path / "b.npz").stat().st_size < 1 << 20
    with pytest.raises(FitError, match="unpacks to more than 256 MiB"):
        read_fit(tmp_path / "b.npz", same)
