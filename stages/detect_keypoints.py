"""Views → keypoints of body, hands, feet and face, found by MediaPipe Holistic."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import pandas as pd
from pydantic import Field

from dinar_models.keypoints import MEDIAPIPE, MEDIAPIPE_FACE_MESH, MEDIAPIPE_POSE_POINTS
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store

SHARD_IMAGES = 64

MAX_SIDE = 1536
"""Larger images are shrunk first: MediaPipe's own crops have 256 pixels a side."""

TORSO = MEDIAPIPE.find("left_shoulder", "right_shoulder", "left_hip", "right_hip")
LEGS = MEDIAPIPE.find("left_knee", "right_knee", "left_ankle", "right_ankle")


class DetectKeypointsParams(StageParams):
    """How keypoints are looked for."""

    variants: int = Field(1, ge=1, description="variants of each scan that are looked at; fits need one")
    min_side: int = Field(512, ge=256, le=2048, description="smaller images are enlarged to this side, px")
    min_confidence: float = Field(0.5, gt=0, lt=1, description="of MediaPipe's person detector")
    min_person: float = Field(0.15, ge=0, lt=1, description="least height of a person, of the image's side")
    max_reject_ratio: float = Field(0.3, ge=0, le=1, description="share of images that may be rejected")


@dataclass(frozen=True)
class Detection:
    """What was found in one image, in the layout `mediapipe`.

    Attributes:
        xyc: (J, 3) pixels of the image as given and confidence 0–1; 0 where not found or out of the image.
        world: (J, 3) m, camera axes (x right, y down, z forward), origin between the hips; MediaPipe's own
            guess of the third dimension, for the points of the pose only, zeros elsewhere.
    """

    xyc: np.ndarray
    world: np.ndarray


class HolisticDetector:
    """MediaPipe Holistic on single images; a context manager, because it holds native graphs.

    `static_image_mode` makes the result independent of the images before. The one pose model inside the
    wheel is complexity 1.
    """

    def __init__(self, min_side: int = 512, min_confidence: float = 0.5) -> None:
        self.min_side = min_side
        self.min_confidence = min_confidence

    def __enter__(self) -> "HolisticDetector":
        with quiet():
            from mediapipe.python.solutions.holistic import Holistic  # a second, and only this stage needs it

            self._graph = Holistic(
                static_image_mode=True,
                model_complexity=1,
                refine_face_landmarks=False,
                min_detection_confidence=self.min_confidence,
            )
            self._graph.process(np.zeros((256, 256, 3), np.uint8))  # models load, and chatter, here
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._graph.close()

    def detect(self, rgb: np.ndarray) -> Detection | None:
        """The one person that MediaPipe sees, or None.

        Args:
            rgb: (H, W, 3) uint8, R first.
        """
        square, scale = to_square(rgb, self.min_side)
        with quiet():
            found = self._graph.process(square)
        if found.pose_landmarks is None:
            return None
        side = square.shape[0] / scale
        return Detection(_image_points(found, side, rgb.shape[1], rgb.shape[0]), _world_points(found))


def to_square(rgb: np.ndarray, min_side: int) -> tuple[np.ndarray, float]:
    """Pad at the right and bottom with white (MediaPipe's regions assume squares), then resize.

    Returns:
        The square image and its pixels per pixel of `rgb`.
    """
    height, width = rgb.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), 255, np.uint8)
    square[:height, :width] = rgb
    target = min(max(side, min_side), MAX_SIDE)
    if target == side:
        return square, 1.0
    method = cv2.INTER_CUBIC if target > side else cv2.INTER_AREA
    return cv2.resize(square, (target, target), interpolation=method), target / side


def _image_points(found: Any, side: float, width: int, height: int) -> np.ndarray:
    """Pixels and confidences of the image points; hands and face have no visibility of their own."""
    pose = _normalised(found.pose_landmarks)
    visibility = np.array([p.visibility for p in found.pose_landmarks.landmark], np.float32)
    blocks = [(pose, visibility)]
    for hand in (found.left_hand_landmarks, found.right_hand_landmarks):
        blocks.append((_normalised(hand, 21), np.full(21, float(hand is not None), np.float32)))
    mesh = _normalised(found.face_landmarks, max(MEDIAPIPE_FACE_MESH) + 1)
    face = mesh[list(MEDIAPIPE_FACE_MESH)]
    blocks.append((face, np.full(len(face), float(found.face_landmarks is not None), np.float32)))
    xy = np.concatenate([points for points, _ in blocks])[:, :2] * side
    confidence = np.concatenate([c for _, c in blocks])
    inside = (xy >= 0).all(axis=1) & (xy[:, 0] < width) & (xy[:, 1] < height)
    confidence = np.where(inside, np.clip(confidence, 0, 1), 0)
    return np.concatenate([xy, confidence[:, None]], axis=1, dtype=np.float32)


