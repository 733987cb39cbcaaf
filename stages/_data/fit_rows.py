"""Which rows of a data set `fit_body` fits, alone or together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages._core.store import open_store

WINDOW = 64
"""Frames of a video that are fitted together; a shard fits every window whole that it holds a part of."""

IMAGE_SOURCES = ("photos", "video")
"""Values of the index column `source` whose rows are fitted each alone."""

NOT_SELECTED = "not selected: single-view fits are made of the first scans of held-out people"


def fitted_alone(index: pd.DataFrame) -> bool:
    """Whether the rows are photos or frames rather than renders of scans with known cameras."""
    return bool(index["source"].isin(IMAGE_SOURCES).any())


def scan_length(index: pd.DataFrame) -> int:
    """Rows of each scan: views × variants, the same for all, one scan after the other."""
    lengths = index.groupby((index["scan"] != index["scan"].shift()).cumsum()).size().unique()
    if len(lengths) != 1:
        raise ValueError(f"scans of the views store have {sorted(lengths)} rows each; one length is expected")
    return int(lengths[0])


def with_columns(index: pd.DataFrame) -> pd.DataFrame:
    """The index with the columns that the fits fill in."""
    return index.assign(crop_x=0.0, crop_y=0.0, crop_side=0.0, verdict="")


def needing_both(index: pd.DataFrame, keypoints: Path, parsing: Path) -> pd.DataFrame:
    """Rows without keypoints or mask are not ok, for the reason that was given there."""
    index = index.copy()
    for path, schema in ((keypoints, "keypoints"), (parsing, "parsing")):
        found = open_store(path, schema).index
        lost = index["ok"].to_numpy(bool) & ~found["ok"].to_numpy(bool)
        index.loc[lost, "reason"] = f"{schema}: " + found.loc[lost, "reason"]
        index["ok"] &= ~lost
    return index


def selected_alone(index: pd.DataFrame, splits: Sequence[str], scans: int) -> pd.DataFrame:
    """Held-out images without jitter; those of the first scans of each subject are to be fitted.

    Args:
        index: of all rows, those that cannot be fitted not ok (`needing_both`).
        splits: held-out ones.
        scans: of each subject.
    """
    held_out = index["split"].isin(splits) & (index["variant"] == 0)
    index = index.assign(view_row=np.arange(len(index)))[held_out].reset_index(drop=True)
    number = index.groupby("subject")["scan"].transform(lambda scan: pd.factorize(scan)[0])
    skipped = (number >= scans) & index["ok"]
    index.loc[skipped, "reason"] = NOT_SELECTED
    index["ok"] &= ~skipped
    return index


def windows(index: pd.DataFrame) -> np.ndarray:
    """Number of the frames that each row is fitted with: of one video, at most WINDOW in a row; photos are alone."""
    video = (index["source"] == "video").to_numpy()
    starts = (index["scan"] != index["scan"].shift()).to_numpy() | ~video
    first = np.maximum.accumulate(np.where(starts, np.arange(len(index)), 0))
    cut = (np.arange(len(index)) - first) % WINDOW == 0
    return np.cumsum(starts | cut)
