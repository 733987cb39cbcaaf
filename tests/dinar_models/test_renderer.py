"""The neural renderer where its heads say nothing, so that what remains is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinar_models.losses import dice
from dinar_models.renderer import (
    ConvBlock,
    Head,
    Renderer,
    ResidualBlock,
    box_mean,
    mask_prior,
    spread_colours,
)
from dinar_models.types import NeuralTexture


def random(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def renderer(*, colour_skip: bool, quiet: bool = True) -> Renderer:
    """A tiny one in eval mode; a quiet one has heads that give zeros."""
    torch.manual_seed(0)
    net = Renderer(base=4, blocks=1, kernel=3, rgb_blocks=1, mask_blocks=1, colour_skip=colour_skip).eval()
    if quiet:
        for head in (net.rgb_head, net.mask_head):
            nn.init.zeros_(last_conv(head).weight)
    return net


def last_conv(head: Head) -> nn.Conv2d:
    last = head[-1]
    assert isinstance(last, nn.Conv2d)
    return last


def half_covered() -> tuple[Tensor, Tensor]:
    """(raster, uv) of 16 × 16 pixels: the left half is body, of which the upper half has a colour."""
    uv = torch.full((1, 16, 16, 2), -1.0)
    uv[:, :, :8] = 0.5
    filled = torch.zeros(1, 1, 16, 16)
    filled[..., :8, :8] = 1
    rgb = filled * torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    return NeuralTexture.assemble(random(1, 16, 16, 16), rgb, filled, filled).data, uv


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_silent_net_gives_grey_and_half_a_mask() -> None:
    rgb, mask = renderer(colour_skip=False)(*half_covered())
    assert rgb.eq(0).all()
    assert mask.eq(0.5).all()


def test_a_silent_net_with_skip_shows_the_texture_and_the_silhouette() -> None:
    """Colours × σ(3), also beside the body; the mask says body for sure, the rest by how near the body is."""
    raster, uv = half_covered()
    rgb, mask = renderer(colour_skip=True)(raster, uv)
    expected = sigmoid(3) * torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(rgb, expected.expand(1, 3, 16, 16))
    torch.testing.assert_close(mask[..., :8], torch.full((1, 1, 16, 8), sigmoid(3)))
    assert (mask[..., 8:] <= 0.5).all()
    rgb, _ = renderer(colour_skip=True)(torch.zeros_like(raster), uv)
    assert rgb.eq(0).all()


def test_the_mask_starts_undecided_beside_the_body_and_sure_far_from_it() -> None:
    """A body 30 px wide: d px beside it 13 − d of 25 columns are covered, at most half count."""
    covered = torch.zeros(1, 1, 60, 60)
    covered[..., :30] = 1
    prior = mask_prior(covered)[0, 0, 30]
    assert prior[:30].eq(3).all()
    expected = [3 * (2 * (13 - d) / 25 - 1) for d in (1, 6, 12)]
    torch.testing.assert_close(prior[torch.tensor([30, 35, 41])], torch.tensor(expected))
    assert prior[42:].eq(-3).all()


def test_colours_spread_fourteen_pixels_and_are_unmixed() -> None:
    """Grey 0.8, mixed with a quarter of nothing; two pixels in the first round, twelve more in the second."""
    rgb, filled = torch.zeros(1, 3, 1, 40), torch.zeros(1, 1, 1, 40)
    rgb[..., 0], filled[..., 0] = 0.6, 0.75
    colours, known = spread_colours(rgb, filled)
    torch.testing.assert_close(colours[..., :15], torch.full((1, 3, 1, 15), 0.8))
    assert colours[..., 15:].eq(0).all()
    assert known[0, 0, 0].tolist() == [1.0] * 15 + [0.0] * 25


def test_a_spread_colour_is_the_mean_of_those_around() -> None:
    rgb, filled = torch.zeros(1, 3, 1, 5), torch.zeros(1, 1, 1, 5)
    rgb[..., 4] = 1.0
    filled[..., 0] = filled[..., 4] = 1.0
    colours, _ = spread_colours(rgb, filled)
    torch.testing.assert_close(colours[0, 0, 0], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


@pytest.mark.parametrize("reach", [1, 4, 12])
def test_box_means_and_their_gradients_are_those_of_pooling(reach: int) -> None:
    """A square larger than the image too; 0 and 1 stay exact, as the masks need it."""
    x = random(2, 3, 20, 9).requires_grad_()
    pooled = F.avg_pool2d(x, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    means = box_mean(x, reach)
    torch.testing.assert_close(means, pooled, atol=1e-5, rtol=1e-5)
    weight = random(2, 3, 20, 9, seed=6)
    gradients = [torch.autograd.grad(y, x, weight)[0] for y in (means, pooled)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., :3] = 1
    assert torch.equal(box_mean(mask, reach) > 0, F.max_pool2d(mask, 2 * reach + 1, 1, reach) > 0)


def test_skip_mixes_the_nets_own_colour_by_the_fourth_output() -> None:
    net = renderer(colour_skip=True).requires_grad_(False)
    own_and_keep = torch.tensor([1.0, 1.0, 1.0, -3.0])  # keep half of the texture
    last_conv(net.rgb_head).load_state_dict({"bias": own_and_keep}, strict=False)
    rgb, _ = net(*half_covered())
    own = math.tanh(1)
    expected = torch.tensor([(own - 1) / 2, own / 2, (own + 1) / 2]).view(1, 3, 1, 1)
    torch.testing.assert_close(rgb, expected.expand(1, 3, 16, 16))
    rgb, _ = net(torch.zeros_like(half_covered()[0]), half_covered()[1])
    torch.testing.assert_close(rgb, torch.full((1, 3, 16, 16), own))


@pytest.mark.parametrize("colour_skip", [False, True])
def test_dice_reaches_pixels_off_the_body(colour_skip: bool) -> None:
    """A coat wider than the body: the published code's mask is clamped there and learns nothing."""
    net = renderer(colour_skip=colour_skip)
    _, mask = net(*half_covered())
    mask.retain_grad()
    dice(mask, torch.ones_like(mask)).sum().backward()
    assert mask.grad is not None
    assert (mask.grad[..., 8:] < 0).all()
    bias = last_conv(net.mask_head).bias
    assert bias is not None
    assert bias.grad is not None
    assert bias.grad.item() < 0


