"""Shares of a batch, and that a sample's random numbers do not depend on them."""

from functools import partial

import pytest
import torch

from dinar_models.draws import Share, draw


def test_shares_are_equal_and_in_the_order_of_the_ranks() -> None:
    assert [Share(6, rank, 3).rows for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert Share(5).rows == slice(0, 5)


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch: 5 samples cannot be shared evenly by 2 processes"):
        Share(5, 0, 2)


@pytest.mark.parametrize("make", [torch.randn, torch.rand, partial(torch.randint, 0, 1000)])
def test_shares_draw_what_one_process_draws(make) -> None:
    """Twice in turn: each process advances the generator by the whole batch."""
    whole = torch.Generator().manual_seed(1)
    wanted = [make((4, 3), generator=whole) for _ in range(2)]
    parts = []
    for rank in range(2):
        draws = Share(4, rank, 2).draws(torch.Generator().manual_seed(1))
        parts.append([draw(make, (2, 3), draws) for _ in range(2)])
    for turn in range(2):
        assert torch.equal(torch.cat([part[turn] for part in parts]), wanted[turn])


def test_alone_the_generator_itself_is_drawn_from() -> None:
    generator = torch.Generator()
    assert Share(4).draws(generator) is generator
