"""The person-independent part of a scan: surface patches, their place in the texture, what each texel shows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import trimesh
from scipy.ndimage import distance_transform_edt
from trimesh.ray.ray_pyembree import RayMeshIntersector

from stages.people.anatomy import Anatomy, measure
from stages.people.base import BaseGeometry
from stages.people.hair import curtain_patch, tail_patch
from stages.people.patches import Patch, patch_of, vertex_normals

TEXTURE_SIZE = 1024

# Layer → rectangle (left, top, width, height) in texels. A skirt takes the place of trousers ("bottom").
SLOTS: dict[str, tuple[int, int, int, int]] = {
    "head": (0, 0, 300, 540),
    "top": (304, 0, 480, 344),
    "curtain": (788, 0, 236, 344),
    "shoes": (304, 348, 300, 192),
    "hand_l": (608, 348, 120, 140),
    "hand_r": (732, 348, 120, 140),
    "eye_l": (608, 492, 60, 48),
    "eye_r": (672, 492, 60, 48),
    "tail": (856, 348, 168, 192),
    "trunk": (0, 544, 330, 360),
    "bottom": (334, 544, 420, 480),
    "cap": (758, 544, 266, 480),
    "foot_l": (0, 908, 160, 116),
    "foot_r": (164, 908, 160, 116),
}

SKIN_LAYERS = ("head", "trunk", "hand_l", "hand_r", "foot_l", "foot_r")
SWATCHES = {"sole_l": (744, 500, 32, 32), "sole_r": (784, 500, 32, 32)}
"""Rectangles of one colour each, for surfaces too narrow to have texels of their own."""

GARMENT_TOP_LOW, GARMENT_BOTTOM_HIGH, SHOE_HIGH = -0.2, 0.32, -0.45
"""Heights on the neutral body, m: how far down a top, up trousers and up a boot may reach."""


@dataclass(frozen=True)
class Layer:
    """One surface of the template: geometry with atlas coordinates, and its texels.

    Attributes:
        patch: `uv` are atlas coordinates, v up.
        weights: (N, 55) skinning.
        anatomy: of its vertices.
        texel: (T,) flat numbers of the texels it covers (row 0 = top of the image).
        texel_anatomy: of the points that these texels show.
        texel_uv: (T, 2) the point's coordinates in the base mesh's own UV layout, v up.
    """

    name: str
    patch: Patch
    weights: np.ndarray
    anatomy: Anatomy
    texel: np.ndarray
    texel_anatomy: Anatomy
    texel_uv: np.ndarray


@dataclass(frozen=True)
class Template:
    """All layers, and what fills the atlas between them.

    Attributes:
        anatomy: of the base mesh's vertices.
        nearest_texel: by what the lower body wears ("bottom" or "skirt"), (size²,) the covered texel nearest
            to each texel, so that charts bleed into the gaps.
    """

    layers: Mapping[str, Layer]
    anatomy: Anatomy
    nearest_texel: Mapping[str, np.ndarray]


def build_template(base: BaseGeometry) -> Template:
    """Make every patch, place it in the atlas and find what its texels show. Takes a few seconds, once a process."""
    triangles = np.concatenate([base.triangles(g) for g in base.quads])
    normals = vertex_normals(base.vertices, triangles)
    anatomy = measure(base.vertices, normals, base.weights, base.joints)
    patches = {**_skin_patches(base), **_garment_patches(base), **_hair_patches(base, anatomy)}
    layers = {}
    for name, patch in patches.items():
        placed = replace(patch, uv=_place(patch.uv, SLOTS["bottom" if name == "skirt" else name]))
        layers[name] = _layer(name, placed, patch.uv, base.weights, anatomy)
    swatches = [swatch_texels(name) for name in SWATCHES]
    nearest = {
        lower: _nearest(np.concatenate([*swatches, *(la.texel for n, la in layers.items() if n != other)]))
        for lower, other in (("bottom", "skirt"), ("skirt", "bottom"))
    }
    return Template(layers, anatomy, nearest)


def swatch_uv(name: str) -> tuple[float, float]:
    """Centre of a swatch, v up."""
    left, top, width, height = SWATCHES[name]
    return (left + width / 2) / TEXTURE_SIZE, 1 - (top + height / 2) / TEXTURE_SIZE


def swatch_texels(name: str) -> np.ndarray:
    """Flat texel numbers of a swatch."""
    left, top, width, height = SWATCHES[name]
    rows, columns = np.mgrid[top : top + height, left : left + width]
    return (rows * TEXTURE_SIZE + columns).ravel()


def _skin_patches(base: BaseGeometry) -> dict[str, Patch]:
    """The body's UV islands. The inside of the mouth, never seen, is left out."""
    quads, uv_quads = base.quads["body"], base.uv_quads["body"]
    island = _islands(uv_quads)
    patches = {}
    for number in np.unique(island):
        mine = island == number
        name = _island_name(base.vertices[quads[mine]].reshape(-1, 3), int(mine.sum()))
        if name is not None:
            patches[name] = patch_of(len(base.vertices), quads[mine], uv_quads[mine], base.uv)
    for name, group in (("eye_l", "helper-l-eye"), ("eye_r", "helper-r-eye")):
        patches[name] = patch_of(len(base.vertices), base.quads[group], base.uv_quads[group], base.uv)
    return patches


