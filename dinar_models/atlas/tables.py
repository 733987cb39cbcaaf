"""Per-texel tables of an atlas: which point of the body a texel is, its island, colours and masks."""

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from scipy.ndimage import distance_transform_edt

from dinar_models.atlas.segmentation import PART_NAMES

LIMB_COLOURS = {
    "body": (0.85, 0.1, 0.85),
    "left_hand": (0.1, 0.2, 1.0),
    "right_hand": (1.0, 0.95, 0.1),
    "left_foot": (0.1, 0.95, 0.95),
    "right_foot": (1.0, 0.5, 0.05),
}
"""Distinct ends; arms and legs run smoothly between `body` and their end (paper section 3.5)."""

_LIMBS = {
    "left_arm": (16, 20, "left_hand"),
    "right_arm": (17, 21, "right_hand"),
    "left_leg": (1, 7, "left_foot"),
    "right_leg": (2, 8, "right_foot"),
}


@dataclass(frozen=True)
class AtlasTables:
    """What each texel of a T × T texture is. Texel (row, column) lies at uv = ((column + ½) / T, (row + ½) / T).

    Attributes:
        texel_face: (T, T) int32, −1 off all islands.
        texel_bary: (T, T, 3) float32, 0 off all islands.
        texel_part: (T, T) int8 into PART_NAMES, −1 off all islands.
        island_mask: (T, T) bool.
        texel_position: (T, T, 3) float32, m, in the T-pose; 0 off all islands.
        limb_colour: (3, T, T) float32 in [0, 1], continued beyond the islands' borders.
        eyes_hands: (T, T) float32: 1 on eyes and hands, fading out towards the wrist.
        face_region: (T, T) bool, the front of the face.
        gutter_index: (T, T, 2) int32, row and column of the nearest texel that lies on an island.
    """

    texel_face: np.ndarray
    texel_bary: np.ndarray
    texel_part: np.ndarray
    island_mask: np.ndarray
    texel_position: np.ndarray
    limb_colour: np.ndarray
    eyes_hands: np.ndarray
    face_region: np.ndarray
    gutter_index: np.ndarray


def make_tables(
    corner_uv: np.ndarray,
    face_part: np.ndarray,
    face_region: np.ndarray,
    positions: np.ndarray,
    faces: np.ndarray,
    joints: np.ndarray,
    size: int,
) -> AtlasTables:
    """Find the triangle under each texel's centre and everything that follows from it."""
    face, bary = _locate(corner_uv, size)
    inside = face >= 0
    part = np.where(inside, face_part[face], -1).astype(np.int8)
    point = np.einsum("ijk,ijkc->ijc", bary, positions[faces[face]])
    point[~inside] = 0
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    gutter = np.moveaxis(nearest, 0, -1).astype(np.int32)
    colour = limb_colours(point, part, joints)[gutter[..., 0], gutter[..., 1]]
    return AtlasTables(
        texel_face=face.astype(np.int32),
        texel_bary=bary.astype(np.float32),
        texel_part=part,
        island_mask=inside,
        texel_position=point.astype(np.float32),
        limb_colour=np.moveaxis(colour, -1, 0).astype(np.float32),
        eyes_hands=_eyes_hands(point, part, joints).astype(np.float32),
        face_region=inside & face_region[face],
        gutter_index=gutter,
    )


def limb_colours(points: np.ndarray, part: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(…, 3) colour of points of the body by the part that they lie on; 0 off all parts."""
    colours = {name: np.asarray(value) for name, value in LIMB_COLOURS.items()}
    out = np.where((part >= 0)[..., None], colours["body"], 0.0)
    for label, name in enumerate(PART_NAMES):
        where = part == label
        if name in _LIMBS:
            start, end, colour = _LIMBS[name]
            along = _along(points[where], joints[start], joints[end])[:, None]
            out[where] = (1 - along) * colours["body"] + along * colours[colour]
        elif "hand" in name or "palm" in name:
            out[where] = colours[f"{name.split('_')[0]}_hand"]
        elif "foot" in name or "sole" in name:
            out[where] = colours[f"{name.split('_')[0]}_foot"]
    return out


def _locate(corner_uv: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Face and barycentrics under each texel's centre, by rays on the flat islands."""
    count = len(corner_uv)
    flat = np.concatenate([corner_uv.reshape(-1, 2), np.zeros((3 * count, 1))], axis=1).astype(np.float32)
    scene = EmbreeScene()
    TriangleMesh(scene, flat, np.arange(3 * count, dtype=np.int32).reshape(count, 3))
    ticks = (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(ticks, ticks)
    origins = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3).astype(np.float32)
    rays = np.tile(np.array([0, 0, -1], np.float32), (len(origins), 1))
    face = scene.run(origins, rays).astype(np.int64).reshape(size, size)
    bary = _barycentric(corner_uv.astype(np.float64)[face], np.stack([u, v], axis=-1))
    bary[face < 0] = 0
    return face, bary


def _barycentric(corners: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(…, 3) weights of `point` (…, 2) in triangles (…, 3, 2), clipped to the triangle."""
    a, b, c = (corners[..., k, :] for k in range(3))
    ab, ac, ap = b - a, c - a, point - a
    whole = ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]
    whole = np.where(np.abs(whole) < 1e-18, 1.0, whole)
    second = (ap[..., 0] * ac[..., 1] - ap[..., 1] * ac[..., 0]) / whole
    third = (ab[..., 0] * ap[..., 1] - ab[..., 1] * ap[..., 0]) / whole
    weights = np.clip(np.stack([1 - second - third, second, third], axis=-1), 0, 1)
    return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-12)


def _along(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """0 at `start` … 1 at `end`, by projection, clipped."""
    axis = end - start
    return np.clip((points - start) @ axis / (axis @ axis), 0, 1)


def _eyes_hands(points: np.ndarray, part: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Where tuned colours are kept whatever the mask says: islands so small that feathering would eat them."""
    out = np.zeros(part.shape)
    for label, name in enumerate(PART_NAMES):
        where = part == label
        if name in ("left_eye", "right_eye"):
            out[where] = 1
        elif "hand" in name or "palm" in name:
            wrist, knuckle = (20, 28) if name.startswith("left") else (21, 43)
            out[where] = _along(points[where], joints[wrist], joints[knuckle])
    return out
