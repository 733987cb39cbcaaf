"""Keypoints that came with the photos: OpenPose's JSON, `NAME_keypoints.json` for the photo NAME."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dinar_models.keypoints import OPENPOSE, parse_openpose
from stages.detection.person import (
    NOBODY,
    OTHERS_SIZE,
    POSE_POINTS,
    SEVERAL,
    PersonRules,
    seen_length,
    too_few_pixels,
    unusable,
)
from stages.sources.frames import PhotoFrame

SURE = 0.2
"""Confidence from which shoulders and hips count as visible; OpenPose's are lower than MediaPipe's."""

MAX_JSON_BYTES = 4 << 20
FOLDER = "openpose"


def read_person(
    raw: Path, subject: str, frame: PhotoFrame, side: int, rules: PersonRules
) -> tuple[np.ndarray, str]:
    """The one person that OpenPose found in a photo, and why that cannot be used (empty if it can).

    Args:
        raw: folder of the photos; the JSON lies in it or in its subfolder `openpose`.
        subject: the photo's name, with or without its suffix.
        frame: where the photo lies in its square.
        side: of that square, px.

    Returns:
        (137, 3) float32 in the layout `openpose`, px of the square; zeros where nobody was found.
    """
    nothing = np.zeros((len(OPENPOSE), 3), np.float32)
    try:
        people = parse_openpose(_load(raw, subject))
    except ValueError as error:
        return nothing, str(error)
    except (AttributeError, TypeError):  # valid JSON of another structure
        return nothing, "the keypoints beside the photo are no OpenPose document"
    people = [place_in_square(person, frame) for person in people]
    body = POSE_POINTS[OPENPOSE.name]
    lengths = [seen_length(person[:body]) for person in people]
    if not lengths or max(lengths) == 0:
        return nothing, NOBODY
    xyc, length = people[int(np.argmax(lengths))], max(lengths)
    reason = unusable(xyc, side, rules.min_person, OPENPOSE, SURE) or too_few_pixels(xyc[:body], frame, rules)
    if not reason and sum(other >= OTHERS_SIZE * length for other in lengths) > 1:
        reason = SEVERAL
    return xyc, reason


def place_in_square(xyc: np.ndarray, frame: PhotoFrame) -> np.ndarray:
    """From pixels of the (upright) photo to those of its square; points outside the photo do not count."""
    xyc = np.nan_to_num(xyc, nan=-1, posinf=-1, neginf=-1)
    xy = xyc[:, :2] * frame.scale + frame.box[:2]
    inside = ((xy >= frame.box[:2]) & (xy < frame.box[2:])).all(axis=1) & (xyc[:, 2] > 0)
    placed = np.concatenate([xy, np.clip(xyc[:, 2:], 0, 1)], axis=1)
    return np.where(inside[:, None], placed, 0).astype(np.float32)


def _load(raw: Path, subject: str) -> Any:
    """The document; ValueError says what is missing or damaged."""
    whole_name = (raw / subject).is_file()  # subjects are stems, or whole names where stems collide
    name = f"{Path(subject).stem if whole_name else subject}_keypoints.json"
    path = next((p for p in (raw / name, raw / FOLDER / name) if p.is_file()), None)
    if path is None:
        raise ValueError(f"{name} is missing, and the card says that keypoints come from OpenPose")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{name} is larger than {MAX_JSON_BYTES >> 20} MiB")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is damaged ({error})") from None
    return document
