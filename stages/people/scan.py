"""One person in one pose as a raw scan: clothes cut and hung once per person, then posed and joined."""

from dataclasses import dataclass

import numpy as np

from stages.people.anatomy import cloth_coordinates, smoothstep
from stages.people.garments import (
    WHOLE_LEG,
    bottom_field,
    drape,
    folds,
    shoe_field,
    sole_field,
    top_field,
    waves,
    widen,
)
from stages.people.hair import above_hairline, curtain_length, shell_thickness, tail_shape
from stages.people.outfit import Outfit
from stages.people.patches import Cut, clip, drop_faces, hem, neighbour_mean, vertex_normals, whole
from stages.people.poses import PosedSkeleton, skin
from stages.people.template import SKIN_LAYERS, Layer, Template, swatch_uv

COVERED = 0.022
"""How far under a border, m, a lower layer still reaches; beyond that it is taken away."""


@dataclass(frozen=True)
class Piece:
    """A dressed surface before posing.

    Attributes:
        rest: (N, 3) in the T-pose, m.
        weights: (N, 55).
        cut: what of it is kept.
        thickness: of the hem turned inwards at its borders, m; 0 = none.
    """

    rest: np.ndarray
    weights: np.ndarray
    cut: Cut
    thickness: float = 0.0


@dataclass(frozen=True)
class ScanMesh:
    """A triangle mesh with one texture.

    Attributes:
        vertices: (V, 3) float, m, y up.
        faces: (F, 3).
        uv: (U, 2), v up.
        uv_faces: (F, 3).
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray


def dress(template: Template, body: np.ndarray, outfit: Outfit, rng: np.random.Generator) -> list[Piece]:
    """All visible surfaces of a person.

    Args:
        body: (base vertices, 3) the T-posed person with helpers, m.
    """
    layers = template.layers
    lower = layers["skirt" if outfit.bottom.kind == "skirt" else "bottom"]
    pieces = [_skin_piece(layers[name], body, outfit) for name in SKIN_LAYERS]
    pieces += [_plain_piece(layers[name], body) for name in ("eye_l", "eye_r")]
    pieces += [_top_piece(layers["top"], body, outfit, rng), _bottom_piece(lower, body, outfit, rng)]
    pieces += _shoe_pieces(layers["shoes"], body, outfit)
    return [p for p in pieces + _hair_pieces(template, body, outfit, rng) if len(p.cut.faces)]


def assemble(pieces: list[Piece], skeleton: PosedSkeleton) -> ScanMesh:
    """Pose and join the pieces. The frame is the skeleton's; see `drop_to_floor`."""
    vertices, faces, uv, uv_faces = [], [], [], []
    vertex_count = uv_count = 0
    for piece in pieces:
        cut = piece.cut
        points = cut.blend @ skin(piece.rest, piece.weights, skeleton)
        triangles, uv_triangles = cut.faces, cut.uv_faces
        if piece.thickness:
            inner, strip, uv_strip = hem(cut)
            inwards = vertex_normals(points, triangles)[inner] * piece.thickness
            points = np.concatenate([points, points[inner] - inwards])
            triangles = np.concatenate([triangles, strip])
            uv_triangles = np.concatenate([uv_triangles, uv_strip])
        vertices.append(points)
        faces.append(triangles + vertex_count)
        uv.append(cut.uv)
        uv_faces.append(uv_triangles + uv_count)
        vertex_count, uv_count = vertex_count + len(points), uv_count + len(cut.uv)
    return ScanMesh(*(np.concatenate(a) for a in (vertices, faces, uv, uv_faces)))


def _whole_cut(layer: Layer) -> Cut:
    patch = layer.patch
    return whole(patch.faces, patch.uv, patch.uv_faces, patch.size)


def _plain_piece(layer: Layer, body: np.ndarray) -> Piece:
    return Piece(layer.patch.lift @ body, layer.weights, _whole_cut(layer))


