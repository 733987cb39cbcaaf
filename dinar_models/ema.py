"""Moving averages of weights: what is published after training."""

from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Net = TypeVar("Net", bound=nn.Module)
Tensors = tuple[Tensor, ...] | list[Tensor]


class Averaged(AveragedModel, Generic[Net]):
    """A copy of `net` whose `update_parameters(net)` follows it; buffers (batch statistics) are averaged too.

    The decay starts small and grows: min(decay, (1 + n) / (10 + n)) after n updates, so that short runs are not
    held back by the initial weights.
    """

    def __init__(self, net: Net, decay: float) -> None:
        def follow(average: Tensors, current: Tensors, count: Tensor | int) -> None:
            """All tensors of one type at once: nets have hundreds of small ones."""
            if not average[0].is_floating_point():
                torch._foreach_copy_(average, current)
                return
            kept = min(decay, (1 + int(count)) / (10 + int(count)))
            torch._foreach_lerp_(average, current, 1 - kept)

        super().__init__(net, multi_avg_fn=follow, use_buffers=True)

    @property
    def net(self) -> Net:
        """The averaged copy."""
        return self.module  # type: ignore[return-value]  # torch types it as any module