@pytest.mark.parametrize("colour_skip", [False, True])
def test_dice_carves_inside_the_body(colour_skip: bool) -> None:
    """A limb thinner than the fitted body: the published mask is forced to 1 there, and its gradient is 0."""
    net = renderer(colour_skip=colour_skip)
    _, mask = net(*half_covered())
    mask.retain_grad()
    true = torch.zeros_like(mask)
    true[..., :4] = 1
    dice(mask, true).sum().backward()
    assert mask.grad is not None
    assert (mask[..., 4:8] < 1).all()
    assert (mask.grad[..., 4:8] > 0).all()
    assert (mask.grad[..., :4] < 0).all()


@pytest.mark.parametrize("colour_skip", [False, True])
def test_every_weight_learns_and_outputs_keep_their_range(colour_skip: bool) -> None:
    net = renderer(colour_skip=colour_skip, quiet=False).train()
    rgb, mask = net(*half_covered())
    assert -1 <= rgb.min() <= rgb.max() <= 1
    assert 0 <= mask.min() <= mask.max() <= 1
    (rgb * random(1, 3, 16, 16)).sum().add((mask * random(1, 1, 16, 16)).sum()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_render_sees_the_generated_channels_and_the_coordinates() -> None:
    net = renderer(colour_skip=False, quiet=False).requires_grad_(False)
    raster, uv = half_covered()
    rgb, _ = net(raster, uv)
    other = raster.clone()
    other[:, :16] *= -1
    assert not torch.equal(net(other, uv)[0], rgb)
    assert not torch.equal(net(raster, torch.where(uv >= 0, 0.9, uv))[0], rgb)


def test_blocks_keep_unit_variance_at_the_start() -> None:
    """Batch norm, then leaky ReLU of √2 x: mean square 2 · (1 + 0.04) / 2."""
    torch.manual_seed(0)
    block = ConvBlock(8, 8).requires_grad_(False)
    assert block(random(4, 8, 24, 24)).square().mean().item() == pytest.approx(1.04, rel=0.05)


def test_a_residual_block_of_zeros_is_an_identity() -> None:
    block = ResidualBlock(4).eval().requires_grad_(False)
    for p in block.parameters():
        p.zero_()
    x = random(1, 4, 8, 8)
    assert torch.equal(block(x), x)
