"""A file in the layout of the licensed SMPL-X takes the open body's place: read, loaded, fitted, imported into."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dinar_models.animation import standing
from dinar_models.atlas.flattening import signed_areas
from dinar_models.atlas.segmentation import PART_NAMES
from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import orbit_camera
from dinar_models.fitting.fitter import BodyFitter
from dinar_models.fitting.observations import Observations
from dinar_models.fitting.schedule import multi_view_schedule
from dinar_models.keypoints import MEDIAPIPE
from dinar_models.metrics import vertex_error
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.uv_atlas import Atlas
from stages import build_body
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages.sources.body_tables import BodyTables
from stages.sources.fits import read_fit
from tests.stages.smplx_layout import FACES, VERTICES, write_smplx_layout

VIEWS = 4


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def raw(tiny_body: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the file, whose pickled dict is a trap."""
    folder = tmp_path_factory.mktemp("licensed") / "body_models"
    trap = np.array(Trap(folder / "sprung"), dtype=object)
    write_smplx_layout(tiny_body, folder / build_body.FILE_NAME, joint2num=trap)
    return folder


@pytest.fixture(scope="module")
def licensed(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What build_body makes of it, without the atlas."""
    folder = tmp_path_factory.mktemp("body")
    (folder / "smplx").mkdir()
    arrays = build_body.read_licensed(raw / build_body.FILE_NAME)
    np.savez(folder / "smplx" / build_body.FILE_NAME, **arrays)  # type: ignore[arg-type]
    card = {"kind": "licensed", "gender": "neutral", "body_digest": BodyModel.load(folder).digest}
    (folder / "body.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def body(licensed: Path) -> BodyModel:
    return BodyModel.load(licensed)


def test_nothing_in_the_file_is_unpickled(raw: Path, licensed: Path) -> None:
    with np.load(licensed / "smplx" / build_body.FILE_NAME) as file:
        assert file["shapedirs"].shape == (VERTICES, 3, 20)
        assert set(file.files) == set(build_body.ARRAY_DIMENSIONS)
    assert not (raw / "sprung").exists()


@pytest.mark.slow
def test_the_stage_builds_body_and_atlas(raw: Path, tmp_path: Path) -> None:
    """No face of the atlas is flipped, although the skin is open in the sockets."""
    params = build_body.BuildBodyParams(seed=0)
    said = build_body.run(params, Paths({"licensed": raw}), Paths({"body": tmp_path / "body"}), Runtime())
    assert (said["kind"], said["vertices"], said["faces"]) == ("licensed", VERTICES, FACES)
    assert json.loads((tmp_path / "body" / "body.json").read_text())["kind"] == "licensed"
    atlas = Atlas.load(tmp_path / "body" / "atlas.npz")
    assert 0 < atlas.corner_uv.min() <= atlas.corner_uv.max() < 1
    flat = atlas.corner_uv.reshape(-1, 2).astype(np.float64)
    areas = signed_areas(flat, np.arange(3 * FACES).reshape(-1, 3))
    assert (np.sign(areas) == np.sign(np.median(areas))).all()
    assert len(np.unique(atlas.face_part)) == len(PART_NAMES)


def person() -> BodyParams:
    """Standing, of another shape than the mean, with an open mouth and bent fingers."""
    params = standing(BodyParams.zeros(1))
    params.betas[0, :2] = torch.tensor([1.5, -1.0])
    params.expression[0, 0] = 1.0
    params.jaw_pose[0, 0] = 0.3
    params.left_hand_pose[0, 2::3] = -0.5
    return params


def test_it_moves_as_the_body_whose_shape_it_has(body: BodyModel, tiny_body: Path) -> None:
    """Joints, finger tips, toes and landmarks are where the open body has them, up to the decimation."""
    made, original = (model(person()) for model in (body, BodyModel.load(tiny_body)))
    assert made.vertices.shape == (1, VERTICES, 3)
    assert (made.joints - original.joints).norm(dim=-1).max() < 0.006
    heights = [
        out.vertices[..., 1].amax(dim=1) - out.vertices[..., 1].amin(dim=1) for out in (made, original)
    ]
    assert (heights[0] - heights[1]).abs().max() < 0.003


def observed(body: BodyModel, params: BodyParams) -> Observations:
    """What detectors without errors would see of one body from VIEWS sides."""
    out = body(params)
    yaw = torch.arange(VIEWS) * (2 * math.pi / VIEWS)
    camera = orbit_camera(yaw, 0.0, 4.0, target=torch.tensor([0.0, -0.4, 0.0]), size=128, fov=0.55)
    mask = EmbreeRasterizer().rasterize(out.vertices, body.faces, camera).covered.float()
    known = MEDIAPIPE.smplx_index >= 0
    xyc = torch.zeros(VIEWS, len(MEDIAPIPE), 3)
    xyc[:, known, :2] = camera.project(out.joints[:, MEDIAPIPE.smplx_index[known]])
    xyc[:, known, 2] = 1
    return Observations(xyc[None], camera, mask[None])


def test_it_can_be_fitted(body: BodyModel) -> None:
    params = person()
    fitter = BodyFitter(body, MEDIAPIPE, EmbreeRasterizer())
    with torch.no_grad():
        observations = observed(body, params)
    fit = fitter.fit_multi_view(observations, multi_view_schedule(0.1))
    with torch.no_grad():
        found, true = (body(p).vertices[0].numpy() for p in (fit.params, params))
    assert 1e3 * vertex_error(found, true) < 25
    assert fit.iou.min() > 0.8


def test_fits_of_smplx_replace_and_its_hand_components_count(
    licensed: Path, tiny_body: Path, tmp_path: Path
) -> None:
    coefficients = np.arange(6) / 10
    pose = {
        "global_orient": np.zeros(3),
        "body_pose": np.zeros(63),
        "transl": np.zeros(3),
        "betas": np.ones(10),
    }
    np.savez(tmp_path / "a.npz", left_hand_pose=coefficients, **pose)
    with np.load(licensed / "smplx" / build_body.FILE_NAME) as file:
        hand = file["hands_meanl"] + coefficients @ file["hands_componentsl"][:6]
    fit = read_fit(tmp_path / "a.npz", BodyTables.load(licensed))
    assert fit.exact
    np.testing.assert_allclose(fit.params["left_hand_pose"][0], hand, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fit.params["betas"], 1)
    assert not read_fit(tmp_path / "a.npz", BodyTables.load(tiny_body)).exact
