"""Videos: animated WebP, or MP4."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from flows.avatar_folder import AvatarError
from stages.reporting.pictures import save_animation

Video = tuple[Sequence[np.ndarray], float]
"""Frames, and how many of them a second."""


def check_video_path(path: Path) -> None:
    """Raise AvatarError unless the name is one of a video that can be written."""
    if path.suffix.lower() not in WRITERS:
        raise AvatarError(f"{path}: a name that ends in {' or '.join(WRITERS)} is expected")
    if path.is_dir():
        raise AvatarError(f"{path} is a folder; name a file for the video")


def write_video(path: Path, frames: Sequence[np.ndarray], rate: float) -> None:
    """Write a video whole or not at all.

    Args:
        path: see `check_video_path`.
        frames: (h, w, 3) uint8, all alike, both sides even.
        rate: of them a second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial.{path.name}")
    try:
        WRITERS[path.suffix.lower()](str(partial), frames, rate)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_webp(path: str, frames: Sequence[np.ndarray], rate: float) -> None:
    save_animation(path, frames, round(1000 / rate))


def _write_mp4(path: str, frames: Sequence[np.ndarray], rate: float) -> None:
    height, width = frames[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        path, (width, height), fps=rate, codec="libx264", quality=8, macro_block_size=2
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


WRITERS: dict[str, Callable[[str, Sequence[np.ndarray], float], None]] = {
    ".webp": _write_webp,
    ".mp4": _write_mp4,
}
