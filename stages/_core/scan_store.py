"""The `scans` store: textured meshes of any size, 16 of them to a Zarr group.

A mesh has its own number of vertices, faces and texels, so every array of a group is the concatenation
over its scans along axis 0, beside `<name>_start`, the offsets that cut it. One group is one shard.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import ZstdCodec

from stages._core.store import ARRAYS, DIGEST, INDEX, REJECTS, StoreError, complete_index, write_digest

SCHEMA, SCHEMA_VERSION = "dinar.scans", 1
SCANS_PER_GROUP = 16
_CHUNK_BYTES = 1 << 19


@dataclass(frozen=True)
class Scan:
    """A textured triangle mesh of one subject in one pose, y up, facing +z.

    Attributes:
        vertices: (V, 3) float32, metres.
        faces: (F, 3) int32.
        corner_uv: (F, 3, 2) float32, v down: v = 0 is the top edge of the texture; outside [0, 1] it repeats.
        face_material: (F,) int16, index into `textures`.
        textures: one (h, w, 4) uint8 RGBA image per material; empty where colours sit on the vertices.
        texture_parts: (h, w) uint8 CIHP labels for the only material, 255 = unknown; or None.
        vertex_rgb: (V, 3) uint8, or None where textures give the colour.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_uv: np.ndarray
    face_material: np.ndarray
    textures: list[np.ndarray] = field(default_factory=list)
    texture_parts: np.ndarray | None = None
    vertex_rgb: np.ndarray | None = None


@dataclass(frozen=True)
class ScanStore:
    """An open, read-only `scans` store."""

    path: Path
    index: pd.DataFrame
    attrs: dict[str, Any]
    digest: str

    def __len__(self) -> int:
        return len(self.index)

    def read(self, row: int) -> Scan:
        """One scan. Raises StoreError when the row was rejected."""
        if not self.index["ok"].iloc[row]:
            raise StoreError(f"{self.path}: scan {row} was rejected: {self.index['reason'].iloc[row]}")
        return read_scan(self.path, row)


def open_scans(path: Path) -> ScanStore:
    """Open a finished store of scans.

    Raises:
        StoreError: naming the path, what was found and what to run.
    """
    for name in (ARRAYS, INDEX, DIGEST):
        if not (path / name).exists():
            raise StoreError(
                f"{path}: {name} is missing, so this is no finished 'scans' store; run `dvc repro`"
            )
    attrs = dict(zarr.open_group(path / ARRAYS, mode="r").attrs)
    found = (attrs.get("schema"), attrs.get("schema_version"))
    if found != (SCHEMA, SCHEMA_VERSION):
        raise StoreError(
            f"{path}: schema {found[0]} v{found[1]} found, {SCHEMA} v{SCHEMA_VERSION} needed; run `dvc repro`"
        )
    digest = str(json.loads((path / DIGEST).read_text())["digest"])
    return ScanStore(path, pd.read_parquet(path / INDEX), attrs, digest)


def read_scan(path: Path, row: int) -> Scan:
    """Read scan `row` of the store at `path` without opening the index."""
    number, place = divmod(row, SCANS_PER_GROUP)
    group = zarr.open_group(path / ARRAYS / _group_name(number), mode="r")

    def part(name: str) -> np.ndarray:
        start, stop = np.asarray(_array(group, f"{name}_start")[place : place + 2]).tolist()
        return np.asarray(_array(group, name)[start:stop])

    vertices, vertex_rgb = part("vertices"), part("vertex_rgb")
    parts_shape = part("parts_shape")
    return Scan(
        vertices=vertices,
        faces=part("faces"),
        corner_uv=part("corner_uv"),
        face_material=part("face_material"),
        textures=_unpack_textures(part("texels"), part("texture_shape")),
        texture_parts=part("parts").reshape(parts_shape[0]) if len(parts_shape) else None,
        vertex_rgb=vertex_rgb if len(vertex_rgb) else None,
    )


