"""Frames of a video: who is who, what a jerk costs, and turns that do not flip."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import orbit_camera
from dinar_models.fitting.clips import people_of, settle_turns, shared_shape, smoothness_energy, triples_of
from dinar_models.fitting.fitter import BodyFitter
from dinar_models.fitting.observations import Observations
from dinar_models.fitting.schedule import single_view_schedule
from dinar_models.fitting.start import rotation_matrix
from dinar_models.fitting.terms import natural_stance
from dinar_models.keypoints import MEDIAPIPE
from dinar_models.rasterize.embree import EmbreeRasterizer

FRAMES = 6


def test_people_and_triples_follow_the_clips() -> None:
    clip = torch.tensor([7, 7, 7, 7, 2, 2, 7])
    assert people_of(clip).tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert triples_of(clip).tolist() == [[0, 1, 2], [1, 2, 3]]
    assert triples_of(torch.tensor([3, 3])).shape == (0, 3)


def test_steady_motion_is_free_and_a_jerk_is_not() -> None:
    """One joint: 0, 1, 2, 3.05 m: the second difference at frame 2 is 0.05 = the spread, a half by Gauss."""
    joints = torch.zeros(4, 1, 3)
    joints[:, 0, 0] = torch.tensor([0.0, 1.0, 2.0, 3.05])
    energy = smoothness_energy(joints, triples_of(torch.zeros(4, dtype=torch.long)), sigma=1e3)
    torch.testing.assert_close(energy, torch.tensor([0.0, 0.0, 0.5, 0.0]), atol=1e-3, rtol=0)
    joints[3] += 100.0
    bounded = smoothness_energy(joints, triples_of(torch.zeros(4, dtype=torch.long)), sigma=0.15)
    assert bounded[2].item() == pytest.approx(0.5 * (0.15 / 0.05) ** 2, rel=1e-3)


def about_y(degrees: list[float]) -> Tensor:
    vectors = torch.zeros(len(degrees), 3)
    vectors[:, 1] = torch.deg2rad(torch.tensor(degrees))
    return rotation_matrix(vectors)


def test_a_flip_that_one_frame_prefers_by_little_is_put_right() -> None:
    """Frame 1 alone would turn round (5 < 6); its neighbours say no. Alone, it may."""
    rotation = torch.stack([about_y([0, 0, 0]), about_y([180, 180, 180])], dim=1)
    energy = torch.tensor([[1.0, 50.0], [6.0, 5.0], [1.0, torch.inf]])
    assert settle_turns(energy, rotation, torch.tensor([0, 0, 0])).tolist() == [0, 0, 0]
    assert settle_turns(energy, rotation, torch.tensor([0, 1, 2])).tolist() == [0, 1, 0]
    sure = torch.tensor([[1.0, 500.0], [600.0, 5.0], [1.0, torch.inf]])
    assert settle_turns(sure, rotation, torch.tensor([0, 0, 0])).tolist() == [0, 1, 0]


def test_shapes_are_means_over_each_person() -> None:
    betas = torch.zeros(3, 10)
    betas[:, 0] = torch.tensor([1.0, 3.0, 7.0])
    assert shared_shape(betas, torch.tensor([0, 0, 1]))[:, 0].tolist() == [2.0, 7.0]


@pytest.fixture(scope="module")
def fitter(tiny_body: Path) -> BodyFitter:
    return BodyFitter(BodyModel.load(tiny_body), MEDIAPIPE, EmbreeRasterizer(), surface_vertices=300)


def noisy_clip(fitter: BodyFitter) -> tuple[BodyParams, Observations]:
    """Someone turns slowly; each frame's keypoints and guess in space err by themselves."""
    params = BodyParams.zeros(FRAMES)
    params.betas[:] = 1.0
    params.body_pose = natural_stance().mean.flatten().repeat(FRAMES, 1)
    params.global_orient[:, 1] = torch.linspace(0.0, 0.5, FRAMES)
    camera = orbit_camera(
        torch.zeros(FRAMES), 0.0, 4.0, target=torch.tensor([0.0, -0.2, 0.0]), size=256, fov=0.6
    )
    joints = fitter.body(params).joints[:, MEDIAPIPE.smplx_index]
    known = torch.from_numpy(MEDIAPIPE.smplx_index >= 0).float()
    generator = torch.Generator().manual_seed(3)
    pixels = camera.project(joints)
    pixels = pixels + torch.randn(pixels.shape, generator=generator) * 2
    xyc = torch.cat([pixels, known.expand(FRAMES, -1)[..., None]], dim=-1)[:, None]
    hips = joints[:, torch.from_numpy(MEDIAPIPE.find("left_hip", "right_hip"))].mean(dim=1, keepdim=True)
    guess = (joints - hips) @ camera.R.mT
    guess = (guess + torch.randn(guess.shape, generator=generator) * 0.04) * known[:, None]
    return params, Observations(xyc, camera, world=guess[:, None])


