"""Which rows are fitted alone or not at all; what is implausible; and fits of known bodies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import orbit_camera
from dinar_models.fitting.observations import Fit, Observations
from dinar_models.metrics import vertex_error
from stages import fit_body as stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages._data.fit_rows import NOT_SELECTED, needing_both, selected_alone
from stages._data.images import read_bodies
from tests.stages.tiny_world import IMAGE, VIEWS, World, save_store

PARAMS = stage.FitBodyParams(multi_view_effort=0.2, single_view_effort=0.2, max_reject_ratio=0.5)
LOST = "no person found"


def made_fit(reprojection: list[float], iou: list[float], excess: float = 0.0, depth: float = 0.0) -> Fit:
    """One body of a person 100 px long, seen in as many views as there are numbers."""
    per_view = torch.tensor([reprojection])
    person, iou_per_view = torch.full_like(per_view, 100.0), torch.tensor([iou])
    rest = (torch.zeros(1), torch.tensor([excess]), torch.tensor([depth]))
    return Fit(BodyParams.zeros(1), per_view, person, iou_per_view, *rest)


@pytest.mark.parametrize(
    ("fit", "verdict"),
    [
        (made_fit([2.0], [0.8]), ""),
        (made_fit([float("nan")], [0.8]), "the fit diverged"),
        (made_fit([2.0], [0.55]), "the body covers the person badly: IoU 0.55 < 0.6"),
        (made_fit([7.0], [0.8]), "keypoints are 7.0% of the person's length off"),
        (made_fit([2.0], [0.8], excess=0.75), "a joint is 0.75 rad beyond its limit"),
        (made_fit([2.0], [0.8], depth=0.08), "a limb is 8 cm inside the body"),
        # The median over views: one bad view of three changes nothing, an empty mask says nothing.
        (
            made_fit([2.0, 90.0, 2.0], [0.8, 0.1, float("nan")]),
            "the body covers the person badly: IoU 0.10 < 0.6",
        ),
        (made_fit([2.0, 90.0, 2.0], [0.8, 0.8, 0.1]), ""),
        (made_fit([2.0], [float("nan")]), ""),
    ],
)
def test_verdicts(fit: Fit, verdict: str) -> None:
    assert stage.judge(fit, stage.FitBodyParams()) == [verdict]


@pytest.fixture(scope="module")
def body(world: World) -> BodyModel:
    return BodyModel.load(world.paths["body"])


def test_the_crop_holds_the_body_and_the_mask_with_a_margin(world: World, body: BodyModel) -> None:
    """Masks may have another resolution than the image; the farther edge counts, be it the body's or the mask's."""
    params = world.bodies.select([0])
    camera = orbit_camera(0.0, 0.0, 4.0, target=torch.zeros(3), size=200, fov=0.8)
    pixels = camera.project(body(params).vertices)[0]
    mask = torch.zeros(1, 1, 100, 100)
    mask[..., 40:60, 5:50] = 1  # columns 10 to 100 of the image
    left, right = 10.0, float(pixels[:, 0].max())
    top, bottom = (float(pixels[:, 1].min()), float(pixels[:, 1].max()))
    assert left < float(pixels[:, 0].min())
    assert right > 100
    fit = replace(made_fit([0.0], [1.0]), params=params)
    crop = stage.person_crop(body, fit, Observations(torch.zeros(1, 1, 1, 3), camera, mask))
    side = 1.2 * max(bottom - top, right - left)
    assert float(crop.side) == pytest.approx(side, rel=1e-5)
    assert float(crop.x) == pytest.approx((left + right - side) / 2, rel=1e-4)
    assert float(crop.y) == pytest.approx((top + bottom - side) / 2, rel=1e-4)


@pytest.fixture(scope="module")
def inputs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """The world, but keypoints of scan b0 in the first view only, and none in the first view of test person d."""
    root = tmp_path_factory.mktemp("damaged")
    keypoints = open_store(world.paths["keypoints"], "keypoints")
    index = keypoints.index.copy()
    lost = (index["scan"] == "b0") & (index["view"] > 0) | (index["scan"] == "d0") & (index["view"] == 0)
    index.loc[lost, "ok"] = False
    index.loc[lost, "reason"] = LOST
    arrays = {name: keypoints[name][:] for name in ("xyc", "world")}
    save_store(root / "keypoints", "keypoints", index, arrays, attrs={"layout": keypoints.attrs["layout"]})
    return world.inputs("views", "parsing", "body", keypoints=root / "keypoints")


def test_rows_fitted_alone_are_the_held_out_ones_of_the_first_scans(inputs: Paths) -> None:
    views = open_store(inputs["views"], "views").index
    usable = needing_both(views, inputs["keypoints"], inputs["parsing"])
    index = selected_alone(usable, PARAMS.single_splits, PARAMS.single_scans)
    assert index["scan"].tolist() == ["c0"] * VIEWS + ["d0"] * VIEWS
    assert index["view_row"].tolist() == list(range(12, 20))
    assert index["reason"].tolist() == [""] * VIEWS + [f"keypoints: {LOST}"] + [""] * (VIEWS - 1)
    index = selected_alone(usable, ("train",), PARAMS.single_scans)
    assert index["scan"].tolist() == ["a0"] * VIEWS + ["a1"] * VIEWS
    assert index["reason"].tolist() == [""] * VIEWS + [NOT_SELECTED] * VIEWS


@pytest.fixture(scope="module")
def fits(inputs: Paths, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """`bodies` and `bodies_single`."""
    root = tmp_path_factory.mktemp("fits")
    outputs = Paths({name: root / name for name in stage.STAGE.outputs})
    stage.run(PARAMS, inputs, outputs, Runtime(work_root=root / "work", runs_root=root / "runs"))
    return open_store(outputs["bodies"], "bodies"), open_store(outputs["bodies_single"], "bodies")


def errors_mm(store: Store, rows: np.ndarray, true: BodyParams, body: BodyModel) -> np.ndarray:
    """Mean vertex distances, the middles aligned: a single view hardly knows how far away a body is."""
    with torch.no_grad():
        fitted, wanted = (body(p).vertices.numpy() for p in (read_bodies(store, rows.tolist()), true))
    return 1e3 * np.array([vertex_error(f, w) for f, w in zip(fitted, wanted, strict=True)])


def test_joint_fits_find_the_bodies_and_all_rows_of_a_scan_share_one(
    fits: tuple[Store, Store], world: World, body: BodyModel
) -> None:
    joint, _ = fits
    firsts = np.array([0, 4, 12, 16])
    true = world.bodies.select(torch.from_numpy(firsts // VIEWS))
    assert errors_mm(joint, firsts, true, body).max() < 25
    assert np.abs(joint.read("transl", firsts) - true.transl.numpy()).max() < 0.05
    for row in firsts:
        for name in ("body_pose", "betas", "transl"):
            assert np.ptp(joint[name][row : row + VIEWS], axis=0).max() == 0
    assert (joint["residuals"][:][joint.ok_rows(), 1] > 0.6).all()
    assert joint.index.loc[joint.ok_rows(), "verdict"].eq(stage.PLAUSIBLE).all()
    assert joint.index["crop_side"].eq(IMAGE).all()


def test_a_scan_seen_by_one_view_only_is_rejected_as_a_whole(fits: tuple[Store, Store]) -> None:
    joint, _ = fits
    assert joint.index.loc[~joint.index["ok"], "scan"].tolist() == ["b0"] * VIEWS
    assert set(joint.index.loc[~joint.index["ok"], "reason"]) == {"keypoints in fewer than two views"}
    assert (joint["scale"][8:12] == 1).all()


def test_single_fits_find_the_pose_from_one_view(
    fits: tuple[Store, Store], world: World, body: BodyModel
) -> None:
    _, single = fits
    rows = single.ok_rows()
    assert rows.tolist() == [0, 1, 2, 3, 5, 6, 7]
    true = world.bodies.select(torch.from_numpy(single.index["view_row"].to_numpy()[rows] // VIEWS))
    assert errors_mm(single, rows, true, body).max() < 100
    assert single.index["reason"][4] == f"keypoints: {LOST}"


def test_photos_without_a_guess_in_space_are_fitted_too(world: World, body: BodyModel) -> None:
    """OpenPose's keypoints are flat."""
    sources = stage.Sources(*(world.paths[name] for name in ("views", "parsing", "keypoints", "body")))
    observations = stage.observe(sources, np.array([[16]]), np.ones((1, 1), bool))
    observations.world = None
    photos = stage.fit_photos(sources.body, "mediapipe", observations, PARAMS)
    assert photos.verdicts == [""]
    assert float(photos.crop.side) < IMAGE


