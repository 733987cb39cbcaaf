"""Joints as affine combinations of skin vertices, right for every body of the shape space."""

import numpy as np
from scipy.spatial import cKDTree

from stages.makehuman.joints import JOINTS
from stages.makehuman.vertex_order import mirror_vertices

NEAREST = 1000
"""Candidates: so many of the vertices nearest to a joint …"""

SUPPORT = 300
"""… thinned to so many by farthest-point sampling, which keeps the system well conditioned."""

RIDGE = 1e-5
"""Relative ridge of the least-norm solution: trades 0.02 mm of bias for smaller weights."""

EXPRESSION_M = 1e-4
"""A vertex that any expression component moves further than this carries no joint."""

EYE_WEIGHT = 0.9


def joint_regressor(
    template: np.ndarray,
    shape: np.ndarray,
    expression: np.ndarray,
    joint_template: np.ndarray,
    joint_shape: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """(55, V) regressor with rows that sum to 1 and are mirror images left and right.

    Each row is the shortest vector that reproduces the joint on the template and its change along every
    shape component: joints inside the body move with sex and weight in ways that no convex combination of
    nearby skin can follow.

    Args:
        template: (V, 3) m; shape, expression: (k, V, 3) components.
        joint_template: (55, 3) m; joint_shape: (k, 55, 3), the joints' own change.
        weights: (V, 55) skinning.
    """
    still = np.abs(expression).max(axis=(0, 2)) < EXPRESSION_M
    mirror = mirror_vertices()
    regressor = np.zeros((len(JOINTS), len(template)))
    for joint, name in enumerate(JOINTS):
        if name.startswith("right_"):
            continue
        candidates = weights[:, joint] > EYE_WEIGHT if "eye" in name else still
        pool = _spread_out(template, np.flatnonzero(candidates), joint_template[joint])
        rows = np.concatenate([template[None], shape])[:, pool]
        wanted = np.concatenate([joint_template[None], joint_shape])[:, joint]
        regressor[joint, pool] = _least_norm(rows, wanted)
        if name.startswith("left_"):
            regressor[JOINTS.index(name.replace("left", "right"))] = regressor[joint, mirror]
        else:
            regressor[joint] = (regressor[joint] + regressor[joint, mirror]) / 2
    return regressor


def _spread_out(points: np.ndarray, candidates: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Some of the candidates near `centre`, far from one another."""
    count = min(NEAREST, len(candidates))
    near = candidates[cKDTree(points[candidates]).query(centre, k=count)[1]]
    chosen = [0]
    distance = np.full(len(near), np.inf)
    for _ in range(min(SUPPORT, len(near)) - 1):
        distance = np.minimum(distance, ((points[near] - points[near[chosen[-1]]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return near[chosen]


def _least_norm(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The ridge solution w of Σ_v w_v rows[:, v] = wanted, with Σ w = 1 held exactly.

    Args:
        rows: (k, n, 3) positions or directions; wanted: (k, 3).
    """
    centred = rows.copy()
    centred[0] -= wanted[0]  # with Σ w = 1 the template's equation becomes Σ w (v − joint) = 0
    goal = np.concatenate([np.zeros(3), wanted[1:].ravel()])
    uniform = np.full(rows.shape[1], 1 / rows.shape[1])
    matrix = centred.transpose(0, 2, 1).reshape(-1, rows.shape[1])
    free = matrix - matrix.mean(axis=1, keepdims=True)  # changes that sum to zero
    gram = free @ free.T
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return uniform + free.T @ np.linalg.solve(gram + ridge, goal - matrix @ uniform)
