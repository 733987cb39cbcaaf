"""Videos of one person: every n-th frame, padded to a square like a photo."""

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from stages.sources.photos import FOCAL_PER_SIDE, MAX_PIXELS, Photo, PhotoError, make_photo

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


def list_videos(root: Path) -> list[Path]:
    """The video files of a folder, by name; or the one file that `root` is."""
    files = [root] if root.is_file() else sorted(root.iterdir())
    return [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".")]


def count_frames(path: Path, stride: int, limit: int) -> int:
    """How many frames `read_frames` will give. Frames are counted by decoding: headers may lie.

    Raises:
        PhotoError: no video, or no frame in it.
    """
    capture = _open(path)
    try:
        frames = 0
        while frames < stride * limit and capture.grab():
            frames += 1
    finally:
        capture.release()
    if frames == 0:
        raise PhotoError("the video holds no frame that can be decoded")
    return min(-(-frames // stride), limit)


def read_frames(path: Path, numbers: range, stride: int, size: int) -> Iterator[Photo]:
    """Kept frames `numbers` (frame k of these is frame k × stride of the video), in order."""
    capture = _open(path)
    try:
        for frame in range(numbers.stop * stride):
            number, offset = divmod(frame, stride)
            if not capture.grab():
                return
            if offset == 0 and number in numbers:
                yield _photo(capture.retrieve()[1], size)
    finally:
        capture.release()


def frame_rate(path: Path) -> float:
    """Frames a second as the file's header says; 0 where it does not."""
    capture = _open(path)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if math.isfinite(rate) and rate > 0 else 0.0


def longer_side(path: Path) -> int:
    """Pixels of the longer side of a video's frames."""
    capture = _open(path)
    sides = [int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
    capture.release()
    return max(sides)


def _open(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if not capture.isOpened() or width < 1 or height < 1:
        raise PhotoError("the file is damaged or no video")
    if width * height > MAX_PIXELS:
        raise PhotoError(f"frames of {width} × {height} pixels are too large to read")
    return capture


def _photo(bgr: np.ndarray, size: int) -> Photo:
    image = Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    return make_photo(image, None, FOCAL_PER_SIDE * max(image.size), size)
