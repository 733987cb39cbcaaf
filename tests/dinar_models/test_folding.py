"""Folded networks give what the networks give in eval mode."""

import pytest
import torch
from torch import Tensor, nn

from dinar_models.avatar import AvatarConfig, AvatarNets
from dinar_models.backbones import efficientnet_lite0
from dinar_models.folding import fold_batch_norms, for_inference
from dinar_models.renderer import ConvBlock, Renderer
from dinar_models.stylegan2 import EqualConv2d

SMALL = AvatarConfig(
    image_size=32, texture_size=16, encoder_base=8, generator_base=8, renderer_base=4, renderer_blocks=1,
    renderer_kernel=3, rgb_blocks=1, mask_blocks=1, style=8, colour_skip=True, margin=0.1,
)  # fmt: skip


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lived(net: nn.Module) -> nn.Module:
    """Batch norms with statistics, scales and shifts of their own."""
    generator = torch.Generator().manual_seed(1)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 2, generator=generator)
            nn.init.normal_(part.bias, generator=generator)
    return net


def uv() -> Tensor:
    """A body on the middle of an image of 32 pixels."""
    raster = torch.full((1, 32, 32, 2), -1.0)
    raster[:, 6:26, 12:22] = torch.rand(1, 20, 10, 2, generator=torch.Generator().manual_seed(2))
    return raster


def test_a_block_by_hand() -> None:
    """Weight 2, scaled by 1/√4; mean 1, variance 4, scale 6 and shift 5: 3 (x − 1) + 5 of x = 3, leaky below 0."""
    block = ConvBlock(4, 1, kernel=1)
    conv, norm = block[0], block[1]
    assert isinstance(conv, EqualConv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([2.0, 0, 0, 0]).view(1, 4, 1, 1))
        norm.running_mean.fill_(1)
        norm.running_var.fill_(4 - norm.eps)
        norm.weight.fill_(6)
        norm.bias.fill_(5)
    folded = fold_batch_norms(block)
    assert [type(part) for part in folded] == [nn.Conv2d, nn.Identity, type(block[2])]
    x = torch.zeros(1, 4, 1, 2)
    x[0, 0, 0] = torch.tensor([3.0, -4.0])
    torch.testing.assert_close(folded(x).flatten(), torch.tensor([11.0, -0.2 * 10]))


@pytest.mark.parametrize("colour_skip", [False, True])
def test_a_renderer_renders_the_same(colour_skip: bool) -> None:
    torch.manual_seed(0)
    net = lived(Renderer(4, 1, 3, 1, 2, colour_skip=colour_skip)).eval().requires_grad_(False)
    folded = fold_batch_norms(net)
    raster = random(1, 21, 32, 32)
    for mine, theirs in zip(folded(raster, uv()), net(raster, uv()), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    assert not any(isinstance(part, EqualConv2d) for part in folded.modules())
    norms = [name for name, part in folded.named_modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms == ["rgb_head.0", "mask_head.0"]  # the two heads share the convolution before them


def test_the_net_itself_stays_and_the_copy_has_no_gradients() -> None:
    torch.manual_seed(0)
    net = lived(Renderer(4, 1, 3, 1, 1)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = fold_batch_norms(net)
    assert net.training
    assert not folded.training
    assert not any(p.requires_grad for p in folded.parameters())
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_texture_gets_the_same_gradient() -> None:
    """Tuning colours goes through the folded renderer."""
    torch.manual_seed(0)
    nets = AvatarNets(SMALL)
    lived(nets)
    nets.eval().requires_grad_(False)
    gradients = []
    for net in (nets, fold_batch_norms(nets)):
        texture = random(1, 21, 16, 16).sigmoid().requires_grad_()
        rgb, mask = net.render(texture, uv())
        (rgb.square().sum() + mask.sum()).backward()
        gradients.append(texture.grad)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)
    assert gradients[0].abs().max() > 0.01


def test_in_bf16_it_renders_nearly_the_same() -> None:
    """Two decimals of [−1, 1] and [0, 1]: what bf16's eight bits allow."""
    torch.manual_seed(0)
    nets = AvatarNets(SMALL)
    lived(nets)
    nets.eval().requires_grad_(False)
    fast, texture = for_inference(nets, torch.bfloat16), random(1, 21, 16, 16).sigmoid()
    assert {p.dtype for part in fast.modules() if isinstance(part, nn.Conv2d) for p in part.parameters()} == {
        torch.bfloat16
    }
    with torch.autocast("cpu", torch.bfloat16):
        made = fast.render(texture, uv())
    for mine, theirs in zip(made, nets.render(texture, uv()), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, atol=0.05, rtol=0)


def test_timms_norms_leave_their_activation_behind() -> None:
    net = efficientnet_lite0(num_classes=0)
    folded = fold_batch_norms(net)
    image = random(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(folded(image), net(image), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