def test_frames_on_both_sides_of_a_shards_end_have_one_shape(world: World, tmp_path: Path) -> None:
    """The four views of a scan as frames of a video; each shard fits the whole window and keeps its own half."""
    views = open_store(world.paths["views"], "views")
    arrays = {name: views[name][:] for name in views.schema.arrays}
    index = views.index.assign(source="video")
    save_store(tmp_path / "views", "views", index, arrays, attrs=dict(views.attrs))
    inputs = world.inputs("parsing", "keypoints", "body", views=tmp_path / "views")
    sources = stage.Sources(*(inputs[name] for name in ("views", "parsing", "keypoints", "body")))
    halves = [stage.fit_images(rows, sources=sources, params=PARAMS) for rows in (range(2), range(2, VIEWS))]
    betas = np.concatenate([half.arrays["betas"] for half in halves])
    assert np.ptp(betas, axis=0).max() == 0
    assert np.abs(betas).max() > 0
    whole = stage.fit_images(range(VIEWS), sources=sources, params=PARAMS)
    poses = np.concatenate([half.arrays["body_pose"] for half in halves])
    np.testing.assert_array_equal(poses, whole.arrays["body_pose"])


def test_photos_are_copied_not_fitted_twice(world: World, tmp_path: Path) -> None:
    bodies = world.paths["bodies"]
    copied = stage.copy_rows(range(1, 3), bodies=bodies, view_rows=np.array([4, 0, 19]))
    np.testing.assert_array_equal(copied.arrays["betas"], open_store(bodies, "bodies").read("betas", [0, 19]))
    assert copied.columns["crop_side"] == [IMAGE, IMAGE]
    assert copied.rejects == {}
