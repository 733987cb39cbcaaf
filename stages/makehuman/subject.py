"""A MakeHuman person in a T-pose: body, eyes and helper garments, SMPL-X joints and skinning."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from stages.makehuman.assets import load_base_mesh, load_rig
from stages.makehuman.joints import JOINTS, fold_weights, joint_positions
from stages.makehuman.phenotypes import Phenotypes, load_targets
from stages.makehuman.tpose import to_tpose

PELVIS_Y = -0.35
"""Height of the pelvis in the T-pose, metres; about where SMPL-X has it."""

BODY_GROUPS = ("body", "helper-l-eye", "helper-r-eye")
"""What makes the body model: skin and the two eyeballs."""


@dataclass(frozen=True)
class Subject:
    """One person in a T-pose, facing +z, y up, metres.

    Attributes:
        vertices: (N, 3) float32, all base-mesh vertices, helpers included.
        joints: (55, 3) float32 in SMPL-X order; the pelvis at (0, −0.35, 0).
    """

    vertices: np.ndarray
    joints: np.ndarray


def make_subject(phenotype: Phenotypes) -> Subject:
    """The T-posed person of one phenotype (a `Phenotypes` of length 1)."""
    return pose_subject(load_targets().shape(phenotype)[0].astype(np.float64))


def pose_subject(vertices: np.ndarray, keep: np.ndarray | None = None) -> Subject:
    """T-pose base-mesh vertices (N, 3) of the assets' pose and put the pelvis in its place.

    Args:
        keep: (n,) the vertices wanted in the result; all by default.
    """
    posed = to_tpose(vertices, keep)
    joints = joint_positions(posed.heads, posed.root_tail)
    offset = np.array([0.0, PELVIS_Y, 0.0]) - joints[JOINTS.index("pelvis")]
    return Subject((posed.vertices + offset).astype(np.float32), (joints + offset).astype(np.float32))


@cache
def skinning_weights() -> np.ndarray:
    """(N, 55) float32 weights of all base-mesh vertices on the SMPL-X joints; rows sum to 1."""
    return fold_weights(load_rig().weights).astype(np.float32)


def group_triangles(*groups: str) -> np.ndarray:
    """(F, 3) triangles of base-mesh groups, as base-mesh vertex numbers."""
    quads = np.concatenate([load_base_mesh().quads[g] for g in groups])
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], axis=1).reshape(-1, 3)
