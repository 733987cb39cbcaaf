"""Where a photo lies in its square: what the views store says of it besides its pixels.

Views of photos and videos have the index columns of FRAME_COLUMNS; renders fill their squares and have none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

FRAME_COLUMNS = ("inner_left", "inner_top", "inner_right", "inner_bottom", "photo_scale")
"""Index columns of `views`: the four sides of `PhotoFrame.box`, and its scale; zeros in rejected rows."""


@dataclass(frozen=True)
class PhotoFrame:
    """A photo in its square.

    Attributes:
        box: left, top, right and bottom of the photo, px of the square; beyond is padding.
        scale: pixels of the square per pixel of the file.
    """

    box: tuple[int, int, int, int]
    scale: float


def frame_columns(frames: Sequence[PhotoFrame | None]) -> dict[str, list[float]]:
    """The index columns of some rows."""
    lines = [(*frame.box, frame.scale) if frame else (0.0,) * len(FRAME_COLUMNS) for frame in frames]
    return {name: [float(line[column]) for line in lines] for column, name in enumerate(FRAME_COLUMNS)}


def read_photo_frames(index: pd.DataFrame) -> list[PhotoFrame | None]:
    """The frame of every row of an index; None for renders and rejected rows."""
    if not set(FRAME_COLUMNS) <= set(index):
        return [None] * len(index)
    lines = index[list(FRAME_COLUMNS)].to_numpy(float)
    return [
        PhotoFrame((int(left), int(top), int(right), int(bottom)), scale) if scale > 0 else None
        for left, top, right, bottom, scale in lines.tolist()
    ]
