"""Training pairs: the same for the same step wherever they are made, and a bounded part of the data in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stages._core.runtime import Runtime
from stages._core.seeds import rng_for
from stages._data.offers import offer_of, write_offer
from stages._data.pairs import PairRules, Pairs, PairSource, pair_batches
from stages._data.shots import STORES
from tests.stages.tiny_world import IMAGE, VIEWS, World

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


@pytest.mark.parametrize("window", [1, 2])
def test_the_shots_of_the_window_stay_in_memory_from_however_many_data_sets(
    world: World, tmp_path: Path, window: int
) -> None:
    """Two for each person of the window, the input's and the target's scan; the two data sets have two each."""
    for name in ("tiny", "again"):
        write_offer(
            tmp_path / f"{name}.json", offer_of(name, {store: world.paths[store] for store in STORES})
        )
    inputs = world.inputs("body", data=tmp_path)
    pairs = PairSource(inputs, ["tiny", "again"], "train", replace(RULES, window=window))
    first = pairs[0]
    assert {shot for step in range(16) for shot in drawn_shots(pairs, step)} == {0, 1, 2, 3}
    for step in range(16):
        pairs[step]
    assert pairs._kept_shots.cache_info().currsize == 2 * window
    assert all(torch.equal(first[name], again) for name, again in pairs[0].items())


def drawn_shots(pairs: PairSource, step: int) -> set[int]:
    """Shots that a batch is made of."""
    rng = rng_for(pairs.rules.seed, "pairs", step)
    people = pairs._draw_people(step, rng)
    return {frame.shot for person in people for frame in pairs._draw_pair(person, rng)}
