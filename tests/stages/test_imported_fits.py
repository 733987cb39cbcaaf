"""Fits of others at the rows of a data set: where they land, which replace the optimisation, which are not used."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, orbit_camera
from dinar_models.fitting.observations import Fit, Observations
from stages import fit_body
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._data.imported_fits import RAW_TO_SCAN, FitFiles, KnownFits, fit_known, known_fits
from stages.sources.card import CardError
from tests.stages.tiny_world import IMAGE, VIEWS, World

LINES = pd.DataFrame({"scan": ["a0", "a1", "b0"], "subject": ["a", "a", "b"], "view": 0})


def cameras(count: int) -> Camera:
    return orbit_camera(torch.zeros(count), 0.0, 3.0, target=torch.zeros(3), size=IMAGE, fov=0.8)


def write_card(root: Path, **more: str) -> Path:
    path = root / "card.yaml"
    path.write_text(json.dumps({"adapter": "scans", "path": "x", "licence": "CC0-1.0", **more}))
    return path


def raw_fit(digest: str) -> dict[str, Any]:
    """In centimetres, z up, far from the origin; of the body with this digest."""
    rng = np.random.default_rng(3)
    sizes = {"global_orient": 3, "body_pose": 63, "betas": 10, "left_hand_pose": 45, "right_hand_pose": 45}
    values = {name: rng.normal(0, 0.3, (1, n)) for name, n in sizes.items()}
    placed = {"scale": np.array([95.0]), "translation": np.array([[300.0, 20.0, 110.0]])}
    return {**values, **placed, "body_digest": digest, "flat_hand_mean": True}


def save(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(values))


def body_vertices(body: BodyModel, params: BodyParams) -> np.ndarray:
    with torch.no_grad():
        return body(params).vertices.numpy()


def test_fits_of_scans_move_with_their_meshes(tiny_body: Path, tmp_path: Path) -> None:
    """z up becomes y up, the person turns round, centimetres become metres, the feet come to the origin."""
    body = BodyModel.load(tiny_body)
    values = raw_fit(body.digest)
    save(tmp_path / "a0" / "smplx_param.pkl", values)
    (tmp_path / "a1").mkdir()
    (tmp_path / "a1" / "smplx_param.pkl").write_bytes(b"damaged")
    turn = Rotation.from_euler("xy", [-90, 180], degrees=True).as_matrix()
    shift = np.array([3.0, 0.5, -0.2])
    matrix = np.concatenate([0.01 * turn, shift[:, None]], axis=1)
    lines = LINES.assign(**{RAW_TO_SCAN: json.dumps(matrix.ravel().tolist())})
    card = write_card(tmp_path, fits="{scan}/smplx_param.pkl")
    files = FitFiles.find(tmp_path, card, tiny_body, lines)
    assert files is not None
    found = known_fits(lines, cameras(3), files)
    assert found.known.tolist() == [True, False, False]
    assert found.replaces.tolist() == [True, False, False]
    neutral = BodyParams.zeros(1).as_dict()
    posed = {
        k: torch.as_tensor(v, dtype=torch.float32) for k, v in values.items() if k in neutral and k != "scale"
    }
    raw = 95 * body_vertices(body, BodyParams.from_dict({**neutral, **posed})) + values["translation"]
    np.testing.assert_allclose(
        body_vertices(body, found.start.select([0])), 0.01 * raw @ turn.T + shift, atol=2e-5
    )
    assert found.start.body_pose[1:].abs().max() == 0


def test_fits_of_another_body_do_not_replace(tiny_body: Path, tmp_path: Path) -> None:
    save(tmp_path / "fits" / "a.pkl", raw_fit("of SMPL-X"))
    files = FitFiles.find(tmp_path, write_card(tmp_path, fits="fits/{subject}.pkl"), tiny_body, LINES)
    assert files is not None
    found = known_fits(LINES, cameras(3), files)
    assert found.known.tolist() == [True, True, False]  # both scans of the subject
    assert not found.replaces.any()
    assert found.start.betas.abs().max() == 0


def test_a_camera_frame_says_nothing_about_a_scan(
    tiny_body: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "a0.pkl", raw_fit(""))
    card = write_card(tmp_path, fits="{scan}.pkl", fits_frame="camera")
    files = FitFiles.find(tmp_path, card, tiny_body, LINES)
    assert files is not None
    found = known_fits(LINES, cameras(3), files)
    assert not found.known.any()
    assert "a0: the fit is not used: it is in a camera's frame" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".mp4"])
def test_smplifyx_fits_of_images_keep_their_pixels(tiny_body: Path, tmp_path: Path, suffix: str) -> None:
    """SMPLify-X's 5000 px in an image 400 px high; ours is another focal length and a square of 64 px."""
    rng = np.random.default_rng(1)
    if suffix == ".png":
        Image.new("RGB", (300, 400)).save(tmp_path / "anna.png")
    else:
        import imageio.v2 as imageio

        imageio.mimwrite(tmp_path / "anna.mp4", [np.zeros((400, 304, 3), np.uint8)] * 3, macro_block_size=8)
    values = {"global_orient": rng.normal(0, 1, (1, 3)), "body_pose": rng.normal(0, 0.2, (1, 63))}
    moved = np.array([0.3, -0.2, 30.0])
    save(tmp_path / "anna.pkl", {**values, "camera_translation": moved[None]})
    card = write_card(tmp_path, adapter="photos", fits="{scan}.pkl")
    lines = pd.DataFrame({"scan": ["anna"], "subject": ["anna"], "view": 0})
    files = FitFiles.find(tmp_path, card, tiny_body, lines)
    assert files is not None
    turned = Rotation.from_rotvec([0.1, 0.4, 0]).as_matrix().astype(np.float32)
    K = torch.tensor([[[160.0, 0, 32], [0, 160, 32], [0, 0, 1]]])
    camera = Camera(K, torch.from_numpy(turned)[None], torch.tensor([[0.2, 0.1, 0.3]]), 64)
    found = known_fits(lines, camera, files)
    pelvis = BodyModel.load(tiny_body)(found.start).joints[:, :1]
    at_rest = np.array([0.003, -0.351, 0.012])  # of SMPL-X's body, which was fitted
    x, y, z = at_rest + moved
    pixel = 64 / 400 * np.array([5000 * x / z, 5000 * y / z]) + 32
    np.testing.assert_allclose(camera.project(pelvis)[0, 0].numpy(), pixel, atol=1e-3)
    assert float(camera.transform(pelvis)[0, 0, 2]) == pytest.approx(z * (160 / 64 * 400) / 5000, rel=1e-4)


