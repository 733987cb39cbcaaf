"""OpenPose's JSON beside photos: in the photo's square, one person, or one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dinar_models.keypoints import OPENPOSE
from stages import detect_keypoints
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import open_store
from stages.detection.openpose import place_in_square, read_person
from stages.detection.person import NOBODY, SEVERAL, PersonRules
from stages.sources.card import CardError
from stages.sources.frames import PhotoFrame, frame_columns
from tests.stages.raw_scans import write_card
from tests.stages.tiny_world import save_store

FRAME = PhotoFrame((64, 0, 192, 256), 0.5)
"""A photo of 256 × 512 px in a square of 256 px."""


def someone(height: float = 400, x: float = 100, missing: tuple[str, ...] = ()) -> dict[str, Any]:
    """A person of BODY_25, whose points are spread over `height` px of the photo, from 50 px downwards."""
    y = np.linspace(50, 50 + height, 25)
    points = np.stack([np.full(25, x), y, np.full(25, 0.6)], axis=1)
    points[[OPENPOSE.points.index(name) for name in missing]] = 0
    return {"pose_keypoints_2d": points.flatten().tolist(), "face_keypoints_2d": []}


def write(folder: Path, name: str, *people: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))


def test_points_move_with_the_photo_and_those_outside_or_broken_do_not_count() -> None:
    points = np.array([[10, 20, 0.7], [300, 20, 0.7], [np.nan, 20, 0.7], [10, 20, 7], [10, 20, 0]])
    placed = place_in_square(points, FRAME)
    np.testing.assert_allclose(placed[0], [64 + 5, 10, 0.7], rtol=1e-6)
    np.testing.assert_array_equal(placed[[1, 2, 4]], 0)
    assert placed[3, 2] == 1


@pytest.mark.parametrize("folder", ["", "openpose"])
def test_the_file_lies_beside_the_photo_or_in_a_folder_of_its_own(folder: str, tmp_path: Path) -> None:
    """OpenPose's pixel centres are whole numbers: x = 100 is 100.5 here."""
    write(tmp_path / folder, "anna", someone())
    (tmp_path / "anna.png").touch()
    for subject in ("anna", "anna.png"):
        xyc, reason = read_person(tmp_path, subject, FRAME, 256, PersonRules())
        assert reason == ""
        np.testing.assert_allclose(xyc[0], [64 + 50.25, 25.25, 0.6], rtol=1e-6)
        assert not xyc[25:].any()


@pytest.mark.parametrize(
    ("people", "words"),
    [
        ([], NOBODY),
        ([someone(), someone(x=200)], SEVERAL),
        ([someone(), someone(height=150, x=200)], ""),
        ([someone(missing=("left_hip",))], "shoulders and hips are not all visible"),
        ([someone(height=60)], "the person is too small: 30 px of 256"),
        ([someone(height=100)], "the person is too small: 100 px long in the file"),
        ([{"pose_keypoints_2d": [1, 2]}], "holds 2 numbers, 75 expected"),
        ([17], "no OpenPose document"),
    ],
)
def test_why_a_photos_keypoints_are_unusable(people: list[Any], words: str, tmp_path: Path) -> None:
    write(tmp_path, "anna", *people)
    _, reason = read_person(tmp_path, "anna", FRAME, 256, PersonRules())
    assert words in reason
    assert bool(reason) == bool(words)


def test_a_missing_and_a_damaged_file_have_their_sentence(tmp_path: Path) -> None:
    read = (FRAME, 256, PersonRules())
    assert read_person(tmp_path, "anna", *read)[1].startswith("anna_keypoints.json is missing")
    (tmp_path / "anna_keypoints.json").write_text("{")
    assert read_person(tmp_path, "anna", *read)[1].startswith("anna_keypoints.json is damaged")
    (tmp_path / "anna_keypoints.json").write_text("[" * 100_000)
    assert read_person(tmp_path, "anna", *read)[1].startswith("anna_keypoints.json is damaged")


def test_the_card_chooses_and_the_store_says_its_layout(tmp_path: Path) -> None:
    """Three photos: one with keypoints, one without, one that could not be read."""
    index = pd.DataFrame({"subject": ["anna", "bert", "carl"], "split": "train", "source": "photos"})
    index = index.assign(scan=index["subject"], ok=[True, True, False], reason=["", "", "torn"])
    index = index.assign(**frame_columns([FRAME, FRAME, None]))
    arrays = {"rgb": np.zeros((3, 256, 256, 3), np.uint8), "mask": np.zeros((3, 256, 256), np.uint8)}
    arrays |= {"parts": arrays["mask"], "K": np.zeros((3, 3, 3), np.float32)}
    arrays |= {"R": arrays["K"], "T": np.zeros((3, 3), np.float32)}
    save_store(tmp_path / "views", "views", index, arrays)
    write(tmp_path / "raw", "anna", someone())
    card = write_card(tmp_path, "photos")
    card.write_text(card.read_text() + "keypoints: openpose\n")
    paths = Paths({"views": tmp_path / "views", "raw": tmp_path / "raw", "card": card})
    params = detect_keypoints.DetectKeypointsParams(max_reject_ratio=1)
    out, runtime = Paths({"keypoints": tmp_path / "keypoints"}), Runtime(work_root=tmp_path / "work")
    detect_keypoints.run(params, paths, out, runtime)
    store = open_store(tmp_path / "keypoints", "keypoints")
    assert store.attrs["layout"] == "openpose"
    assert store["xyc"].shape == (3, len(OPENPOSE), 3)
    assert store.index["ok"].tolist() == [True, False, False]
    assert store.index["reason"][1].startswith("bert_keypoints.json is missing")
    assert store.index["reason"][2] == "torn"
    card.write_text(card.read_text().replace("adapter: photos", "adapter: video"))
    with pytest.raises(CardError, match="openpose is for photos"):
        detect_keypoints.run(params, paths, out, runtime)
