"""The neutral MakeHuman base mesh with what painting and tailoring need: groups, UVs, skinning, limb joints."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from stages.makehuman.assets import asset_root, load_base_mesh, load_rig
from stages.makehuman.joints import JOINTS, joint_positions
from stages.makehuman.subject import skinning_weights
from stages.people.patches import quads_to_triangles

GROUPS = ("body", "helper-tights", "helper-skirt", "helper-hair", "helper-l-eye", "helper-r-eye")
_LIMB_JOINTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


@dataclass(frozen=True)
class BaseGeometry:
    """The neutral base mesh with its helper groups.

    Attributes:
        vertices: (N, 3) metres, y up, facing +z, A-pose.
        quads, uv_quads: by group, (Q, 4) numbers into `vertices` and `uv`.
        uv: (U, 2), v up.
        weights: (N, 55) skinning weights in SMPL-X joint order.
        joints: `shoulder elbow wrist hip knee ankle` of the left side in the A-pose, each (3,).
    """

    vertices: np.ndarray
    quads: Mapping[str, np.ndarray]
    uv_quads: Mapping[str, np.ndarray]
    uv: np.ndarray
    weights: np.ndarray
    joints: Mapping[str, np.ndarray]

    def triangles(self, group: str) -> np.ndarray:
        """(2 Q, 3)."""
        return quads_to_triangles(self.quads[group])


@cache
def load_base_geometry() -> BaseGeometry:
    """Read the mesh, its texture coordinates and its skinning."""
    vertices = load_base_mesh().vertices
    uv, quads, uv_quads = _read_faces()
    rig = load_rig()
    joints = joint_positions(rig.heads @ vertices, (rig.tails @ vertices)[rig.index("root")])
    limbs = {name: joints[JOINTS.index(f"left_{name}")] for name in _LIMB_JOINTS}
    return BaseGeometry(vertices, quads, uv_quads, uv, skinning_weights().astype(np.float64), limbs)


def _read_faces() -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Texture coordinates, and per group the vertex and texture numbers of its quads."""
    uv: list[list[float]] = []
    corners: dict[str, list[list[list[int]]]] = {group: [] for group in GROUPS}
    group = ""
    for line in (asset_root() / "3dobjs" / "base.obj").read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f" and group in corners:
            corners[group].append([[int(n) - 1 for n in c.split("/")[:2]] for c in rest.split()])
    both = {group: np.array(faces) for group, faces in corners.items()}
    return np.array(uv), {g: f[..., 0] for g, f in both.items()}, {g: f[..., 1] for g, f in both.items()}
