"""Which island each face belongs to, from skinning weights, normals and visibility; for any SMPL-X topology."""

import numpy as np
import scipy.sparse as sp
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from scipy.sparse.csgraph import connected_components

# SMPL-X joints whose weights make a part; the rest follows its nearest mapped ancestor by weight.
PART_JOINTS = {
    "torso": (0, 3, 6, 9, 13, 14),
    "head": (12, 15, 22),
    "left_arm": (16, 18),
    "right_arm": (17, 19),
    "left_leg": (1, 4),
    "right_leg": (2, 5),
    "left_hand": (20, *range(25, 40)),
    "right_hand": (21, *range(40, 55)),
    "left_foot": (7, 10),
    "right_foot": (8, 11),
}

PART_NAMES = (
    "torso",
    "head",
    "left_arm",
    "right_arm",
    "left_leg",
    "right_leg",
    "left_hand_back",
    "right_hand_back",
    "left_palm",
    "right_palm",
    "left_foot",
    "right_foot",
    "left_sole",
    "right_sole",
    "left_eye",
    "right_eye",
    "left_eye_back",
    "right_eye_back",
    "mouth",
    "left_socket",
    "right_socket",
)
"""Islands of the atlas; a face's part is its index here."""

SOLE_NORMAL = -0.1
"""Faces of the feet whose normal points down more than this are sole: toes are halved, so that they lie flat side
by side in both islands."""

HIDDEN_SHARE = 0.02
"""Faces of the head that are seen from less than this share of directions line a cavity."""


