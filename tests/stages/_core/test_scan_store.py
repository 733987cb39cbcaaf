from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages._core.scan_store import (
    Scan,
    create_scan_arrays,
    finish_scans,
    open_scans,
    read_scan,
    write_group,
)
from stages._core.store import StoreError


def make_scan(rng: np.random.Generator, vertices: int, textures: list[tuple[int, int]]) -> Scan:
    faces = vertices * 2
    return Scan(
        vertices=rng.normal(size=(vertices, 3)).astype(np.float32),
        faces=rng.integers(0, vertices, (faces, 3), dtype=np.int32),
        corner_uv=rng.random((faces, 3, 2), dtype=np.float32),
        face_material=rng.integers(0, max(len(textures), 1), faces).astype(np.int16),
        textures=[rng.integers(0, 256, (h, w, 4), dtype=np.uint8) for h, w in textures],
        texture_parts=rng.integers(0, 20, (5, 7), dtype=np.uint8) if len(textures) == 1 else None,
        vertex_rgb=None if textures else rng.integers(0, 256, (vertices, 3), dtype=np.uint8),
    )


def index_of(ok: list[bool]) -> pd.DataFrame:
    names = [f"s{i}" for i in range(len(ok))]
    reasons = ["" if good else "why not" for good in ok]
    return pd.DataFrame({"subject": names, "scan": names, "split": "train", "ok": ok, "reason": reasons})


def test_scans_of_different_sizes_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans = [make_scan(rng, 5, [(4, 6)]), None, make_scan(rng, 9, [(2, 3), (8, 1)]), make_scan(rng, 3, [])]
    create_scan_arrays(tmp_path, {})
    write_group(tmp_path, 0, scans)
    for row, scan in enumerate(scans):
        if scan is None:
            continue
        back = read_scan(tmp_path, row)
        for name in ("vertices", "faces", "corner_uv", "face_material", "texture_parts", "vertex_rgb"):
            np.testing.assert_array_equal(getattr(back, name), getattr(scan, name), err_msg=name)
        assert len(back.textures) == len(scan.textures)
        for texture, expected in zip(back.textures, scan.textures, strict=True):
            np.testing.assert_array_equal(texture, expected)


def test_rejected_rows_say_why_and_missing_groups_are_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    create_scan_arrays(tmp_path, {"max_texture_size": 8})
    with pytest.raises(StoreError, match="never written"):
        finish_scans(tmp_path, index_of([True, False]))
    write_group(tmp_path, 0, [make_scan(rng, 4, [(2, 2)]), None])
    digest = finish_scans(tmp_path, index_of([True, False]))
    store = open_scans(tmp_path)
    assert store.digest == digest
    assert store.attrs["max_texture_size"] == 8
    assert len(store.read(0).vertices) == 4
    with pytest.raises(StoreError, match="why not"):
        store.read(1)


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    create_scan_arrays(tmp_path, {})
    with pytest.raises(StoreError, match=r"index.parquet is missing"):
        open_scans(tmp_path)
