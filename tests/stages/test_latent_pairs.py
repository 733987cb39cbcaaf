"""Batches of latents: every pair alike, the same for the same step, a bounded part of the store in memory."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages._core.store import Store, open_store
from stages._data.latent_pairs import LatentPairSource
from tests.stages.tiny_world import save_store


def write_numbers(path: Path, first: int, rows: int) -> Store:
    """Latents that say their number: z_merged is it, z_partial its negative; every third row is held out."""
    index = pd.DataFrame({"split": ["train" if r % 3 else "test" for r in range(rows)]})
    index = index.assign(subject="a", scan="a0", source="made", ok=index["split"] == "train", reason="")
    index.loc[~index["ok"], "reason"] = "held out"
    number = np.arange(first, first + rows, dtype=np.float16).reshape(-1, 1, 1, 1)
    arrays = {
        "z_merged": np.broadcast_to(number, (rows, 6, 2, 2)).copy(),
        "z_partial": np.broadcast_to(-number, (rows, 6, 2, 2)).copy(),
        "mask": np.ones((rows, 1, 2, 2), np.float16),
    }
    save_store(path, "latents", index, arrays)
    return open_store(path, "latents")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """20 train pairs, numbers 1, 2, 4, 5, … of 0–29; and 10 of 100–114."""
    root = tmp_path_factory.mktemp("latents")
    return [write_numbers(root / "a", 0, 30), write_numbers(root / "b", 100, 15)]


NUMBERS = {n for n in range(30) if n % 3} | {100 + n for n in range(15) if n % 3}


def source(stores: list[Store], *, batch: int = 2, window: int = 3) -> LatentPairSource:
    return LatentPairSource(stores, "train", seed=1, batch=batch, block=4, window=window)


def numbers(tensor: torch.Tensor) -> list[int]:
    return [int(n) for n in tensor[:, 0, 0, 0]]


def test_a_round_uses_every_pair_of_the_split_and_no_other(stores: list[Store]) -> None:
    """12 blocks, 0.8 of a block per step: the window has been everywhere after 15 steps; pairs stay pairs."""
    pairs = source(stores, batch=2)
    assert len(pairs) == len(NUMBERS) == 30
    seen: set[int] = set()
    for step in range(400):
        batch = pairs.step(step)
        assert torch.equal(batch.z_merged, -batch.z_partial)
        assert batch.z_merged.dtype == torch.float32
        seen |= set(numbers(batch.z_merged))
    assert seen == NUMBERS


def test_a_batch_depends_on_the_step_alone(stores: list[Store]) -> None:
    """Not on what was read before: a resumed run goes on with the same pairs."""
    there, here = source(stores), source(stores)
    for step in range(30):
        before = there.step(step)
    assert torch.equal(here.step(29).z_merged, before.z_merged)
    assert not torch.equal(here.step(28).z_merged, before.z_merged)


def test_only_the_window_is_in_memory_and_each_block_is_read_once_a_round(stores: list[Store]) -> None:
    pairs = source(stores, batch=2, window=3)
    for step in range(16 * 5):
        pairs.step(step)
    info = pairs._read.cache_info()
    assert info.currsize <= 4
    assert info.misses <= 3 + 16 * 5 * 0.8 + 1


def test_blocks_are_pieces_of_shards(stores: list[Store]) -> None:
    """So that no shard is read for two of them; shards of the tiny stores are taken to have 4 rows."""
    blocks = source(stores).blocks
    assert [block.rows.tolist() for block in blocks[:3]] == [[1, 2], [4, 5, 7], [8, 10, 11]]
    assert all(len(set(block.rows // 4)) == 1 for block in blocks)


def test_data_that_the_window_holds_are_drawn_alike(stores: list[Store]) -> None:
    """30 pairs, 3000 draws: 100 each, within five deviations of a binomial."""
    pairs = source(stores, batch=30, window=100)
    drawn = [n for step in range(100) for n in numbers(pairs.step(step).z_merged)]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 30
    assert np.abs(counts - 100).max() < 50


def test_the_first_window_and_fixed_pairs(stores: list[Store]) -> None:
    pairs = source(stores, window=100)
    assert sorted(numbers(pairs.first_window().z_merged)) == sorted(NUMBERS)
    some, again = pairs.fixed(12), source(stores).fixed(12)
    assert torch.equal(some.z_merged, again.z_merged)
    assert len(set(numbers(some.z_merged))) > 6


def test_a_split_without_pairs_is_empty(stores: list[Store]) -> None:
    assert len(LatentPairSource(stores, "val", seed=1, batch=2)) == 0


def test_shares_of_a_batch_are_together_what_one_process_takes(stores: list[Store]) -> None:
    whole = source(stores, batch=4).step(7)
    shares = [
        LatentPairSource(stores, "train", seed=1, batch=4, block=4, window=3, rows=slice(k, k + 2)).step(7)
        for k in (0, 2)
    ]
    for name, values in whole._asdict().items():
        assert torch.equal(torch.cat([getattr(share, name) for share in shares]), values)