def _skin_piece(layer: Layer, body: np.ndarray, outfit: Outfit) -> Piece:
    """Bare skin, without what clothes and hair hide."""
    at = layer.anatomy
    covers = [top_field(outfit.top, at), bottom_field(outfit.bottom, at), shoe_field(outfit.shoes, at)]
    if outfit.looks.hair is not None:
        covers.append(above_hairline(at, outfit.looks.recession) - 0.005)
    # One garment must cover a whole face: between two that almost meet, skin shows.
    hidden = np.any([(cover > COVERED)[layer.patch.faces].all(axis=1) for cover in covers], axis=0)
    return Piece(layer.patch.lift @ body, layer.weights, drop_faces(_whole_cut(layer), hidden))


def _top_piece(layer: Layer, body: np.ndarray, outfit: Outfit, rng: np.random.Generator) -> Piece:
    at, top = layer.anatomy, outfit.top
    over_trousers = 0.0 if top.tucked else (outfit.bottom.ease + 0.006)
    y = at.reference[:, 1]
    trunk = smoothstep(0.45, 0.25, y) * (at.arm_weight < 0.5)
    ease = top.ease + trunk * (over_trousers * smoothstep(0.26, 0.16, y) + 0.012 * top.looseness)
    rest = _hang(layer, body, ease, top.looseness, rng)
    cut = clip(_whole_cut(layer), top_field(top, at))
    if top.tucked:
        rest = _tuck(rest, layer, body, outfit.bottom.waist)
        cut = _without(cut, layer, bottom_field(outfit.bottom, at))
    return Piece(rest, layer.weights, cut, thickness=0.7 * top.ease + 0.002)


def _tuck(rest: np.ndarray, layer: Layer, body: np.ndarray, waist: float) -> np.ndarray:
    """Draw a top in towards the body where a waistband holds it."""
    patch = layer.patch
    lying = patch.lift @ body
    tight = lying + 0.003 * vertex_normals(lying, patch.faces)
    held = smoothstep(waist + 0.05, waist, layer.anatomy.reference[:, 1])[:, None]
    return rest + held * (layer.anatomy.arm_weight < 0.5)[:, None] * (tight - rest)


def _bottom_piece(layer: Layer, body: np.ndarray, outfit: Outfit, rng: np.random.Generator) -> Piece:
    at, bottom = layer.anatomy, outfit.bottom
    over_top = (
        (outfit.top.ease + 0.004) * smoothstep(0.02, 0.12, at.reference[:, 1]) if outfit.top.tucked else 0.0
    )
    over_shoes = (outfit.shoes.bulk + 0.008) * smoothstep(0.58, 0.72, at.leg)
    rest = _hang(layer, body, np.maximum(bottom.ease + over_top, over_shoes), bottom.looseness, rng)
    rest = _flare(rest, layer, outfit)
    rest[:, 1] -= bottom.drop * smoothstep(0.55, WHOLE_LEG, at.leg)
    cut = clip(_whole_cut(layer), bottom_field(bottom, at))
    if not outfit.top.tucked:
        cut = _without(cut, layer, top_field(outfit.top, at))
    return Piece(rest, layer.weights, cut, thickness=0.7 * bottom.ease + 0.002)


def _flare(rest: np.ndarray, layer: Layer, outfit: Outfit) -> np.ndarray:
    at, bottom = layer.anatomy, outfit.bottom
    if bottom.kind == "skirt":
        share = bottom.flare * smoothstep(0.05, -0.6, at.reference[:, 1])
        axis = np.zeros_like(rest)
        return widen(rest, axis, share)
    left = at.reference[:, 0] > 0
    share = bottom.flare * smoothstep(0.05 if bottom.length < 0.5 else 0.40, bottom.length, at.leg)
    axis = np.zeros_like(rest)
    for side in (left, ~left):
        axis[side] = np.median(rest[side & (at.leg > 0.1)], axis=0)
    return widen(rest, axis, share)


def _hang(
    layer: Layer, body: np.ndarray, ease: np.ndarray, looseness: float, rng: np.random.Generator
) -> np.ndarray:
    """Offset, drape and fold a garment."""
    patch = layer.patch
    lying = patch.lift @ body
    mean = neighbour_mean(patch.faces, patch.size)
    cloth = drape(lying, patch.faces, mean, ease, looseness)
    trousers = layer.name == "bottom"
    wrinkles = folds(
        cloth_coordinates(layer.anatomy, trousers), layer.anatomy, 0.0015 + 0.0035 * looseness, rng
    )
    return cloth + vertex_normals(cloth, patch.faces) * wrinkles[:, None]


