"""Training pairs: the same for the same step wherever they are made, and a bounded part of the data in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages._core.runtime import Runtime
from stages._data.pairs import PairRules, Pairs, PairSource, pair_batches
from stages._data.shots import STORES, ShotReader
from tests.stages.tiny_world import IMAGE, SCANS, VIEWS, World

RULES = PairRules(seed=1, image_size=IMAGE, batch=2, merged=True)


def source(world: World, rules: PairRules = RULES) -> PairSource:
    return PairSource(world.inputs("data", "body"), ["tiny"], "train", rules)


def same(first: Pairs, second: Pairs) -> bool:
    return all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))


def test_batches_of_another_process_are_those_of_this_one(world: World) -> None:
    """Whatever was read before, and wherever a run starts again."""
    ahead = list(pair_batches(source(world), range(3, 6), Runtime(workers=2)))
    here = source(world)
    batches = [Pairs.unpack(here[step], "cpu") for step in (5, 4, 3)]
    assert [same(a, b) for a, b in zip(ahead, reversed(batches), strict=True)] == [True] * 3
    assert not same(ahead[0], ahead[1])


def test_shares_of_a_batch_are_together_what_one_process_loads(world: World) -> None:
    """Crops' middles too, which are drawn after all pairs."""
    rules = replace(RULES, batch=4)
    whole = source(world, rules)[3]
    shares = [source(world, replace(rules, rows=slice(k, k + 2)))[3] for k in (0, 2)]
    assert all(torch.equal(torch.cat([s[name] for s in shares]), values) for name, values in whole.items())


def test_a_pair_crosses_scans(world: World) -> None:
    """The one train person has two: another pose, another view."""
    pairs = source(world)
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = pairs._draw_pair(0, rng)
        assert first.scan != second.scan
        assert first.view != second.view
    assert len({f for _ in range(60) for f in pairs._draw_pair(0, rng)}) == 2 * VIEWS


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_last_shots_stay_in_memory(world: World, keep: int) -> None:
    reader = ShotReader({name: world.paths[name] for name in STORES}, world.paths["body"], IMAGE, keep)
    shots = [reader.read(tuple(range(VIEWS * scan, VIEWS * (scan + 1)))) for scan in range(len(SCANS))]
    info = reader.read.cache_info()
    assert (info.misses, info.currsize) == (len(SCANS), keep)
    again = reader.read(tuple(range(VIEWS)))
    assert np.array_equal(again.rgb, shots[0].rgb)
    assert np.array_equal(again.uv, shots[0].uv)


def test_a_source_keeps_the_shots_of_its_window(world: World) -> None:
    """Two for each person of the window, the input's and the target's scan."""
    pairs = source(world, PairRules(seed=1, image_size=IMAGE, batch=2, window=3))
    pairs[0]
    (reader,) = pairs._readers.values()
    assert reader.read.cache_info().maxsize == 6