def segment_faces(vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Part of every face, (F,) int8 into PART_NAMES.

    Args:
        vertices: (V, 3) m, T-pose, y up, facing +z.
        weights: (V, 55) skinning weights.
    """
    adjacency = face_adjacency(faces)
    coarse = _by_weights(faces, weights)
    names = list(PART_JOINTS)
    coarse = _regular(coarse, adjacency, _components(adjacency))
    normals = smooth_normals(vertices, faces, adjacency, rounds=4)
    part = np.full(len(faces), -1, np.int8)
    for i, name in enumerate(names):
        _assign(part, coarse == i, name, normals)
    _split_head(part, vertices, faces, adjacency)
    return _regular(part, adjacency, _components(adjacency), rounds=2)


def face_adjacency(faces: np.ndarray) -> sp.csr_matrix:
    """(F, F): faces that share an edge."""
    edges, owners = _edges(faces)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, owners = edges[order], owners[order]
    same = (edges[1:] == edges[:-1]).all(axis=1)
    a, b = owners[:-1][same], owners[1:][same]
    ones = np.ones(2 * len(a), np.int8)
    return sp.csr_matrix((ones, (np.r_[a, b], np.r_[b, a])), shape=(len(faces), len(faces)))


def smooth_normals(
    vertices: np.ndarray, faces: np.ndarray, adjacency: sp.csr_matrix, rounds: int
) -> np.ndarray:
    """Unit face normals, averaged with their neighbours' `rounds` times."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    for _ in range(rounds):
        normals = normals + adjacency @ normals
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return edges, np.tile(np.arange(len(faces)), 3)


def _by_weights(faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    grouped = np.stack([weights[:, list(joints)].sum(axis=1) for joints in PART_JOINTS.values()], axis=1)
    return grouped[faces].sum(axis=1).argmax(axis=1).astype(np.int8)


def _components(adjacency: sp.csr_matrix) -> np.ndarray:
    return connected_components(adjacency, directed=False)[1]


def _regular(labels: np.ndarray, adjacency: sp.csr_matrix, shells: np.ndarray, rounds: int = 4) -> np.ndarray:
    """Majority votes smooth borders; pieces cut off from the largest of their label join their neighbours.

    Labels of separate shells (eyeballs) are not compared.
    """
    labels = labels.copy()
    for _ in range(rounds):
        labels = _majority(labels, adjacency)
    for _ in range(8):
        pieces = _pieces(labels, adjacency)
        keep = np.zeros(len(labels), bool)
        for label in np.unique(labels):
            sizes = np.bincount(pieces[labels == label])
            keep |= (pieces == sizes.argmax()) & (labels == label)
        keep |= shells != np.bincount(shells).argmax()
        if keep.all():
            break
        labels = _flood(labels, keep, adjacency)
    return labels


def _majority(labels: np.ndarray, adjacency: sp.csr_matrix) -> np.ndarray:
    """Take a label that at least two of a triangle's three neighbours agree on."""
    votes = _votes(labels, adjacency)
    best = votes.argmax(axis=1)
    agreed = votes[np.arange(len(labels)), best] >= 2
    return np.where(agreed, best, labels).astype(np.int8)


def _votes(labels: np.ndarray, adjacency: sp.csr_matrix) -> np.ndarray:
    return adjacency @ np.eye(int(labels.max()) + 1, dtype=np.int32)[labels]


def _pieces(labels: np.ndarray, adjacency: sp.csr_matrix) -> np.ndarray:
    """Connected components of faces with equal labels."""
    rows, columns = adjacency.nonzero()
    same = labels[rows] == labels[columns]
    graph = sp.csr_matrix((np.ones(same.sum()), (rows[same], columns[same])), shape=adjacency.shape)
    return connected_components(graph, directed=False)[1]


def _flood(labels: np.ndarray, keep: np.ndarray, adjacency: sp.csr_matrix) -> np.ndarray:
    """Faces that are not kept take the label of kept neighbours, ring by ring."""
    labels, keep = labels.copy(), keep.copy()
    while not keep.all():
        votes = adjacency @ (np.eye(int(labels.max()) + 1, dtype=np.int32)[labels] * keep[:, None])
        reached = ~keep & (votes.sum(axis=1) > 0)
        if not reached.any():
            break
        labels[reached] = votes[reached].argmax(axis=1)
        keep |= reached
    return labels


def _assign(part: np.ndarray, where: np.ndarray, name: str, normals: np.ndarray) -> None:
    """Turn a coarse part into islands: hands split by palm and back, feet by sole and upper."""
    side = name.split("_")[0]
    if name.endswith("hand"):
        part[where] = PART_NAMES.index(f"{side}_hand_back")
        part[where & (normals[:, 1] < 0)] = PART_NAMES.index(f"{side}_palm")
    elif name.endswith("foot"):
        part[where] = PART_NAMES.index(f"{side}_foot")
        part[where & (normals[:, 1] < SOLE_NORMAL)] = PART_NAMES.index(f"{side}_sole")
    else:
        part[where] = PART_NAMES.index(name)


def _split_head(part: np.ndarray, vertices: np.ndarray, faces: np.ndarray, adjacency: sp.csr_matrix) -> None:
    """Eyeballs (shells of their own) by front and back, and the cavities behind lips and lids."""
    shells = _components(adjacency)
    centres = vertices[faces].mean(axis=1)
    main = np.bincount(shells).argmax()
    for shell in np.unique(shells[shells != main]):
        mine = shells == shell
        side = "left" if centres[mine, 0].mean() > 0 else "right"
        front = centres[:, 2] > centres[mine, 2].mean()
        part[mine & front] = PART_NAMES.index(f"{side}_eye")
        part[mine & ~front] = PART_NAMES.index(f"{side}_eye_back")
    head = (part == PART_NAMES.index("head")) & (shells == main)
    hidden = np.zeros(len(faces), bool)
    hidden[head] = _seen_share(vertices, faces, np.flatnonzero(head)) < HIDDEN_SHARE
    pieces = _pieces(np.where(head, hidden.astype(np.int8), 2), adjacency)
    for piece, size in zip(*np.unique(pieces[hidden], return_counts=True), strict=True):
        x = centres[pieces == piece, 0].mean()
        if size < 60:
            continue  # nostrils and creases stay in the head
        name = "mouth" if abs(x) < 0.01 else ("left_socket" if x > 0 else "right_socket")
        part[pieces == piece] = PART_NAMES.index(name)


def _seen_share(
    vertices: np.ndarray, faces: np.ndarray, which: np.ndarray, directions: int = 256
) -> np.ndarray:
    """Share of directions (a Fibonacci sphere) in which rays from some faces leave the mesh."""
    i = np.arange(directions)
    z = 1 - (2 * i + 1) / directions
    angle = np.pi * (1 + 5**0.5) * i
    sphere = np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], axis=1)
    corners = vertices[faces[which]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    origin = corners.mean(axis=1) + 1e-4 * normal
    scene = EmbreeScene()
    TriangleMesh(scene, vertices.astype(np.float32), faces.astype(np.int32))
    free = np.zeros(len(which))
    for direction in sphere:
        outwards = np.flatnonzero(normal @ direction > 0)
        rays = np.tile(direction, (len(outwards), 1)).astype(np.float32)
        hit = scene.run(origin[outwards].astype(np.float32), rays)
        free[outwards] += hit < 0
    return free / directions
