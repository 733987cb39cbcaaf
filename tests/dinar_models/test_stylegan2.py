"""StyleGAN2's layers against filters worked out by hand and against modulation of the weights themselves."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinar_models.stylegan2 import (
    Activation,
    Blur,
    ConvLayer,
    Downsample,
    EqualConv2d,
    EqualLinear,
    ModulatedConv2d,
    ResBlock,
    StyledConv,
    ToTexture,
    Upsample,
    widths,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def only_the_middle(layer: ConvLayer) -> None:
    """Make a layer's convolution pass its input on: weight 1 in the middle, whatever it is scaled by."""
    conv = next(part for part in layer if isinstance(part, EqualConv2d))
    with torch.no_grad():
        conv.weight.zero_()
        side = conv.weight.shape[-1] // 2
        conv.weight[..., side, side] = 1 / conv.scale


def test_widths_of_the_published_networks() -> None:
    published = {4: 256, 8: 256, 16: 256, 32: 256, 64: 256, 128: 128, 256: 64, 512: 32}
    assert widths(512, 256) == published
    assert widths(256, 16) == {4: 16, 8: 16, 16: 16, 32: 16, 64: 16, 128: 8, 256: 8}


def test_activation_takes_the_gain_from_the_layer_before() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0])
    torch.testing.assert_close(Activation()(math.sqrt(2) * x), math.sqrt(2) * torch.tensor([-0.2, 0.0, 2.0]))


@pytest.mark.parametrize("lr_mul", [1.0, 0.01])
def test_equalised_layers_keep_unit_variance_whatever_the_rate(lr_mul: float) -> None:
    torch.manual_seed(0)
    conv, linear = EqualConv2d(64, 64, 3, lr_mul=lr_mul), EqualLinear(512, 512, lr_mul=lr_mul)
    with torch.no_grad():
        assert conv(random(4, 64, 12, 12)).var().item() == pytest.approx(1, rel=0.05)
        assert linear(random(64, 512)).var().item() == pytest.approx(1, rel=0.05)
    assert conv.weight.std().item() == pytest.approx(1 / lr_mul, rel=0.05)


def test_bias_of_a_linear_layer_starts_at_its_value() -> None:
    layer = EqualLinear(3, 2, lr_mul=0.01, bias_init=1.5)
    torch.testing.assert_close(layer(torch.zeros(1, 3)), torch.full((1, 2), 1.5))


def test_an_active_linear_layer_has_the_gain() -> None:
    layer = EqualLinear(1, 1, activate=True)
    nn.init.ones_(layer.weight)
    torch.testing.assert_close(
        layer(torch.tensor([[3.0], [-3.0]])), math.sqrt(2) * torch.tensor([[3.0], [-0.6]])
    )


def test_gain_multiplies_weights_and_bias() -> None:
    conv = EqualConv2d(1, 1, 1, bias=True, gain=3.0)
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.fill_(2.0)
        conv.bias.fill_(0.5)
    assert conv(torch.ones(1, 1, 1, 1)).item() == pytest.approx(3 * (2 + 0.5))


def test_blur_of_an_impulse() -> None:
    image = torch.zeros(1, 2, 5, 5)
    image[0, 1, 2, 2] = 64.0
    blurred = Blur(2)(image)
    line = torch.tensor([1.0, 3, 3, 1])
    torch.testing.assert_close(blurred[0, 1, 1:5, 1:5], line[:, None] * line)
    assert blurred[0, 0].eq(0).all()


def zeros_between(x: Tensor) -> Tensor:
    """Upsampling as the paper says it: zeros between pixels, two and one around, filter, gain 4."""
    b, c, h, w = x.shape
    spaced = x.new_zeros(b, c, h, 2, w, 2)
    spaced[:, :, :, 0, :, 0] = x
    line = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype) / 4
    kernel = (line[:, None] * line).expand(c, 1, 4, 4)
    return F.conv2d(F.pad(spaced.view(b, c, 2 * h, 2 * w), (2, 1, 2, 1)), kernel, groups=c)


def every_second_pixel(x: Tensor) -> Tensor:
    """Downsampling: one pixel of zeros around, filter, and half of the pixels thrown away."""
    line = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype) / 8
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel, groups=x.shape[1])[..., ::2, ::2]


RESAMPLING = [(Upsample, zeros_between), (Downsample, every_second_pixel)]


