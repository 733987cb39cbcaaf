"""Tables for the terminal: every metric a line, nulls said in words, stages in the order in which they ended."""

import json
from pathlib import Path

from flows.tables import flatten, metrics_table, times_table


def cells(table, column: int) -> list[str]:
    return list(table.columns[column].cells)


def test_nested_tables_become_dotted_keys_in_their_order():
    nested = {"b": {"y": 1, "x": {"deep": None}}, "a": 2.5}
    assert list(flatten(nested)) == [("b.y", 1), ("b.x.deep", None), ("a", 2.5)]


def test_metrics_are_shortened_and_nulls_say_why(tmp_path: Path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"same_view": {"psnr": 24.43219, "lpips": None}, "fit": {"iou": 0.9}}))
    table = metrics_table(path)
    assert cells(table, 0) == ["same_view.psnr", "same_view.lpips", "fit.iou"]
    assert cells(table, 1) == ["24.43", "null (weights missing)", "0.9"]


def test_stages_are_listed_by_when_they_ended_and_added_up(tmp_path: Path):
    for name, finished, seconds, peak in (
        ("report", "2026-01-02T00:00:00Z", 2.4, 900),
        ("ingest@synthetic", "2026-01-01T00:00:00Z", 61.2, 300),
    ):
        record = {"finished": finished, "seconds": seconds, "peak_mib": peak}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    table = times_table(tmp_path)
    assert cells(table, 0) == ["ingest@synthetic", "report", "sum"]
    assert cells(table, 1) == ["61", "2", "64"]
    assert cells(table, 2) == ["300", "900", ""]


def test_before_the_first_run_there_is_only_the_sum(tmp_path: Path):
    assert cells(times_table(tmp_path / "nothing"), 1) == ["0"]