def test_the_frames_of_a_sequence_go_to_the_views(tiny_body: Path, tmp_path: Path) -> None:
    poses = np.zeros((2, 165))
    poses[1, 3] = 0.5
    np.savez(tmp_path / "a.npz", poses=poses, trans=np.zeros((2, 3)))
    card = write_card(tmp_path, adapter="video", fits="{scan}.npz")
    lines = pd.DataFrame({"scan": ["a"] * 3, "subject": ["a"] * 3, "view": [1, 0, 2]})
    files = FitFiles.find(tmp_path, card, tiny_body, lines)
    assert files is not None
    found = known_fits(lines, cameras(3), files)
    assert found.known.tolist() == [True, True, False]
    assert found.start.body_pose[:, 0].tolist() == [0.5, 0.0, 0.0]


def test_a_card_without_fits_has_none_and_a_wrong_pattern_is_an_error(
    tiny_body: Path, tmp_path: Path
) -> None:
    assert FitFiles.find(tmp_path, write_card(tmp_path), tiny_body, LINES) is None
    assert FitFiles.find(None, None, tiny_body, LINES) is None
    card = write_card(tmp_path, fits="{scan}/smplx_param.pkl")
    with pytest.raises(CardError, match=r"there is no .*a0/smplx_param\.pkl, nor that of any other scan"):
        FitFiles.find(tmp_path, card, tiny_body, LINES)


def numbered(values: list[float]) -> BodyParams:
    params = BodyParams.zeros(len(values))
    params.transl[:, 0] = torch.tensor(values)
    return params


def as_fit(params: BodyParams, iou: float) -> Fit:
    column, row = torch.zeros(len(params), 1), torch.zeros(len(params))
    return Fit(params, column, column, column + iou, row, row, row)


