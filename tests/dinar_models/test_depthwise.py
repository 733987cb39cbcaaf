import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from dinar_models.depthwise import Float32Depthwise, depthwise_in_float32


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
def test_the_replacement_computes_the_same(kind: type[nn.Conv2d], size: int) -> None:
    torch.manual_seed(0)
    padding = {"padding": 2} if kind is nn.Conv2d else {}
    net = nn.Sequential(kind(6, 6, 5, stride=2, groups=6, **padding), nn.Conv2d(6, 3, 1))
    x = torch.randn(2, 6, size, size)
    expected, names = net(x), list(net.state_dict())
    depthwise_in_float32(net)
    assert isinstance(net[0], Float32Depthwise)
    assert not isinstance(net[1], Float32Depthwise)
    torch.testing.assert_close(net(x), expected)
    assert list(net.state_dict()) == names


def test_under_autocast_it_computes_in_float32_and_answers_in_the_inputs_type() -> None:
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(conv.weight, 1 + 2**-10)  # which bf16 rounds to 1
    layer = Float32Depthwise(conv, same=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 1, 1, 1)).item() == 1 + 2**-10
        assert layer(torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)).dtype == torch.bfloat16
