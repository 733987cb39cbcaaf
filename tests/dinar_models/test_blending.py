"""Blending views of one person on textures whose seams are known."""

import pytest
import torch
from torch import Tensor

from dinar_models.blending import ANCHOR, BLENDINGS, Blending, blend_textures
from dinar_models.texture import merge_textures
from dinar_models.types import NeuralTexture

SIZE = 64
SCHEMES = list(BLENDINGS)


def whole() -> Tensor:
    """One island everywhere."""
    return torch.zeros(SIZE, SIZE, dtype=torch.long)


def views(*colours: Tensor | float, generated: float = 0.0) -> Tensor:
    """Textures of one view each: RGB of one value or (3, T, T), full masks."""
    full = torch.ones(1, 1, SIZE, SIZE)
    made = [
        NeuralTexture.assemble(
            torch.full((1, 16, SIZE, SIZE), generated),
            torch.as_tensor(c).expand(1, 3, SIZE, SIZE),
            full,
            full,
        ).data
        for c in colours
    ]
    return torch.cat(made)


def halves() -> Tensor:
    """(2, T, T): the first view sees the left half, the second the right half."""
    seen = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    seen[0, :, : SIZE // 2] = seen[1, :, SIZE // 2 :] = True
    return seen


def alike(count: int) -> Tensor:
    return torch.full((count, SIZE, SIZE), 0.5)


def red(texture: Tensor) -> Tensor:
    return NeuralTexture(texture[None]).rgb[0, 0]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_softmax_is_eq_5() -> None:
    textures, frontality = random(3, 21, SIZE, SIZE), random(3, SIZE, SIZE, seed=1)
    seen = random(3, SIZE, SIZE, seed=2) > 0.4
    made, covered = blend_textures(textures, frontality, seen, whole(), temperature=4.0)
    expected, expected_covered = merge_textures(textures, frontality, seen, 4.0)
    assert torch.equal(made, expected)
    assert torch.equal(covered, expected_covered)


@pytest.mark.parametrize("blending", SCHEMES)
def test_views_that_agree_are_left_as_they_are(blending: Blending) -> None:
    """Three views of one random texture, each better in some texels: nothing to blend."""
    texture = random(1, 21, SIZE, SIZE).expand(3, -1, -1, -1)
    everywhere = torch.ones(3, SIZE, SIZE, dtype=torch.bool)
    made, _ = blend_textures(texture, random(3, SIZE, SIZE, seed=1), everywhere, whole(), blending=blending)
    torch.testing.assert_close(made, texture[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("blending", SCHEMES)
def test_a_step_between_views_becomes_a_ramp(blending: Blending) -> None:
    """Grey 0.4 on the left, 0.6 on the right: eq. 5 jumps by 0.2 in one texel, the others rise all along."""
    textures, seen = views(0.4, 0.6), halves()
    hard, _ = blend_textures(textures, alike(2), seen, whole())
    assert red(hard)[0].diff().max() == pytest.approx(0.2)
    soft, covered = blend_textures(textures, alike(2), seen, whole(), blending=blending)
    rise = red(soft)[SIZE // 2].diff()
    assert covered.all()
    assert rise.min() > -1e-6
    assert rise.max() < 0.02
    assert red(soft).mean() == pytest.approx(0.5, abs=1e-3)


def test_poissons_ramp_by_hand() -> None:
    """Far from borders x[k] = 1 − r^(k+1) / (1 + r), where r + 1/r = 2 + ANCHOR, k texels right of a step of 1."""
    island = torch.full((512, 512), -1)
    island[:2] = 0
    textures, seen = torch.zeros(2, 21, 512, 512), torch.zeros(2, 512, 512, dtype=torch.bool)
    textures[1, 16:19] = 1
    seen[0, :2, :256] = seen[1, :2, 256:] = True
    frontality = torch.full((2, 512, 512), 0.5)
    made, _ = blend_textures(textures, frontality, seen, island, blending="poisson")
    r = 1 + ANCHOR / 2 - (ANCHOR + ANCHOR**2 / 4) ** 0.5
    expected = 1 - r ** torch.arange(1.0, 33) / (1 + r)
    torch.testing.assert_close(made[16, 0, 256:288], expected, atol=1e-3, rtol=0)


def test_poisson_takes_the_best_views_differences() -> None:
    """The better view is 0.2 darker and sees one half only: its stripes stay, the step beside it goes."""
    stripes = 0.1 * torch.tensor([0.0, 1.0]).repeat(SIZE // 2).expand(SIZE, SIZE)
    textures = views(torch.full((SIZE, SIZE), 0.6), 0.4 + stripes)
    seen = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    seen[1, :, : SIZE // 2] = False
    frontality = torch.stack([torch.full((SIZE, SIZE), 0.3), torch.full((SIZE, SIZE), 0.9)])
    made, _ = blend_textures(textures, frontality, seen, whole(), blending="poisson")
    row = red(made)[SIZE // 2]
    assert (row[SIZE // 2 + 2 :: 2] - row[SIZE // 2 + 3 :: 2]).mean() == pytest.approx(-0.1, abs=0.01)
    assert abs(row[SIZE // 2] - row[SIZE // 2 - 1]) < 0.02


def test_pyramids_do_not_mix_detail_of_two_views() -> None:
    """Both views see stripes, one texel apart: eq. 5 of equal cosines is grey, a pyramid keeps those of one view."""
    stripes = torch.tensor([0.2, 0.8]).repeat(SIZE // 2).expand(SIZE, SIZE)
    textures, seen = views(stripes, stripes.roll(1, dims=1)), torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    grey, _ = blend_textures(textures, alike(2), seen, whole())
    kept, _ = blend_textures(textures, alike(2), seen, whole(), blending="pyramid")
    assert red(grey).std() < 1e-6
    torch.testing.assert_close(red(kept), stripes, atol=1e-5, rtol=0)


@pytest.mark.parametrize("blending", SCHEMES)
def test_islands_do_not_bleed_into_each_other(blending: Blending) -> None:
    """A black and a white island side by side, the black one seen by one view, the white one by the other."""
    island = torch.full((SIZE, SIZE), -1)
    island[:, : SIZE // 2], island[:, SIZE // 2 : -4] = 2, 5
    seen = halves() & (island >= 0)
    made, covered = blend_textures(views(0.0, 1.0), alike(2), seen, island, blending=blending)
    torch.testing.assert_close(red(made)[island == 2], torch.zeros(SIZE**2 // 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(red(made)[island == 5], torch.ones(SIZE * (SIZE // 2 - 4)), atol=1e-5, rtol=0)
    assert torch.equal(covered, island >= 0)


@pytest.mark.parametrize("blending", SCHEMES)
def test_what_is_not_seen_does_not_count(blending: Blending) -> None:
    """Absurd colours where a view sees nothing change nothing; masks and what nobody sees stay as in eq. 5."""
    seen = halves()
    seen[:, : SIZE // 4] = False
    textures = views(0.4, 0.6)
    wild = torch.where(seen[:, None], textures, 100.0)
    wild[:, 19:] = textures[:, 19:] = seen[:, None].float()
    textures[:, :19] *= seen[:, None]
    made, covered = blend_textures(textures, alike(2), seen, whole(), blending=blending)
    odd, _ = blend_textures(wild, alike(2), seen, whole(), blending=blending)
    torch.testing.assert_close(odd[:, SIZE // 4 :], made[:, SIZE // 4 :], atol=1e-4, rtol=0)
    assert torch.equal(covered, seen.any(dim=0))
    assert torch.equal(made[19:], merge_textures(textures, alike(2), seen)[0][19:])
    assert (made[:, : SIZE // 4] == 0).all()


@pytest.mark.parametrize("blending", SCHEMES)
def test_colours_stay_in_range_and_generated_channels_are_blended_too(blending: Blending) -> None:
    textures = torch.cat([views(0.0, generated=-3.0), views(1.0, generated=3.0)])
    made, _ = blend_textures(textures, alike(2), halves(), whole(), blending=blending)
    texture = NeuralTexture(made[None])
    assert 0 <= texture.rgb.min() < texture.rgb.max() <= 1
    assert texture.generated[0, 0].diff(dim=1).abs().max() < 0.6  # eq. 5 jumps by 6
    assert texture.generated.min() < -1


@pytest.mark.parametrize("blending", SCHEMES)
def test_one_view_is_itself(blending: Blending) -> None:
    texture, seen = random(1, 21, SIZE, SIZE), random(1, SIZE, SIZE, seed=1) > 0.5
    made, covered = blend_textures(texture, alike(1), seen, whole(), blending=blending)
    assert torch.equal(made, texture[0])
    assert torch.equal(covered, seen[0])