def test_a_clip_shares_its_shape_and_shakes_less(fitter: BodyFitter) -> None:
    true, alone = noisy_clip(fitter)
    schedule = single_view_schedule(0.3)
    schedule = replace(schedule, phases=schedule.phases[:-1])
    clip = replace(alone, clip=torch.zeros(FRAMES, dtype=torch.long))
    shaking, errors = [], []
    for observed in (alone, clip):
        fit = fitter.fit_single_view(observed, schedule)
        joints = fitter.body(fit.params).joints[:, :22]
        difference = joints - fitter.body(true).joints[:, :22]
        shaking.append((difference[1:] - difference[:-1]).norm(dim=-1).mean().item())
        errors.append((difference - difference.mean(dim=1, keepdim=True)).norm(dim=-1).mean().item())
    assert fit.params.betas.std(dim=0).max() == 0
    assert shaking[1] < 0.6 * shaking[0]
    assert errors[1] < errors[0]


def test_two_clips_in_a_batch_do_not_mix(fitter: BodyFitter) -> None:
    _, observed = noisy_clip(fitter)
    schedule = replace(single_view_schedule(0.05), phases=single_view_schedule(0.05).phases[:-1])
    both = replace(observed, clip=torch.tensor([0, 0, 0, 1, 1, 1]))
    fit = fitter.fit_single_view(both, schedule)
    half = fitter.fit_single_view(both.select(torch.tensor([3, 4, 5])), schedule)
    assert (fit.params.betas[0] - fit.params.betas[3]).abs().max() > 1e-3
    torch.testing.assert_close(fit.params.betas[3:], half.params.betas, atol=1e-3, rtol=0)
    torch.testing.assert_close(fit.params.body_pose[3:], half.params.body_pose, atol=1e-3, rtol=0)


def test_a_given_pose_is_where_a_fit_starts(fitter: BodyFitter) -> None:
    """Without a single step the pose is the given one, placed where the torso is seen."""
    true, observed = noisy_clip(fitter)
    schedule = single_view_schedule()
    schedule = replace(schedule, phases=tuple(replace(p, steps=0) for p in schedule.phases[:2]))
    start = BodyParams.zeros(FRAMES)
    start.global_orient[:, 1] = -0.6
    known = torch.arange(FRAMES) % 2 == 0
    fit = fitter.fit_single_view(observed, schedule, start, known)
    assert (fit.params.body_pose[known] == 0).all()
    assert (fit.params.body_pose[~known] != 0).any(dim=1).all()
    assert (fit.params.global_orient[known, 1] + 0.6).abs().max() < 1e-5
    assert (fit.params.global_orient[~known, 1] > -0.3).all()
    assert (fit.params.transl - true.transl).norm(dim=1).max() < 0.5


def test_given_bodies_are_judged_as_they_are(fitter: BodyFitter) -> None:
    true, observed = noisy_clip(fitter)
    good = fitter.judge_given(true, observed, single_view_schedule())
    assert good.reprojection.max() < 4  # the noise's own
    assert good.depth.max() == 0
    moved = replace(true, transl=true.transl + torch.tensor([0.5, 0.0, 0.0]))
    assert fitter.judge_given(moved, observed, single_view_schedule()).reprojection.min() > 20
    torch.testing.assert_close(good.params.body_pose, true.body_pose)
