"""Sampling, filling, merging and compositing on pictures small enough to work out by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinar_models.cameras import Camera, orbit_camera
from dinar_models.fitting.start import rotation_matrix
from dinar_models.rasterize.base import uv_raster
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.texture import (
    SampleRules,
    Texels,
    TextureSample,
    composite,
    fill_gaps,
    fit_colour,
    grow_borders,
    merge_textures,
    rasterise_texture,
    sample_texture,
    trusted_pixels,
    vertex_normals,
)
from dinar_models.types import to_store_range

EVERYTHING = SampleRules(erosion=0, fill_texels=0, min_frontality=0.0)


class Sheet:
    """A grid of `cells`² squares, uv in [0.1, 0.9]², bent by `shape(u, v)`; its texels follow exactly."""

    def __init__(self, cells: int, size: int, shape: Callable[[Tensor, Tensor], Tensor]) -> None:
        ticks = torch.linspace(0.1, 0.9, cells + 1, dtype=torch.float64)
        v, u = torch.meshgrid(ticks, ticks, indexing="ij")
        self.vertices = shape(u.flatten(), v.flatten()).float()[None]
        first = (torch.arange(cells)[:, None] * (cells + 1) + torch.arange(cells)).flatten()
        right, below = first + 1, first + cells + 1
        upper = torch.stack([first, below, right], dim=1)
        lower = torch.stack([right, below, below + 1], dim=1)
        self.faces = torch.stack([upper, lower], dim=1).view(-1, 3)
        self.corner_uv = torch.stack([u.flatten(), v.flatten()], dim=1).float()[self.faces]
        self.texels = self._texels(cells, size)

    @staticmethod
    def _texels(cells: int, size: int) -> Texels:
        place = ((torch.arange(size, dtype=torch.float64) + 0.5) / size - 0.1) / 0.8 * cells
        y, x = torch.meshgrid(place, place, indexing="ij")
        on = (y >= 0) & (y < cells) & (x >= 0) & (x < cells)
        fx, fy = x - x.floor(), y - y.floor()
        upper = fx + fy <= 1
        weights = torch.where(
            upper[..., None],
            torch.stack([1 - fx - fy, fy, fx], dim=-1),
            torch.stack([1 - fy, 1 - fx, fx + fy - 1], dim=-1),
        )
        face = 2 * (y.floor() * cells + x.floor()).long() + (~upper).long()
        index = on.flatten().nonzero()[:, 0]
        island = torch.where(on, 0, -1)
        return Texels(index, face.flatten()[index], weights.view(-1, 3)[index].float(), island)


def flat(u: Tensor, v: Tensor) -> Tensor:
    """A square of one metre facing +z, u to the right and v down as its viewer sees it."""
    return torch.stack([u - 0.5, 0.5 - v, torch.zeros_like(u)], dim=-1) / 0.8


def half_pipe(u: Tensor, v: Tensor) -> Tensor:
    """Half a cylinder, bulging towards +z."""
    angle = (u - 0.5) / 0.8 * math.pi
    return torch.stack([0.4 * angle.sin(), 1.5 * (0.5 - v), 0.4 * angle.cos()], dim=-1)


def camera_from(yaw: float, size: int = 256, fov: float = 0.42) -> Camera:
    return orbit_camera(yaw, 0.1, 4.0, target=torch.zeros(3), size=size, fov=fov)


def photograph(sheet: Sheet, texture: Tensor, camera: Camera, **options: Any) -> TextureSample:
    """Render a sheet with a texture and sample it back."""
    fragments = EmbreeRasterizer().rasterize(sheet.vertices, sheet.faces, camera)
    image = rasterise_texture(texture, uv_raster(fragments, sheet.corner_uv))
    mask = fragments.covered.float()
    return sample_texture(
        image, mask, sheet.vertices, sheet.faces, camera, sheet.texels, fragments, **options
    )


def random_texture(size: int, detail: int) -> Tensor:
    noise = torch.rand(1, 3, detail, detail, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)


def sub_texel_shift(sampled: Tensor, texture: Tensor, seen: Tensor) -> Tensor:
    """(dx, dy) in texels by which `sampled` lies beside `texture`, by linearised least squares."""
    dx = (texture.roll(-1, -1) - texture.roll(1, -1)) / 2
    dy = (texture.roll(-1, -2) - texture.roll(1, -2)) / 2
    slopes = torch.stack([d[:, seen].flatten() for d in (dx, dy)], dim=1)
    return torch.linalg.lstsq(slopes, (sampled - texture)[:, seen].flatten()[:, None]).solution[:, 0]


@pytest.mark.parametrize("yaw", [0.0, 0.4, -0.6])
def test_round_trip_on_a_bent_sheet(yaw: float) -> None:
    """A known texture comes back from its image: same colours, no shift, not mirrored."""
    sheet, texture = Sheet(24, 64, half_pipe), random_texture(64, 16)
    sample = photograph(sheet, texture, camera_from(yaw))
    seen = sample.sampled[0] > 0
    assert seen.float().mean() > 0.3
    error = (sample.rgb - texture)[0][:, seen].square().mean()
    assert -10 * error.log10() > 38
    assert sub_texel_shift(sample.rgb[0], texture[0], seen).abs().max() < 0.02
    assert (sample.rgb[0][:, sample.filled[0] == 0] == 0).all()


def test_white_stays_white() -> None:
    """The published code turned 1.0 into 256, which is 0 in a byte."""
    sheet, white = Sheet(24, 64, half_pipe), torch.ones(1, 3, 64, 64)
    sample = photograph(sheet, white, camera_from(0.2))
    seen = sample.sampled[0] > 0
    assert seen.any()
    torch.testing.assert_close(sample.rgb[0][:, seen], torch.ones(3, int(seen.sum())))
    assert (to_store_range(2 * sample.rgb - 1)[0][:, seen] == 255).all()


def test_the_order_of_pixels_does_not_matter() -> None:
    """Eight pixels a texel, each texel another colour: the mirrored sheet gives the mirrored texture."""
    sheet, texture = Sheet(8, 64, flat), random_texture(64, 64)
    camera = camera_from(0.0, size=512, fov=0.3)
    one, mirrored = (photograph(sheet, t, camera) for t in (texture, texture.flip(-1)))
    both = (one.sampled[0] > 0) & (mirrored.sampled[0].flip(-1) > 0)
    assert both.float().mean() > 0.5
    torch.testing.assert_close(one.rgb[0][:, both], mirrored.rgb.flip(-1)[0][:, both], atol=1e-3, rtol=0)


def test_supersampling_averages_without_a_shift() -> None:
    sheet, texture = Sheet(24, 128, half_pipe), random_texture(64, 16)
    sample = photograph(sheet, texture, camera_from(0.3), supersample=2)
    seen = sample.sampled[0] > 0
    assert sample.rgb.shape[-1] == 64
    assert sub_texel_shift(sample.rgb[0], texture[0], seen).abs().max() < 0.1


def test_frontality_is_the_cosine_to_the_camera() -> None:
    """A plane turned by 60°: ½ in its middle; turned away: nothing is seen."""
    sheet = Sheet(4, 32, flat)
    turned = orbit_camera(math.pi / 3, 0.0, 50.0, target=torch.zeros(3), size=64, focal=64 * 35.0)
    sample = photograph(sheet, random_texture(32, 8), turned, rules=EVERYTHING)
    assert sample.frontality[0, 16, 16] == pytest.approx(0.5, abs=0.02)
    behind = orbit_camera(math.pi * 0.9, 0.0, 50.0, target=torch.zeros(3), size=64, focal=64 * 35.0)
    assert photograph(sheet, random_texture(32, 8), behind, rules=EVERYTHING).filled.sum() == 0


@pytest.mark.parametrize("axis", [[0.7, 1.9, 0.4], [2.5, 0.2, -1.1], [-2.0, -2.0, 1.0]])
def test_frontality_does_not_depend_on_where_the_world_points(axis: list[float]) -> None:
    """World and camera turned together, so that normals have any signs (the published raster drops negative ones)."""
    sheet, camera = Sheet(12, 32, half_pipe), camera_from(0.3)
    turn = rotation_matrix(torch.tensor([axis]))[0]
    plain = photograph(sheet, random_texture(32, 8), camera)
    sheet.vertices = sheet.vertices @ turn.T
    turned = Camera(camera.K, camera.R @ turn.T, camera.T, camera.size)
    sample = photograph(sheet, random_texture(32, 8), turned)
    both = (plain.sampled[0] > 0) & (sample.sampled[0] > 0)
    assert both.sum() > 0.95 * (plain.sampled[0] > 0).sum()
    torch.testing.assert_close(sample.frontality[0][both], plain.frontality[0][both], atol=1e-4, rtol=0)


def test_hidden_texels_are_not_sampled() -> None:
    """A second sheet half a metre in front hides the left part of the first."""
    sheet = Sheet(8, 64, flat)
    front = sheet.vertices * torch.tensor([0.5, 1.2, 1.0]) + torch.tensor([-0.35, 0, 0.5])
    vertices = torch.cat([sheet.vertices, front], dim=1)
    faces = torch.cat([sheet.faces, sheet.faces + sheet.vertices.shape[1]])
    camera = orbit_camera(0.0, 0.0, 8.0, target=torch.zeros(3), size=128, focal=128 * 6.5)
    fragments = EmbreeRasterizer().rasterize(vertices, faces, camera)
    image = torch.where(fragments.face_id >= len(sheet.faces), 1.0, 0.25)[:, None].expand(-1, 3, -1, -1)
    mask = fragments.covered.float()
    sample = sample_texture(image, mask, vertices, faces, camera, sheet.texels, fragments, rules=EVERYTHING)
    # its right edge, x = −0.1 at z = ½, covers x = −0.1 × 8 / 7.5, which is column 64 (½ − 0.8 × 0.107) = 26.5
    assert sample.sampled[0, 32, 7:26].sum() == 0
    assert (sample.sampled[0, 32, 28:56] == 1).all()
    seen = sample.sampled[0] > 0
    torch.testing.assert_close(sample.rgb[0][:, seen], torch.full((3, int(seen.sum())), 0.25))


def test_pixels_outside_the_mask_or_blocked_are_not_sampled() -> None:
    sheet, camera = Sheet(4, 32, flat), camera_from(0.0, size=128, fov=0.3)
    fragments = EmbreeRasterizer().rasterize(sheet.vertices, sheet.faces, camera)
    image, mask = torch.ones(1, 3, 128, 128), fragments.covered.float()
    columns = torch.arange(128).expand(1, 128, 128)

    def sampled(mask: Tensor, blocked: Tensor | None = None) -> Tensor:
        return sample_texture(
            image, mask, sheet.vertices, sheet.faces, camera, sheet.texels, fragments,
            blocked=blocked, rules=EVERYTHING,
        ).sampled[0]  # fmt: skip

    everything = sampled(mask)
    left_only = sampled(mask * (columns < 64))
    assert torch.equal(sampled(mask, blocked=columns >= 64), left_only)
    assert torch.equal(left_only[:, :15], everything[:, :15])
    assert left_only[:, 17:].sum() == 0
    assert everything[:, 17:].sum() > 100


def test_mask_erosion_scales_with_the_image() -> None:
    mask = torch.zeros(1, 512, 512)
    mask[:, 100:200, 100:200] = 1
    assert trusted_pixels(mask, 2)[0].nonzero().aminmax() == (torch.tensor(102), torch.tensor(197))
    small = F.avg_pool2d(mask, 2)
    assert trusted_pixels(small, 2)[0].nonzero().aminmax() == (torch.tensor(51), torch.tensor(98))
    assert torch.equal(trusted_pixels(mask, 0), mask > 0.5)


def test_normals_of_a_plane_point_to_its_viewer() -> None:
    sheet = Sheet(3, 8, flat)
    expected = torch.tensor([0.0, 0, 1]).expand_as(sheet.vertices)
    torch.testing.assert_close(vertex_normals(sheet.vertices, sheet.faces), expected)


def test_vertices_without_faces_and_faces_without_area_have_no_normal() -> None:
    """Zero, not the NaN of 0 / 0."""
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]]])
    assert vertex_normals(vertices, torch.tensor([[0, 1, 2]])).tolist() == [[[0.0] * 3] * 4]


def test_an_image_that_shows_nothing_gives_zeros() -> None:
    """No count of seen samples is divided by where it is 0."""
    sheet, camera = Sheet(4, 32, flat), camera_from(0.0, size=64)
    fragments = EmbreeRasterizer().rasterize(sheet.vertices, sheet.faces, camera)
    sample = sample_texture(
        torch.ones(1, 3, 64, 64),
        torch.zeros(1, 64, 64),
        sheet.vertices,
        sheet.faces,
        camera,
        sheet.texels,
        fragments,
    )
    for values in (sample.rgb, sample.sampled, sample.filled, sample.frontality):
        assert values.eq(0).all()


def test_gaps_take_the_mean_of_their_island_only() -> None:
    """A row of five texels, islands 0 0 0 1 1: the unknown middle sees 2 on its island, not 9 across."""
    values = torch.tensor([[1.0, 2, 0, 9, 0]]).view(1, 1, 1, 5).expand(-1, -1, 5, -1)
    known = torch.tensor([True, True, False, True, False]).expand(1, 5, 5)
    island = torch.tensor([0, 0, 0, 1, 1]).expand(5, 5)
    filled, now_known = fill_gaps(values, known, island, 1)
    assert filled[0, 0, 2].tolist() == [1, 2, 2, 9, 9]
    assert now_known.all()
    assert torch.equal(fill_gaps(values, known, island, 0)[1], known)


def test_a_wider_gap_needs_more_rounds() -> None:
    values = torch.tensor([[4.0, 0, 0, 0, 0]]).view(1, 1, 1, 5).expand(-1, -1, 5, -1)
    known = torch.tensor([True, False, False, False, False]).expand(1, 5, 5)
    island = torch.zeros(5, 5, dtype=torch.long)
    assert fill_gaps(values, known, island, 2)[1][0, 2].tolist() == [True, True, True, False, False]


def test_borders_grow_by_one_texel_off_the_islands_only() -> None:
    island = torch.full((5, 5), -1)
    island[:, :2] = 0
    known = torch.zeros(1, 5, 5, dtype=torch.bool)
    known[0, :, 1] = True
    values = known[:, None].float() * 3
    assert grow_borders(values, known, island)[0, 0, 2].tolist() == [0, 3, 3, 0, 0]


def test_merge_weights_by_hand() -> None:
    """Cosines 0.3 and 0.1 at T = 10: weights 1/(1+e⁻²) and its rest; unseen views weigh nothing."""
    textures = torch.tensor([1.0, 0.0, 5.0]).view(3, 1, 1, 1).expand(3, 2, 1, 3)
    frontality = torch.tensor([[0.3, 0.3, 0.0], [0.1, 0.1, 0.0], [0.9, 0.0, 0.0]]).view(3, 1, 3)
    seen = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]]).bool().view(3, 1, 3)
    merged, covered = merge_textures(textures.contiguous(), frontality, seen)
    assert merged[0, 0, 0] == pytest.approx(1 / (1 + math.exp(-2)))
    assert merged[0, 0, 1] == 1
    assert covered[0].tolist() == [True, True, False]
    assert merged[0, 0, 2] == pytest.approx(2)  # nobody sees it: the plain mean


def test_merge_leaves_unseen_colours_at_zero() -> None:
    """One view sees at cosine 0.1 beside seven that see nothing: the published weights would give 0.28."""
    textures = torch.zeros(8, 3, 1, 2)
    textures[0, :, 0, 0] = 1
    frontality = torch.zeros(8, 1, 2)
    frontality[0, 0, 0] = 0.1
    merged, covered = merge_textures(textures, frontality, frontality > 0)
    assert merged[:, 0, 0].tolist() == [1, 1, 1]
    assert merged[:, 0, 1].tolist() == [0, 0, 0]
    assert covered[0].tolist() == [True, False]


def test_composite_softens_inner_holes_only() -> None:
    """A hole of one texel in an island with rows 1–9: decoded there, mixed around it, sampled at the borders."""
    island = torch.zeros(11, 11, dtype=torch.bool)
    island[1:10] = True
    filled = island.float()[None].clone()
    filled[0, 5, 5] = 0
    texture, weight = composite(torch.zeros(1, 2, 11, 11), torch.ones(1, 2, 11, 11), filled, island)
    # eroded to a 3 × 3 hole, then blurred: the middle keeps nothing, a side 3/9, its corner 5/9, further out more
    expected = torch.tensor([1, 6 / 9, 3 / 9, 0, 3 / 9, 6 / 9, 1])
    torch.testing.assert_close(weight[0, 5, 2:9], expected)
    assert weight[0, 3, 3] == pytest.approx(8 / 9)
    assert weight[0, 1].tolist() == [1.0] * 11
    assert weight[0, 0].tolist() == [1.0] * 11  # one texel beyond the island
    torch.testing.assert_close(texture, weight[:, None].expand_as(texture))


def test_composite_carries_the_mixture_beyond_the_island() -> None:
    """An island with rows 0–3 of which nothing is seen: row 4 repeats decoded row 3, row 5 stays."""
    island = torch.zeros(6, 6, dtype=torch.bool)
    island[:4] = True
    decoded = torch.arange(6.0)[:, None].expand(1, 1, 6, 6)
    texture, weight = composite(decoded, torch.ones(1, 1, 6, 6), torch.zeros(1, 6, 6), island)
    assert texture[0, 0, :4].tolist() == decoded[0, 0, :4].tolist()
    assert texture[0, 0, 4].tolist() == [3.0] * 6
    assert weight[0, :5].eq(0).all()


def test_composite_of_a_complete_texture_changes_nothing() -> None:
    island = torch.zeros(6, 6, dtype=torch.bool)
    island[1:5, 1:4] = True
    partial = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    texture, _ = composite(torch.zeros_like(partial), partial, island.float()[None], island)
    assert torch.equal(texture[:, :, island], partial[:, :, island])


def test_colours_are_matched_by_least_squares() -> None:
    source = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gain, offset = torch.tensor([0.8, 1.1, 0.5]), torch.tensor([0.1, -0.05, 0.2])
    target = source * gain[:, None, None] + offset[:, None, None]
    weight = torch.zeros(1, 16, 16)
    weight[:, :8] = 1
    target[:, :, 8:] = 7.0  # outside the weight: must not count
    alpha, beta = fit_colour(source, target, weight)
    torch.testing.assert_close(alpha[0], gain, atol=0.01, rtol=0)
    torch.testing.assert_close(beta[0], offset, atol=0.01, rtol=0)


def test_colours_without_any_weight_stay() -> None:
    image = torch.full((1, 3, 4, 4), 0.5)
    alpha, beta = fit_colour(image, 0 * image, torch.zeros(1, 4, 4))
    assert alpha.tolist() == [[1, 1, 1]]
    assert beta.tolist() == [[0, 0, 0]]
    alpha, beta = fit_colour(image, image + 0.2, torch.ones(1, 4, 4))
    torch.testing.assert_close(alpha * 0.5 + beta, torch.full((1, 3), 0.7))


def test_look_up_of_four_texels() -> None:
    """Texel centres lie at ¼ and ¾ of a 2 × 2 texture; half-way between them is the mean."""
    texture = torch.tensor([[[[1.0, 2], [3, 4]]]])
    uv = torch.tensor([[[[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [-1, -1], [0, 0]]]])
    assert rasterise_texture(texture, uv)[0, 0, 0].tolist() == [1, 2, 2.5, 3, 0, 1]


def test_gradients_reach_the_texture() -> None:
    texture = torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    uv = torch.rand(1, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda t: rasterise_texture(t, uv), texture)
