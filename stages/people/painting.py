"""The texture and the part labels of a person: every layer's texels painted by where they lie on the body."""

from collections.abc import Callable

import numpy as np

from stages.people.anatomy import FRONT, Anatomy, ClothCoordinates, cloth_coordinates, smoothstep
from stages.people.fabrics import paint_fabric
from stages.people.garments import bottom_field, shoe_field, top_field
from stages.people.hair import above_hairline
from stages.people.labels import Part
from stages.people.outfit import Outfit
from stages.people.skin_and_hair import (
    mix,
    paint_eyes,
    paint_face,
    paint_hair,
    paint_skin,
    strand_coordinates,
)
from stages.people.template import SKIN_LAYERS, TEXTURE_SIZE, Layer, Template, swatch_texels

_CURTAIN_WIDTH, _CURTAIN_LENGTH, _TAIL_WIDTH = 0.75, 0.65, 0.2
"""Metres of hair that the unit squares of curtain and tail stand for."""


def paint(template: Template, outfit: Outfit, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint the atlas.

    Returns:
        texture: (size, size, 3) uint8 sRGB, row 0 on top, no light or shadow baked in.
        parts: (size, size) uint8 class numbers of `Part`.
    """
    lower = outfit.bottom.kind if outfit.bottom.kind == "skirt" else "bottom"
    colours = np.zeros((TEXTURE_SIZE * TEXTURE_SIZE, 3), np.uint8)
    labels = np.zeros(TEXTURE_SIZE * TEXTURE_SIZE, np.uint8)
    # One stream for all skin layers: the mottle must not change where two charts meet.
    skin_seed = int(rng.integers(2**63))
    for name, layer in template.layers.items():
        if name in ("bottom", "skirt") and name != lower:
            continue
        own_rng = np.random.default_rng(skin_seed) if name in SKIN_LAYERS else rng
        colour, label = _PAINTERS[name](layer, outfit, own_rng)
        colours[layer.texel] = np.rint(np.clip(colour, 0, 1) * 255)
        labels[layer.texel] = label
    for swatch, shoe in (("sole_l", Part.LEFT_SHOE), ("sole_r", Part.RIGHT_SHOE)):
        colours[swatch_texels(swatch)] = np.rint(np.array(outfit.shoe_colours[2]) * 255)
        labels[swatch_texels(swatch)] = shoe
    nearest = template.nearest_texel[lower]
    size = (TEXTURE_SIZE, TEXTURE_SIZE)
    return colours[nearest].reshape(*size, 3), labels[nearest].reshape(size)


Painted = tuple[np.ndarray, np.ndarray]
Painter = Callable[[Layer, Outfit, np.random.Generator], Painted]


def _skin(layer: Layer, outfit: Outfit, rng: np.random.Generator) -> Painted:
    at = layer.texel_anatomy
    colour = paint_skin(outfit.looks, at, rng)
    y = at.reference[:, 1]
    left = at.reference[:, 0] > 0
    label = np.where(_throat(at), Part.TORSO_SKIN, Part.FACE)
    label = np.where(at.arm_weight > 0.5, np.where(left, Part.LEFT_ARM, Part.RIGHT_ARM), label)
    label = np.where((y < 0.0) & (at.arm_weight < 0.5), np.where(left, Part.LEFT_LEG, Part.RIGHT_LEG), label)
    if layer.name == "head":
        colour = paint_face(colour, outfit.looks, at, layer.texel_uv)
        if outfit.looks.hair is not None:
            label = np.where(above_hairline(at, outfit.looks.recession) > 0, Part.HAIR, label)
    if outfit.socks is not None:
        sock = (y < outfit.socks) & (at.arm_weight < 0.5)
        rib = 0.93 + 0.05 * np.sin(400 * y)
        colour = np.where(sock[:, None], np.array(outfit.shoe_colours[2]) * rib[:, None], colour)
        label = np.where(sock, Part.SOCKS, label)
    return colour, label


def _throat(at: Anatomy) -> np.ndarray:
    """Below the jaw: a plane from under the chin to behind the ears."""
    return at.reference[:, 1] < 0.632 + 0.25 * np.clip(0.11 - at.reference[:, 2], 0, 0.2)


def _eyes(layer: Layer, outfit: Outfit, rng: np.random.Generator) -> Painted:
    return paint_eyes(outfit.looks, layer.texel_anatomy), np.full(len(layer.texel), Part.FACE)


def _top(layer: Layer, outfit: Outfit, rng: np.random.Generator) -> Painted:
    at = layer.texel_anatomy
    cloth = cloth_coordinates(at)
    colour = paint_fabric(outfit.top_fabric, cloth, rng)
    edge = top_field(outfit.top, at)
    if outfit.coat:
        colour = _open_front(colour, outfit, cloth)
    if outfit.trim is not None:
        colour = mix(colour, np.array(outfit.trim), smoothstep(0.022, 0.014, edge))
    if outfit.buttons:
        colour = _placket(colour, cloth)
    colour = _seams(colour, edge)
    label = Part.DRESS if outfit.dress else Part.COAT if outfit.coat else Part.UPPER_CLOTHES
    return colour, np.full(len(colour), label)


def _bottom(layer: Layer, outfit: Outfit, rng: np.random.Generator) -> Painted:
    at = layer.texel_anatomy
    trousers = outfit.bottom.kind == "trousers"
    cloth = cloth_coordinates(at, trousers=trousers)
    colour = paint_fabric(outfit.bottom_fabric, cloth, rng)
    colour = _seams(colour, bottom_field(outfit.bottom, at))
    if trousers:
        colour = _pockets_and_fly(colour, at)
    if outfit.belt is not None:
        belt = smoothstep(0.040, 0.036, outfit.bottom.waist - at.reference[:, 1])
        colour = mix(colour, np.array(outfit.belt), belt)
        buckle = belt * (np.abs(cloth.s) < 0.02) * (cloth.piece == FRONT)
        colour = mix(colour, np.array([0.75, 0.70, 0.55]), 0.9 * buckle)
    label = Part.DRESS if outfit.dress else Part.PANTS if trousers else Part.SKIRT
    return colour, np.full(len(colour), label)


def _shoes(layer: Layer, outfit: Outfit, rng: np.random.Generator) -> Painted:
    at = layer.texel_anatomy
    upper, accent = (np.array(c) for c in outfit.shoe_colours[:2])
    x, y, z = at.reference.T
    colour = np.tile(upper, (len(y), 1))
    laces = (
        (np.abs(np.abs(x) - 0.205) < 0.018) & (np.sin(z * 420) > 0.2) & (z > 0.03) & (z < 0.13) & (y > -0.79)
    )
    colour = mix(colour, accent, 0.85 * laces)
    colour = mix(colour, accent, 0.8 * smoothstep(0.018, 0.010, shoe_field(outfit.shoes, at)))
    return colour, np.where(x > 0, Part.LEFT_SHOE, Part.RIGHT_SHOE)


def _cap(layer: Layer, outfit: Outfit, rng: np.random.Generator) -> Painted:
    across, along = strand_coordinates(layer.texel_anatomy)
    return paint_hair(outfit.looks, across, along, rng), np.full(len(across), Part.HAIR)


def _curtain(layer: Layer, outfit: Outfit, rng: np.random.Generator) -> Painted:
    across, along = layer.texel_uv.T * np.array([[_CURTAIN_WIDTH], [_CURTAIN_LENGTH]])
    return paint_hair(outfit.looks, across, along, rng), np.full(len(across), Part.HAIR)


def _tail(layer: Layer, outfit: Outfit, rng: np.random.Generator) -> Painted:
    across, along = layer.texel_uv.T * np.array([[_TAIL_WIDTH], [outfit.looks.tail_length]])
    return paint_hair(outfit.looks, across, along, rng), np.full(len(across), Part.HAIR)


_PAINTERS: dict[str, Painter] = {
    **dict.fromkeys(SKIN_LAYERS, _skin),
    "eye_l": _eyes,
    "eye_r": _eyes,
    "top": _top,
    "bottom": _bottom,
    "skirt": _bottom,
    "shoes": _shoes,
    "cap": _cap,
    "curtain": _curtain,
    "tail": _tail,
}


def _seams(colour: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """A stitched line 1.6 cm inside every border; narrower than two texels it would look like teeth."""
    stitch = np.exp(-(((edge - 0.016) / 0.0035) ** 2))
    return colour * (1 - 0.15 * stitch)[:, None]


def _open_front(colour: np.ndarray, outfit: Outfit, cloth: ClothCoordinates) -> np.ndarray:
    """A strip of shirt down the front, wider at the chest, between dark edges."""
    width = 0.022 + 0.20 * np.clip(cloth.t - 0.25, 0, 0.3)
    front = cloth.piece == FRONT
    inside = smoothstep(0.002, -0.002, np.abs(cloth.s) - width) * front
    rim = np.exp(-(((np.abs(cloth.s) - width - 0.005) / 0.004) ** 2)) * front
    return mix(colour, np.array(outfit.shirt), inside) * (1 - 0.45 * rim)[:, None]


def _placket(colour: np.ndarray, cloth: ClothCoordinates) -> np.ndarray:
    front = cloth.piece == FRONT
    edge = np.exp(-(((np.abs(cloth.s) - 0.016) / 0.0025) ** 2)) * front
    button = (np.hypot(cloth.s, (cloth.t + 0.04) % 0.085 - 0.0425) < 0.0055) & front
    colour = colour * (1 - 0.3 * edge)[:, None]
    return mix(colour, np.array([0.92, 0.90, 0.85]), 0.9 * button)


def _pockets_and_fly(colour: np.ndarray, at: Anatomy) -> np.ndarray:
    x, y, z = at.reference.T
    side = np.abs(x)
    front, back = z > 0.03, z < 0.0
    slanted = (
        np.exp(-(((y - 0.13 + 0.9 * (side - 0.10)) / 0.003) ** 2)) * front * (side > 0.09) * (side < 0.15)
    )
    patch = np.maximum(np.abs(side - 0.085) / 0.055, np.abs(y - 0.045) / 0.06)
    outline = np.exp(-(((patch - 1) / 0.05) ** 2)) * back
    fly = np.exp(-((x / 0.003) ** 2)) * front * (y > 0.0)
    return colour * (1 - 0.3 * np.clip(slanted + outline + fly, 0, 1))[:, None]
