"""From the assets' A-pose with bent elbows and curled fingers to a T-pose, person by person.

Each bone gets a rotation in world axes that carries its segment's present frame onto the wanted one; the
full 163-bone rig is then skinned linearly. Bones without a wanted frame follow their parents.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from stages.makehuman.assets import Rig, load_rig

COLLAR_SHARE = 0.2
"""Part of the arm's elevation that collar bone and shoulder take, as in a real shoulder."""

TOE_OUT = np.deg2rad(10.0)
FINGERS = (2, 3, 4, 5)
SHARE_OF_TWIST = 0.5
"""Part of the forearm's remaining twist given to its distal half, so that the skin turns gradually."""


@dataclass(frozen=True)
class Posed:
    """A posed person.

    Attributes:
        vertices: (N, 3) metres.
        heads: (163, 3) bone heads.
        rotations: (163, 3, 3) world rotation that each bone went through.
        root_tail: (3,) where the root bone ends, the pelvis.
    """

    vertices: np.ndarray
    heads: np.ndarray
    rotations: np.ndarray
    root_tail: np.ndarray


def to_tpose(vertices: np.ndarray, keep: np.ndarray | None = None) -> Posed:
    """Pose base-mesh vertices (N, 3) of one person; arms along ±x, palms down, thumbs forward.

    Args:
        keep: (n,) the vertices wanted in the result; all by default.
    """
    rig = load_rig()
    heads, tails = rig.heads @ vertices, rig.tails @ vertices
    rotations = _inherit(rig, _wanted_rotations(rig, heads, tails))
    posed_heads = _chain(rig, heads, rotations)
    offsets = posed_heads - np.einsum("bij,bj->bi", rotations, heads)
    transforms = np.concatenate([rotations, offsets[:, :, None]], axis=2).reshape(len(heads), 12)
    weights = rig.weights if keep is None else rig.weights[keep]
    blended = (weights @ transforms).reshape(-1, 3, 4)
    kept = vertices if keep is None else vertices[keep]
    posed = np.matmul(blended[:, :, :3], kept[:, :, None])[..., 0] + blended[:, :, 3]
    root = rig.index("root")
    return Posed(posed, posed_heads, rotations, rotations[root] @ tails[root] + offsets[root])


def _inherit(rig: Rig, wanted: dict[str, np.ndarray]) -> np.ndarray:
    rotations = np.empty((len(rig.names), 3, 3))
    for bone, name in enumerate(rig.names):
        parent = rig.parents[bone]
        rotations[bone] = wanted.get(name, np.eye(3) if parent < 0 else rotations[parent])
    return rotations


def _chain(rig: Rig, heads: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    posed = heads.copy()
    for bone, parent in enumerate(rig.parents):
        if parent >= 0:
            posed[bone] = posed[parent] + rotations[parent] @ (heads[bone] - heads[parent])
    return posed


def _wanted_rotations(rig: Rig, heads: np.ndarray, tails: np.ndarray) -> dict[str, np.ndarray]:
    wanted: dict[str, np.ndarray] = {}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        head = {n.removesuffix(f".{side}"): heads[b] for b, n in enumerate(rig.names) if n.endswith(side)}
        tail = {n.removesuffix(f".{side}"): tails[b] for b, n in enumerate(rig.names) if n.endswith(side)}
        for name, rotation in (
            _arm(head, sign) | _fingers(head, tail, sign) | _leg(head, tail, sign)
        ).items():
            wanted[f"{name}.{side}"] = rotation
    return wanted


def _arm(head: dict[str, np.ndarray], sign: float) -> dict[str, np.ndarray]:
    """Rotations of collar, arm and hand. The elbow's hinge becomes vertical: it then flexes about y."""
    shoulder, elbow, wrist = head["upperarm01"], head["lowerarm01"], head["wrist"]
    outwards, up = np.array([sign, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    hinge = -sign * np.cross(elbow - shoulder, wrist - elbow)
    upper = _frame_rotation(elbow - shoulder, hinge, outwards, up)
    fore = _frame_rotation(wrist - elbow, hinge, outwards, up)
    hand = _frame_rotation(
        head["finger3-1"] - wrist, head["finger5-1"] - head["finger2-1"], outwards, np.array([0.0, 0.0, -1.0])
    )
    twist = (Rotation.from_matrix(hand @ fore.T).as_rotvec() @ outwards) * outwards
    lift = Rotation.from_rotvec(
        COLLAR_SHARE
        * np.array([0, 0, sign])
        * -np.arctan2(elbow[1] - shoulder[1], sign * (elbow[0] - shoulder[0]))
    ).as_matrix()
    return {
        "clavicle": lift,
        "upperarm01": upper,
        "lowerarm01": fore,
        "lowerarm02": Rotation.from_rotvec(SHARE_OF_TWIST * twist).as_matrix() @ fore,
        "wrist": hand,
    }


def _fingers(head: dict[str, np.ndarray], tail: dict[str, np.ndarray], sign: float) -> dict[str, np.ndarray]:
    """Straighten fingers 2–5, each in its own direction; the thumb follows the hand."""
    hand = _arm(head, sign)["wrist"]
    rotations = {}
    for finger in FINGERS:
        chain = [head[f"finger{finger}-{k}"] for k in (1, 2, 3)] + [tail[f"finger{finger}-3"]]
        spread = hand @ (chain[3] - chain[0])
        wanted = np.array([spread[0], 0.0, 0.5 * spread[2]])  # flat, half the natural spread
        for k in (1, 2, 3):
            present = hand @ (chain[k] - chain[k - 1])
            rotations[f"finger{finger}-{k}"] = _shortest(present, wanted) @ hand
    return rotations


def _leg(head: dict[str, np.ndarray], tail: dict[str, np.ndarray], sign: float) -> dict[str, np.ndarray]:
    """Legs slightly apart; the foot only turns about the vertical, so that soles stay level."""
    hip, knee, ankle = head["upperleg01"], head["lowerleg01"], head["foot"]
    forward = np.array([0.0, 0.0, 1.0])
    thigh = _frame_rotation(knee - hip, forward, np.array([sign * 0.06, -1.0, 0.02]), forward)
    shin = _frame_rotation(ankle - knee, forward, np.array([sign * 0.01, -1.0, -0.05]), forward)
    ball = np.mean([head[f"toe{k}-1"] for k in (1, 2, 3, 4)], axis=0)
    yaw = np.arctan2(ball[0] - ankle[0], ball[2] - ankle[2])
    foot = Rotation.from_rotvec([0.0, sign * TOE_OUT - yaw, 0.0]).as_matrix()
    return {"upperleg01": thigh, "lowerleg01": shin, "foot": foot}


def _frame_rotation(
    along: np.ndarray, side: np.ndarray, to_along: np.ndarray, to_side: np.ndarray
) -> np.ndarray:
    """The rotation that takes the frame (along, side) onto (to_along, to_side); `along` exactly."""
    return _frame(to_along, to_side) @ _frame(along, side).T


def _frame(along: np.ndarray, side: np.ndarray) -> np.ndarray:
    x = along / np.linalg.norm(along)
    z = np.cross(x, side)
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _shortest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns direction a into direction b."""
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    angle = np.arctan2(sine, a @ b)
    return Rotation.from_rotvec(axis / max(sine, 1e-12) * angle).as_matrix()
