"""Photos of a body whose outline and colour are known, read into crops and partial textures."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dinar_models import occlusion
from dinar_models.animation import standing
from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, Crop, orbit_camera
from dinar_models.photos import ASIDE_ZOOM, crops_aside, read_photos
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.surface import Surface
from dinar_models.uv_atlas import Atlas


def test_outlines_of_limbs_before_the_body_are_left_out_of_photos(
    tiny_body: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Occlusion removal is part of reading a photo: what it blocks is not sampled (never active as published)."""
    surface = Surface(BodyModel.load(tiny_body), Atlas.load(tiny_body / "atlas.npz"), EmbreeRasterizer())
    params = standing(BodyParams.zeros(1))
    params.body_pose[0, 16 * 3 + 1], params.body_pose[0, 17 * 3 + 1] = 0.0, -1.9  # a forearm before the belly
    camera = orbit_camera(0.0, 0.0, 4.0, target=torch.tensor([0.0, -0.3, 0.0]), size=256, fov=0.6)
    white = np.full((1, 256, 256, 3), 255, np.uint8)
    person = (surface.uv(params, camera).numpy()[..., 0] >= 0).astype(np.uint8) * 255
    whole = Crop(torch.zeros(1), torch.zeros(1), torch.full((1,), 256.0))
    sampled = []
    for blocks in (
        occlusion.occlusion_contours,
        lambda uv, colour: torch.zeros(uv.shape[:3], dtype=torch.bool),
    ):
        monkeypatch.setattr("dinar_models.photos.occlusion_contours", blocks)
        read = read_photos(
            white, person, camera, whole, params, surface=surface, image_size=64, texture_size=64
        )
        sampled.append(read.sample.sampled.sum().item())
    assert 0.5 * sampled[1] < sampled[0] < 0.98 * sampled[1]


def test_a_photo_is_read_at_its_own_resolution_and_seen_at_the_nets(tiny_body: Path) -> None:
    """An orange person on blue: the encoder sees black around, the target is white, texels are orange."""
    body, atlas = BodyModel.load(tiny_body), Atlas.load(tiny_body / "atlas.npz")
    surface = Surface(body, atlas, EmbreeRasterizer())
    params = BodyParams.zeros(1)
    camera = orbit_camera(0.0, 0.0, 4.0, target=torch.tensor([0.0, -0.3, 0.0]), size=256, fov=0.6)
    person = surface.uv(params, camera).numpy()[0, ..., 0] >= 0
    rgb = np.where(person[..., None], (255, 128, 0), (0, 0, 255)).astype(np.uint8)[None]
    crop = Crop(torch.tensor([32.0]), torch.tensor([32.0]), torch.tensor([192.0]))
    read = read_photos(
        rgb, person.astype(np.uint8)[None] * 255, camera, crop, params,
        surface=surface, image_size=96, texture_size=64,
    )  # fmt: skip
    orange = torch.tensor([1.0, 128 / 255, 0.0])
    inside, outside = read.mask[0, 0] == 1, read.mask[0, 0] == 0
    assert inside.sum() > 500
    torch.testing.assert_close(read.rgb[0, :, inside], (2 * orange - 1)[:, None].expand(3, int(inside.sum())))
    assert read.rgb[0, :, outside].eq(-1).all()
    assert read.target[0, :, outside].eq(1).all()
    covered = read.uv[0, ..., 0] >= 0
    assert covered[inside].all()
    assert not covered[outside].any()
    seen = read.sample.filled[0] == 1
    assert 0.2 < seen.float().mean() < 0.6
    torch.testing.assert_close(read.sample.rgb[0, :, seen], orange[:, None].expand(3, int(seen.sum())))
    assert read.sample.frontality[0, seen].min() >= 0.1


def test_outlines_of_limbs_are_left_out_if_asked(tiny_body: Path) -> None:
    """Seen from its left the T-posed body has an arm before its chest."""
    surface = Surface(BodyModel.load(tiny_body), Atlas.load(tiny_body / "atlas.npz"), EmbreeRasterizer())
    params = BodyParams.zeros(1)
    camera = orbit_camera(1.4, 0.0, 4.0, target=torch.tensor([0.0, -0.3, 0.0]), size=256, fov=0.6)
    person = surface.uv(params, camera).numpy()[..., 0] >= 0
    crop = Crop(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([256.0]))
    plain, careful = (
        read_photos(
            np.full((1, 256, 256, 3), 128, np.uint8), person.astype(np.uint8) * 255, camera, crop, params,
            surface=surface, image_size=64, texture_size=64, occlusion=occlusion,
        ).sample.filled
        for occlusion in (False, True)
    )  # fmt: skip
    assert (careful <= plain).all()
    assert 0.005 < (plain - careful).sum() / plain.sum() < 0.5


