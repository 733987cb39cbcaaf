"""The driver of every data stage: cut into shards, write each once, resume after a kill, publish whole."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from stages._core.executor import map_shards
from stages._core.publish import replace_folder, write_file
from stages._core.runtime import Runtime
from stages._core.stage import Summary
from stages._core.store import ARRAYS, complete_index, create_arrays, finish_store, write_rows

log = logging.getLogger(__name__)


class TooManyRejects(RuntimeError):
    """More samples were rejected than the stage's max_reject_ratio allows."""


@dataclass
class ShardResult:
    """What the work on a range of rows gives.

    Attributes:
        arrays: by name, (rows, …); rejected rows may hold anything.
        rejects: row number → one sentence saying why it is not ok.
        columns: index columns that only the work can know, one value per row.
    """

    arrays: dict[str, np.ndarray]
    rejects: dict[int, str] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)


def build_store(
    *,
    out: Path,
    schema: str,
    index: pd.DataFrame,
    sizes: Mapping[str, int],
    attrs: Mapping[str, Any],
    shard_rows: int,
    work: Callable[[range], ShardResult],
    runtime: Runtime,
    key: str,
    max_reject_ratio: float = 0.2,
) -> Summary:
    """Fill a store shard by shard and publish it at `out`.

    Rows that `index` already marks as not ok stay rejected with their reason; the work is still asked for
    their shard and may return anything for them.

    Args:
        index: one line per row, known before work starts.
        sizes: numbers for the schema's letters.
        attrs: recorded in the store: only what affects the data.
        work: rows → ShardResult; picklable, independent of every other shard.
        key: digest of params, inputs and code; unfinished work under the same key is continued.
        max_reject_ratio: the share of rows that may newly be rejected here.

    Raises:
        TooManyRejects: naming the first few.
    """
    index = complete_index(index)
    folder = runtime.work_dir(f"{out.parent.name}.{out.name}", key)
    _drop_other_keys(folder)
    _prepare(folder, schema, len(index), sizes, shard_rows, attrs)
    shards = [range(s, min(s + shard_rows, len(index))) for s in range(0, len(index), shard_rows)]
    todo = [s for s in shards if not _marker(folder, s).exists()]
    ok = index["ok"].to_numpy(bool)
    run_one = partial(_run_shard, folder=folder, schema=schema, work=work, ok=ok)
    map_shards(run_one, todo, runtime, f"{out.parent.name}/{out.name}", done=len(shards) - len(todo))
    index = _apply_markers(index, [json.loads(_marker(folder, s).read_text()) for s in shards], shards)
    rejected = int((ok & ~index["ok"].to_numpy(bool)).sum())
    _check_rejects(index, ok, max_reject_ratio, str(out))
    for leftover in ("made.json", "done"):
        _remove(folder / leftover)
    digest = finish_store(folder, schema, index)
    replace_folder(folder, out)
    return {"rows": len(index), "rejected": rejected, "not_ok": int((~index["ok"]).sum()), "digest": digest}


def _prepare(
    folder: Path, schema: str, rows: int, sizes: Mapping[str, int], shard_rows: int, attrs: Mapping[str, Any]
) -> None:
    """Make the empty arrays once; made.json says that this was finished."""
    if (folder / "made.json").exists():
        return
    create_arrays(folder, schema, rows, sizes, shard_rows, attrs)
    (folder / "done").mkdir(exist_ok=True)
    write_file(folder / "made.json", "{}")


def _run_shard(
    rows: range, *, folder: Path, schema: str, work: Callable[[range], ShardResult], ok: np.ndarray
) -> None:
    """Work on one shard, write it, then mark it as done."""
    result = work(rows)
    valid = ok[rows.start : rows.stop].copy()
    for row in result.rejects:
        valid[row - rows.start] = False
    write_rows(zarr.open_group(folder / ARRAYS, mode="r+"), schema, rows, result.arrays, valid)
    marker = {
        "rejects": result.rejects,
        "columns": {k: list(map(_plain, v)) for k, v in result.columns.items()},
    }
    write_file(_marker(folder, rows), json.dumps(marker, sort_keys=True))


def _apply_markers(index: pd.DataFrame, markers: list[dict[str, Any]], shards: list[range]) -> pd.DataFrame:
    """Take rejects and late columns from the shards' markers into the index."""
    index = index.copy()
    columns: dict[str, list[Any]] = {}
    for marker, rows in zip(markers, shards, strict=True):
        for row, reason in marker["rejects"].items():
            if index.at[int(row), "ok"]:
                index.at[int(row), "ok"] = False
                index.at[int(row), "reason"] = reason
        for name, values in marker["columns"].items():
            if len(values) != len(rows):
                raise ValueError(f"column {name}: {len(values)} values for {len(rows)} rows")
            columns.setdefault(name, []).extend(values)
    for name, values in columns.items():
        index[name] = values
    return index


def _check_rejects(index: pd.DataFrame, ok_before: np.ndarray, max_ratio: float, what: str) -> None:
    new = index.loc[ok_before & ~index["ok"].to_numpy(bool)]
    candidates = max(int(ok_before.sum()), 1)
    for _, line in new.head(5).iterrows():
        log.warning("%s: rejected %s view %s: %s", what, line["scan"], line["view"], line["reason"])
    if len(new) > max_ratio * candidates:
        first = "; ".join(f"{r['scan']}/{r['view']}: {r['reason']}" for _, r in new.head(3).iterrows())
        raise TooManyRejects(
            f"{what}: {len(new)} of {candidates} samples rejected, {max_ratio:.0%} allowed; first: {first}"
        )


def _marker(folder: Path, rows: range) -> Path:
    return folder / "done" / f"{rows.start:08d}.json"


def _drop_other_keys(folder: Path) -> None:
    """Work that belongs to other params, inputs or code can never be continued."""
    for other in folder.parent.iterdir():
        if other != folder:
            _remove(other)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
