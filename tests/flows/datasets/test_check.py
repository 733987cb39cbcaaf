"""What became of every sample, read off stores that were written by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flows.datasets.check import Findings, Sample, outcomes, samples_beside
from flows.datasets.sheet import CELL, choose, write_sheets
from tests.stages.tiny_world import save_store


def sample(name: str, reason: str = "", part: str = "mh") -> Sample:
    return Sample(name, part, name, "train", rows=1, fitted=int(not reason), reason=reason)


def write_index(stores: Path, kind: str, lines: list[tuple[str, int, bool, str]]) -> None:
    """Scan, variant, ok and reason of each row."""
    index = pd.DataFrame(lines, columns=["scan", "variant", "ok", "reason"]).assign(split="train")
    (stores / kind).mkdir(parents=True)
    index.assign(subject=index["scan"].str[0]).to_parquet(stores / kind / "index.parquet")


def test_a_sample_is_lost_where_none_of_its_images_is_left(tmp_path: Path) -> None:
    """a passes with one image of two, b loses all in keypoints, c in its fit; jittered images do not count."""
    ok = True
    write_index(tmp_path, "views", [(s, v, ok, "") for s in ("a1", "b1", "c1") for v in (0, 0, 1)])
    write_index(
        tmp_path,
        "keypoints",
        [
            *[("a1", 0, ok, ""), ("a1", 0, False, "no person found"), ("a1", 1, False, "not looked at")],
            *[
                ("b1", 0, False, "no person found"),
                ("b1", 0, False, "the legs"),
                ("b1", 0, False, "the legs"),
            ],
            *[("c1", 0, ok, ""), ("c1", 0, ok, ""), ("c1", 1, False, "not looked at")],
        ],
    )
    fits = [("a1", 0, ok, ""), ("a1", 0, ok, ""), ("a1", 1, ok, "")]
    fits += [(s, v, False, "the fit diverged") for s in ("b1", "c1") for v in (0, 0, 1)]
    write_index(tmp_path, "bodies", fits)
    found = {s.name: (s.reason, s.fitted, s.subject) for s in outcomes(tmp_path, "mh")}
    assert found == {
        "a1": ("", 2, "a"),
        "b1": ("keypoints: the legs", 0, "b"),
        "c1": ("the fit diverged", 0, "c"),
    }


def test_findings_pass_only_without_a_problem_and_with_a_sample() -> None:
    assert Findings([sample("a"), sample("b", "no")]).passed
    assert not Findings([]).passed
    assert Findings([sample("a", "no")]).why_not() == ["no sample can be used"]
    assert not Findings([sample("a")], problems=["ingest: 3 of 4 rejected"]).passed
    missing = Findings([sample("a")], missing={"data/models/body": "build_body"})
    assert missing.why_not() == ["data/models/body missing: run `dvc repro build_body` first"]


def test_a_report_of_some_parts_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "mh.json"
    Findings([sample("a", part="mh-000"), sample("b", part="mh-001")]).save(path)
    Findings([sample("b", "no", "mh-001")]).save(path, samples_beside(path, ["mh-001"]))
    assert [(s.name, s.reason) for s in samples_beside(path, [])] == [("a", ""), ("b", "no")]


@pytest.mark.parametrize(("bad", "good", "most"), [(2, 9, 5), (9, 2, 5), (9, 9, 6), (1, 1, 5)])
def test_the_sheet_is_bounded_and_shows_what_was_rejected_first(bad: int, good: int, most: int) -> None:
    here = [(sample(f"g{i}"), Path()) for i in range(good)]
    here += [(sample(f"b{i}", "no"), Path()) for i in range(bad)]
    shown = [s.ok for s, _ in choose(here, most)]
    assert len(shown) == min(most, bad + good)
    assert shown == sorted(shown)
    assert shown.count(False) == min(bad, max(most // 2, most - good))


def test_a_sheet_has_a_row_for_each_sample_and_grey_where_nothing_was_made(tmp_path: Path) -> None:
    """The good sample's image is red in its left half; of the other there is none."""
    rgb = np.full((1, 16, 16, 3), 255, np.uint8)
    rgb[:, :, :8] = (255, 0, 0)
    blank = np.zeros((1, 16, 16), np.uint8)
    camera = {"K": np.eye(3)[None], "R": np.eye(3)[None], "T": np.zeros((1, 3))}
    arrays = {
        "rgb": rgb,
        "mask": blank,
        "parts": blank,
        **{k: v.astype(np.float32) for k, v in camera.items()},
    }
    index = pd.DataFrame([("a", "a0", "train")], columns=["subject", "scan", "split"])
    save_store(tmp_path / "good" / "views", "views", index, arrays)
    rows = [(sample("a0"), tmp_path / "good"), (sample("z", "the file is damaged"), tmp_path / "bad")]
    (page,) = write_sheets(tmp_path / "mh.png", rows, None, most=10)
    sheet = np.asarray(Image.open(page))
    rejected, good = sheet[22:][:CELL, :CELL], sheet[22 + CELL + 4 :][:CELL, :CELL]
    assert (rejected == 235).all()
    assert (good[:, : CELL // 2 - 10] == (255, 0, 0)).all()
    assert (good[:, CELL // 2 + 10 :] == 255).all()
