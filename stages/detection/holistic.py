"""MediaPipe Holistic on single images: keypoints of body, hands, feet and face of one person."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from dinar_models.keypoints import MEDIAPIPE, MEDIAPIPE_FACE_MESH, MEDIAPIPE_POSE_POINTS

MAX_SIDE = 1536
"""Larger images are shrunk first: MediaPipe's own crops have 256 pixels a side."""


@dataclass(frozen=True)
class Detection:
    """What was found in one image, in the layout `mediapipe`.

    Attributes:
        xyc: (J, 3) pixels of the image as given and confidence 0–1; 0 where not found or out of the image.
        world: (J, 3) m, camera axes (x right, y down, z forward), origin between the hips; MediaPipe's own
            guess of the third dimension, for the points of the pose only, zeros elsewhere.
        mask: (H, W) float32 in [0, 1], where the person is; None unless it was asked for.
    """

    xyc: np.ndarray
    world: np.ndarray
    mask: np.ndarray | None = None


class HolisticDetector:
    """MediaPipe Holistic on single images; a context manager, because it holds native graphs.

    `static_image_mode` makes the result independent of the images before. The one pose model inside the
    wheel is complexity 1.
    """

    def __init__(self, min_side: int = 512, min_confidence: float = 0.5, masks: bool = False) -> None:
        self.min_side = min_side
        self.min_confidence = min_confidence
        self.masks = masks

    def __enter__(self) -> "HolisticDetector":
        with quiet():
            from mediapipe.python.solutions.holistic import Holistic  # a second, and only this stage needs it

            self._graph = Holistic(
                static_image_mode=True,
                model_complexity=1,
                refine_face_landmarks=False,
                enable_segmentation=self.masks,
                smooth_segmentation=False,
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
        height, width = rgb.shape[:2]
        mask = None
        if self.masks:
            whole = np.asarray(found.segmentation_mask, np.float32)
            mask = cv2.resize(whole, (max(height, width),) * 2)[:height, :width]
        return Detection(_image_points(found, side, width, height), _world_points(found), mask)


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
