"""Photos of one person: one shape, whatever pose and turn each photo shows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import orbit_camera
from dinar_models.fitting.fitter import BodyFitter
from dinar_models.fitting.observations import Observations
from dinar_models.fitting.schedule import single_view_schedule
from dinar_models.fitting.start import rotation_matrix
from dinar_models.fitting.terms import natural_stance
from dinar_models.keypoints import MEDIAPIPE
from dinar_models.rasterize.embree import EmbreeRasterizer
from tests.dinar_models.fitting.test_fitter import observe

PHOTOS = 3


@pytest.fixture(scope="module")
def fitter(tiny_body: Path) -> BodyFitter:
    return BodyFitter(BodyModel.load(tiny_body), MEDIAPIPE, EmbreeRasterizer(), surface_vertices=300)


def photographed(fitter: BodyFitter) -> tuple[BodyParams, Observations]:
    """Someone broad: from the front, from behind with an arm lifted, and from the left; keypoints are 2 px off."""
    params = BodyParams.zeros(PHOTOS)
    params.betas[:, 0], params.betas[:, 1] = 1.5, -1.0
    pose = natural_stance().mean.repeat(PHOTOS, 1, 1)
    pose[1, 15, 2] = 0.4
    params.body_pose = pose.reshape(PHOTOS, 63)
    params.global_orient[:, 1] = torch.tensor([0.1, 3.0, 1.2])
    camera = orbit_camera(
        torch.zeros(PHOTOS), 0.0, 4.0, target=torch.tensor([0.0, -0.2, 0.0]), size=256, fov=0.6
    )
    seen = observe(fitter, params, camera, world=True)
    seen.xyc[..., :2] += 2 * torch.randn(seen.xyc[..., :2].shape, generator=torch.Generator().manual_seed(1))
    return params, seen


def test_photos_of_one_person_share_the_shape_and_nothing_else(fitter: BodyFitter) -> None:
    """Without it three shapes come out. Turns and poses stay those of each photo, unlike in a video."""
    true, seen = photographed(fitter)
    schedule = single_view_schedule(0.3)
    schedule = replace(schedule, phases=schedule.phases[:-1])
    alone = fitter.fit_single_view(seen, schedule).params
    one = fitter.fit_single_view(replace(seen, person=torch.zeros(PHOTOS, dtype=torch.long)), schedule).params
    assert alone.betas.std(dim=0).max() > 0.05
    assert one.betas.std(dim=0).max() == 0
    facing = (rotation_matrix(one.global_orient)[:, :, 2] * rotation_matrix(true.global_orient)[:, :, 2]).sum(
        dim=1
    )
    assert facing.min() > 0.8
    assert (one.body_pose[0] - one.body_pose[1]).abs().max() > 0.3


def test_people_do_not_mix(fitter: BodyFitter) -> None:
    """Photos 0 and 2 show one person, photo 1 another."""
    _, seen = photographed(fitter)
    schedule = replace(single_view_schedule(0.05), phases=single_view_schedule(0.05).phases[:-1])
    mixed = fitter.fit_single_view(replace(seen, person=torch.tensor([0, 1, 0])), schedule).params
    single = fitter.fit_single_view(seen.select(torch.tensor([1])), schedule).params
    assert torch.equal(mixed.betas[0], mixed.betas[2])
    assert (mixed.betas[0] - mixed.betas[1]).abs().max() > 1e-3
    torch.testing.assert_close(mixed.betas[1:2], single.betas, atol=1e-3, rtol=0)
    torch.testing.assert_close(mixed.body_pose[1:2], single.body_pose, atol=1e-3, rtol=0)
