"""Fits of a body from its own projected joints: joints come back, bodies do not mix, wrong sides are put right."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, orbit_camera
from dinar_models.fitting.energy import BONES
from dinar_models.fitting.fitter import BodyFitter
from dinar_models.fitting.observations import Observations
from dinar_models.fitting.schedule import (
    Phase,
    Schedule,
    Weights,
    multi_view_schedule,
    single_view_schedule,
)
from dinar_models.fitting.terms import natural_stance
from dinar_models.keypoints import MEDIAPIPE, SMPLX_NAMES
from dinar_models.rasterize.embree import EmbreeRasterizer

SIZE = 128
BODY_JOINTS = 22
"""Pelvis to wrists, what the body's keypoints fix."""


@pytest.fixture(scope="module")
def fitter(tiny_body: Path) -> BodyFitter:
    return BodyFitter(BodyModel.load(tiny_body), MEDIAPIPE, EmbreeRasterizer(), surface_vertices=300)


@pytest.fixture(scope="module")
def people() -> BodyParams:
    """Two people near the natural stance: one walks and turns away a little, one lifts an arm and is broad."""
    params = BodyParams.zeros(2)
    pose = natural_stance().mean.repeat(2, 1, 1)
    pose[0, 0, 0], pose[0, 4, 0] = -0.5, 0.6  # left thigh forward, right knee bent
    pose[1, 15, 2] = 0.4  # left arm up
    params.body_pose = pose.reshape(2, 63)
    params.global_orient = torch.tensor([[0.0, 0.5, 0.0], [0.0, -0.2, 0.0]])
    params.transl = torch.tensor([[0.1, 0.2, 0.0], [-0.1, 0.0, 0.1]])
    params.betas[1, 0] = 1.5
    return params


def around(views: int, bodies: int = 1) -> Camera:
    yaw = torch.arange(views).repeat(bodies) * (2 * math.pi / views)
    return orbit_camera(yaw, 0.1, 4.0, target=torch.tensor([0.0, -0.2, 0.0]), size=SIZE, fov=0.6)


def observe(fitter: BodyFitter, params: BodyParams, camera: Camera, *, world: bool = False) -> Observations:
    """What a perfect detector says: joints projected; `world` adds them in camera axes around the hips."""
    views = len(camera) // len(params)
    joints = fitter.body(params).joints[:, MEDIAPIPE.smplx_index].repeat_interleave(views, dim=0)
    known = torch.from_numpy(MEDIAPIPE.smplx_index >= 0).float()
    xyc = torch.cat([camera.project(joints), known.expand(len(joints), -1)[..., None]], dim=-1)
    xyc = xyc.unflatten(0, (len(params), views))
    if not world:
        return Observations(xyc, camera)
    hips = joints[:, torch.from_numpy(MEDIAPIPE.find("left_hip", "right_hip"))].mean(dim=1, keepdim=True)
    guess = (joints - hips) @ camera.R.mT * known[:, None]
    return Observations(xyc, camera, world=guess.unflatten(0, (len(params), views)))


def joint_error(fitter: BodyFitter, fitted: BodyParams, true: BodyParams) -> Tensor:
    """Mean distance of the body's joints, m, per body."""
    difference = fitter.body(fitted).joints - fitter.body(true).joints
    return difference[:, :BODY_JOINTS].norm(dim=-1).mean(dim=1)


def plain(schedule: Schedule) -> Schedule:
    """Without silhouettes: keypoints alone are to be explained."""
    return replace(schedule, phases=schedule.phases[:-1])


def test_four_views_give_the_joints_back(fitter: BodyFitter, people: BodyParams) -> None:
    observed = observe(fitter, people, around(4, bodies=2))
    fit = fitter.fit_multi_view(observed, plain(multi_view_schedule(0.3)))
    assert joint_error(fitter, fit.params, people).max() < 0.015
    assert fit.reprojection.max() < 0.5
    assert fit.iou.isnan().all()
    height = fitter.body(people).vertices[..., 1]
    pixels = (height.amax(1) - height.amin(1)) * SIZE / (2 * math.tan(0.3)) / 4
    torch.testing.assert_close(fit.person.mean(1), pixels, rtol=0.15, atol=0)