def _islands(uv_quads: np.ndarray) -> np.ndarray:
    """Number of the connected UV piece of each quad."""
    edges = np.stack([uv_quads, np.roll(uv_quads, -1, axis=1)], axis=-1).reshape(-1, 2)
    size = int(uv_quads.max()) + 1
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return sp.csgraph.connected_components(graph, directed=False)[1][uv_quads[:, 0]]


def _island_name(points: np.ndarray, quads: int) -> str | None:
    """Which body part an island is, from where it lies on the neutral body."""
    centre, spread = points.mean(axis=0), np.ptp(points, axis=0)
    side = "l" if centre[0] > 0 else "r"
    if centre[1] < -0.7:
        return f"foot_{side}"
    if abs(centre[0]) > 0.35 and spread[1] < 0.3:
        return f"hand_{side}"
    if spread[1] > 0.8:
        return "trunk"
    return "head" if centre[1] > 0.6 and quads > 2000 else None


def _garment_patches(base: BaseGeometry) -> dict[str, Patch]:
    quads, uv_quads = base.quads["helper-tights"], base.uv_quads["helper-tights"]
    height = base.vertices[quads][..., 1].mean(axis=1)
    foot = _islands(uv_quads) != np.bincount(_islands(uv_quads)).argmax()
    chosen = {
        "top": height > GARMENT_TOP_LOW,
        "bottom": (height < GARMENT_BOTTOM_HIGH) & ~_on_arm(base, quads) & ~foot,
        "shoes": height < SHOE_HIGH,
    }
    size = len(base.vertices)
    patches = {n: patch_of(size, quads[m], uv_quads[m], base.uv, 1) for n, m in chosen.items()}
    skirt = base.quads["helper-skirt"]
    patches["skirt"] = patch_of(size, skirt, base.uv_quads["helper-skirt"], base.uv, 1)
    return patches


def _on_arm(base: BaseGeometry, quads: np.ndarray) -> np.ndarray:
    return np.abs(base.vertices[quads][..., 0]).mean(axis=1) > 0.26


