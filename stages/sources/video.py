"""Videos of one person: every n-th frame, padded to a square like a photo.

Frames are counted as they are decoded, whatever times a variable frame rate gives them, and turned upright
where the file says that the camera was held sideways (OpenCV does that). A damaged video gives its frames up to
the damage.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from stages.sources.photos import FOCAL_PER_SIDE, MAX_ASPECT, MAX_PIXELS, Photo, PhotoError, make_photo

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


def list_videos(root: Path) -> list[Path]:
    """The video files of a folder, by name; or the one file that `root` is."""
    files = [root] if root.is_file() else sorted(root.iterdir())
    return [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".")]


def count_frames(path: Path, stride: int, limit: int, size: tuple[int, int] | None = None) -> int:
    """How many frames `read_frames` will give. Frames are counted by decoding: headers may lie.

    Args:
        size: width and height that upright frames must have, if given.

    Raises:
        PhotoError: no video, no frame in it, or frames of another size.
    """
    capture = _open(path)
    try:
        whole, first = capture.read()
        frames = int(whole)
        while frames and frames < stride * limit and capture.grab():
            frames += 1
    finally:
        capture.release()
    if frames == 0:
        raise PhotoError("the video holds no frame that can be decoded")
    height, width = first.shape[:2]
    if size is not None and (width, height) != size:
        raise PhotoError(
            f"the video has {width} × {height} pixels, those of a camera with {size[0]} × {size[1]} are expected"
        )
    return min(-(-frames // stride), limit)


def read_frames(path: Path, numbers: range, stride: int, size: int) -> Iterator[Photo]:
    """Kept frames `numbers` (frame k of these is frame k × stride of the video), in order."""
    for _, rgb in decode_frames(path, numbers, stride):
        image = Image.fromarray(rgb)
        yield make_photo(image, None, FOCAL_PER_SIDE * max(image.size), size)


def decode_frames(path: Path, numbers: range, stride: int) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers and pixels (H, W, 3) uint8 RGB of kept frames, in order; ends where the video does."""
    capture = _open(path)
    try:
        for frame in range((numbers.stop - 1) * stride + 1):
            number, offset = divmod(frame, stride)
            if not capture.grab():
                return
            if offset == 0 and number in numbers:
                whole, bgr = capture.retrieve()
                if not whole:
                    return
                yield number, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
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
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # its default differs between builds
    width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    short, long = sorted((width, height))
    if not capture.isOpened() or short < 1:
        raise PhotoError("the file is damaged or no video")
    if short * long > MAX_PIXELS or long > MAX_ASPECT * short:
        raise PhotoError(f"frames of {width} × {height} pixels are too large or too narrow to read")
    return capture
