"""Two real processes tell each other what a process with the whole batch knows; answers known by hand."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, multiprocessing, nn

from dinar_models import ranks

VALUES = torch.tensor([0.0, 2.0, 4.0, 6.0])
"""A batch of four: mean 3, variance 5."""


def two_norms() -> nn.Sequential:
    """Nets whose batch norms lie in the way of gradients."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)
    )


def images() -> tuple[Tensor, Tensor]:
    """A batch of four, far from mean 0, and what its outputs are weighted with."""
    generator = torch.Generator().manual_seed(1)
    return 10 + torch.randn(4, 2, 8, 8, generator=generator), torch.rand(4, 2, 4, 4, generator=generator)


def learn(net: nn.Module, rows: slice) -> Tensor:
    """The images' gradient; the parameters get theirs."""
    image, weight = (values[rows] for values in images())
    image.requires_grad_()
    (net(image).square() * weight).mean().backward()
    assert image.grad is not None
    return image.grad


def speak(rank: int, folder: Path) -> None:
    """What one of two processes does."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rows = ranks.share(4).rows
    own = VALUES[rows].clone().requires_grad_()
    said: dict[str, object] = {
        "rows": rows,
        "total": ranks.total(own).detach(),
        "mean": ranks.mean(own).detach(),
    }
    ((rank + 1) * ranks.total(own)).sum().backward()
    said["gradient"] = own.grad
    said["whole"] = ranks.whole_batch(VALUES[rows])
    said["largest"] = ranks.largest([3 - rank, rank], torch.device("cpu"))
    weight, idle = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))
    weight.grad = torch.full((2, 2), float(rank)).t()
    ranks.average_gradients([weight, idle])
    said |= {"averaged": weight.grad, "idle": idle.grad}
    line = nn.Linear(1, 1)
    nn.init.constant_(line.weight, rank)
    ranks.copy_from_first(line)
    said["copied"] = line.weight.detach()
    norm = nn.Sequential(nn.BatchNorm2d(1, eps=0.0))
    ranks.share_layers(norm)
    said["normed"] = norm(VALUES[rows].view(2, 1, 1, 1)).detach().flatten()
    said["statistics"] = norm.state_dict()
    said["evaluated"] = norm.eval()(VALUES[rows].view(2, 1, 1, 1)).detach().flatten()
    net = two_norms()
    ranks.share_layers(net)
    said["image_gradient"] = learn(net, rows)
    ranks.average_gradients(net.parameters())
    said["gradients"] = [p.grad for p in net.parameters()]
    said["net"] = net.state_dict()
    drop = nn.Sequential(nn.Dropout(0.5))
    ranks.share_layers(drop)
    torch.manual_seed(2)
    said["dropped"] = drop(torch.ones(2, 50))
    torch.save(said, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """By rank."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(speak, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_sums_means_and_largest_are_of_both(said: list[dict]) -> None:
    for rank, one in enumerate(said):
        assert one["rows"] == slice(2 * rank, 2 * rank + 2)
        assert one["total"].tolist() == [4.0, 8.0]
        assert one["mean"].tolist() == [2.0, 4.0]
        assert one["whole"].tolist() == VALUES.tolist()
        assert one["largest"] == [3, 1]


def test_both_losses_count_in_the_gradient_of_a_sum(said: list[dict]) -> None:
    """One weighs it with 1, the other with 2."""
    assert all(one["gradient"].tolist() == [3.0, 3.0] for one in said)


def test_gradients_are_averaged_and_what_has_none_gets_none(said: list[dict]) -> None:
    for one in said:
        assert one["averaged"].tolist() == [[0.5, 0.5], [0.5, 0.5]]
        assert one["idle"] is None
        assert one["copied"].item() == 0.0


def test_a_batch_norm_takes_mean_and_variance_of_the_whole_batch(said: list[dict]) -> None:
    """Mean 3, variance 5; running means start at 0 and 1 and go a tenth of the way, to the unbiased variance 20/3."""
    wanted = (VALUES - 3) / math.sqrt(5)
    torch.testing.assert_close(torch.cat([one["normed"] for one in said]), wanted)
    mean, variance = 0.3, 0.9 + 2 / 3
    for one in said:
        assert one["statistics"]["0.running_mean"].item() == pytest.approx(mean)
        assert one["statistics"]["0.running_var"].item() == pytest.approx(variance)
        assert one["statistics"]["0.num_batches_tracked"] == 1
    evaluated = torch.cat([one["evaluated"] for one in said])
    torch.testing.assert_close(evaluated, (VALUES - mean) / math.sqrt(variance))


def test_gradients_through_batch_norms_are_those_of_the_whole_batch(said: list[dict]) -> None:
    net = two_norms()
    gradient = learn(net, slice(None))
    both = torch.cat([one["image_gradient"] for one in said]) / 2  # of the sum of two means
    torch.testing.assert_close(both, gradient, rtol=1e-4, atol=1e-6)
    for one in said:
        assert one["net"].keys() == net.state_dict().keys()
        for mine, wanted in zip(one["gradients"], net.parameters(), strict=True):
            torch.testing.assert_close(mine, wanted.grad, rtol=1e-4, atol=1e-6)
        for name, wanted in net.named_buffers():
            torch.testing.assert_close(one["net"][name], wanted)


def test_a_dropout_drops_what_it_drops_of_the_whole_batch(said: list[dict]) -> None:
    torch.manual_seed(2)
    wanted = F.dropout(torch.ones(4, 50), 0.5)
    assert torch.equal(torch.cat([one["dropped"] for one in said]), wanted)


def test_a_process_alone_keeps_its_values_and_layers() -> None:
    net = two_norms()
    before = list(net.modules())
    ranks.share_layers(net)
    assert list(net.modules()) == before
    assert ranks.total(VALUES) is VALUES
    assert ranks.mean(VALUES) is VALUES
    assert ranks.whole_batch(VALUES) is VALUES
    assert ranks.largest([1, 2], VALUES.device) == [1, 2]
    assert ranks.share(3).rows == slice(0, 3)
