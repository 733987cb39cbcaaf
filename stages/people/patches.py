"""Surface patches in the base mesh's topology: subdivide, clip along a scalar field, hem the borders."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Patch:
    """A triangle patch whose vertices are fixed blends of the base mesh's vertices.

    Attributes:
        lift: (N, base vertices) sparse; rows sum to 1.
        faces: (F, 3) vertex numbers.
        uv: (U, 2) texture coordinates in [0, 1], v up, in the base mesh's own layout.
        uv_faces: (F, 3) numbers into `uv`; a seam is where one vertex has several.
    """

    lift: sp.csr_matrix
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray

    @property
    def size(self) -> int:
        """Number of vertices."""
        return int(self.lift.shape[0])


def quads_to_triangles(quads: np.ndarray) -> np.ndarray:
    """(Q, 4) → (2 Q, 3), split along the first diagonal."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def patch_of(
    base_size: int, quads: np.ndarray, uv_quads: np.ndarray, uv: np.ndarray, subdivisions: int = 0
) -> Patch:
    """The patch of some of the base mesh's quads, each split into 4 `subdivisions` times and smoothed."""
    used, local = np.unique(quads, return_inverse=True)
    uv_used, uv_local = np.unique(uv_quads, return_inverse=True)
    lift = sp.csr_matrix((np.ones(len(used)), (np.arange(len(used)), used)), shape=(len(used), base_size))
    quads, uv_quads, uv = local.reshape(quads.shape), uv_local.reshape(uv_quads.shape), uv[uv_used]
    for _ in range(subdivisions):
        split, quads = _split_quads(quads, len(used) if lift is None else lift.shape[0])
        lift = (_smoothing(quads, split.shape[0]) @ split @ lift).tocsr()
        uv_split, uv_quads = _split_quads(uv_quads, len(uv))
        uv = uv_split @ uv
    return Patch(lift, quads_to_triangles(quads), uv, quads_to_triangles(uv_quads))


