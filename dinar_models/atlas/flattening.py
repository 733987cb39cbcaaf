"""One island: cut it open along seams, flatten it without flips (Tutte, then SLIM)."""

from dataclasses import dataclass

import igl
import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import spsolve


@dataclass(frozen=True)
class SeamRule:
    """Where seams prefer to run: the cost of an edge is its length × (1 + strength × penalty(point))."""

    penalty: np.ndarray
    strength: float = 30.0


@dataclass
class Island:
    """A part of the mesh on its own.

    Attributes:
        faces: (F, 3) into `vertices`, (V, 3) m.
    """

    vertices: np.ndarray
    faces: np.ndarray


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Vertex loops of the border, the longest first."""
    loops = [np.asarray(loop) for loop in igl.boundary_loop_all(faces.astype(np.int64))]
    return sorted(loops, key=len, reverse=True)


def connect_loops(island: Island, rule: SeamRule) -> np.ndarray:
    """Edges (E, 2) of seams that join all border loops into one: a tree of cheapest paths between loops."""
    loops = boundary_loops(island.faces)
    graph = _edge_graph(island, rule)
    joined, seams = loops[0], []
    rest = loops[1:]
    while rest:
        distance, before, _ = dijkstra(graph, indices=joined, min_only=True, return_predecessors=True)
        nearest = min(rest, key=lambda loop: distance[loop].min())
        path = _walk(before, int(nearest[distance[nearest].argmin()]))
        seams.append(np.stack([path[:-1], path[1:]], axis=1))
        joined = np.unique(np.concatenate([joined, nearest, path]))
        rest = [loop for loop in rest if loop is not nearest]
    return np.concatenate(seams) if seams else np.empty((0, 2), np.int64)


def slit(island: Island, rule: SeamRule, start: np.ndarray, end: int) -> np.ndarray:
    """Edges (E, 2) of the cheapest path from any of `start` to a vertex inside."""
    _, before, _ = dijkstra(_edge_graph(island, rule), indices=start, min_only=True, return_predecessors=True)
    path = _walk(before, end)
    return np.stack([path[:-1], path[1:]], axis=1)


def cut(faces: np.ndarray, seams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split vertices along seams: corners stay one vertex only where faces meet at an edge that is no seam.

    Returns:
        faces (F, 3) into the new vertices; original vertex of each new one.
    """
    count = len(faces)
    corner = np.arange(3 * count).reshape(count, 3)
    sides = np.concatenate([np.stack([corner[:, k], corner[:, (k + 1) % 3]], axis=1) for k in range(3)])
    ends = faces.reshape(-1)[sides]
    swap = ends[:, 0] > ends[:, 1]
    sides[swap], ends[swap] = sides[swap][:, ::-1], ends[swap][:, ::-1]
    key = ends[:, 0].astype(np.int64) * (faces.max() + 1) + ends[:, 1]
    order = np.argsort(key, kind="stable")
    pair = key[order][1:] == key[order][:-1]
    a, b = sides[order][:-1][pair], sides[order][1:][pair]
    low, high = np.sort(seams, axis=1).T if len(seams) else (np.empty(0, np.int64),) * 2
    open_ = np.isin(key[order][:-1][pair], low.astype(np.int64) * (faces.max() + 1) + high)
    a, b = a[~open_].reshape(-1), b[~open_].reshape(-1)
    links = sp.csr_matrix((np.ones(len(a)), (a, b)), shape=(3 * count, 3 * count))
    _, label = connected_components(links, directed=False)
    original = np.zeros(label.max() + 1, np.int64)
    original[label] = faces.reshape(-1)
    return label.reshape(count, 3), original


