"""The store contract, the shard driver, and its resume."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, TooManyRejects, build_store
from stages._core.store import StoreError, open_store

SIZES = {"H": 4, "W": 4}


def _index(rows: int) -> pd.DataFrame:
    names = [f"s{r // 2:02d}" for r in range(rows)]
    return pd.DataFrame(
        {"subject": names, "scan": [f"{n}_a" for n in names], "split": "train", "source": "test"}
    )


def _work(
    rows: range, bad: tuple[int, ...] = (), seen: Path | None = None, fail_at: int | None = None
) -> ShardResult:
    if fail_at is not None and fail_at in rows:
        raise KeyboardInterrupt
    if seen is not None:
        (seen / str(rows.start)).touch()
    parts = np.stack([np.full((4, 4), r % 20, np.uint8) for r in rows])
    return ShardResult(
        {"parts": parts, "mask": parts * 10}, {r: "broken on purpose" for r in bad if r in rows}
    )


def _build(tmp_path: Path, work, rows: int = 10, **options):
    runtime = Runtime(work_root=tmp_path / "work", workers=options.pop("workers", 1))
    shard_rows = options.pop("shard_rows", 4)
    return build_store(
        out=tmp_path / "ds" / "parsing", schema="parsing", index=_index(rows), sizes=SIZES,
        attrs={"b": 1, "a": 2}, shard_rows=shard_rows, work=work, runtime=runtime, key="k", **options,
    )  # fmt: skip


def test_rows_keep_their_numbers_and_rejected_rows_are_filled(tmp_path):
    summary = _build(tmp_path, partial(_work, bad=(5,)))
    store = open_store(tmp_path / "ds" / "parsing", "parsing")
    assert summary["rejected"] == 1
    assert store["parts"][4].max() == 4
    assert store["parts"][5].max() == 0
    assert store.index.loc[5, "reason"] == "broken on purpose"
    assert list(store.ok_rows()) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    rejects = pd.read_parquet(tmp_path / "ds" / "parsing" / "rejects.parquet")
    assert rejects["scan"].tolist() == ["s02_a"]


def test_read_returns_rows_in_the_order_asked_for(tmp_path):
    _build(tmp_path, _work)
    store = open_store(tmp_path / "ds" / "parsing", "parsing")
    for rows in ([7, 0, 7, 3], [7, 0], [5, 4], [6], []):  # of one shard and of several
        assert store.read("parts", rows)[:, 0, 0].tolist() == rows


def test_rows_far_apart_in_one_shard_are_read_alone(tmp_path, monkeypatch):
    """Of two shards of 20 rows: 0 and 3 are near, 19 is not, and 20 lies in the other shard."""
    _build(tmp_path, _work, rows=40, shard_rows=20)
    store = open_store(tmp_path / "ds" / "parsing", "parsing")
    slices: list[slice] = []
    read = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda array, key: slices.append(key) or read(array, key))
    assert store.read("parts", [19, 3, 20, 0, 21])[:, 0, 0].tolist() == [19, 3, 0, 0, 1]
    assert slices == [slice(0, 4), slice(19, 20), slice(20, 22)]


def test_two_runs_give_the_same_bytes_whatever_the_workers(tmp_path):
    first = _build(tmp_path / "one", _work)
    second = _build(tmp_path / "two", _work, workers=2)
    assert first["digest"] == second["digest"]


def test_a_killed_run_resumes_at_the_first_missing_shard(tmp_path):
    seen = tmp_path / "seen"
    seen.mkdir()
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path, partial(_work, seen=seen, fail_at=8))
    assert not (tmp_path / "ds" / "parsing").exists()
    for touched in seen.iterdir():
        touched.unlink()
    resumed = _build(tmp_path, partial(_work, seen=seen))
    assert [p.name for p in seen.iterdir()] == ["8"]
    assert resumed["digest"] == _build(tmp_path / "unbroken", _work)["digest"]


def test_too_many_rejects_fail_and_name_the_first(tmp_path):
    with pytest.raises(TooManyRejects, match="s00_a/0: broken on purpose"):
        _build(tmp_path, partial(_work, bad=(0, 1, 2)), max_reject_ratio=0.1)


def test_attributes_are_sorted_and_hold_no_dates(tmp_path):
    _build(tmp_path, _work)
    attrs = json.loads((tmp_path / "ds/parsing/arrays.zarr/zarr.json").read_text())["attributes"]
    assert list(attrs) == ["a", "b", "schema", "schema_version"]


def test_values_outside_the_schema_are_refused(tmp_path):
    def work(rows: range) -> ShardResult:
        parts = np.full((len(rows), 4, 4), 20, np.uint8)
        return ShardResult({"parts": parts, "mask": parts})

    with pytest.raises(StoreError, match=r"parsing.parts: 20 is above 19"):
        _build(tmp_path, work)


def test_an_unfinished_store_says_what_to_run(tmp_path):
    with pytest.raises(StoreError, match="dvc repro"):
        open_store(tmp_path, "parsing")


def test_another_schema_is_refused(tmp_path):
    _build(tmp_path, _work)
    with pytest.raises(StoreError, match=r"dinar.parsing v1 found, dinar.views v1 needed"):
        open_store(tmp_path / "ds" / "parsing", "views")
