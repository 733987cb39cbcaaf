"""The UV atlas of a body: computed from its geometry, saved, and looked up as per-texel tables.

The torso is opened along the front, so that its back is one undisturbed piece (paper section 3.1); the head at the
back and over the crown, limbs on their inner sides; hands and feet are split into two sides; eyes and the cavities
behind lips and lids lie apart.
"""

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dinar_models.atlas.flattening import (
    Island,
    SeamRule,
    boundary_loops,
    connect_loops,
    cut,
    flatten,
    slit,
)
from dinar_models.atlas.packing import pack
from dinar_models.atlas.segmentation import PART_NAMES, segment_faces
from dinar_models.atlas.tables import AtlasTables, make_tables

GUTTER = 2.0 / 128
"""Free border around an island: two texels of the smallest texture in use."""

SCALES = {"head": 1.25, "left_eye": 1.5, "right_eye": 1.5, "left_eye_back": 0.35, "right_eye_back": 0.35,
          "mouth": 0.3, "left_socket": 0.3, "right_socket": 0.3}  # fmt: skip
"""Lengths of some islands relative to the body's: the face matters more, what is never seen less."""

ITERATIONS = dict.fromkeys(("left_foot", "right_foot", "left_sole", "right_sole"), 4)
"""SLIM steps, 20 elsewhere: further ones pull neighbouring toes over each other."""

# SMPL-X joints by number.
_SHOULDER, _WRIST, _HIP, _ANKLE, _EYES, _JAW, _KNUCKLE = (
    (16, 17),
    (20, 21),
    (1, 2),
    (7, 8),
    (23, 24),
    22,
    (28, 43),
)


@dataclass(frozen=True)
class Atlas:
    """Where each face of a body lies in the texture.

    Attributes:
        corner_uv: (F, 3, 2) float32 in [0, 1], v down, of each corner of each face.
        face_part: (F,) int8 into PART_NAMES.
        face_region: (F,) bool, the front of the face: where the face losses count.
        uv_faces: (F, 3) int32 into the vertices of the cut-open mesh.
        uv_to_vertex: (U,) int32, vertex of the body of each such vertex.
        positions: (V, 3) float32, the body in the T-pose, m.
        faces: (F, 3) int32 of the body.
        joints: (55, 3) float32, m, of that body.
    """

    corner_uv: np.ndarray
    face_part: np.ndarray
    face_region: np.ndarray
    uv_faces: np.ndarray
    uv_to_vertex: np.ndarray
    positions: np.ndarray
    faces: np.ndarray
    joints: np.ndarray
    _tables: dict[int, AtlasTables] = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def digest(self) -> str:
        """Identity of the layout: what textures and weights must agree with."""
        state = hashlib.sha256()
        for array in (self.corner_uv, self.face_part, self.faces):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()[:16]

    def tables(self, size: int) -> AtlasTables:
        """Per-texel tables of a texture with `size` texels per side; made once."""
        if size not in self._tables:
            self._tables[size] = make_tables(
                self.corner_uv,
                self.face_part,
                self.face_region,
                self.positions,
                self.faces,
                self.joints,
                size,
            )
        return self._tables[size]

    def save(self, path: Path) -> None:
        """Write an .npz with the same bytes for the same atlas."""
        arrays = {name: getattr(self, name) for name in _FIELDS}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @staticmethod
    def load(path: Path) -> "Atlas":
        """Read what `save` wrote. Raises FileNotFoundError naming what to run."""
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; run `dvc repro build_body`")
        with np.load(path, allow_pickle=False) as arrays:
            return Atlas(**{name: arrays[name] for name in _FIELDS})


_FIELDS = (
    "corner_uv", "face_part", "face_region", "uv_faces", "uv_to_vertex", "positions", "faces", "joints",
)  # fmt: skip