def _hair_patches(base: BaseGeometry, anatomy: Anatomy) -> dict[str, Patch]:
    """A finer copy of the scalp, the hanging curtain, and a tail or bun."""
    quads, uv_quads = base.quads["body"], base.uv_quads["body"]
    points = base.vertices[quads].mean(axis=1)
    scalp = (points[:, 1] > 0.62) & ((points[:, 2] < 0.11) | (points[:, 1] > 0.765))
    scalp &= (base.uv[uv_quads].mean(axis=1) > [0.6, 0.15]).all(axis=1)  # the head's island, not the mouth's
    return {
        "cap": patch_of(len(base.vertices), quads[scalp], uv_quads[scalp], base.uv, 1),
        "curtain": curtain_patch(base.quads["helper-hair"], len(base.vertices)),
        "tail": tail_patch(base.vertices, anatomy.normal),
    }


def _place(uv: np.ndarray, slot: tuple[int, int, int, int]) -> np.ndarray:
    """Stretch the patch's UV box to a rectangle of the atlas, half a texel inside it."""
    left, top, width, height = slot
    low, high = uv.min(axis=0), uv.max(axis=0)
    unit = (uv - low) / (high - low)
    u = (left + 1 + unit[:, 0] * (width - 2)) / TEXTURE_SIZE
    v = 1 - (top + 1 + (1 - unit[:, 1]) * (height - 2)) / TEXTURE_SIZE
    return np.stack([u, v], axis=1)


def _layer(name: str, patch: Patch, own_uv: np.ndarray, weights: np.ndarray, anatomy: Anatomy) -> Layer:
    of_vertices = anatomy.blend(patch.lift)
    texel, face, barycentric = _rasterise(patch.uv, patch.uv_faces)
    rows = np.repeat(np.arange(len(texel)), 3)

    def interpolation(faces: np.ndarray, count: int) -> sp.csr_matrix:
        corners = (barycentric.ravel(), (rows, faces[face].ravel()))
        return sp.csr_matrix(corners, shape=(len(texel), count))

    return Layer(
        name,
        patch,
        patch.lift @ weights,
        of_vertices,
        texel,
        of_vertices.blend(interpolation(patch.faces, patch.size)),
        interpolation(patch.uv_faces, len(own_uv)) @ own_uv,
    )


def _rasterise(uv: np.ndarray, uv_faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texels whose centre lies in a UV triangle: flat texel, face, (T, 3) barycentrics."""
    box = np.concatenate([uv.min(axis=0), uv.max(axis=0)]) * TEXTURE_SIZE
    columns = np.arange(int(box[0]), int(np.ceil(box[2])))
    rows = np.arange(int(TEXTURE_SIZE - box[3]), int(np.ceil(TEXTURE_SIZE - box[1])))
    x, y = (a.ravel() for a in np.meshgrid(columns, rows))
    centres = np.stack([(x + 0.5) / TEXTURE_SIZE, 1 - (y + 0.5) / TEXTURE_SIZE], axis=1)
    flat = trimesh.Trimesh(np.pad(uv, ((0, 0), (0, 1))), uv_faces, process=False)
    origins = np.pad(centres, ((0, 0), (0, 1)), constant_values=1.0)
    face = RayMeshIntersector(flat).intersects_first(origins, np.tile([0.0, 0.0, -1.0], (len(origins), 1)))
    hit = face >= 0
    a, b, c = (uv[uv_faces[face[hit], k]] for k in range(3))
    area = _cross(b - a, c - a)
    second = _cross(centres[hit] - a, c - a) / area
    third = _cross(b - a, centres[hit] - a) / area
    barycentric = np.clip(np.stack([1 - second - third, second, third], axis=1), 0, 1)
    return (y * TEXTURE_SIZE + x)[hit], face[hit], barycentric


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _nearest(covered: np.ndarray) -> np.ndarray:
    """(size²,) the covered texel nearest to each texel, so that charts bleed into the gaps."""
    empty = np.ones(TEXTURE_SIZE * TEXTURE_SIZE, bool)
    empty[covered] = False
    rows, columns = distance_transform_edt(
        empty.reshape(TEXTURE_SIZE, TEXTURE_SIZE), return_distances=False, return_indices=True
    )
    return (rows * TEXTURE_SIZE + columns).ravel()
