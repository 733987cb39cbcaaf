"""A photo that `dinar avatar` refuses is rejected by the pipeline for the same reason."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinar_models.parser import build_parser
from flows.find_person import find_person
from stages import detect_keypoints, ingest_images
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages.sources.photos import PhotoError
from tests.stages.painted_person import SIDE, render_painted, side_by_side
from tests.stages.raw_scans import write_card

REASONS = {
    "alone": "",
    "blank": "no person was found",
    "broken": "damaged",
    "half": "the legs are not in the picture|not all visible",
    "tiny": "px long in the file",
    "twice": "several people",
}


def write_photos(folder: Path, person: np.ndarray) -> None:
    """One photo for each of REASONS."""
    folder.mkdir()
    half = person[: SIDE * 2 // 5]  # wide: its padding must not be taken for the rest of the person
    images = {"alone": person, "blank": np.full_like(person, 255), "half": half, "broken": person}
    images["twice"] = side_by_side(person, 90)
    small = Image.fromarray(person).resize((150, 150))
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    small.save(folder / "tiny.png")
    (folder / "broken.png").write_bytes((folder / "broken.png").read_bytes()[:5000])


def through_the_pipeline(root: Path) -> Store:
    """Keypoints of `root/raw`."""
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    ingest = ingest_images.IngestImagesParams(image_size=512, max_reject_ratio=1)
    raw = Paths({"raw": root / "raw", "card": write_card(root, "photos")})
    ingest_images.run(ingest, raw, Paths({"views": root / "views"}), runtime)
    params = detect_keypoints.DetectKeypointsParams(max_reject_ratio=1)
    views, out = Paths({"views": root / "views"}), Paths({"keypoints": root / "keypoints"})
    detect_keypoints.run(params, views, out, runtime)
    return open_store(root / "keypoints", "keypoints")


def test_photos_are_judged_alike_inside_and_outside_the_pipeline(tiny_body: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "raw", render_painted(tiny_body))
    index = through_the_pipeline(tmp_path).index.set_index("subject")
    parser = build_parser({"architecture": "unet", "size": 64})  # no refused photo gets as far as that
    for name, words in REASONS.items():
        reason = index["reason"][name]
        assert index["ok"][name] == (not words)
        if words:
            with pytest.raises(PhotoError, match=words) as caught:
                find_person(tmp_path / "raw" / f"{name}.png", parser)
            assert without_numbers(str(caught.value)) == f"{name}.png: {without_numbers(reason)}"


def without_numbers(text: str) -> str:
    """The pipeline looks at fewer pixels, so that lengths may differ by one."""
    return re.sub(r"\d+", "N", text)
