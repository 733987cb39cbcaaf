"""A picture that detectors take for a photo of a person: the small body, painted."""

from pathlib import Path

import numpy as np
from PIL import Image

from dinar_models.animation import standing
from dinar_models.body import BodyModel, BodyParams
from stages._core.scan_store import Scan
from stages.render_views import RenderViewsParams, render_scan

SIDE = 256


def render_painted(body_folder: Path, *, back: bool = False) -> np.ndarray:
    """A render (SIDE, SIDE, 3) on white of the body, its vertices painted with skin, hair and clothes."""
    body = BodyModel.load(body_folder)
    rest, posed = (body(p).vertices[0].numpy() for p in (BodyParams.zeros(1), standing(BodyParams.zeros(1))))
    height = (rest[:, 1] - rest[:, 1].min()) / np.ptp(rest[:, 1])
    colour = np.full((len(rest), 3), (205, 150, 120), np.uint8)
    head = height > 0.88
    colour[(height > 0.95) | (head & (rest[:, 2] < rest[head, 2].mean()))] = (60, 40, 20)
    colour[(height > 0.5) & (height < 0.84) & (np.abs(rest[:, 0]) < 0.6)] = (170, 40, 40)
    colour[height < 0.52] = (40, 50, 110)
    faces = body.faces.numpy().astype(np.int32)
    count = len(faces)
    scan = Scan(
        posed, faces, np.zeros((count, 3, 2), np.float32), np.zeros(count, np.int16), vertex_rgb=colour
    )
    params = RenderViewsParams(seed=0, image_size=SIDE, variants=1, views=2)
    return render_scan(scan, "anna", "anna_a", params)["rgb"][int(back)]


def side_by_side(person: np.ndarray, apart: int, behind: float = 1.0) -> np.ndarray:
    """Two of these people in a square on white, the left one in front.

    Args:
        person: from `render_painted`.
        apart: their distance, px.
        behind: size of the one behind, of the other's.
    """
    side = person.shape[0]
    canvas = np.full((2 * side, 2 * side, 3), 255, np.uint8)
    small = round(side * behind)
    other = np.asarray(Image.fromarray(person).resize((small, small)))
    for image, x in ((other, side // 4 + apart), (person, side // 4)):
        top, left = 3 * side // 2 - image.shape[0], x + (side - image.shape[1]) // 2
        part = canvas[top : top + image.shape[0], left : left + image.shape[1]]
        part[...] = np.where((image < 250).any(axis=2, keepdims=True), image, part)
    return canvas
