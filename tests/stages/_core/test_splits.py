"""Splits by hash: fixed answers, expected shares, quotas."""

import itertools

import pytest

from stages._core.splits import SPLIT_SHARES, fill_quotas, split_of


def test_a_subject_keeps_its_split_for_ever():
    # sha256("s0000") begins with 0x2ab1…: 0.167 lies in train's share; the others likewise
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
        fill_quotas(["s0000"], {"train": 5} if split_of("s0000") == "train" else {"train": 4})
    with pytest.raises(ValueError, match="unknown splits"):
        fill_quotas([], {"dev": 1})