def _world_points(found: Any) -> np.ndarray:
    world = np.zeros((len(MEDIAPIPE), 3), np.float32)
    if found.pose_world_landmarks is not None:
        world[:MEDIAPIPE_POSE_POINTS] = _normalised(found.pose_world_landmarks)
    return world


def _normalised(landmarks: Any, count: int = 0) -> np.ndarray:
    """(n, 3) landmark coordinates, or zeros for `count` points when nothing was found."""
    if landmarks is None:
        return np.zeros((count, 3), np.float32)
    return np.array([(p.x, p.y, p.z) for p in landmarks.landmark], np.float32)


def unusable(xyc: np.ndarray, side: int, min_person: float) -> str:
    """Why the keypoints of one image do not show a whole, single-sized person; empty where they do.

    Args:
        xyc: (J, 3) in the layout `mediapipe`.
        side: longer side of the image, px.
        min_person: least extent of the person, as a share of the side.
    """
    if (xyc[TORSO, 2] < 0.5).any():
        return "shoulders and hips are not all visible"
    if (xyc[LEGS, 2] < 0.1).all():
        return "the legs are not in the picture"
    seen = xyc[:MEDIAPIPE_POSE_POINTS]
    seen = seen[seen[:, 2] > 0.3, :2]
    extent = float((seen.max(axis=0) - seen.min(axis=0)).max())
    if extent < min_person * side:
        return f"the person is too small: {extent:.0f} px of {side}"
    return ""


def run(params: DetectKeypointsParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Look at every view of the chosen variants; the other rows say that they were not looked at."""
    views = open_store(inputs["views"], "views")
    return build_store(
        out=outputs["keypoints"],
        schema="keypoints",
        index=_index(views.index, params.variants),
        sizes={"J": len(MEDIAPIPE)},
        attrs={**params.model_dump(), "layout": MEDIAPIPE.name, "points": list(MEDIAPIPE.points)},
        shard_rows=SHARD_IMAGES,
        work=partial(detect_shard, store=inputs["views"], params=params),
        runtime=runtime,
        key=work_key(params, [inputs["views"]]),
        max_reject_ratio=params.max_reject_ratio,
    )


def _index(views: pd.DataFrame, variants: int) -> pd.DataFrame:
    index = views.copy()
    skipped = index["ok"] & (index["variant"] >= variants)
    index.loc[skipped, "reason"] = "not looked at: fits use the first variants only"
    index["ok"] &= ~skipped
    return index


def detect_shard(rows: range, *, store: Path, params: DetectKeypointsParams) -> ShardResult:
    """Keypoints of consecutive rows."""
    views = open_store(store, "views")
    wanted = _index(views.index, params.variants)["ok"].to_numpy(bool)[rows.start : rows.stop]
    arrays = {
        "xyc": np.zeros((len(rows), len(MEDIAPIPE), 3), np.float32),
        "world": np.zeros((len(rows), len(MEDIAPIPE), 3), np.float32),
    }
    rejects: dict[int, str] = {}
    if not wanted.any():
        return ShardResult(arrays)
    images = np.asarray(views["rgb"][rows.start : rows.stop])
    with HolisticDetector(params.min_side, params.min_confidence) as detector:
        for place in np.flatnonzero(wanted):
            found = detector.detect(images[place])
            if found is None:
                rejects[rows.start + int(place)] = "no person found"
                continue
            arrays["xyc"][place], arrays["world"][place] = found.xyc, found.world
            if reason := unusable(found.xyc, max(images.shape[1:3]), params.min_person):
                rejects[rows.start + int(place)] = reason
    return ShardResult(arrays, rejects)


@contextmanager
def quiet() -> Iterator[None]:
    """Send the native library's chatter nowhere: it ignores every documented logging switch."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        with warnings.catch_warnings():  # a deprecated protobuf function, called on every image
            warnings.filterwarnings("ignore", category=UserWarning, module="google.protobuf")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


STAGE = Stage("detect_keypoints", DetectKeypointsParams, inputs=("views",), outputs=("keypoints",), run=run)

if __name__ == "__main__":
    main(STAGE)