def test_bodies_that_replace_are_judged_and_the_others_fitted() -> None:
    camera = cameras(4)
    xyc = torch.arange(4.0)[:, None, None, None].expand(4, 1, 1, 3)
    known = KnownFits(
        numbered([10.0, 11.0, 0.0, 13.0]),
        torch.tensor([True, True, False, True]),
        torch.tensor([False, True, False, True]),
    )

    def fit(observations: Observations, start: BodyParams | None, mask: torch.Tensor | None) -> Fit:
        if start is None or mask is None:
            return as_fit(numbered(observations.xyc[:, 0, 0, 0].tolist()), 0.7)
        assert mask.tolist() == [True, False]
        return as_fit(numbered((start.transl[:, 0] + observations.xyc[:, 0, 0, 0]).tolist()), 0.8)

    def judge(params: BodyParams, observations: Observations) -> Fit:
        assert observations.xyc[:, 0, 0, 0].tolist() == [1, 3]
        return as_fit(params, 0.9)

    joined = fit_known(known, Observations(xyc, camera), fit=fit, judge=judge)
    assert joined.params.transl[:, 0].tolist() == [10, 11, 2, 13]
    assert joined.iou[:, 0].tolist() == pytest.approx([0.8, 0.9, 0.8, 0.9])
    untouched = fit_known(None, Observations(xyc, camera), fit=fit, judge=judge)
    assert untouched.params.transl[:, 0].tolist() == [0, 1, 2, 3]


def test_the_stage_stops_at_a_card_whose_fits_are_not_there(world: World, tmp_path: Path) -> None:
    inputs = world.inputs("views", "parsing", "keypoints", "body")
    card = write_card(tmp_path, fits="{scan}.npz")
    inputs = Paths({**inputs, "raw": tmp_path, "card": card})
    outputs = Paths({name: tmp_path / name for name in fit_body.STAGE.outputs})
    fit_body.STAGE.check_paths(inputs, outputs)
    with pytest.raises(CardError, match=r"there is no .*a0\.npz"):
        fit_body.run(fit_body.FitBodyParams(), inputs, outputs, Runtime(work_root=tmp_path / "work"))


@pytest.fixture
def brought(world: World, tmp_path: Path) -> Paths:
    """The world; scan a0 brings the body that was rendered, scan a1 one beside it; both made for this body."""
    index = open_store(world.paths["views"], "views").index
    for scan, moved in (("a0", 0.0), ("a1", 5.0)):
        row = int((index["scan"] == scan).to_numpy().argmax()) // VIEWS
        values = {k: v.double().numpy() for k, v in world.bodies.select([row]).as_dict().items()}
        values["transl"] = values["transl"] + [moved, 0, 0]
        digest = BodyModel.load(world.paths["body"]).digest
        np.savez(tmp_path / f"{scan}.npz", **values, body_digest=digest)
    inputs = world.inputs("views", "parsing", "keypoints", "body")
    return Paths({**inputs, "raw": tmp_path, "card": write_card(tmp_path, fits="{scan}.npz")})


def test_brought_fits_replace_the_optimisation_and_are_judged(
    brought: Paths, world: World, tmp_path: Path
) -> None:
    outputs = Paths({name: tmp_path / name for name in fit_body.STAGE.outputs})
    params = fit_body.FitBodyParams(multi_view_effort=0.1, single_view_effort=0.1, max_reject_ratio=0.9)
    fit_body.run(params, brought, outputs, Runtime(work_root=tmp_path / "w", runs_root=tmp_path / "r"))
    bodies = open_store(outputs["bodies"], "bodies")
    of = {scan: bodies.index.index[bodies.index["scan"] == scan].to_numpy() for scan in ("a0", "a1", "b0")}
    for name in ("body_pose", "betas", "transl"):
        brought_exactly = world.bodies.as_dict()[name][0].numpy()
        assert (bodies[name][of["a0"][0]] == brought_exactly).all()
    assert bodies.index["ok"][of["a0"]].all()
    assert not bodies.index["ok"][of["a1"]].any()  # beside the person
    assert bodies.index["ok"][of["b0"]].all()  # fitted, for it brings none
    assert np.abs(bodies["body_pose"][of["b0"][0]] - world.bodies.body_pose[2].numpy()).max() > 0
