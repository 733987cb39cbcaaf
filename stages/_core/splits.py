"""The split of a subject is a hash of its name: it never moves when other subjects come or go."""

import hashlib
from collections.abc import Iterable

SPLIT_SHARES = {"train": 0.858, "val": 0.036, "gate": 0.036, "test": 0.07}
"""Expected share of subjects in each split; in the order of the interval [0, 1)."""


def split_of(subject: str) -> str:
    """train, val, gate or test."""
    fraction = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big") / 2**64
    for split, share in SPLIT_SHARES.items():
        fraction -= share
        if fraction < 0:
            return split
    return "test"  # the shares sum to one only up to rounding


def fill_quotas(names: Iterable[str], quotas: dict[str, int]) -> list[str]:
    """The first names whose splits fill the quotas, in their order.

    Args:
        names: candidates, usually endless.
        quotas: subjects wanted by split; a split that is not named wants none.
    """
    left = {split: count for split, count in quotas.items() if count > 0}
    if unknown := set(left) - set(SPLIT_SHARES):
        raise ValueError(f"unknown splits {sorted(unknown)}; known: {', '.join(SPLIT_SHARES)}")
    chosen: list[str] = []
    for name in names:
        if not left:
            return chosen
        split = split_of(name)
        if split not in left:
            continue
        chosen.append(name)
        left[split] -= 1
        if left[split] == 0:
            del left[split]
    if left:
        raise ValueError(f"too few names; still wanted: {left}")
    return chosen
