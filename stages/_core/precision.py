"""The training dtype: bf16 where it pays on this processor, fp32 where it does not."""

import logging
import time
from typing import Literal, TypeVar

import torch

log = logging.getLogger(__name__)

DtypeChoice = Literal["auto", "float32", "bfloat16"]

Net = TypeVar("Net", bound=torch.nn.Module)


def resolve_dtype(choice: DtypeChoice, device: str) -> torch.dtype:
    """The autocast dtype; on a CPU `auto` times one convolution in both and takes the faster."""
    if choice != "auto":
        return torch.bfloat16 if choice == "bfloat16" else torch.float32
    if device != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    slow, fast = _conv_seconds(torch.float32), _conv_seconds(torch.bfloat16)
    chosen = torch.bfloat16 if fast < 0.9 * slow else torch.float32
    log.info(
        "dtype auto: a convolution takes %.1f ms in fp32, %.1f ms in bf16: %s", slow * 1e3, fast * 1e3, chosen
    )
    return chosen


def channels_last(net: Net) -> Net:
    """The net itself, its convolutions' weights laid out with the channels last, in place."""
    # torch's own annotations of Module.to know no memory_format, which its documentation and code do.
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def autocast(device: str, dtype: torch.dtype) -> torch.autocast:
    """Run a block in `dtype`; float32 changes nothing."""
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)


def _conv_seconds(dtype: torch.dtype, repeats: int = 5) -> float:
    """Best of a few times of a 64-channel 3 × 3 convolution at 64²."""
    conv = channels_last(torch.nn.Conv2d(64, 64, 3, padding=1).to(dtype=dtype))
    x = torch.zeros(4, 64, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in range(repeats):
            start = time.perf_counter()
            conv(x)
            best = min(best, time.perf_counter() - start)
    return best
