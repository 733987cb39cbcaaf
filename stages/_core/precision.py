"""The training dtype: bf16 where it pays on this processor, fp32 where it does not."""

import logging
from typing import Literal, TypeVar

import torch

log = logging.getLogger(__name__)

DtypeChoice = Literal["auto", "float32", "bfloat16"]

FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""Names among torch's processor capabilities; elsewhere `auto` stays with float32."""

Net = TypeVar("Net", bound=torch.nn.Module)


def resolve_dtype(choice: DtypeChoice, device: str) -> torch.dtype:
    """The autocast dtype. `auto` asks what the processor can do, never the clock.

    Timing a convolution was tried: on a busy machine the answer, and with it the bytes of stores, changed from run
    to run, and a resumed run could go on in another dtype.
    """
    if choice != "auto":
        return torch.bfloat16 if choice == "bfloat16" else torch.float32
    if device != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    chosen = torch.bfloat16 if _fast_bfloat16() else torch.float32
    log.info("dtype auto: %s", str(chosen).removeprefix("torch."))
    return chosen


def channels_last(net: Net) -> Net:
    """The net itself, its convolutions' weights laid out with the channels last, in place."""
    # torch's own annotations of Module.to know no memory_format, which its documentation and code do.
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def autocast(device: str, dtype: torch.dtype) -> torch.autocast:
    """Run a block in `dtype`; float32 changes nothing."""
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def _fast_bfloat16() -> bool:
    """Whether the processor multiplies bf16 itself: two to three times as fast there, slower where it does not."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in FAST_BFLOAT16)
