"""UV rasters of posed bodies."""

import math
from pathlib import Path

import pytest
import torch

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import orbit_camera
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.surface import Surface
from dinar_models.uv_atlas import Atlas

SIZE = 48


@pytest.fixture(scope="module")
def surface(tiny_body: Path) -> Surface:
    return Surface(BodyModel.load(tiny_body), Atlas.load(tiny_body / "atlas.npz"), EmbreeRasterizer())


def test_pixels_lead_back_to_the_body(surface: Surface) -> None:
    """Each covered pixel's texture coordinates name a texel whose point projects onto that pixel."""
    params = BodyParams.zeros(1)
    camera = orbit_camera(0.4, 0.1, 3.0, target=torch.tensor([0.0, -0.2, 0.0]), size=SIZE, fov=0.8)
    uv = surface.uv(params, camera)[0]
    row, column = (uv[..., 0] >= 0).nonzero(as_tuple=True)
    assert 150 < len(row) < SIZE * SIZE / 2
    size = 512
    texel = (uv[row, column] * size).long().clamp(0, size - 1)
    tables = surface.atlas.tables(size)
    on_island = torch.from_numpy(tables.island_mask)[texel[:, 1], texel[:, 0]]
    assert on_island.float().mean() > 0.95  # borders of islands may fall between texels
    points = torch.from_numpy(tables.texel_position)[texel[:, 1], texel[:, 0]][on_island]
    pixels = camera.project(points[None])[0]
    centres = torch.stack([column, row], dim=1)[on_island] + 0.5
    assert (pixels - centres).norm(dim=1).quantile(0.95) < 0.3


def test_the_background_is_minus_one(surface: Surface) -> None:
    """In every raster, for tuning and rendering alike (the published code has −1 in one and −10 in the other)."""
    camera = orbit_camera(0.4, 0.1, 3.0, target=torch.tensor([0.0, -0.2, 0.0]), size=SIZE, fov=0.8)
    uv = surface.uv(BodyParams.zeros(1), camera)
    outside = uv[..., 0] < 0
    assert 0.3 < outside.float().mean() < 1
    assert uv[outside].eq(-1).all()
    assert uv[~outside].min() >= 0


def test_bodies_and_cameras_pair_up(surface: Surface) -> None:
    """Row by row `uv` gives what each body alone gives; `uv_of` shows one body to every camera."""
    params = BodyParams.zeros(2)
    params.body_pose[1, 3 * 15 + 2] = -1.0  # left arm down
    camera = orbit_camera(
        torch.tensor([0.0, math.pi / 2]), 0.0, 3.0, target=torch.zeros(3), size=SIZE, fov=0.8
    )
    both = surface.uv(params, camera)
    for i in range(2):
        alone = surface.uv(params.select([i]), camera.select(i))
        assert torch.equal(both[i], alone[0])
    views = surface.uv_of(surface.body(params.select([0])).vertices, camera)
    assert torch.equal(views[0], both[0])
    assert not torch.equal(views[1], both[1])
