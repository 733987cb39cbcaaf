"""The training dtype is a matter of the processor and of params, never of the clock."""

import pytest
import torch

from stages._core.precision import autocast, channels_last, resolve_dtype


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_asks_what_the_processor_can_do(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert resolve_dtype("auto", "cpu") == dtype


def test_a_choice_is_kept_whatever_the_processor() -> None:
    assert resolve_dtype("float32", "cpu") == torch.float32
    assert resolve_dtype("bfloat16", "cpu") == torch.bfloat16


def test_autocast_in_float32_changes_nothing() -> None:
    layer = torch.nn.Linear(2, 2)
    with autocast("cpu", torch.float32):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    with autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16


def test_channels_last_is_the_same_net_in_another_layout() -> None:
    net = torch.nn.Conv2d(4, 4, 3)
    x = torch.rand(1, 4, 8, 8)
    before = net(x)
    assert channels_last(net) is net
    assert net.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x), before)
