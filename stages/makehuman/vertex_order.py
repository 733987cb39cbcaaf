"""The body's vertices in the order of the SMPL-X file.

`smplx` reads nose, eyes, ears, finger tips, toes and heels at fixed vertex numbers and offers no way to
change them; so the vertices that are these points trade places with those at the numbers.
"""

from functools import cache

import numpy as np
from scipy.spatial import cKDTree
from smplx.vertex_ids import vertex_ids

from stages.makehuman.assets import load_base_mesh, load_rig
from stages.makehuman.joints import JOINTS
from stages.makehuman.phenotypes import Phenotypes
from stages.makehuman.subject import BODY_GROUPS, Subject, group_triangles, make_subject, skinning_weights

MIRROR_TOLERANCE_M = 5e-4


@cache
def body_vertices() -> np.ndarray:
    """(V,) base-mesh numbers of the body's vertices in the order of the SMPL-X file; V = 13492."""
    order = np.unique(group_triangles(*BODY_GROUPS))
    for name, vertex in named_points().items():
        place, now = vertex_ids["smplx"][name], int(np.flatnonzero(order == vertex)[0])
        order[[place, now]] = order[[now, place]]
    return order


@cache
def body_faces() -> np.ndarray:
    """(F, 3) triangles of the body in the numbers of the SMPL-X file; closed, outward-facing."""
    number = np.full(len(load_base_mesh().vertices), -1)
    number[body_vertices()] = np.arange(len(body_vertices()))
    return number[group_triangles(*BODY_GROUPS)]


@cache
def mirror_vertices() -> np.ndarray:
    """(V,) for every body vertex (SMPL-X numbers) the one at its mirror image across x = 0."""
    points = load_base_mesh().vertices[body_vertices()]
    distance, mirrored = cKDTree(points).query(points * [-1, 1, 1])
    if distance.max() > MIRROR_TOLERANCE_M:
        raise ValueError(f"the base mesh is not symmetric: off by {distance.max() * 1000:.2f} mm")
    return mirrored


def named_points() -> dict[str, int]:
    """Base-mesh vertex of each point that `smplx` names, found on the average person."""
    subject = make_subject(Phenotypes.average())
    skin = np.unique(group_triangles("body"))
    left = {"leye": _front(subject, np.unique(group_triangles("helper-l-eye")))}
    left["lear"] = _ear(subject, skin)
    for finger in ("thumb", "index", "middle", "ring", "pinky"):
        left[f"l{finger}"] = _finger_tip(subject, skin, finger)
    left["LBigToe"] = _front(subject, _carried(skin, "toe1-2.L"))
    left["LSmallToe"] = _front(subject, _carried(skin, "toe5-3.L"))
    left["LHeel"] = _heel(subject, skin)
    right = {("r" + n[1:] if n[0] == "l" else "R" + n[1:]): _mirrored(v) for n, v in left.items()}
    return {"nose": _nose(subject, skin), **left, **right}


def _nose(subject: Subject, skin: np.ndarray) -> int:
    eyes = subject.joints[JOINTS.index("left_eye_smplhf"), 1]
    x, y, _ = subject.vertices[skin].T
    return _front(subject, skin[(abs(x) < 0.004) & (y < eyes) & (y > eyes - 0.06)])


def _ear(subject: Subject, skin: np.ndarray) -> int:
    eyes = subject.joints[JOINTS.index("left_eye_smplhf"), 1]
    head = skin[skinning_weights()[skin, JOINTS.index("head")] > 0.9]
    level = head[abs(subject.vertices[head, 1] - eyes) < 0.03]
    return int(level[subject.vertices[level, 0].argmax()])


def _finger_tip(subject: Subject, skin: np.ndarray, finger: str) -> int:
    last, before = JOINTS.index(f"left_{finger}3"), JOINTS.index(f"left_{finger}2")
    along = subject.joints[last] - subject.joints[before]
    phalanx = skin[skinning_weights()[skin, last] > 0.5]
    return int(phalanx[(subject.vertices[phalanx] @ along).argmax()])


def _heel(subject: Subject, skin: np.ndarray) -> int:
    foot = skin[skinning_weights()[skin, JOINTS.index("left_ankle")] > 0.5]
    low = foot[subject.vertices[foot, 1] < subject.vertices[foot, 1].min() + 0.03]
    return int(low[subject.vertices[low, 2].argmin()])


def _front(subject: Subject, vertices: np.ndarray) -> int:
    return int(vertices[subject.vertices[vertices, 2].argmax()])


def _carried(skin: np.ndarray, bone: str) -> np.ndarray:
    rig = load_rig()
    return skin[rig.weights[skin, rig.index(bone)].toarray().ravel() > 0.5]


def _mirrored(vertex: int) -> int:
    points = load_base_mesh().vertices
    candidates = np.unique(group_triangles(*BODY_GROUPS))
    return int(candidates[((points[candidates] - points[vertex] * [-1, 1, 1]) ** 2).sum(axis=1).argmin()])
