"""Hand pose tables of the SMPL-X file: the relaxed hand and a basis of finger movements."""

import numpy as np
from scipy.spatial.transform import Rotation

from stages.makehuman.assets import load_rig
from stages.makehuman.joints import BONE_OF_JOINT
from stages.makehuman.phenotypes import Phenotypes, load_targets
from stages.makehuman.tpose import to_tpose

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
SPREAD = {"index": 1.0, "middle": 0.3, "ring": -0.4, "pinky": -1.0}


def relaxed_hand(side: str) -> np.ndarray:
    """(45,) axis-angle that undoes the T-pose's straightening: the assets' relaxed fingers.

    Args:
        side: "left" or "right".
    """
    rig = load_rig()
    rotations = to_tpose(load_targets().shape(Phenotypes.average())[0].astype(np.float64)).rotations
    hand = rotations[rig.index(BONE_OF_JOINT[f"{side}_wrist"])]
    pose = []
    for finger in FINGERS:
        before = np.eye(3)
        for k in (1, 2, 3):
            relaxed = hand @ rotations[rig.index(BONE_OF_JOINT[f"{side}_{finger}{k}"])].T
            pose.append(Rotation.from_matrix(before.T @ relaxed).as_rotvec())
            before = relaxed
    return np.concatenate(pose)


def hand_components(side: str) -> np.ndarray:
    """(45, 45) orthonormal rows: all fingers curl, each finger curls, fingers spread, then the rest.

    In the T-pose fingers point along ±x with the palm down: they curl about z and spread about y.
    """
    sign = 1.0 if side == "left" else -1.0
    curl = np.zeros((5, 5, 3, 3))
    for finger in range(5):
        curl[finger, finger, :, 2] = -sign
    spread = np.zeros((5, 3, 3))
    spread[: len(FINGERS) - 1, 0, 1] = [sign * SPREAD[f] for f in FINGERS[:-1]]
    thumb = np.zeros((5, 3, 3))
    thumb[FINGERS.index("thumb"), 0, 0] = 1.0
    leading = np.stack([curl[:4].sum(axis=0), *curl[[0, 4, 1, 2]], spread, thumb]).reshape(-1, 45)
    basis, triangle = np.linalg.qr(np.concatenate([leading, np.eye(45)]).T)
    return (basis * np.where(np.diag(triangle) < 0, -1.0, 1.0)).T
