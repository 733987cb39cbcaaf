"""A walk, made from the mean joint curves of healthy people."""

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from dinar_models.animation import SIDES, arm_rotations, body_row, in_pose
from dinar_models.body import BodyParams

STRIDE_SECONDS = 1.08
"""From one touch of the left heel to the next: two steps."""

GAIT = {
    "hip": {0: 24, 10: 20, 20: 12, 30: 2, 40: -7, 50: -14, 57: -12, 63: -3, 72: 14, 82: 25, 90: 27},
    "knee": {0: 4, 6: 12, 13: 18, 20: 16, 30: 9, 40: 5, 48: 9, 56: 24, 63: 45, 71: 60, 79: 50, 88: 22, 95: 6},
    "ankle": {0: 0, 6: -6, 13: -2, 22: 4, 35: 8, 46: 10, 53: 3, 61: -17, 67: -13, 75: -4, 82: 0, 92: 1},
    "toes": {0: 8, 8: 0, 20: 0, 38: 1, 45: 8, 50: 19, 57: 42, 61: 38, 66: 14, 75: 3, 88: 6},
    "shoulder": {0: -22, 25: -6, 50: 14, 75: -2},
    "elbow": {0: 18, 25: 22, 50: 36, 75: 26},
}
"""Bending of a side's joints in degrees by percent of its stride, which begins as its heel touches the ground: hip,
shoulder and elbow forwards, knee backwards, ankle and toes upwards. Hip, knee and ankle follow the mean curves of
healthy walking (D. A. Winter, Biomechanics and Motor Control of Human Movement), in round numbers."""

PELVIS_TURN, PELVIS_DROP, CHEST_TURN, LEAN = (math.radians(angle) for angle in (5, 4, 6, 3))
"""Half ranges: the pelvis turns after the leading leg and drops on the side of the swinging one; the chest turns
after the leading arm, and leans forward."""

ARMS, NARROW = 1.35, math.radians(2)
"""How far the arms are lowered from the T-pose, and each leg is drawn in, radians."""

SWAY = 0.018
"""Metres by which the pelvis moves over the standing leg."""

THIGH, SHANK, SOLE = 0.41, 0.41, ((-0.05, -0.08), (0.13, -0.08))
"""Metres of a mean adult's leg; heel and ball of the foot from the ankle, ahead and up. From them follows how high
the pelvis is at each moment; that varies by centimetres, so that a tenth of error does not show."""


def walk_cycle(params: BodyParams, frames: int) -> BodyParams:
    """One stride of walking in place, as `frames` poses of the person in `params` (one row).

    It begins as the left heel touches the ground; after the last frame comes the first again.
    """
    share = np.arange(frames) / frames
    sway = SWAY * np.cos(2 * math.pi * (share - 0.3))
    pelvis = _about(y=-PELVIS_TURN * np.cos(2 * math.pi * share),
                    z=PELVIS_DROP * np.cos(2 * math.pi * (share - 0.17)))  # fmt: skip
    pose = {**_trunk(pelvis, share)}
    height = np.zeros(frames)
    for number, side in enumerate(SIDES):
        bent = {name: joint_angle(name, share + 0.5 * number) for name in GAIT}
        pose |= _limbs(side, bent, pelvis, sway)
        height = np.maximum(height, hip_height(bent["hip"], bent["knee"], bent["ankle"]))
    body = np.zeros((frames, 21, 3), np.float32)
    for name, rotations in pose.items():
        body[:, body_row(name)] = rotations
    walking = in_pose(params, torch.from_numpy(body))
    walking.global_orient[:] = torch.from_numpy(pelvis.as_rotvec().astype(np.float32))
    rise = gaussian_filter1d(
        height - height.mean(), 0.02 * frames, mode="wrap"
    )  # weight shifts, it does not jump
    place = np.stack([sway, rise], axis=1).astype(np.float32)
    walking.transl[:, :2] = params.scale * torch.from_numpy(place)
    return walking


def joint_angle(joint: str, share: Float[np.ndarray, " f"]) -> Float[np.ndarray, " f"]:
    """Radians at shares of a stride (any number; whole ones are strides), smooth and periodic."""
    percent, degrees = [*GAIT[joint], 100], [*GAIT[joint].values(), GAIT[joint][0]]
    return np.radians(CubicSpline(percent, degrees, bc_type="periodic")(100 * share))


def hip_height(
    hip: Float[np.ndarray, " f"], knee: Float[np.ndarray, " f"], ankle: Float[np.ndarray, " f"]
) -> Float[np.ndarray, " f"]:
    """Metres of the hip above the lower of a leg's heel and ball, by the bending of its joints in radians."""
    shank = hip - knee
    pitch = shank + ankle
    above_ankle = THIGH * np.cos(hip) + SHANK * np.cos(shank)
    return np.max([above_ankle - ahead * np.sin(pitch) - up * np.cos(pitch) for ahead, up in SOLE], axis=0)


def _trunk(pelvis: Rotation, share: np.ndarray) -> dict[str, np.ndarray]:
    """The chest turns against the pelvis, and the head looks ahead."""
    chest = _about(y=CHEST_TURN * np.cos(2 * math.pi * share), x=np.full(len(share), LEAN))
    spine, head = (pelvis.inv() * chest).as_rotvec() / 3, chest.inv().as_rotvec() / 2
    return dict.fromkeys(("spine1", "spine2", "spine3"), spine) | dict.fromkeys(("neck", "head"), head)


def _limbs(
    side: str, bent: dict[str, np.ndarray], pelvis: Rotation, sway: np.ndarray
) -> dict[str, np.ndarray]:
    """One side's leg, which swings straight ahead whatever the pelvis does and stands where it stands, and arm."""
    inwards = -NARROW if side == "left" else NARROW
    leg = _about(z=inwards - sway / (THIGH + SHANK), x=-bent["hip"])
    along_x = np.array([1.0, 0, 0])
    shoulder, elbow = arm_rotations(side, ARMS, bent["shoulder"], bent["elbow"])
    return {
        f"{side}_hip": (pelvis.inv() * leg).as_rotvec(),
        f"{side}_knee": bent["knee"][:, None] * along_x,
        f"{side}_ankle": -bent["ankle"][:, None] * along_x,
        f"{side}_foot": -bent["toes"][:, None] * along_x,
        f"{side}_shoulder": shoulder,
        f"{side}_elbow": elbow,
    }


def _about(**angles: np.ndarray) -> Rotation:
    """Rotations about axes of the world, the last first."""
    return Rotation.from_euler("".join(angles).upper(), np.stack(list(angles.values()), axis=1))
