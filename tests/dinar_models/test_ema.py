"""Averaged weights by hand."""

import pytest
import torch
from torch import nn

from dinar_models.ema import Averaged


def test_decay_starts_small_and_grows() -> None:
    """After the first copy: 2/11 of the old, then 3/12, …, never more than the given decay."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 0.0)
    average = Averaged(net, decay=0.2)
    average.update_parameters(net)
    nn.init.constant_(net.weight, 1.0)
    average.update_parameters(net)
    expected = 1 - 2 / 11
    assert average.net.weight.item() == pytest.approx(expected)
    average.update_parameters(net)
    assert average.net.weight.item() == pytest.approx(1 - (1 - expected) * 0.2)


def test_statistics_are_averaged_and_counters_copied() -> None:
    net = nn.BatchNorm1d(1)
    average = Averaged(net, decay=0.9)
    for value in (1.0, 3.0):
        net.running_mean.fill_(value)  # type: ignore[union-attr]
        net.num_batches_tracked.fill_(int(value))  # type: ignore[union-attr]
        average.update_parameters(net)
    assert average.net.running_mean is not None
    assert 1.0 < average.net.running_mean.item() < 3.0
    assert average.net.num_batches_tracked == 3


def test_the_copy_is_apart_from_the_net() -> None:
    net = nn.Linear(2, 2)
    average = Averaged(net, decay=0.9)
    before = average.net.weight.clone()
    with torch.no_grad():
        net.weight.add_(1)
    assert torch.equal(average.net.weight, before)
