"""The 55 SMPL-X joints in terms of the MakeHuman rig's 163 bones."""

from functools import cache

import numpy as np
import scipy.sparse as sp

from stages.makehuman.assets import load_rig

_MIDDLE = {
    "pelvis": "root",
    "spine1": "spine04",
    "spine2": "spine02",
    "spine3": "spine01",
    "neck": "neck01",
    "head": "head",
    "jaw": "jaw",
}
_SIDED = {
    "hip": "upperleg01",
    "knee": "lowerleg01",
    "ankle": "foot",
    "foot": "toe1-1",
    "collar": "clavicle",
    "shoulder": "upperarm01",
    "elbow": "lowerarm01",
    "wrist": "wrist",
    "eye_smplhf": "eye",
} | {
    f"{finger}{k}": f"finger{number}-{k}"
    for number, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"), start=1)
    for k in (1, 2, 3)
}
BONE_OF_JOINT = _MIDDLE | {
    f"{side}_{joint}": f"{bone}.{side[0].upper()}"
    for side in ("left", "right")
    for joint, bone in _SIDED.items()
}
"""The bone whose head is the joint; but see `joint_positions` for the pelvis and the feet."""

_FINGERS = tuple(
    f"{finger}{k}" for finger in ("index", "middle", "pinky", "ring", "thumb") for k in (1, 2, 3)
)
JOINTS: tuple[str, ...] = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle"),
    *("right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("jaw", "left_eye_smplhf", "right_eye_smplhf"),
    *(f"left_{finger}" for finger in _FINGERS),
    *(f"right_{finger}" for finger in _FINGERS),
)
"""Names and order of the SMPL-X joints."""

_PARENT_OF = {
    "hip": "pelvis",
    "knee": "hip",
    "ankle": "knee",
    "foot": "ankle",
    "collar": "spine3",
    "shoulder": "collar",
    "elbow": "shoulder",
    "wrist": "elbow",
    "eye_smplhf": "head",
}
_MIDDLE_PARENTS = {
    "spine1": "pelvis",
    "spine2": "spine1",
    "spine3": "spine2",
    "neck": "spine3",
    "head": "neck",
}


def _parent_name(joint: str) -> str | None:
    if joint == "pelvis":
        return None
    if joint == "jaw":
        return "head"
    if joint in _MIDDLE_PARENTS:
        return _MIDDLE_PARENTS[joint]
    side, _, part = joint.partition("_")
    if part in _PARENT_OF:
        parent = _PARENT_OF[part]
    else:  # a finger
        parent = "wrist" if part.endswith("1") else f"{part[:-1]}{int(part[-1]) - 1}"
    return parent if parent in JOINTS else f"{side}_{parent}"


PARENTS = np.array([JOINTS.index(_parent_name(j) or j) if _parent_name(j) else -1 for j in JOINTS])
"""(55,) parent of every joint, −1 for the pelvis."""

_TOES = tuple(f"toe{k}-1" for k in (1, 2, 3, 4))


@cache
def bone_to_joint() -> np.ndarray:
    """(163,) the joint that carries each bone: its own, or that of the nearest mapped ancestor."""
    rig = load_rig()
    joint_of_bone = {bone: joint for joint, bone in BONE_OF_JOINT.items()}
    folded = np.zeros(len(rig.names), dtype=np.int64)
    for bone, name in enumerate(rig.names):  # parents come first
        if name in joint_of_bone:
            folded[bone] = JOINTS.index(joint_of_bone[name])
        elif name.startswith("toe"):
            folded[bone] = JOINTS.index("left_foot" if name.endswith(".L") else "right_foot")
        elif rig.parents[bone] >= 0:
            folded[bone] = folded[rig.parents[bone]]
    return folded


def fold_weights(weights: sp.csr_matrix) -> np.ndarray:
    """(n, 163) bone weights → (n, 55) joint weights; rows keep summing to 1."""
    rig = load_rig()
    fold = sp.csr_matrix(
        (np.ones(len(rig.names)), (np.arange(len(rig.names)), bone_to_joint())),
        shape=(len(rig.names), len(JOINTS)),
    )
    return (weights @ fold).toarray()


def joint_positions(heads: np.ndarray, root_tail: np.ndarray) -> np.ndarray:
    """(55, 3) joints from posed bone heads (163, 3) and the tail of the root bone (3,).

    The pelvis is the root's tail (the root starts at the crotch); a foot's joint is the ball, the mean of
    the roots of the four big toes.
    """
    rig = load_rig()
    joints = heads[[rig.index(BONE_OF_JOINT[j]) for j in JOINTS]].copy()
    joints[JOINTS.index("pelvis")] = root_tail
    for side in ("left", "right"):
        toes = [rig.index(f"{toe}.{side[0].upper()}") for toe in _TOES]
        joints[JOINTS.index(f"{side}_foot")] = heads[toes].mean(axis=0)
    return joints