def test_bodies_of_a_batch_do_not_mix(fitter: BodyFitter, people: BodyParams) -> None:
    schedule = plain(multi_view_schedule(0.05))
    observed = observe(fitter, people, around(3, bodies=2))
    together = fitter.fit_multi_view(observed, schedule)
    alone = fitter.fit_multi_view(observed.select(torch.tensor([1])), schedule)
    torch.testing.assert_close(together.params.body_pose[1:], alone.params.body_pose, atol=1e-3, rtol=0)
    torch.testing.assert_close(together.params.transl[1:], alone.params.transl, atol=1e-3, rtol=0)


def test_a_view_with_left_and_right_exchanged_does_not_turn_the_body(
    fitter: BodyFitter, people: BodyParams
) -> None:
    observed = observe(fitter, people.select([0]), around(4))
    observed.xyc[0, 1] = observed.xyc[0, 1, torch.from_numpy(MEDIAPIPE.mirrored)]
    fit = fitter.fit_multi_view(observed, plain(multi_view_schedule(0.2)))
    assert joint_error(fitter, fit.params, people.select([0])).item() < 0.02


@pytest.mark.parametrize("yaw", [0.3, math.pi, -1.4])
def test_one_view_with_a_guess_in_space_finds_the_pose(
    fitter: BodyFitter, people: BodyParams, yaw: float
) -> None:
    """From the front, from behind and in profile; where the body stands in depth, one view hardly knows."""
    camera = orbit_camera(yaw, 0.0, 4.0, target=torch.tensor([0.0, -0.2, 0.0]), size=SIZE, fov=0.6)
    observed = observe(fitter, people.select([0]), camera, world=True)
    fit = fitter.fit_single_view(observed, plain(single_view_schedule(0.3)))
    joints = torch.stack([fitter.body(p).joints[0, :BODY_JOINTS] for p in (fit.params, people.select([0]))])
    placed, true = joints - joints.mean(dim=1, keepdim=True)
    assert (placed - true).norm(dim=-1).mean().item() < 0.05
    assert fit.reprojection.item() < 1.5


@pytest.mark.parametrize("turn", [0.0, math.pi])
def test_front_and_back_are_told_apart_without_a_guess(
    fitter: BodyFitter, people: BodyParams, turn: float
) -> None:
    person = people.select([1])
    person.global_orient = torch.tensor([[0.0, turn, 0.0]])
    camera = orbit_camera(0.0, 0.0, 4.0, target=torch.tensor([0.0, -0.2, 0.0]), size=SIZE, fov=0.6)
    fit = fitter.fit_single_view(observe(fitter, person, camera), plain(single_view_schedule(0.1)))
    hips = fitter.body(fit.params).joints[0, [SMPLX_NAMES.index(f"{s}_hip") for s in ("left", "right")], 0]
    assert (hips[0] > hips[1]) == (turn == 0)


def test_the_true_body_explains_everything(fitter: BodyFitter, people: BodyParams) -> None:
    """Its data and silhouette terms are nearly nothing; moved by 5 cm they are not."""
    person = people.select([0])
    observed = observe(fitter, person, around(3))
    covered = fitter.rasterizer.rasterize(fitter.body(person).vertices, fitter.body.faces, observed.camera)
    observed.mask = covered.covered[None].float()
    schedule = replace(multi_view_schedule(), silhouette_size=64)
    target, _ = fitter.triangulated(observed)
    variables = {n: v for n, v in person.as_dict().items() if n not in ("transl", "scale")}
    variables["pelvis"] = fitter.body(person).joints[:, 0]
    masks = torch.nn.functional.avg_pool2d(observed.mask[0][:, None], 2)[:, 0]
    weights = Weights(silhouette=1.0, hands=1.0, face=1.0)
    true = fitter.energy.terms(variables, target, masks, schedule, weights)
    assert true["data"].item() < 1e-4
    assert true["direction"].item() < 1e-3
    assert true["silhouette"].item() < 0.35  # three views, a coarse surface
    moved = {**variables, "pelvis": variables["pelvis"] + torch.tensor([0.05, 0.0, 0.0])}
    wrong = fitter.energy.terms(moved, target, masks, schedule, weights)
    assert wrong["data"].item() > 10
    assert wrong["silhouette"].item() > 1.2 * true["silhouette"].item()
    assert wrong["shape"].item() == true["shape"].item()


