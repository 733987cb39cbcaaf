"""A file in the exact layout of SMPL-X's SMPLX_NEUTRAL.npz, filled with the open body's geometry.

Keys, shapes and types are those of the published file. So are the counts of the topology, 10475 vertices and 20908
faces, which ask for a skin that is not closed: 9383 vertices with an open border of 17 edges in each eye socket, and
two eyeballs of 546. The skin is the open body's, decimated; all else is carried over from the nearest places on it.
"""

from dataclasses import dataclass
from pathlib import Path

import igl
import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from smplx.vertex_ids import vertex_ids

from dinar_models.atlas.segmentation import face_adjacency

VERTICES, FACES = 10475, 20908
SKIN_FACES, BORDER = 18732, 17
SHAPES, EXPRESSIONS = 300, 100

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Mesh:
    vertices: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Surface:
    """Places on a mesh: each is a mean of three vertices.

    Attributes:
        faces: (N,) numbers of faces.
        barycentric: (N, 3) weights of their corners.
        matrix: (N, V) weights of the vertices.
    """

    faces: np.ndarray
    barycentric: np.ndarray
    matrix: sp.csr_matrix


def write_smplx_layout(open_body: Path, path: Path, **other: np.ndarray) -> None:
    """Write the file.

    Args:
        open_body: folder made by build_body.
        other: arrays that take the place of the file's.
    """
    with np.load(open_body / "smplx" / "SMPLX_NEUTRAL.npz") as file:
        source = dict(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{**smplx_layout(source), **other})  # type: ignore[arg-type]


def smplx_layout(source: Arrays) -> Arrays:
    """The arrays of the published file, from those of the open body's."""
    old = Mesh(source["v_template"].astype(np.float64), source["f"].astype(np.int64))
    new = with_named_points(decimated_body(old), old)
    onto_old = project(new.vertices, old)  # carries values of vertices over
    onto_new = project(old.vertices, new)  # carries linear forms over
    carry = onto_old.matrix
    directions = np.zeros((VERTICES, 3, SHAPES + EXPRESSIONS))
    given = carry @ source["shapedirs"].reshape(len(old.vertices), -1)
    directions[..., :10] = given.reshape(VERTICES, 3, 20)[..., :10]
    directions[..., SHAPES : SHAPES + 10] = given.reshape(VERTICES, 3, 20)[..., 10:]
    corners = old.vertices[old.faces[source["lmk_faces_idx"]]]
    landmarks = project((corners * source["lmk_bary_coords"][..., None]).sum(axis=1), new)
    return {
        "v_template": new.vertices,
        "f": new.faces.astype(np.uint32),
        "shapedirs": directions,
        "posedirs": (carry @ source["posedirs"].reshape(len(old.vertices), -1)).reshape(VERTICES, 3, 486),
        "J_regressor": source["J_regressor"] @ onto_new.matrix,
        "weights": carry @ source["weights"],
        "kintree_table": source["kintree_table"].astype(np.int64),
        "lmk_faces_idx": landmarks.faces.astype(np.int64),
        "lmk_bary_coords": landmarks.barycentric,
        **{
            f"hands_{kind}{side}": source[f"hands_{kind}{side}"].astype(np.float64)
            for kind in ("components", "mean")
            for side in "lr"
        },
        **unread_arrays(new),
    }


def unread_arrays(mesh: Mesh) -> Arrays:
    """What the file holds besides: face contours, texture coordinates, and dicts as pickled objects."""
    rng = np.random.default_rng(0)
    return {
        "hands_coeffsl": rng.normal(size=(1554, 45)),
        "hands_coeffsr": rng.normal(size=(1554, 45)),
        "dynamic_lmk_faces_idx": rng.integers(0, len(mesh.faces), (79, 17)),
        "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
        "vt": rng.random((11313, 2)),
        "ft": rng.integers(0, 11313, (len(mesh.faces), 3)).astype(np.uint32),
        "joint2num": np.array({"Pelvis": 0, "L_Hip": 1}, dtype=object),
        "part2num": np.array({"global": 0, "head": 15}, dtype=object),
    }


