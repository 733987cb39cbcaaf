"""Atlases of flat rectangles: texel, face and point of the "body" are known without computing anything."""

from collections.abc import Mapping

import numpy as np

from dinar_models.atlas.segmentation import PART_NAMES
from dinar_models.uv_atlas import Atlas

Rectangle = tuple[float, float, float, float]
"""u0, v0, u1, v1 in the texture."""


def flat_atlas(pieces: Mapping[str, Rectangle], joints: Mapping[int, tuple[float, float, float]]) -> Atlas:
    """One rectangle per part, by name; it lies at x = u, y = −v, z = 0 of the body and is made of two faces.

    Args:
        joints: places of some of the 55 joints; the others are at the origin.
    """
    corners = np.array([_corners(*rectangle) for rectangle in pieces.values()]).reshape(-1, 2)
    first = 4 * np.arange(len(pieces))[:, None, None]
    faces = (first + np.array([[0, 1, 2], [2, 1, 3]])).reshape(-1, 3)
    skeleton = np.zeros((55, 3))
    for number, place in joints.items():
        skeleton[number] = place
    part = np.repeat([PART_NAMES.index(name) for name in pieces], 2)
    return Atlas(
        corner_uv=corners[faces].astype(np.float32),
        face_part=part.astype(np.int8),
        face_region=part == PART_NAMES.index("head"),
        uv_faces=faces.astype(np.int32),
        uv_to_vertex=np.arange(len(corners), dtype=np.int32),
        positions=np.stack([corners[:, 0], -corners[:, 1], 0 * corners[:, 0]], axis=1).astype(np.float32),
        faces=faces.astype(np.int32),
        joints=skeleton.astype(np.float32),
    )


def _corners(u0: float, v0: float, u1: float, v1: float) -> list[tuple[float, float]]:
    return [(u0, v0), (u0, v1), (u1, v0), (u1, v1)]