def flatten(vertices: np.ndarray, faces: np.ndarray, iterations: int) -> np.ndarray:
    """A disc → (V, 2) without flipped triangles, in metres: Tutte on a circle, then SLIM from there.

    Holes inside (none in a disc that `cut` made, but lips and lids may be left) are fanned during the solve: so
    their borders do not fold over each other.
    """
    loops = boundary_loops(faces)
    filled, points = faces, vertices
    for hole in loops[1:]:
        filled, points = _fan(filled, points, hole)
    start = _tutte(points, filled, loops[0])
    area = _areas(points, filled).sum()
    start = start * np.sqrt(area / np.pi)
    none = np.empty(0, np.int32), np.empty((0, 2), np.float64, order="F")
    data = igl.slim_precompute(
        np.asfortranarray(points), np.asfortranarray(filled.astype(np.int32)), np.asfortranarray(start),
        igl.SYMMETRIC_DIRICHLET, none[0], none[1], 0.0,
    )  # fmt: skip
    flat = np.asarray(igl.slim_solve(data, iterations))[: len(vertices), :2]
    return flat * np.sqrt(_areas(vertices, faces).sum() / np.abs(signed_areas(flat, faces)).sum())


def signed_areas(uv: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) areas in the plane, negative where a triangle is flipped."""
    a, b, c = (uv[faces[:, k]] for k in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def singular_ratios(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(F,) ratio ≥ 1 of the singular values of each triangle's map to the plane: 1 = no shear."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    x = b - a
    length = np.linalg.norm(x, axis=1)
    x = x / length[:, None]
    y = np.cross(np.cross(x, c - a), x)
    y = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-15)
    local = np.stack(
        [np.stack([length, np.zeros(len(a))], 1), np.stack([((c - a) * x).sum(1), ((c - a) * y).sum(1)], 1)],
        1,
    )
    plane = np.stack([uv[faces[:, 1]] - uv[faces[:, 0]], uv[faces[:, 2]] - uv[faces[:, 0]]], axis=1)
    values = np.linalg.svd(np.linalg.solve(local, plane), compute_uv=False)
    return values[:, 0] / np.maximum(values[:, 1], 1e-15)


def _areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def _edge_graph(island: Island, rule: SeamRule) -> sp.csr_matrix:
    faces = island.faces
    edges = np.unique(
        np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0
    )
    length = np.linalg.norm(island.vertices[edges[:, 0]] - island.vertices[edges[:, 1]], axis=1)
    cost = length * (1 + rule.strength * rule.penalty[edges].mean(axis=1)) + 1e-9
    size = len(island.vertices)
    return sp.csr_matrix(
        (np.r_[cost, cost], (np.r_[edges[:, 0], edges[:, 1]], np.r_[edges[:, 1], edges[:, 0]])), (size, size)
    )


def _walk(before: np.ndarray, end: int) -> np.ndarray:
    path = [end]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return np.asarray(path)


def _fan(faces: np.ndarray, vertices: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Close a hole by triangles to its middle, turned like its neighbours."""
    middle = len(vertices)
    triangles = np.stack([np.roll(hole, -1), hole, np.full(len(hole), middle)], axis=1)
    directed = set(map(tuple, np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])))
    if (int(triangles[0, 0]), int(triangles[0, 1])) in directed:
        triangles = triangles[:, [1, 0, 2]]
    return np.concatenate([faces, triangles]), np.concatenate([vertices, vertices[hole].mean(axis=0)[None]])


def _tutte(vertices: np.ndarray, faces: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """Each inner vertex at the mean of its neighbours, the border on the unit circle by arc length: no flips.

    Uniform weights: cotangent weights flip triangles of a head.
    """
    size = len(vertices)
    directed = set(map(tuple, np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])))
    if (int(loop[0]), int(loop[1])) not in directed:
        loop = loop[::-1]
    steps = np.linalg.norm(vertices[np.roll(loop, -1)] - vertices[loop], axis=1)
    angle = 2 * np.pi * np.r_[0, np.cumsum(steps)[:-1]] / steps.sum()
    uv = np.zeros((size, 2))
    uv[loop] = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    links = sp.csr_matrix(
        (np.ones(2 * len(edges)), (np.r_[edges[:, 0], edges[:, 1]], np.r_[edges[:, 1], edges[:, 0]])),
        (size, size),
    )
    links.data[:] = 1
    laplace = sp.diags(np.asarray(links.sum(axis=1)).ravel()) - links
    inner = np.setdiff1d(np.arange(size), loop)
    if len(inner):
        uv[inner] = spsolve(laplace[inner][:, inner].tocsc(), -laplace[inner][:, loop] @ uv[loop])
    return uv
