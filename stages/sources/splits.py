"""Which split each subject of a data set is in, by the rule of its card."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from stages._core.splits import SPLIT_SHARES, split_of
from stages.sources.card import Card, CardError, SplitTable

MAX_TABLE_BYTES = 64 << 20


def splits_of(subjects: Iterable[str], card: Card, root: Path) -> list[str]:
    """train, val, gate or test for each subject.

    Args:
        root: the raw data, in which a table is looked for.

    Raises:
        CardError: a table that is not there, not a table, or does not say the split of every subject.
    """
    if isinstance(card.split, SplitTable):
        table = _read_table(root, card.split.file)
        chosen = [table.get(subject, "") for subject in subjects]
        if "" in chosen:
            lost = sorted({s for s, split in zip(subjects, chosen, strict=True) if not split})
            raise CardError(f"{card.split.file} gives no split for {len(lost)} subjects, as {lost[0]!r}")
        return chosen
    if card.split == "hash":
        return [split_of(subject) for subject in subjects]
    return [card.split for _ in subjects]


def _read_table(root: Path, name: str) -> dict[str, str]:
    """Subject → split."""
    plain = PurePosixPath(name)
    if plain.is_absolute() or ".." in plain.parts:
        raise CardError(f"split: file: {name!r} points outside the raw data")
    path = root / plain
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise CardError(
                f"{name} has more than {MAX_TABLE_BYTES >> 20} MiB, too many for a table of splits"
            )
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except OSError as error:
        raise CardError(f"split: file: {name!r} cannot be read ({error.strerror})") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise CardError(f"split: file: {name!r} is no CSV table ({error})") from None
    if not {"subject", "split"} <= set(table.columns):
        raise CardError(f"{name} has the columns {', '.join(table.columns)}; subject and split are expected")
    unknown = sorted(set(table["split"]) - set(SPLIT_SHARES))
    if unknown:
        raise CardError(f"{name}: the split {unknown[0]!r} is not one of {', '.join(SPLIT_SHARES)}")
    table = table.drop_duplicates(["subject", "split"])
    twice = table["subject"][table["subject"].duplicated()]
    if len(twice):
        raise CardError(f"{name} puts the subject {twice.iloc[0]!r} into two splits")
    return dict(zip(table["subject"], table["split"], strict=True))
