"""Zarr stores with a row table: create, open, validate, and say in one sentence what is wrong."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import ZstdCodec

from stages._core.digests import digest_json
from stages._core.schemas import INDEX_COLUMNS, SCHEMAS, SPLITS, ArraySpec, Schema

ARRAYS, INDEX, REJECTS, DIGEST = "arrays.zarr", "index.parquet", "rejects.parquet", "digest.json"


NEAR_ROWS = 8
"""Rows no further apart are read together, with those between them."""


class StoreError(ValueError):
    """A store that is missing, unfinished or not what its schema says."""


@dataclass(frozen=True)
class Store:
    """An open, read-only store: `store["rgb"][rows]`, `store.index`, `store.attrs`, `store.digest`."""

    path: Path
    schema: Schema
    index: pd.DataFrame
    group: zarr.Group
    digest: str

    def __getitem__(self, name: str) -> zarr.Array[Any]:
        if name not in self.schema.arrays:
            raise KeyError(f"{self.path}: no array {name!r}; it has {', '.join(self.schema.arrays)}")
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array

    def __len__(self) -> int:
        return len(self.index)

    @property
    def attrs(self) -> dict[str, Any]:
        """What the producing stage recorded: schema, params that affect the data, digests."""
        return dict(self.group.attrs)

    def ok_rows(self, split: str | None = None, **equal: Any) -> np.ndarray:
        """Numbers of the valid rows, of one split if given, whose columns equal the given values."""
        if split is not None and split not in SPLITS:
            raise ValueError(f"split={split!r}: one of {', '.join(SPLITS)} is expected")
        keep = self.index["ok"].to_numpy(bool).copy()
        for column, value in {**({"split": split} if split else {}), **equal}.items():
            keep &= (self.index[column] == value).to_numpy()
        return np.flatnonzero(keep)

    def read(self, name: str, rows: np.ndarray | list[int]) -> np.ndarray:
        """Any rows of one array, in the given order.

        By slices within shards: for a quarter of 476 images zarr's `oindex` takes 2 GiB and twenty times as long.
        """
        rows, array = np.asarray(rows, dtype=np.int64), self[name]
        out = np.empty((len(rows), *array.shape[1:]), array.dtype)
        order = np.argsort(rows, kind="stable")
        shard = (array.shards or array.chunks)[0]
        apart = (np.diff(rows[order]) > NEAR_ROWS) | (np.diff(rows[order] // shard) > 0)
        for run in np.split(order, np.flatnonzero(apart) + 1):
            if len(run):
                first, last = rows[run[0]], rows[run[-1]]
                out[run] = np.asarray(array[first : last + 1])[rows[run] - first]
        return out


def open_store(path: Path, schema: str) -> Store:
    """Open and check a store against its schema (arrays, shapes, types, rows = index).

    Raises:
        StoreError: naming the path, what was found, what is needed and what to run.
    """
    for name in (ARRAYS, INDEX, DIGEST):
        if not (path / name).exists():
            raise StoreError(
                f"{path}: {name} is missing, so this is no finished {schema!r} store; run `dvc repro`"
            )
    return _open(path, schema, (path / DIGEST).stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _open(path: Path, schema: str, changed: int) -> Store:
    """Open and check once per process: loaders ask for the same stores at every step."""
    wanted = SCHEMAS[schema]
    group = zarr.open_group(path / ARRAYS, mode="r")
    found = (group.attrs.get("schema"), group.attrs.get("schema_version"))
    if found != (f"dinar.{wanted.name}", wanted.version):
        raise StoreError(
            f"{path}: schema {found[0]} v{found[1]} found, dinar.{wanted.name} v{wanted.version} needed; "
            "run `dvc repro` for the stage that makes it"
        )
    index = pd.read_parquet(path / INDEX)
    _check_index(path, index, wanted)
    for name, spec in wanted.arrays.items():
        _check_array(path, group, name, spec, len(index))
    digest = str(json.loads((path / DIGEST).read_text())["digest"])
    return Store(path, wanted, index, group, digest)


def create_arrays(
    folder: Path, schema: str, rows: int, sizes: Mapping[str, int], shard_rows: int, attrs: Mapping[str, Any]
) -> zarr.Group:
    """Make the empty, sharded arrays of a store: chunk = one row, shard = `shard_rows` rows."""
    wanted = SCHEMAS[schema]
    group = zarr.open_group(folder / ARRAYS, mode="w", zarr_format=3)
    everything = {"schema": f"dinar.{schema}", "schema_version": wanted.version, **attrs}
    group.attrs.update(dict(sorted(everything.items())))
    for name, spec in wanted.arrays.items():
        shape = spec.shape(sizes)
        row_bytes = int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
        chunk_rows = 1 if row_bytes >= 4096 else shard_rows
        group.create_array(
            name,
            shape=(rows, *shape),
            dtype=spec.dtype,
            chunks=(chunk_rows, *shape),
            shards=(shard_rows, *shape),
            compressors=ZstdCodec(level=1),
            fill_value=np.dtype(spec.dtype).type(spec.fill),
            attributes=dict(sorted(spec.notes.items())),
        )
    return group


def write_rows(
    group: zarr.Group, schema: str, rows: range, arrays: Mapping[str, np.ndarray], ok: np.ndarray
) -> None:
    """Write one shard: valid rows checked against the schema, the others filled. One writer a shard."""
    wanted = SCHEMAS[schema]
    if set(arrays) != set(wanted.arrays):
        raise StoreError(f"{schema}: arrays {sorted(arrays)} given, {sorted(wanted.arrays)} needed")
    for name, spec in wanted.arrays.items():
        target = group[name]
        assert isinstance(target, zarr.Array)
        values = np.asarray(arrays[name])
        expected = (len(rows), *target.shape[1:])
        if values.shape != expected or values.dtype != np.dtype(spec.dtype):
            raise StoreError(
                f"{schema}.{name}: {values.dtype} {values.shape} given, {spec.dtype} {expected} needed"
            )
        _check_values(schema, name, spec, values[ok])
        if not ok.all():
            values = values.copy()
            values[~ok] = spec.fill
        target[rows.start : rows.stop] = values


def finish_store(folder: Path, schema: str, index: pd.DataFrame) -> str:
    """Write the row table, the rejects and the content digest. Returns the digest."""
    _check_index(folder, index, SCHEMAS[schema])
    index = index.reset_index(drop=True)
    index.to_parquet(folder / INDEX)
    columns = [c for c in ("subject", "scan", "view", "variant", "source", "reason") if c in index]
    rejects = index.loc[~index["ok"], columns]
    rejects.to_parquet(folder / REJECTS)
    return write_digest(folder)


def write_digest(folder: Path) -> str:
    """Digest every file below the folder into digest.json."""
    import hashlib

    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != DIGEST)
    hashes = {str(p.relative_to(folder)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}
    digest = digest_json(hashes)
    (folder / DIGEST).write_text(json.dumps({"digest": digest}) + "\n")
    return digest


def complete_index(index: pd.DataFrame) -> pd.DataFrame:
    """Add the common columns that a source cannot know, with their neutral values."""
    neutral: dict[str, Any] = {"view": 0, "yaw": np.nan, "variant": 0, "source": "", "ok": True, "reason": ""}
    out = index.reset_index(drop=True).copy()
    for column, value in neutral.items():
        if column not in out:
            out[column] = value
    return out.astype({"view": "int64", "variant": "int64", "yaw": "float64", "ok": "bool"})


def _check_index(path: Path, index: pd.DataFrame, schema: Schema) -> None:
    missing = [c for c in {**INDEX_COLUMNS, **schema.columns} if c not in index]
    if missing:
        raise StoreError(f"{path}: the index lacks column(s) {', '.join(missing)}")
    bad = sorted(set(index["split"]) - set(SPLITS))
    if bad:
        raise StoreError(f"{path}: unknown split(s) {bad} in the index; known: {', '.join(SPLITS)}")
    silent = index.loc[~index["ok"] & (index["reason"] == "")]
    if len(silent):
        raise StoreError(f"{path}: row {silent.index[0]} is not ok but gives no reason")


def _check_array(path: Path, group: zarr.Group, name: str, spec: ArraySpec, rows: int) -> None:
    if name not in group:
        raise StoreError(f"{path}: array {name!r} is missing; run `dvc repro`")
    array = group[name]
    assert isinstance(array, zarr.Array)
    fixed = all(isinstance(d, str) or d == s for d, s in zip(spec.dims, array.shape[1:], strict=False))
    if array.ndim != len(spec.dims) + 1 or not fixed or array.dtype != np.dtype(spec.dtype):
        raise StoreError(
            f"{path}: {name} is {array.dtype} {array.shape}, needed {spec.dtype} (N, {spec.dims})"
        )
    if array.shape[0] != rows:
        raise StoreError(f"{path}: {name} has {array.shape[0]} rows, the index has {rows}")


def _check_values(schema: str, name: str, spec: ArraySpec, values: np.ndarray) -> None:
    if values.size == 0:
        return
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise StoreError(f"{schema}.{name}: not finite on a row that is ok")
    if spec.low is not None and values.min() < spec.low:
        raise StoreError(f"{schema}.{name}: {values.min()} is below {spec.low}")
    if spec.high is not None and values.max() > spec.high:
        raise StoreError(f"{schema}.{name}: {values.max()} is above {spec.high}")