def build_atlas(vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> Atlas:
    """Segment, cut, flatten and pack a body in the T-pose.

    Args:
        vertices: (V, 3) m, y up, facing +z.
        faces: (F, 3), counter-clockwise seen from outside.
        weights: (V, 55) skinning weights in SMPL-X's order of joints.
        joints: (55, 3) m.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    part = segment_faces(vertices, faces, np.asarray(weights))
    normals = vertex_normals(vertices, faces)
    flats, pieces = [], []
    for label in np.unique(part):
        which = np.flatnonzero(part == label)
        flat, uv_faces, to_vertex = _flatten_part(PART_NAMES[label], vertices, faces[which], normals, joints)
        flats.append(flat * SCALES.get(PART_NAMES[label], 1.0))
        pieces.append((which, uv_faces, to_vertex))
    corner_uv = np.zeros((len(faces), 3, 2))
    uv_faces, uv_to_vertex, offset = np.zeros_like(faces), [], 0
    for uv, (which, local, to_vertex) in zip(_arrange(flats), pieces, strict=True):
        corner_uv[which] = uv[local]
        uv_faces[which] = local + offset
        uv_to_vertex.append(to_vertex)
        offset += len(to_vertex)
    return Atlas(
        corner_uv.astype(np.float32),
        part,
        face_front(vertices, faces, part, joints),
        uv_faces.astype(np.int32),
        np.concatenate(uv_to_vertex).astype(np.int32),
        vertices.astype(np.float32),
        faces.astype(np.int32),
        np.asarray(joints, np.float32),
    )


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, weighted by area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-15)


def face_front(vertices: np.ndarray, faces: np.ndarray, part: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(F,) bool: the front of the face, chin to above the brows, eyes included."""
    centres = vertices[faces].mean(axis=1)
    eyes = joints[list(_EYES)].mean(axis=0)
    names = [PART_NAMES.index(n) for n in ("head", "left_eye", "right_eye")]
    height = float(eyes[1] - joints[_JAW][1]) + 0.09
    near = (np.abs(centres[:, 0]) < 0.075) & (centres[:, 2] > eyes[2] - 0.03)
    near &= (centres[:, 1] > eyes[1] - height - 0.03) & (centres[:, 1] < eyes[1] + 0.05)
    return np.isin(part, names) & near


def _flatten_part(
    name: str, vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, joints: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One island, upright: (U, 2) in metres with v up, faces into it, body vertex of each."""
    ids, local = np.unique(faces, return_inverse=True)
    local = local.reshape(faces.shape)
    island = Island(vertices[ids], local)
    seams = _seams(name, island, normals[ids], joints)
    cut_faces, original = cut(local, seams)
    flat = flatten(island.vertices[original], cut_faces, ITERATIONS.get(name, 20))
    up = -np.abs(vertices[ids, 0]) if "arm" in name or "hand" in name or "palm" in name else vertices[ids, 1]
    return _upright(flat, up[original]), cut_faces, ids[original]


def _seams(name: str, island: Island, normals: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Where an island is cut open, as edges (E, 2)."""
    side = 1.0 if name.startswith("left") else -1.0
    points = island.vertices
    if name == "torso":
        return connect_loops(island, SeamRule(_torso_penalty(points, normals, joints)))
    if name == "head":
        return _head_slit(island, joints)
    if name.endswith("arm"):
        return connect_loops(island, SeamRule(normals[:, 1] + 1))
    if name.endswith("leg"):
        return connect_loops(island, SeamRule(side * normals[:, 0] + 1))
    if name.endswith("foot"):
        return connect_loops(island, SeamRule(normals[:, 2] + 1))
    return connect_loops(island, SeamRule(np.zeros(len(points))))


def _torso_penalty(points: np.ndarray, normals: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Low on the front midline and on the top of the shoulders: the pattern of a vest that opens in front."""
    midline = np.abs(points[:, 0]) / 0.03 + 20 * (normals[:, 2] < -0.3)
    shoulder = joints[list(_SHOULDER)].mean(axis=0)
    top = np.abs(points[:, 2] - shoulder[2]) / 0.03 + np.maximum(shoulder[1] - points[:, 1], 0) / 0.01
    crotch = np.maximum(points[:, 1] - joints[list(_HIP)].mean(axis=0)[1] + 0.02, 0) / 0.02
    return np.minimum(np.minimum(midline, top), crotch)


def _head_slit(island: Island, joints: np.ndarray) -> np.ndarray:
    """From the neck up the back, over the crown, to the hairline."""
    points = island.vertices
    eyes = joints[list(_EYES)].mean(axis=0)
    neck = min(boundary_loops(island.faces), key=lambda loop: points[loop, 1].mean())
    forehead = eyes + np.array([0.0, 0.06, 0.03])
    front = points[:, 2] > eyes[2] - 0.08
    end = int(np.argmin(np.where(front, np.linalg.norm(points - forehead, axis=1), np.inf)))
    penalty = np.abs(points[:, 0]) / 0.02 + 20 * (front & (points[:, 1] < points[end, 1]))
    return slit(island, SeamRule(penalty), neck, end)


def _upright(flat: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Turn an island so that `up` grows with v as well as a plane can say."""
    centred = flat - flat.mean(axis=0)
    slope, *_ = np.linalg.lstsq(centred, up - up.mean(), rcond=None)
    x, y = slope / max(float(np.linalg.norm(slope)), 1e-12)
    return centred @ np.array([[y, x], [-x, y]])


def _arrange(flats: list[np.ndarray]) -> list[np.ndarray]:
    """Pack islands (v up, metres) and give their final coordinates (v down, [0, 1])."""
    sizes = np.stack([f.max(axis=0) - f.min(axis=0) for f in flats])
    corners, turned, scale = pack(sizes, GUTTER)
    placed = []
    for flat, corner, turn in zip(flats, corners, turned, strict=True):
        local = flat * scale * [1, -1]  # v down
        local = np.stack([-local[:, 1], local[:, 0]], axis=1) if turn else local
        placed.append(local - local.min(axis=0) + corner)
    return placed