@pytest.mark.parametrize(("layer", "reference"), RESAMPLING)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_resampling_and_its_gradient_are_those_of_the_definition(
    layer: type[nn.Module], reference: Callable[[Tensor], Tensor], layout: torch.memory_format
) -> None:
    x = random(2, 3, 6, 10).contiguous(memory_format=layout).requires_grad_()
    out, expected = layer()(x), reference(x)
    torch.testing.assert_close(out, expected)
    weight = random(*out.shape, seed=1)
    gradients = [torch.autograd.grad(y, x, weight)[0] for y in (out, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("layer", "reference"), RESAMPLING)
def test_resampling_is_differentiated_twice(
    layer: type[nn.Module], reference: Callable[[Tensor], Tensor]
) -> None:
    """As the penalty on gradients needs it."""
    x = random(1, 2, 4, 4).double().requires_grad_()
    resample = layer().double()
    assert torch.autograd.gradgradcheck(lambda x: resample(x).square(), x)
    torch.testing.assert_close(resample(x), reference(x))


@pytest.mark.parametrize(("layer", "reference"), RESAMPLING)
def test_resampling_in_bf16_stays_in_bf16(
    layer: type[nn.Module], reference: Callable[[Tensor], Tensor]
) -> None:
    x = random(1, 2, 8, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer()(x)
    (gradient,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert out.dtype == gradient.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), reference(x.float()), atol=0.02, rtol=0.01)


def test_upsampling_by_hand_moves_nothing() -> None:
    """A pixel becomes ¼ ¾ ¾ ¼ around the two that it covers; a plane stays flat away from the border."""
    impulse = torch.zeros(1, 1, 4, 4)
    impulse[0, 0, 1, 2] = 1.0
    out = Upsample()(impulse)[0, 0]
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(out[1:5, 3:7], line[:, None] * line)
    assert out.sum().item() == pytest.approx(4)
    torch.testing.assert_close(Upsample()(torch.ones(1, 1, 6, 6))[..., 1:-1, 1:-1], torch.ones(1, 1, 10, 10))


@pytest.mark.parametrize("kernel", [1, 3])
def test_downsampling_moves_nothing(kernel: int) -> None:
    """Of a ramp each new pixel takes the value between the two that it covers: 2 k + ½."""
    layer = ConvLayer(1, 1, kernel, down=True, activate=False)
    only_the_middle(layer)
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    out = layer(ramp)
    assert out.shape == (1, 1, 6, 6)
    expected = (2 * torch.arange(6.0) + 0.5).expand(4, 6)
    torch.testing.assert_close(out[0, 0, 1:-1, 1:-1], expected[:, 1:-1])


def test_residual_block_halves_the_size_and_joins_both_paths() -> None:
    """With all convolutions passing their input on, a plane of 1 gives (1 + 1) / √2."""
    block = ResBlock(1, 1)
    for layer in (block.conv1, block.conv2, block.skip):
        only_the_middle(layer)
    out = block(torch.ones(1, 1, 12, 12))
    assert out.shape == (1, 1, 6, 6)
    torch.testing.assert_close(out[..., 1:-1, 1:-1], torch.full((1, 1, 4, 4), math.sqrt(2)))


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulating_activations_equals_modulating_weights(demodulate: bool) -> None:
    """Eqs. 1–3 of the paper, one sample at a time."""
    torch.manual_seed(0)
    conv = ModulatedConv2d(5, 4, 3, style=6, demodulate=demodulate, gain=1.0).requires_grad_(False)
    x, style = random(3, 5, 8, 8), random(3, 6, seed=1)
    out = conv(x, style)
    for i, scales in enumerate(conv.modulation(style)):
        weight = conv.weight * conv.scale * scales[None, :, None, None]
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        torch.testing.assert_close(out[i], F.conv2d(x[i : i + 1], weight, padding=1)[0], atol=1e-5, rtol=1e-4)


def test_demodulated_output_has_the_gain_as_its_deviation() -> None:
    torch.manual_seed(0)
    conv = ModulatedConv2d(64, 64, 3, style=8, gain=math.sqrt(2)).requires_grad_(False)
    out = conv(random(2, 64, 16, 16), 30 * random(2, 8, seed=1))
    assert out[..., 1:-1, 1:-1].var().item() == pytest.approx(2, rel=0.1)


def test_noise_of_a_styled_layer_starts_silent_and_is_the_generators() -> None:
    torch.manual_seed(0)
    layer = StyledConv(3, 2, style=4, up=True).requires_grad_(False)
    x, style = random(2, 3, 4, 4), random(2, 4, seed=1)

    def out(seed: int) -> Tensor:
        return layer(x, style, torch.Generator().manual_seed(seed))

    assert out(0).shape == (2, 2, 8, 8)
    assert torch.equal(out(0), out(1))
    layer.noise_strength.fill_(1.0)
    assert torch.equal(out(0), out(0))
    assert not torch.equal(out(0), out(1))


def test_noise_is_one_plane_for_all_channels() -> None:
    """Where the convolution gives nothing, output is the activated noise, √2 times its strength."""
    layer = StyledConv(3, 2, style=4).requires_grad_(False)
    layer.noise_strength.fill_(0.5)
    out = layer(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4), torch.Generator().manual_seed(3))
    noise = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(out, F.leaky_relu(math.sqrt(2) * 0.5 * noise, 0.2).expand(1, 2, 4, 4))


def test_texture_heads_add_up() -> None:
    torch.manual_seed(0)
    head = ToTexture(3, 2, style=4).requires_grad_(False)
    x, style, below = random(1, 3, 8, 8), random(1, 4, seed=1), random(1, 2, 4, 4, seed=2)
    alone = head(x, style, None)
    torch.testing.assert_close(head(x, style, below), alone + Upsample()(below))