def test_every_square_shows_the_same_person(tiny_body: Path) -> None:
    """The body's raster lies on the mask in each of them, larger or smaller; a person's views are theirs alone."""
    surface = Surface(BodyModel.load(tiny_body), Atlas.load(tiny_body / "atlas.npz"), EmbreeRasterizer())
    params = BodyParams.cat([BodyParams.zeros(1)] * 2)
    camera = orbit_camera(
        torch.tensor([0.0, 0.5]), 0.0, 4.0, target=torch.tensor([0.0, -0.3, 0.0]), size=256, fov=0.6
    )
    person = (surface.uv(params, camera).numpy()[..., 0] >= 0).astype(np.uint8) * 255
    crop = Crop(torch.full((2,), 0.0), torch.full((2,), 0.0), torch.full((2,), 256.0))
    read = read_photos(
        np.full((2, 256, 256, 3), 128, np.uint8), person, camera, crop, params,
        surface=surface, image_size=96, texture_size=64, crops=5,
    )  # fmt: skip
    views = read.views_of(torch.tensor([1]))
    assert views.uv.shape == (1, 5, 96, 96, 2)
    torch.testing.assert_close(views.target[0, 0], read.target[1])
    covered, mask = views.uv[0, ..., 0] >= 0, views.mask[0, :, 0]
    assert covered[mask == 1].all()
    assert not covered[mask == 0].any()
    assert views.target[0].movedim(1, 0)[:, mask == 0].eq(1).all()
    areas = mask.sum(dim=(1, 2))
    assert len(areas.round().unique()) == 5
    assert areas.max() < 1.01 * ASIDE_ZOOM**2 * areas[0]


def test_squares_aside_keep_near_the_photos_own() -> None:
    crop = Crop(torch.tensor([10.0]), torch.tensor([20.0]), torch.tensor([100.0]))
    squares = crops_aside(crop, 30)
    middles = torch.stack([torch.stack([c.x + c.side / 2, c.y + c.side / 2]) for c in squares])[..., 0]
    sides = torch.stack([c.side for c in squares])
    assert (middles - torch.tensor([60.0, 70.0])).abs().max() <= 10
    assert 100 / ASIDE_ZOOM <= sides.min() < 80
    assert 120 < sides.max() <= 100 * ASIDE_ZOOM
    assert crops_aside(crop, 0) == []


def test_from_behind_the_outline_is_the_photos_mirrored(tiny_body: Path) -> None:
    """The raster covers the mirrored mask, and shows what the photo hides: a real view from behind shows the same."""
    surface = Surface(BodyModel.load(tiny_body), Atlas.load(tiny_body / "atlas.npz"), EmbreeRasterizer())
    params = standing(BodyParams.zeros(1))
    params.body_pose[0, 16 * 3 + 1] = -0.9  # left and right differ
    views = [orbit_camera(yaw, 0.0, 40.0, target=torch.tensor([0.0, -0.3, 0.0]), size=256, fov=0.06)
             for yaw in (0.0, math.pi)]  # fmt: skip
    person, back = (surface.uv(params, view) for view in views)
    read = read_photos(
        np.full((1, 256, 256, 3), 128, np.uint8), (person.numpy()[..., 0] >= 0).astype(np.uint8) * 255, views[0],
        Crop(torch.tensor([16.0]), torch.tensor([0.0]), torch.tensor([256.0])), params,
        surface=surface, image_size=256, texture_size=64, crops=3, behind=True,
    )  # fmt: skip
    outlines = read.behind_of(torch.tensor([0]))
    assert outlines is not None
    assert outlines.uv.shape == (1, 3, 256, 256, 2)
    covered, mask = outlines.uv[0, ..., 0] >= 0, outlines.mask[0, :, 0]
    assert (covered != (mask > 0.5)).float().mean() < 0.002
    # The crop begins at pixel 16, and so mirrored it ends 16 pixels before the middle of the view from behind.
    ours, true = outlines.uv[0, 0, :, 16:], back[0, :, :-16]
    both = (ours[..., 0] >= 0) & (true[..., 0] >= 0)
    assert both.sum() > 0.98 * (true[..., 0] >= 0).sum()
    near = (ours - true)[both].abs().amax(dim=1) < 0.02
    assert near.float().mean() > 0.95
    assert plain_photo_has_no_back(surface, params, views[0])


def plain_photo_has_no_back(surface: Surface, params: BodyParams, camera: Camera) -> bool:
    whole = Crop(torch.zeros(1), torch.zeros(1), torch.full((1,), 256.0))
    read = read_photos(
        np.zeros((1, 256, 256, 3), np.uint8), np.zeros((1, 256, 256), np.uint8), camera, whole, params,
        surface=surface, image_size=32, texture_size=32,
    )  # fmt: skip
    return read.behind_of(torch.tensor([0])) is None
