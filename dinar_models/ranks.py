"""What processes that share a batch tell each other. A process without a process group is alone: nothing is sent.

Each rank computes the mean loss of its own samples. Gradients are averaged over the ranks, so they are those of the
mean over the whole batch; statistics over a batch (batch norm, Dice, use of codes) are taken over all ranks' samples.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dinar_models.draws import Share


def world() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process; 0 is the one that writes."""
    return dist.get_rank() if world() > 1 else 0


def share(batch: int) -> Share:
    """This process's share of a batch. Raises ValueError when it cannot be shared evenly."""
    return Share(batch, rank(), world())


def total(values: Tensor) -> Tensor:
    """The sum over all ranks, with its gradient."""
    return values if world() == 1 else _Gather.apply(values).sum(0)


def mean(values: Tensor) -> Tensor:
    """The mean over all ranks, with its gradient."""
    return values if world() == 1 else _Gather.apply(values).mean(0)


def whole_batch(samples: Float[Tensor, "b ..."]) -> Float[Tensor, "c ..."]:
    """The samples of all ranks in the order of the batch."""
    return samples if world() == 1 else _Gather.apply(samples).flatten(0, 1)


def largest(values: list[int], device: torch.device) -> list[int]:
    """The largest of each number over all ranks."""
    if world() == 1:
        return values
    numbers = torch.tensor(values, device=device)
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return numbers.tolist()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over the ranks, all of them in one message; call between backward and step.

    Which parameters have a gradient may depend on the step, never on the samples.
    """
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    parts = flat.div_(world()).split([g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def copy_from_first(net: nn.Module) -> None:
    """Give all ranks the parameters and buffers of rank 0."""
    if world() > 1:
        for values in net.state_dict().values():
            sent = values.contiguous()
            dist.broadcast(sent, 0)
            values.copy_(sent)


def share_layers(net: nn.Module) -> None:
    """Let batch norms and dropouts see the whole batch, in place; names and tensors of the state stay the same."""
    if world() == 1:
        return
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _shared_norm(child))
            elif type(child) is nn.Dropout:
                setattr(parent, name, SharedDropout(child.p))


class SharedBatchNorm2d(nn.BatchNorm2d):
    """In training, statistics over the samples of all ranks, which have as many pixels each; in single precision.

    torch's SyncBatchNorm does the same, on GPUs only.

    Args:
        norm: what is replaced; its tensors are shared.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        with torch.device("meta"):
            super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, values in norm.named_buffers():
            self.register_buffer(name, values)
        self.train(norm.training)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalised, scaled and shifted, in the type of `x`."""
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            values = x.float()
            own = torch.stack(torch.var_mean(values, (0, 2, 3), correction=0))
            variances, means = _Gather.apply(own).unbind(1)
            centre = means.mean(0)
            variance = (variances + (means - centre).square()).mean(0)
            self._follow(centre.detach(), variance.detach(), world() * values.numel() // len(centre))
            scale = self.weight * torch.rsqrt(variance + self.eps)
            return torch.addcmul(
                self.bias[:, None, None], values - centre[:, None, None], scale[:, None, None]
            ).to(x.dtype)

    @torch.no_grad()
    def _follow(self, centre: Tensor, variance: Tensor, count: int) -> None:
        """The running statistics, of the unbiased variance as in torch."""
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(centre, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)


class SharedDropout(nn.Dropout):
    """Drops what one process with the whole batch would drop: global generators stand alike in all ranks."""

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """A part set to 0, the rest scaled up; `x` itself outside training."""
        if not self.training or self.p == 0:
            return x
        kept = F.dropout(torch.cat([torch.ones_like(x)] * world()), self.p)
        return x * kept.chunk(world())[rank()]


def _shared_norm(norm: nn.BatchNorm2d) -> nn.Module:
    if norm.weight.is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    return SharedBatchNorm2d(norm)


class _Gather(torch.autograd.Function):
    """All ranks' values, stacked in their order. Every rank's loss counts in the gradient of a rank's values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.contiguous()
        parts = [torch.empty_like(values) for _ in range(world())]
        dist.all_gather(parts, values)
        return torch.stack(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[rank()]