def test_overlap_of_a_fit_is_measured_where_there_is_a_mask(fitter: BodyFitter, people: BodyParams) -> None:
    person = people.select([0])
    observed = observe(fitter, person, around(2))
    fragments = fitter.rasterizer.rasterize(fitter.body(person).vertices, fitter.body.faces, observed.camera)
    observed.mask = fragments.covered[None].float()
    observed.mask[0, 1] = 0
    schedule = Schedule((Phase(40, 0.06, ("global_orient", "pelvis", "body_pose", "betas")),))
    fit = fitter.fit_multi_view(observed, schedule)
    assert fit.iou[0, 0].item() > 0.8
    assert fit.iou[0, 1].isnan()


def test_silhouettes_alone_can_shape_a_body(fitter: BodyFitter) -> None:
    """Only the shape is free, only the silhouette speaks: most of what a tall body's outline lacked is gone."""
    tall = BodyParams.zeros(1)
    tall.betas[0, 0] = 2.0
    observed = observe(fitter, tall, around(3))
    fragments = fitter.rasterizer.rasterize(fitter.body(tall).vertices, fitter.body.faces, observed.camera)
    observed.mask = fragments.covered[None].float()
    target, _ = fitter.triangulated(observed)
    weights = Weights(**{**dict.fromkeys(Weights.__dataclass_fields__, 0.0), "silhouette": 100.0})
    schedule = Schedule((Phase(15, 0.05, ("betas",), weights),), silhouette_size=64)
    start = {n: v for n, v in BodyParams.zeros(1).as_dict().items() if n not in ("transl", "scale")}
    start["pelvis"] = fitter.body(tall).joints[:, 0]
    fitted = fitter.run(start, target, schedule, schedule.phases)
    masks = torch.nn.functional.avg_pool2d(observed.mask[0][:, None], 2)[:, 0]

    def outline(betas: Tensor) -> float:
        return fitter.energy.terms({**start, "betas": betas}, target, masks, schedule, weights)[
            "silhouette"
        ].item()

    least = outline(tall.betas)
    assert outline(start["betas"]) > least + 3
    assert outline(fitted["betas"]) < least + 0.3 * (outline(start["betas"]) - least)
    assert fitted["body_pose"].eq(0).all()


def test_observations_are_selected_by_body() -> None:
    """Two bodies, three views each: the second's cameras are rows 3 to 5."""
    camera = around(3, bodies=2)
    camera.T[:, 0] = torch.arange(6.0)
    xyc = torch.arange(6.0).view(2, 3, 1, 1).expand(2, 3, 4, 3)
    chosen = Observations(xyc, camera, mask=xyc[:, :, :2, :2]).select(torch.tensor([1]))
    assert len(chosen) == 1
    assert chosen.views == 3
    assert chosen.camera.T[:, 0].tolist() == [3, 4, 5]
    assert chosen.xyc[0, :, 0, 0].tolist() == [3, 4, 5]
    assert chosen.mask is not None
    assert chosen.mask[0, :, 0, 0].tolist() == [3, 4, 5]


def test_single_fit_refuses_several_views(fitter: BodyFitter, people: BodyParams) -> None:
    with pytest.raises(ValueError, match="2 views a body: one is expected"):
        fitter.fit_single_view(observe(fitter, people.select([0]), around(2)), single_view_schedule())


def test_bones_run_from_start_to_end(fitter: BodyFitter) -> None:
    """In the T-pose the upper arms point to the sides and the shins down."""
    bones = fitter.energy.joint_bones @ fitter.body(BodyParams.zeros(1)).joints[0]
    along = {pair: bone / bone.norm() for pair, bone in zip(BONES, bones, strict=True)}
    assert along["left_shoulder", "left_elbow"][0] > 0.95
    assert along["right_shoulder", "right_elbow"][0] < -0.95
    assert along["left_knee", "left_ankle"][1] < -0.95


def test_rates_fall_to_a_tenth_and_effort_scales_steps() -> None:
    phase = Phase(100, 0.5, ("betas",))
    assert phase.rate_at(0) == pytest.approx(0.5)
    assert phase.rate_at(50) == pytest.approx(0.5 * 0.55)
    assert phase.rate_at(100) == pytest.approx(0.05)
    half, tiny = multi_view_schedule(0.5), multi_view_schedule(1e-6)
    assert [p.steps for p in half.phases] == [p.steps // 2 for p in multi_view_schedule().phases]
    assert {p.steps for p in tiny.phases} == {1}