def create_scan_arrays(folder: Path, attrs: dict[str, Any]) -> None:
    """Make the empty root group of a store in `folder`."""
    root = zarr.open_group(folder / ARRAYS, mode="w", zarr_format=3)
    everything = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **attrs}
    root.attrs.update(dict(sorted(everything.items())))


def write_group(folder: Path, number: int, scans: Sequence[Scan | None]) -> None:
    """Write rows 16·number … of a store; None leaves an empty row. One writer per group."""
    if not 0 < len(scans) <= SCANS_PER_GROUP:
        raise ValueError(f"{len(scans)} scans given for a group of 1 to {SCANS_PER_GROUP}")
    group = zarr.open_group(folder / ARRAYS / _group_name(number), mode="w", zarr_format=3)
    pieces = [_pieces(scan) for scan in scans]
    for name, (dtype, tail) in _LAYOUT.items():
        empty = np.zeros((0, *tail), dtype)
        items = [np.asarray(p[name], dtype).reshape(-1, *tail) if name in p else empty for p in pieces]
        starts = np.cumsum([0, *map(len, items)], dtype=np.int64)
        _write(group, name, np.concatenate(items))
        _write(group, f"{name}_start", starts)


def finish_scans(folder: Path, index: pd.DataFrame) -> str:
    """Write row table, rejects and digest beside the arrays. Returns the digest."""
    index = complete_index(index)
    groups = -(-len(index) // SCANS_PER_GROUP)
    missing = [g for g in range(groups) if not (folder / ARRAYS / _group_name(g)).is_dir()]
    if missing:
        raise StoreError(f"{folder}: groups {missing} of {groups} were never written")
    index.to_parquet(folder / INDEX)
    index.loc[~index["ok"], ["subject", "scan", "source", "reason"]].to_parquet(folder / REJECTS)
    return write_digest(folder)


_LAYOUT: dict[str, tuple[str, tuple[int, ...]]] = {
    "vertices": ("float32", (3,)),
    "faces": ("int32", (3,)),
    "corner_uv": ("float32", (3, 2)),
    "face_material": ("int16", ()),
    "vertex_rgb": ("uint8", (3,)),
    "texels": ("uint8", ()),  # each texture channel by channel: planes compress better than pixels
    "texture_shape": ("int32", (2,)),
    "parts": ("uint8", ()),
    "parts_shape": ("int32", (2,)),
}


def _pieces(scan: Scan | None) -> dict[str, np.ndarray]:
    """A scan as the flat arrays of `_LAYOUT`; nothing for a rejected one."""
    if scan is None:
        return {}
    pieces = {
        "vertices": scan.vertices,
        "faces": scan.faces,
        "corner_uv": scan.corner_uv,
        "face_material": scan.face_material,
    }
    if scan.vertex_rgb is not None:
        pieces["vertex_rgb"] = scan.vertex_rgb
    if scan.textures:
        pieces["texels"] = np.concatenate([t.transpose(2, 0, 1).ravel() for t in scan.textures])
        pieces["texture_shape"] = np.array([t.shape[:2] for t in scan.textures])
    if scan.texture_parts is not None:
        pieces["parts"] = scan.texture_parts.ravel()
        pieces["parts_shape"] = np.array([scan.texture_parts.shape])
    return pieces


def _unpack_textures(texels: np.ndarray, shapes: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum(4 * shapes.astype(np.int64).prod(axis=1))
    return [
        np.ascontiguousarray(flat.reshape(4, h, w).transpose(1, 2, 0))
        for flat, (h, w) in zip(np.split(texels, ends[:-1]) if len(ends) else [], shapes, strict=True)
    ]


def _write(group: zarr.Group, name: str, values: np.ndarray) -> None:
    row_bytes = max(values[:1].nbytes, 1)
    chunk = max(min(_CHUNK_BYTES // row_bytes, len(values)), 1)
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk, *values.shape[1:]),
        shards=(max(-(-len(values) // chunk), 1) * chunk, *values.shape[1:]),
        compressors=ZstdCodec(level=1),
    )
    array[:] = values


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _group_name(number: int) -> str:
    return f"scans_{number:05d}"
