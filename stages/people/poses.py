"""Standing and walking poses within joint limits, and linear blend skinning in SMPL-X joint order."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from stages.makehuman.joints import JOINTS, PARENTS

BodyPose = dict[str, Rotation]
"""Local rotation by joint name; missing joints stay as in the T-pose."""

_FINGERS = ("index", "middle", "ring", "pinky")


@dataclass(frozen=True)
class PosedSkeleton:
    """World placement of the joints.

    Attributes:
        rotations: (55, 3) local axis-angle, SMPL-X order; the first is the global orientation.
        joints: (55, 3) posed joints, m.
        transforms: (55, 3, 4) that move T-pose points with each joint.
    """

    rotations: np.ndarray
    joints: np.ndarray
    transforms: np.ndarray


def sample_pose(name: str, rng: np.random.Generator, stride: float = 1.0) -> np.ndarray:
    """(55, 3) axis-angle of one of POSES, with its own angles and a small turn of the whole body.

    Args:
        stride: 0–1, how far legs may swing (a narrow skirt allows less).
    """
    pose = _relaxed_hands(rng) | _small_turns(rng) | POSES[name](rng, stride)
    pose["pelvis"] = Rotation.from_rotvec([0.0, rng.uniform(-0.3, 0.3), 0.0])
    return np.stack([(pose[j].as_rotvec() if j in pose else np.zeros(3)) for j in JOINTS])


def pose_skeleton(rest_joints: np.ndarray, rotations: np.ndarray) -> PosedSkeleton:
    """Forward kinematics of (55, 3) axis-angle rotations about (55, 3) T-pose joints."""
    local = Rotation.from_rotvec(rotations).as_matrix()
    world, joints = local.copy(), rest_joints.astype(np.float64).copy()
    for j, parent in enumerate(PARENTS):
        if parent >= 0:
            world[j] = world[parent] @ local[j]
            joints[j] = joints[parent] + world[parent] @ (rest_joints[j] - rest_joints[parent])
    offset = joints - np.einsum("jab,jb->ja", world, rest_joints)
    return PosedSkeleton(rotations, joints, np.concatenate([world, offset[:, :, None]], axis=2))


def skin(rest: np.ndarray, weights: np.ndarray, skeleton: PosedSkeleton) -> np.ndarray:
    """Linear blend skinning of T-pose points (N, 3) with weights (N, 55)."""
    blended = (weights @ skeleton.transforms.reshape(len(skeleton.transforms), 12)).reshape(-1, 3, 4)
    return np.einsum("nab,nb->na", blended[:, :, :3], rest) + blended[:, :, 3]


def _turn(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Rotation:
    return Rotation.from_rotvec([x, y, z])


def _arms(down: tuple[float, float], forward: tuple[float, float], flexion: tuple[float, float]) -> BodyPose:
    """Arms (left, right): lowered from the T-pose, swung forward, elbows bent, all rad."""
    pose = {}
    for side, sign, k in (("left", 1.0, 0), ("right", -1.0, 1)):
        # The collar bone takes a fifth, as in the base mesh's own T-posing.
        pose[f"{side}_collar"] = _turn(z=-sign * 0.15 * down[k])
        pose[f"{side}_shoulder"] = _turn(x=-forward[k]) * _turn(z=-sign * 0.85 * down[k])
        pose[f"{side}_elbow"] = _turn(y=-sign * flexion[k])
    return pose


def _relaxed_hands(rng: np.random.Generator) -> BodyPose:
    pose = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        curl = rng.uniform(0.12, 0.4)
        for number, finger in enumerate(_FINGERS):
            for joint, share in ((1, 0.8), (2, 1.2), (3, 0.7)):
                pose[f"{side}_{finger}{joint}"] = _turn(z=-sign * curl * share * (1 + 0.12 * number))
        pose[f"{side}_thumb2"] = _turn(y=-sign * 0.2 * curl)
        pose[f"{side}_wrist"] = _turn(y=sign * rng.uniform(-0.1, 0.1), z=-sign * rng.uniform(-0.1, 0.2))
    return pose


def _small_turns(rng: np.random.Generator) -> BodyPose:
    lean, twist, nod, look = rng.normal(0, [0.03, 0.04, 0.05, 0.10])
    return {
        "spine1": _turn(x=0.5 * lean, y=0.5 * twist),
        "spine2": _turn(x=0.5 * lean, y=0.5 * twist),
        "neck": _turn(x=0.5 * nod, y=0.5 * look),
        "head": _turn(x=0.5 * nod, y=0.5 * look, z=rng.normal(0, 0.03)),
    }


def _legs_apart(rng: np.random.Generator, low: float, high: float) -> BodyPose:
    apart = rng.uniform(low, high)
    return {
        "left_hip": _turn(y=rng.uniform(-0.05, 0.15), z=apart),
        "right_hip": _turn(y=-rng.uniform(-0.05, 0.15), z=-apart),
        "left_ankle": _turn(z=-apart),
        "right_ankle": _turn(z=apart),
    }


def _a_pose(rng: np.random.Generator, stride: float) -> BodyPose:
    down, bend = rng.uniform(0.75, 1.0), rng.uniform(0.05, 0.25)
    return _arms((down, down), (0.0, 0.0), (bend, bend)) | _legs_apart(rng, 0.02, 0.02 + 0.08 * stride)


def _standing(rng: np.random.Generator, stride: float) -> BodyPose:
    down = rng.uniform(1.16, 1.27, 2)
    return _arms(
        tuple(down), tuple(rng.uniform(-0.1, 0.15, 2)), tuple(rng.uniform(0.1, 0.4, 2))
    ) | _contrapposto(rng, stride)


def _contrapposto(rng: np.random.Generator, stride: float) -> BodyPose:
    """Weight on one leg, the other knee a little bent."""
    legs = _legs_apart(rng, 0.01, 0.02 + 0.05 * stride)
    side, bend = rng.choice(["left", "right"]), rng.uniform(0.0, 0.22) * stride
    legs[f"{side}_hip"] = _turn(x=-bend) * legs[f"{side}_hip"]
    legs[f"{side}_knee"] = _turn(x=1.8 * bend)
    legs[f"{side}_ankle"] = _turn(x=-0.8 * bend) * legs[f"{side}_ankle"]
    return legs


def _walking(rng: np.random.Generator, stride: float) -> BodyPose:
    swing = rng.uniform(0.22, 0.42) * stride
    lead, trail = ("left", "right") if rng.random() < 0.5 else ("right", "left")
    legs = {
        f"{lead}_hip": _turn(x=-swing),
        f"{lead}_knee": _turn(x=0.12),
        f"{lead}_ankle": _turn(x=swing - 0.12),
        f"{trail}_hip": _turn(x=0.75 * swing),
        f"{trail}_knee": _turn(x=0.75 * swing),
        f"{trail}_ankle": _turn(x=-0.5 * swing),
    }
    forward = 1.1 * swing * np.array([-1.0, 1.0] if lead == "left" else [1.0, -1.0])
    return legs | _arms((1.2, 1.2), tuple(forward), tuple(rng.uniform(0.25, 0.6, 2)))


def _arms_raised(rng: np.random.Generator, stride: float) -> BodyPose:
    down = rng.uniform(0.25, 0.7, 2)
    return _arms(
        tuple(down), tuple(rng.uniform(0.0, 0.3, 2)), tuple(rng.uniform(0.15, 0.8, 2))
    ) | _legs_apart(rng, 0.02, 0.02 + 0.08 * stride)


def _hand_on_hip(rng: np.random.Generator, stride: float) -> BodyPose:
    down = rng.uniform(1.16, 1.25)
    pose = _arms((down, down), (0.05, 0.05), (0.25, 0.25)) | _contrapposto(rng, stride)
    sides = [("left", 1.0), ("right", -1.0)]
    chosen = sides if rng.random() < 0.25 else [sides[int(rng.integers(2))]]
    bend = rng.uniform(1.1, 1.25)
    for side, sign in chosen:
        # The upper arm turns about its own axis, so that the elbow folds towards the waist.
        pose[f"{side}_shoulder"] = _turn(z=-sign * 0.68) * _turn(x=1.15)
        pose[f"{side}_elbow"] = _turn(y=-sign * bend)
        pose[f"{side}_wrist"] = _turn(y=sign * (bend - 0.7))
    return pose


POSES: dict[str, Callable[[np.random.Generator, float], BodyPose]] = {
    "a_pose": _a_pose,
    "standing": _standing,
    "walking": _walking,
    "arms_raised": _arms_raised,
    "hand_on_hip": _hand_on_hip,
}
