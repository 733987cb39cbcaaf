import json
from pathlib import Path

import numpy as np
import pytest

from stages import ingest, render_views
from stages._core.runtime import Runtime
from stages._core.scan_store import SCANS_PER_GROUP, Scan, open_scans
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages.ingest import IngestParams
from stages.sources.obj import read_obj
from stages.sources.placement import Placement
from stages.sources.scans import LOADERS, load_placed_scan
from tests.stages.raw_scans import write_box_scan, write_card
from tests.stages.sources.test_scans import emptied, nan_vertex, no_texture, truncated_texture

PARAMS = IngestParams(max_reject_ratio=0.9)


def run(tmp_path: Path, raw: Path, name: str, params: IngestParams = PARAMS, **card: str) -> Path:
    runtime = Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")
    out = tmp_path / name / "scans"
    ingest.run(
        params, Paths({"raw": raw, "card": write_card(tmp_path, **card)}), Paths({"scans": out}), runtime
    )
    return out


def views(tmp_path: Path, name: str) -> Store:
    """Front and back of each scan of an ingested store."""
    params = render_views.RenderViewsParams(seed=0, image_size=64, views=2, variants=1)
    runtime = Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")
    scans, out = tmp_path / name / "scans", tmp_path / name / "views"
    render_views.run(params, Paths({"scans": scans}), Paths({"views": out}), runtime)
    return open_store(out, "views")


def test_bad_scans_are_rejected_with_the_reason_and_the_others_go_through(tmp_path: Path) -> None:
    for name in ("a_1", "a_2", "b_1"):
        write_box_scan(tmp_path / "clean", name)
    clean = open_scans(run(tmp_path, tmp_path / "clean", "clean_store"))
    damages = {"a_15": truncated_texture, "a_3": no_texture, "b_2": emptied, "c_1": nan_vertex}
    for name in ("a_1", "a_2", "b_1", *damages):
        folder = write_box_scan(tmp_path / "dirty", name)
        damages.get(name, lambda _: None)(folder)
    store = open_scans(run(tmp_path, tmp_path / "dirty", "dirty_store"))
    assert store.index["scan"].tolist() == ["a_1", "a_15", "a_2", "a_3", "b_1", "b_2", "c_1"]
    rejected = store.index[~store.index["ok"]].set_index("scan")["reason"].to_dict()
    assert set(rejected) == set(damages)
    for name, words in {
        "a_15": "damaged",
        "a_3": "texture",
        "b_2": "no mesh file",
        "c_1": "not finite",
    }.items():
        assert words in rejected[name]
    for row, name in enumerate(store.index["scan"]):
        if name in damages:
            continue
        expected = clean.read(clean.index["scan"].tolist().index(name))
        np.testing.assert_array_equal(store.read(row).vertices, expected.vertices)
        np.testing.assert_array_equal(store.read(row).textures[0], expected.textures[0])
    rendered, alone = views(tmp_path, "dirty_store"), views(tmp_path, "clean_store")
    assert rendered.index["scan"].tolist() == np.repeat(store.index["scan"], 2).tolist()
    for name in clean.index["scan"]:
        rows, same = rendered.ok_rows(scan=name), alone.ok_rows(scan=name)
        np.testing.assert_array_equal(rendered.read("rgb", rows), alone.read("rgb", same))
    lost = rendered.index[~rendered.index["ok"]]
    assert dict(zip(lost["scan"], lost["reason"], strict=True)) == rejected


def test_too_many_rejects_stop_the_stage_and_leave_no_output(tmp_path: Path) -> None:
    for name in ("a_1", "a_2"):
        no_texture(write_box_scan(tmp_path / "raw", name))
    write_box_scan(tmp_path / "raw", "a_3")
    with pytest.raises(RuntimeError, match="2 of 3 scans rejected"):
        run(tmp_path, tmp_path / "raw", "store", IngestParams(max_reject_ratio=0.5))
    assert not (tmp_path / "store" / "scans").exists()


def test_a_killed_run_goes_on_at_the_first_missing_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(SCANS_PER_GROUP + 1):
        write_box_scan(tmp_path / "raw", f"s_{number:02d}")
    read: list[str] = []

    def dies_at_the_last(folder: Path, *args: object) -> tuple[Scan, Placement]:
        read.append(folder.name)
        if folder.name == f"s_{SCANS_PER_GROUP:02d}" and len(read) == SCANS_PER_GROUP + 1:
            raise KeyboardInterrupt
        return load_placed_scan(folder, *args)  # type: ignore[arg-type]

    monkeypatch.setitem(LOADERS, "scans", dies_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / "raw", "store")
    broken = open_scans(run(tmp_path, tmp_path / "raw", "store"))
    assert len(read) == SCANS_PER_GROUP + 2
    whole = open_scans(run(tmp_path, tmp_path / "raw", "other"))
    assert broken.digest == whole.digest


def test_the_index_tells_how_scans_were_moved_if_any_was(tmp_path: Path) -> None:
    write_box_scan(tmp_path / "raw", "a_1")
    still = open_scans(run(tmp_path, tmp_path / "raw", "still"))
    assert "raw_to_scan" not in still.index
    folder = write_box_scan(tmp_path / "raw", "a_2", scale=100)
    no_texture(write_box_scan(tmp_path / "raw", "a_3"))
    moved = open_scans(run(tmp_path, tmp_path / "raw", "moved"))
    matrices = [np.reshape(json.loads(m), (3, 4)) for m in moved.index["raw_to_scan"]]
    np.testing.assert_array_equal(matrices[0], np.eye(3, 4))
    np.testing.assert_array_equal(matrices[1], 0.01 * np.eye(3, 4))
    raw = read_obj(folder / "a_2.obj").vertices
    np.testing.assert_allclose(raw @ matrices[1][:, :3].T, moved.read(1).vertices, atol=1e-6)
    assert views(tmp_path, "moved").index["raw_to_scan"].nunique() == 2


def test_the_card_can_bring_its_own_splits(tmp_path: Path) -> None:
    for name in ("a_1", "b_1"):
        write_box_scan(tmp_path / "raw", name)
    (tmp_path / "raw" / "who.csv").write_text("subject,split\na,gate\nb,test\n")
    table = open_scans(run(tmp_path, tmp_path / "raw", "table", split="{file: who.csv}"))
    assert table.index["split"].tolist() == ["gate", "test"]
    one = open_scans(run(tmp_path, tmp_path / "raw", "one", split="val"))
    assert one.index["split"].tolist() == ["val", "val"]
