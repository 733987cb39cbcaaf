"""Stores of random fits, with nothing to see in their views."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages._core.schemas import BODY_ARRAYS, SCHEMAS
from stages._data.exported_fits import Fits
from tests.stages.tiny_world import save_store

SIDE = 8
"""Pixels of the images."""


def fit_lines(**columns: object) -> pd.DataFrame:
    """An index with `scan` and `subject` as given, everything else neutral."""
    neutral = {
        "split": "train",
        "view": 0,
        "yaw": 0.0,
        "variant": 0,
        "source": "scans",
        "ok": True,
        "reason": "",
    }
    return pd.DataFrame({**neutral, **columns}, index=range(len(columns["scan"])))  # type: ignore[arg-type]


def save_fits(root: Path, index: pd.DataFrame, digest: str) -> Fits:
    """Views and fits for the lines of `index`; the lines of a scan share a body, frames of a video do not."""
    rng = np.random.default_rng(0)
    group = np.arange(len(index)) if index["source"].eq("video").any() else index["scan"].factorize()[0]
    arrays = {
        name: rng.normal(0, 0.4, (len(index), *map(int, spec.dims))).astype(np.float32)[group]
        for name, spec in BODY_ARRAYS.items()
    }
    arrays["scale"] = np.abs(arrays["scale"]) + 0.5
    arrays["residuals"] = rng.random((len(index), 4)).astype(np.float32)
    views = {
        name: rng.random((len(index), *spec.shape({"H": SIDE, "W": SIDE}))).astype(spec.dtype)
        for name, spec in SCHEMAS["views"].arrays.items()
    }
    save_store(root / "views", "views", index, views, attrs={"frame_stride": 2})
    fitted = index.assign(crop_x=0.0, crop_y=0.0, crop_side=1.0, verdict="plausible")
    save_store(root / "bodies", "bodies", fitted, arrays, attrs={"body_digest": digest, "gender": "neutral"})
    return Fits(root / "views", root / "bodies", root / "raw")
