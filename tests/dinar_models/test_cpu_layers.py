"""What takes the place of diffusers' slow layers gives the same, in values and gradients."""

import copy

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from dinar_models.cpu_layers import FEW_PLACES, GroupNorm, replace_slow_layers
from dinar_models.diffusion import DiffusionConfig, LatentDiffusion


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(groups: int, channels: int) -> tuple[nn.GroupNorm, GroupNorm]:
    """Torch's norm and ours with equal weights of their own."""
    plain = nn.GroupNorm(groups, channels, eps=1e-6)
    with torch.no_grad():
        plain.weight.copy_(1 + 0.5 * random(channels, seed=1))
        plain.bias.copy_(random(channels, seed=2))
    return plain, GroupNorm(copy.deepcopy(plain))


def gradients(norm: nn.GroupNorm, x: Tensor, weight: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    out = norm(x)
    return [out.detach(), *torch.autograd.grad(out, (x, norm.weight, norm.bias), weight)]


@pytest.mark.parametrize(
    "shape",
    [(2, 6, 20, 16), (2, 6, 3, 3), (1, 12, 17, 19), (1, 6, 1, 300)],
    ids=["large", "few places", "odd", "a line"],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_group_norms_agree(shape: tuple[int, int, int, int], layout: torch.memory_format) -> None:
    plain, ours = pair(3, shape[1])
    x = (3 + 2 * random(*shape, seed=3)).contiguous(memory_format=layout)
    weight = random(*shape, seed=4).contiguous(memory_format=layout)
    for mine, theirs in zip(gradients(ours, x, weight), gradients(plain, x, weight), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_norm_of_tokens_agrees(batch: int) -> None:
    """Attention normalises (batch, channels, tokens), a view of an image with channels last."""
    plain, ours = pair(2, 8)
    image = random(batch, 8, 16, FEW_PLACES // 16).contiguous(memory_format=torch.channels_last)
    x = image.view(batch, 8, FEW_PLACES).transpose(1, 2).transpose(1, 2)
    for mine, theirs in zip(gradients(ours, x, x), gradients(plain, x, x), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=1e-3)


def test_the_gradient_in_double_precision() -> None:
    x = random(1, 4, 16, 16).double().contiguous(memory_format=torch.channels_last).requires_grad_()
    _, norm = pair(2, 4)
    torch.testing.assert_close(
        gradients(norm.double(), x, x)[1:], gradients(nn_norm(norm), x, x)[1:], atol=1e-5, rtol=1e-5
    )


def nn_norm(norm: GroupNorm) -> nn.GroupNorm:
    plain = nn.GroupNorm(norm.num_groups, norm.num_channels, norm.eps).double()
    plain.load_state_dict(norm.state_dict())
    return plain


def test_in_bf16_the_gradient_is_as_near_to_the_true_one_as_torchs() -> None:
    plain, ours = pair(4, 16)
    x = random(2, 16, 32, 32, seed=3).contiguous(memory_format=torch.channels_last)
    weight = random(2, 16, 32, 32, seed=4).contiguous(memory_format=torch.channels_last)
    true = gradients(plain, x, weight)
    theirs, mine = (gradients(norm, x.bfloat16(), weight.bfloat16()) for norm in (plain, ours))
    for exact, their, my in zip(true, theirs, mine, strict=True):
        assert (my.float() - exact).norm() < 2 * (their.float() - exact).norm() + 1e-3 * exact.norm()


def test_a_denoiser_with_replaced_layers_is_the_same() -> None:
    """The U-Net of diffusers with attention, before and after; its state keeps its names."""
    torch.manual_seed(0)
    config = DiffusionConfig(
        latent_size=32, widths=(8, 16), attention=(False, True), layers=1, groups=4, head_width=8, dropout=0.0
    )
    net = LatentDiffusion(config).unet.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(net)
    for part in plain.modules():
        if isinstance(part, Attention):
            part.set_processor(AttnProcessor2_0())
            part.upcast_softmax = True
        for name, child in list(part.named_children()):
            if isinstance(child, GroupNorm):
                norm = nn.GroupNorm(child.num_groups, child.num_channels, child.eps)
                norm.load_state_dict(child.state_dict())
                setattr(part, name, norm)
    x, t = random(2, 13, 32, 32).contiguous(memory_format=torch.channels_last), torch.tensor([3, 900])
    outs = [model(x, t).sample for model in (net, plain)]
    torch.testing.assert_close(*outs, atol=1e-5, rtol=1e-4)
    for out in outs:
        out.square().sum().backward()
    state = dict(plain.named_parameters())
    assert list(dict(net.named_parameters())) == list(state)
    for name, p in net.named_parameters():
        assert p.grad is not None
        assert state[name].grad is not None
        torch.testing.assert_close(p.grad, state[name].grad, atol=1e-3, rtol=1e-3, msg=name)
    assert not any(type(part) is nn.GroupNorm for part in net.modules())


def test_layers_are_replaced_once() -> None:
    net = nn.Sequential(nn.GroupNorm(2, 4))
    replace_slow_layers(net)
    norm = net[0]
    replace_slow_layers(net)
    assert net[0] is norm