def decimated_body(body: Mesh) -> Mesh:
    """Skin and eyes with the published counts, the left eye before the right one at the end."""
    graph = sp.csr_matrix((np.ones(len(body.faces)), body.faces[:, :2].T), (len(body.vertices),) * 2)
    shell = connected_components(graph, directed=False)[1][body.faces[:, 0]]
    order = np.argsort(np.bincount(shell))
    balls = [body.vertices[np.unique(body.faces[shell == number])] for number in order[-3:-1]]
    balls.sort(key=lambda points: -points[:, 0].mean())
    skin = decimate(compact(Mesh(body.vertices, body.faces[shell == order[-1]])), SKIN_FACES + 2 * BORDER)
    for points in balls:
        skin = with_hole(skin, points.mean(axis=0) - [0, 0, np.ptp(points[:, 2]) / 2])
    parts = [skin, *(eyeball(points.mean(axis=0), np.ptp(points[:, 2]) / 2) for points in balls)]
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = [part.faces + offset for part, offset in zip(parts, offsets, strict=True)]
    made = Mesh(np.concatenate([part.vertices for part in parts]), np.concatenate(faces))
    assert (len(made.vertices), len(made.faces)) == (VERTICES, FACES)
    return made


def compact(mesh: Mesh) -> Mesh:
    """Without vertices that no face uses."""
    used, faces = np.unique(mesh.faces, return_inverse=True)
    return Mesh(mesh.vertices[used], faces.reshape(mesh.faces.shape))


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """Edges collapsed by quadric error until so many faces are left."""
    made = igl.qslim(np.asfortranarray(mesh.vertices), np.asfortranarray(mesh.faces.astype(np.int32)), faces)
    return Mesh(np.asarray(made[0]), np.asarray(made[1]))


def with_hole(mesh: Mesh, place: np.ndarray) -> Mesh:
    """Opened near a place: a vertex and the faces around it go, until BORDER edges are open."""
    middle = int(((mesh.vertices - place) ** 2).sum(axis=1).argmin())
    gone = (mesh.faces == middle).any(axis=1)
    while gone.sum() < BORDER:  # a disc around one vertex has as many border edges as faces
        neighbours = face_adjacency(mesh.faces)[gone].sum(axis=0).A1 > 0
        one_new_corner = np.isin(mesh.faces, mesh.faces[gone]).sum(axis=1) == 2
        gone[np.flatnonzero(neighbours & one_new_corner & ~gone)[0]] = True
    return compact(Mesh(mesh.vertices, mesh.faces[~gone]))


def eyeball(centre: np.ndarray, radius: float) -> Mesh:
    """A sphere of 17 rings of 32 vertices and two poles, which look ahead and back."""
    rings, segments = 17, 32
    polar, azimuth = np.meshgrid(
        np.pi * np.arange(1, rings + 1) / (rings + 1),
        2 * np.pi * np.arange(segments) / segments,
        indexing="ij",
    )
    ring = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1
    )
    points = np.concatenate([[[0, 0, 1.0]], ring.reshape(-1, 3), [[0, 0, -1.0]]])
    here = np.arange(segments)
    after, last = (here + 1) % segments, rings * segments + 1
    faces = [np.stack([np.zeros(segments, int), 1 + here, 1 + after], axis=1)]
    for k in range(rings - 1):
        a, b = 1 + k * segments, 1 + (k + 1) * segments
        faces += [np.stack([a + here, b + here, b + after], 1), np.stack([a + here, b + after, a + after], 1)]
    a = 1 + (rings - 1) * segments
    faces.append(np.stack([a + here, np.full(segments, last), a + after], axis=1))
    return Mesh(centre + radius * points, np.concatenate(faces))


def with_named_points(mesh: Mesh, old: Mesh) -> Mesh:
    """Renumbered so that nose, ears, toes and finger tips have the numbers at which `smplx` reads them.

    Args:
        old: has them there.
    """
    order = np.arange(len(mesh.vertices))
    for number in vertex_ids["smplx"].values():
        nearest = int(((mesh.vertices - old.vertices[number]) ** 2).sum(axis=1).argmin())
        now = int(np.flatnonzero(order == nearest)[0])
        order[[number, now]] = order[[now, number]]
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Mesh(mesh.vertices[order], place[mesh.faces])


def project(points: np.ndarray, mesh: Mesh) -> Surface:
    """The nearest places of a mesh."""
    _, faces, nearest = igl.point_mesh_squared_distance(points, mesh.vertices, mesh.faces)
    a, b, c = (np.ascontiguousarray(mesh.vertices[mesh.faces[faces, k]]) for k in range(3))
    weights = np.asarray(igl.barycentric_coordinates(nearest, a, b, c)).clip(0, 1)
    weights = np.nan_to_num(weights, nan=1 / 3)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(points)), 3)
    shape = (len(points), len(mesh.vertices))
    matrix = sp.csr_matrix((weights.ravel(), (rows, mesh.faces[faces].ravel())), shape)
    return Surface(faces, weights, matrix)
