"""Training by several processes, started by torchrun: who is who, and the group through which they speak."""

import contextlib
import os
from collections.abc import Iterator


def launched() -> bool:
    """Whether torchrun started this process. WORLD_SIZE alone does not say so: clusters set it too."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def world() -> int:
    """How many processes torchrun started on all machines; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def rank() -> int:
    """The number of this process among them."""
    return int(os.environ["RANK"]) if launched() else 0


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


def local_world() -> int:
    """How many processes torchrun started on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1


@contextlib.contextmanager
def process_group(device: str) -> Iterator[None]:
    """The group of all processes, over NCCL on GPUs and Gloo on CPUs; closed at the end, also after an error.

    Without torchrun, or with a single process, there is none.
    """
    if world() == 1:
        yield
        return
    import torch  # costs a second, and data stages on the CPU need none of it
    import torch.distributed as dist

    if device == "cpu":
        dist.init_process_group("gloo")
    else:
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=torch.device(device))
    try:
        yield
    finally:
        dist.destroy_process_group()
