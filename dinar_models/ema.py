"""Moving averages of weights: what is published after training."""

from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Net = TypeVar("Net", bound=nn.Module)


class Averaged(AveragedModel, Generic[Net]):
    """A copy of `net` whose `update_parameters(net)` follows it; buffers (batch statistics) are averaged too.

    The decay starts small and grows: min(decay, (1 + n) / (10 + n)) after n updates, so that short runs are not
    held back by the initial weights.
    """

    def __init__(self, net: Net, decay: float) -> None:
        def follow(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
            if not average.is_floating_point():
                return current
            kept = min(decay, (1 + int(count)) / (10 + int(count)))
            return torch.lerp(average, current, 1 - kept)

        super().__init__(net, avg_fn=follow, use_buffers=True)

    @property
    def net(self) -> Net:
        """The averaged copy."""
        return self.module  # type: ignore[return-value]  # torch types it as any module