def _without(cut: Cut, layer: Layer, cover: np.ndarray) -> Cut:
    """Take away what lies deeper than COVERED under another garment."""
    deep = (cut.blend @ cover) > COVERED
    return drop_faces(cut, deep[cut.faces].all(axis=1))


def _shoe_pieces(layer: Layer, body: np.ndarray, outfit: Outfit) -> list[Piece]:
    """Uppers and soles of both feet."""
    patch, at = layer.patch, layer.anatomy
    foot = patch.lift @ body
    ease = np.full(patch.size, outfit.shoes.bulk)
    foot = drape(foot, patch.faces, neighbour_mean(patch.faces, patch.size), ease, 0.0)
    shoe = clip(_whole_cut(layer), shoe_field(outfit.shoes, at))
    if outfit.bottom.kind == "trousers":
        shoe = _without(shoe, layer, bottom_field(outfit.bottom, at))
    upper, below = clip(shoe, sole_field(at)), clip(shoe, -sole_field(at))
    return [Piece(foot, layer.weights, upper), _sole_piece(below, foot, layer, outfit.shoes.sole)]


def _sole_piece(below: Cut, foot: np.ndarray, layer: Layer, thickness: float) -> Piece:
    """Flatten what lies below the upper to the floor and put a wall around it."""
    edge, wall, _ = hem(below)
    points, weights = below.blend @ foot, below.blend @ layer.weights
    flat = points.copy()
    flat[:, 1] = foot[:, 1].min() - thickness
    faces = np.concatenate([below.faces, wall])
    left = (below.blend @ layer.anatomy.reference)[faces[:, 0], 0] > 0
    # A wall of a few millimetres has no texels of its own: soles take a swatch's colour.
    swatches = np.array([swatch_uv("sole_r"), swatch_uv("sole_l")])
    uv_faces = np.repeat(left[:, None].astype(int), 3, axis=1)
    return Piece(
        np.concatenate([flat, points[edge]]),
        np.concatenate([weights, weights[edge]]),
        whole(faces, swatches, uv_faces, len(flat) + len(edge)),
    )


def _hair_pieces(
    template: Template, body: np.ndarray, outfit: Outfit, rng: np.random.Generator
) -> list[Piece]:
    looks = outfit.looks
    if looks.hair is None:
        return []
    cap = template.layers["cap"]
    scalp = cap.patch.lift @ body
    x, y, _ = cap.anatomy.reference.T
    uneven = min(0.28, 0.006 / looks.hair.top)  # tufts of at most a few millimetres
    clumps = 1 + uneven * waves(x, y, rng, count=8, wavelength=(0.02, 0.06))
    thickness = shell_thickness(cap.anatomy, looks.hair, looks.recession, clumps)
    shell = scalp + vertex_normals(scalp, cap.patch.faces) * thickness[:, None]
    cut = clip(_whole_cut(cap), above_hairline(cap.anatomy, looks.recession))
    pieces = [Piece(shell, cap.weights, cut, thickness=0.004)]
    if looks.hair.curtain is not None:
        pieces.append(_curtain_piece(template.layers["curtain"], body, outfit))
    if looks.hair.tail is not None:
        tail = template.layers["tail"]
        rest = tail.patch.lift @ body + tail_shape(looks.hair.tail, looks.tail_length)
        pieces.append(Piece(rest, tail.weights, _whole_cut(tail)))
    return pieces


def _curtain_piece(layer: Layer, body: np.ndarray, outfit: Outfit) -> Piece:
    """The hanging hair, off the back by what the clothes under it take."""
    assert outfit.looks.hair is not None
    patch = layer.patch
    rest = patch.lift @ body
    clearance = (outfit.top.ease + 0.012) * smoothstep(0.62, 0.54, layer.anatomy.reference[:, 1])
    rest = rest + vertex_normals(rest, patch.faces) * (0.004 + clearance)[:, None]
    length = curtain_length(patch, layer.anatomy, outfit.looks.hair)
    return Piece(rest, layer.weights, clip(_whole_cut(layer), length), thickness=0.006)
