"""Splits by hash: fixed answers, expected shares, quotas."""

import itertools

import pytest

from stages._core.splits import SPLIT_SHARES, fill_quotas, split_of

KNOWN = {"s0000": "train", "s0002": "val", "s0017": "gate", "s0020": "test"}
"""Their hash fractions, from sha256 by hand: 0.2607, 0.8669, 0.9242, 0.9659."""


def test_a_subject_keeps_its_split_for_ever():
    assert {name: split_of(name) for name in KNOWN} == KNOWN


def test_shares_sum_to_one_and_are_met():
    assert sum(SPLIT_SHARES.values()) == pytest.approx(1)
    splits = [split_of(f"p{i}") for i in range(20_000)]
    for split, share in SPLIT_SHARES.items():
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.01)


def test_quotas_are_filled_in_order_and_by_hash_only():
    quotas = {"train": 20, "val": 2, "gate": 1, "test": 3}
    names = (f"s{i:04d}" for i in itertools.count())
    chosen = fill_quotas(names, quotas)
    assert chosen == sorted(chosen)
    assert {split: sum(split_of(n) == split for n in chosen) for split in quotas} == quotas


def test_a_smaller_quota_keeps_the_first_subjects():
    names = [f"s{i:04d}" for i in range(400)]
    few, many = (fill_quotas(names, {"train": n, "test": n}) for n in (3, 6))
    assert set(few) < set(many)


def test_too_few_names_and_unknown_splits_are_refused():
    with pytest.raises(ValueError, match=r"still wanted: \{'train': 4\}"):
        fill_quotas(["s0000"], {"train": 5})
    with pytest.raises(ValueError, match="unknown splits"):
        fill_quotas([], {"dev": 1})