def _split_quads(quads: np.ndarray, count: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """Midpoint subdivision: the matrix to the finer vertices, and the finer quads."""
    edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    unique, edge_of = np.unique(edges, axis=0, return_inverse=True)
    edge_of = edge_of.reshape(quads.shape) + count
    centre = np.arange(len(quads)) + count + len(unique)
    halves = sp.csr_matrix(
        (np.full(2 * len(unique), 0.5), (np.repeat(np.arange(len(unique)), 2), unique.ravel())),
        shape=(len(unique), count),
    )
    quarters = sp.csr_matrix(
        (np.full(quads.size, 0.25), (np.repeat(np.arange(len(quads)), 4), quads.ravel())),
        shape=(len(quads), count),
    )
    finer = [np.stack([quads[:, k], edge_of[:, k], centre, edge_of[:, k - 1]], axis=1) for k in range(4)]
    return sp.vstack([sp.eye(count), halves, quarters]).tocsr(), np.concatenate(finer)


def _smoothing(quads: np.ndarray, count: int, amount: float = 0.5) -> sp.csr_matrix:
    """One Laplacian step along quad edges; border vertices see their border neighbours only."""
    return (sp.eye(count) * (1 - amount) + amount * neighbour_mean(quads, count)).tocsr()


def neighbour_mean(polygons: np.ndarray, count: int) -> sp.csr_matrix:
    """Row-stochastic matrix that averages a vertex's edge neighbours (on borders: along the border)."""
    directed = np.stack([polygons, np.roll(polygons, -1, axis=1)], axis=-1).reshape(-1, 2)
    edges, uses = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    on_border = np.zeros(count, bool)
    on_border[edges[uses == 1]] = True
    along = (uses == 1)[:, None] | ~on_border[edges]
    a, b = edges[:, 0], edges[:, 1]
    rows = np.concatenate([a[along[:, 0]], b[along[:, 1]]])
    columns = np.concatenate([b[along[:, 0]], a[along[:, 1]]])
    adjacency = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    lonely = degree == 0  # a vertex of no polygon stays where it is
    return (sp.diags(1 / np.maximum(degree, 1)) @ adjacency + sp.diags(lonely.astype(float))).tocsr()


@dataclass(frozen=True)
class Cut:
    """A part of a mesh: new vertices as blends of the old ones.

    Attributes:
        blend: (N', N) sparse, rows sum to 1.
        faces: (F', 3).
        uv: (U', 2).
        uv_faces: (F', 3).
    """

    blend: sp.csr_matrix
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray


def whole(faces: np.ndarray, uv: np.ndarray, uv_faces: np.ndarray, count: int) -> Cut:
    """The cut that takes nothing away."""
    return Cut(sp.eye(count).tocsr(), faces, uv, uv_faces)


def clip(cut: Cut, field: np.ndarray) -> Cut:
    """Keep where `field` (one value per original vertex, ≥ 0 = keep); triangles across are divided at zero."""
    value = cut.blend @ field
    inside = value[cut.faces] >= 0
    count = inside.sum(axis=1)
    # Rotate corners so that the odd one out of a divided triangle comes first; the winding stays.
    odd = np.where(count == 1, inside.argmax(axis=1), (~inside).argmax(axis=1))
    order = (odd[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(cut.faces, order, axis=1)
    uv_faces = np.take_along_axis(cut.uv_faces, order, axis=1)
    one, two, all_three = count == 1, count == 2, count == 3
    divided = one | two
    weight = _crossing(value, faces[divided])
    pairs = faces[divided][:, [0, 1, 0, 2]].reshape(-1, 2)
    uv_pairs = uv_faces[divided][:, [0, 1, 0, 2]].reshape(-1, 2)
    blend, new = _append_points(cut.blend, pairs, weight.ravel())
    uv_blend, uv_new = _append_points(sp.eye(len(cut.uv)).tocsr(), uv_pairs, weight.ravel())
    new, uv_new = new.reshape(-1, 2), uv_new.reshape(-1, 2)
    faces = _retriangulate(faces, new, divided, one, two, all_three)
    uv_faces = _retriangulate(uv_faces, uv_new, divided, one, two, all_three)
    return _compact(Cut(blend, faces, uv_blend @ cut.uv, uv_faces))


def _crossing(value: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Share of the far corner at the zero of edges 0–1 and 0–2."""
    near, far = value[faces[:, :1]], value[faces[:, 1:]]
    return near / (near - far)


def _append_points(
    blend: sp.csr_matrix, pairs: np.ndarray, weight: np.ndarray
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Add one point per distinct edge; returns the longer matrix and each pair's point number."""
    swap = pairs[:, 0] > pairs[:, 1]
    ordered = np.where(swap[:, None], pairs[:, ::-1], pairs)
    share = np.where(swap, 1 - weight, weight)
    unique, first, number = np.unique(ordered, axis=0, return_index=True, return_inverse=True)
    share = share[first]
    new = sp.diags(1 - share) @ blend[unique[:, 0]] + sp.diags(share) @ blend[unique[:, 1]]
    return sp.vstack([blend, new]).tocsr(), number.ravel() + blend.shape[0]


def _retriangulate(
    faces: np.ndarray,
    new: np.ndarray,
    divided: np.ndarray,
    one: np.ndarray,
    two: np.ndarray,
    whole_: np.ndarray,
) -> np.ndarray:
    """Triangles of the kept side; `new` holds the points on edges 0–1 and 0–2 of the divided ones."""
    on_one, on_two = new[one[divided]], new[two[divided]]
    tip = np.stack([faces[one, 0], on_one[:, 0], on_one[:, 1]], axis=1)
    lower = np.stack([on_two[:, 0], faces[two, 1], faces[two, 2]], axis=1)
    upper = np.stack([on_two[:, 0], faces[two, 2], on_two[:, 1]], axis=1)
    return np.concatenate([faces[whole_], tip, lower, upper])


def _compact(cut: Cut) -> Cut:
    used, local = np.unique(cut.faces, return_inverse=True)
    uv_used, uv_local = np.unique(cut.uv_faces, return_inverse=True)
    return Cut(cut.blend[used], local.reshape(-1, 3), cut.uv[uv_used], uv_local.reshape(-1, 3))


def drop_faces(cut: Cut, hidden: np.ndarray) -> Cut:
    """Take away the faces marked in `hidden` (one flag per face)."""
    return _compact(Cut(cut.blend, cut.faces[~hidden], cut.uv, cut.uv_faces[~hidden]))


def border_edges(faces: np.ndarray) -> np.ndarray:
    """Rows (face, corner) of the directed edges that belong to one face only."""
    directed = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    _, inverse, uses = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True)
    single = np.flatnonzero(uses[inverse.ravel()] == 1)
    return np.stack([single // 3, single % 3], axis=1)


def hem(cut: Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strip that turns every border inwards, as a cloth's thickness.

    Returns:
        inner: (B,) the border vertex that each new vertex doubles.
        faces: (2 E, 3) strip triangles, new vertices numbered after the old ones.
        uv_faces: (2 E, 3) their texture coordinates, those of the border.
    """
    edges = border_edges(cut.faces)
    face, corner = edges[:, 0], edges[:, 1]
    a, b = cut.faces[face, corner], cut.faces[face, (corner + 1) % 3]
    ua, ub = cut.uv_faces[face, corner], cut.uv_faces[face, (corner + 1) % 3]
    inner, number = np.unique(np.concatenate([a, b]), return_inverse=True)
    number = number.ravel() + cut.blend.shape[0]
    inner_a, inner_b = number[: len(a)], number[len(a) :]
    faces = np.concatenate([np.stack([b, a, inner_a], 1), np.stack([b, inner_a, inner_b], 1)])
    uv_faces = np.concatenate([np.stack([ub, ua, ua], 1), np.stack([ub, ua, ub], 1)])
    return inner, faces, uv_faces


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(N, 3) unit normals, weighted by area; zero where a vertex has no face."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [np.bincount(faces.ravel(), np.repeat(face_normals[:, k], 3), len(vertices)) for k in range(3)],
        axis=1,
    )
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
