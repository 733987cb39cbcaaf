"""Where a point of the base mesh lies on a body: along arm or leg, around the trunk, on the head.

All coordinates come from the neutral base mesh (metres, y up, facing +z, arms in an A-pose), so that a
garment is cut and painted in the same place on every person, whatever the shape and pose.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp

ARM_JOINTS = (16, 17, 18, 19, 20, 21, *range(25, 55))
LEG_JOINTS = (1, 2, 4, 5, 7, 8, 10, 11)
TRUNK_RADIUS, ARM_RADIUS, LEG_RADIUS = 0.15, 0.055, 0.085
"""Metres of cloth per radian around each: mean radii of the neutral body."""

OUTSIDE_ARM = -0.1
"""`arm` of points that are not on an arm, metres."""


@dataclass(frozen=True)
class Anatomy:
    """Per point of a patch.

    Attributes:
        reference: (N, 3) place on the neutral body, m.
        normal: (N, 3) its unit normal.
        arm_weight, leg_weight: (N,) share of arm and leg bones in the skinning, 0–1.
        arm: (N,) metres from the shoulder along upper arm and forearm; −0.1 off the arm.
        leg: (N,) metres from the hip along thigh and shin; negative above the hip.
        around_arm, around_leg: (N,) angle around the limb, rad; 0 = front.
    """

    reference: np.ndarray
    normal: np.ndarray
    arm_weight: np.ndarray
    leg_weight: np.ndarray
    arm: np.ndarray
    leg: np.ndarray
    around_arm: np.ndarray
    around_leg: np.ndarray

    def blend(self, weights: sp.spmatrix) -> "Anatomy":
        """The anatomy of points that are blends of these. Angles are blended on the circle."""
        values = {f.name: weights @ getattr(self, f.name) for f in fields(self)}
        for name in ("around_arm", "around_leg"):
            angle = getattr(self, name)
            values[name] = np.arctan2(weights @ np.sin(angle), weights @ np.cos(angle))
        return Anatomy(**values)


def measure(
    vertices: np.ndarray, normals: np.ndarray, weights: np.ndarray, joints: Mapping[str, np.ndarray]
) -> Anatomy:
    """Anatomy of the base mesh's vertices.

    Args:
        vertices, normals: (N, 3) of the neutral base mesh.
        weights: (N, 55) skinning weights in SMPL-X joint order.
        joints: `shoulder elbow wrist hip knee ankle` of the left side, each (3,).
    """
    # Both sides are measured on the left: x mirrored where negative.
    left = vertices.copy()
    left[:, 0] = np.abs(left[:, 0])
    arm_weight = weights[:, ARM_JOINTS].sum(axis=1)
    along_arm, around_arm = _limb(left, joints["shoulder"], joints["elbow"], joints["wrist"])
    along_leg, around_leg = _limb(left, joints["hip"], joints["knee"], joints["ankle"])
    on_arm = smoothstep(0.05, 0.5, arm_weight)
    side = np.where(vertices[:, 0] < 0, -1.0, 1.0)
    return Anatomy(
        reference=vertices,
        normal=normals,
        arm_weight=arm_weight,
        leg_weight=weights[:, LEG_JOINTS].sum(axis=1),
        arm=OUTSIDE_ARM + on_arm * (along_arm - OUTSIDE_ARM),
        leg=along_leg,
        around_arm=around_arm * side,
        around_leg=around_leg * side,
    )


def _limb(
    points: np.ndarray, start: np.ndarray, middle: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Metres along a bent limb, and the angle around its axis from the front (+z)."""
    first, second = np.linalg.norm(middle - start), np.linalg.norm(end - middle)
    u, w = (middle - start) / first, (end - middle) / second
    upper = (points - start) @ u
    lower = (points - middle) @ w
    on_lower = upper > first  # the bisecting plane would be exact; cuts lie away from the bend
    axis = np.where(on_lower[:, None], w, u)
    along = np.where(on_lower, first + np.maximum(lower, 0), np.minimum(upper, first))
    front = np.array([0.0, 0.0, 1.0]) - axis * axis[:, 2:]
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    side = np.cross(axis, front)
    offset = points - np.where(on_lower[:, None], middle, start)
    return along, np.arctan2((offset * side).sum(axis=1), (offset * front).sum(axis=1))


@dataclass(frozen=True)
class ClothCoordinates:
    """Per point: `s` metres across the cloth (around the body), `t` metres along it, `piece` of the garment.

    `piece`: 0 front, 1 back, 2 sleeve, 3 left leg, 4 right leg. On the front and back `s` is 0 on their midline.
    """

    s: np.ndarray
    t: np.ndarray
    piece: np.ndarray


FRONT, BACK, SLEEVE, LEFT_LEG, RIGHT_LEG = range(5)


def cloth_coordinates(anatomy: Anatomy, trousers: bool = False) -> ClothCoordinates:
    """Unroll the body as garments are cut: front and back panels with side seams, sleeves, trouser legs."""
    x, y, z = anatomy.reference.T
    axis = np.interp(y, [-0.8, 0.0, 0.2, 0.45, 0.6], [0.02, 0.02, 0.05, 0.06, 0.02])
    angle = np.arctan2(x, z - axis)
    back = np.abs(angle) > np.pi / 2
    flat = np.where(back, -x, x)  # metres on the middle of a panel; towards the sides, metres of arc
    bent = TRUNK_RADIUS * np.where(back, _wrap(angle - np.pi), angle)
    s = flat + smoothstep(0.06, 0.16, np.abs(x)) * (bent - flat)
    piece = np.where(back, BACK, FRONT)
    t = y.copy()
    sleeve = anatomy.arm_weight > 0.5
    s = np.where(sleeve, ARM_RADIUS * anatomy.around_arm, s)
    t = np.where(sleeve, 0.5 - anatomy.arm, t)
    piece = np.where(sleeve, SLEEVE, piece)
    if trousers:
        leg = y < 0.0
        s = np.where(leg, LEG_RADIUS * anatomy.around_leg, s)
        piece = np.where(leg, np.where(x > 0, LEFT_LEG, RIGHT_LEG), piece)
    return ClothCoordinates(s, t, piece)


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, cubic between (low > high turns it round)."""
    u = np.clip((x - low) / (high - low), 0, 1)
    return u * u * (3 - 2 * u)


def _wrap(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi
