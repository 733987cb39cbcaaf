from pathlib import Path

import numpy as np
from PIL import Image

from stages import ingest_images
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages.ingest_images import IngestImagesParams
from stages.sources.frames import FRAME_COLUMNS, PhotoFrame, read_photo_frames
from tests.stages.raw_scans import write_card
from tests.stages.sources.test_people_snapshot import write_person
from tests.stages.sources.test_photos import two_halves
from tests.stages.sources.test_video import write_video


def run(tmp_path: Path, adapter: str, more: str = "", **card: str) -> Store:
    params = IngestImagesParams(image_size=64, frame_stride=2, max_frames=3)
    path = write_card(tmp_path, adapter, **card)
    path.write_text(path.read_text() + more)
    paths = Paths({"raw": tmp_path / "raw", "card": path})
    runtime = Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")
    ingest_images.run(params, paths, Paths({"views": tmp_path / "views"}), runtime)
    return open_store(tmp_path / "views", "views")


def test_photos_become_rows_and_a_damaged_one_keeps_its_row_and_reason(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    Image.fromarray(two_halves()).save(raw / "anna.png")
    Image.fromarray(two_halves()).save(raw / "anna.tif")
    (raw / "bert.jpg").write_text("no image")
    (raw / "notes.txt").touch()
    store = run(tmp_path, "photos")
    assert store.index["subject"].tolist() == ["anna.png", "anna.tif", "bert"]
    assert store.index["ok"].tolist() == [True, True, False]
    assert "no image" in store.index["reason"][2]
    np.testing.assert_array_equal(store["rgb"][0], store["rgb"][1])
    assert (store["parts"][0] == 255).all()
    np.testing.assert_array_equal(store["R"][0], np.eye(3))
    there = PhotoFrame((0, 10, 64, 53), 64 / 60)
    assert read_photo_frames(store.index) == [there, there, None]
    assert read_photo_frames(store.index.drop(columns=list(FRAME_COLUMNS))) == [None] * 3


def test_names_that_look_like_numbers_and_names_with_dots_stay_as_they_are(tmp_path: Path) -> None:
    """`001` is no 1 and `08` no float, a stem ends at the last dot, and any image's suffix will do."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("001.png", "08.jpg", "1e3.webp", "a.b.c.png", "anna.v2.jpeg"):
        Image.fromarray(two_halves()).save(raw / name)
    store = run(tmp_path, "photos")
    assert store.index["subject"].tolist() == ["001", "08", "1e3", "a.b.c", "anna.v2"]
    assert store.index["scan"].tolist() == store.index["subject"].tolist()
    assert store.index["ok"].all()


def test_photos_of_one_subject_are_told_by_their_names_if_the_card_says_so(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("anna_1.png", "anna_2.png", "bert_1.png"):
        Image.fromarray(two_halves()).save(tmp_path / "raw" / name)
    store = run(tmp_path, "photos", "subject: before_last_underscore\n")
    assert store.index["subject"].tolist() == ["anna", "anna", "bert"]
    assert store.index["scan"].tolist() == ["anna_1", "anna_2", "bert_1"]
    assert store.index["split"].nunique() <= 2


def test_photos_bring_label_maps_and_those_without_one_are_rejected(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "schp").mkdir(parents=True)
    for name in ("anna", "bert"):
        Image.fromarray(two_halves()).save(raw / f"{name}.png")
    height, width = two_halves().shape[:2]
    Image.fromarray(np.full((height, width), 13, np.uint8)).save(raw / "schp" / "anna.png")
    store = run(tmp_path, "photos", "labels: schp\nlabel_table: lip\n")
    assert store.attrs["has_parts"]
    assert store.attrs["brought_parts"]
    assert set(np.unique(store["parts"][0])) <= {0, 13}
    assert store["parts"][0][32, 32] == 13
    assert store.index["reason"].tolist() == ["", "there is no label map schp/bert.png"]


def test_a_video_is_one_subject_with_its_frames_as_views(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_video(raw / "clip.avi", 9)
    (raw / "other.mp4").write_text("no video")
    store = run(tmp_path, "video")
    assert store.index["subject"].tolist() == ["clip"] * 3 + ["other"]
    assert store.index["view"].tolist() == [0, 1, 2, 0]
    np.testing.assert_allclose(store["rgb"][:3, 32, 32, 0], [0, 20, 40], atol=2)
    assert "no video" in store.index["reason"][3]


def test_people_snapshot_gives_masks_and_a_bad_folder_costs_nobody_else(tmp_path: Path) -> None:
    write_person(tmp_path / "raw", "female-1-casual")
    write_person(tmp_path / "raw", "male-2.outdoor")
    (tmp_path / "raw" / "female-1-casual" / "masks.hdf5").unlink()
    (tmp_path / "raw" / "README").touch()
    store = run(tmp_path, "people_snapshot")
    assert store.index["subject"].tolist() == ["female-1-casual"] + ["male-2.outdoor"] * 3
    assert store.index["scan"].tolist() == store.index["subject"].tolist()
    assert store.index["view"].tolist() == [0, 0, 1, 2]
    assert set(store.index["source"]) == {"video"}
    assert store.index["reason"][0] == "masks.hdf5 is missing, so no frame has a mask"
    masks = np.asarray(store["mask"][1:4]) > 127
    assert masks.any(axis=(1, 2)).all()
    assert (np.diff([np.flatnonzero(m.any(axis=0))[0] for m in masks]) >= 1).all()
    np.testing.assert_allclose(store["K"][1][0, 0], 200 * 64 / 96)


def test_the_card_says_which_split_photos_are_in(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    Image.fromarray(two_halves()).save(tmp_path / "raw" / "anna.png")
    assert run(tmp_path, "photos", split="test").index["split"].tolist() == ["test"]
