"""Garments from the helper tights and skirt: where they are cut, how far they stand off, how they hang and fold."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp

from stages.people.anatomy import Anatomy, ClothCoordinates, smoothstep
from stages.people.patches import vertex_normals

Collar = Literal["crew", "scoop", "v", "boat", "high"]

# Semi-axes (x, y, z) of the ellipsoid around the neck that a collar leaves free, m.
_COLLARS: dict[str, tuple[float, float, float]] = {
    "crew": (0.088, 0.072, 0.088),
    "v": (0.088, 0.072, 0.088),
    "scoop": (0.115, 0.120, 0.110),
    "boat": (0.140, 0.075, 0.090),
}
_NECK_BASE = np.array([0.0, 0.605, 0.028])
WHOLE_SLEEVE, WHOLE_LEG = 0.459, 0.752
"""Where the tights end: metres from the shoulder along the arm, and from the hip along the leg."""

NECK_TOP = 0.64
"""Above every garment, m: the tights end a little lower."""


@dataclass(frozen=True)
class Top:
    """A shirt, pullover, jacket or the upper part of a dress; lengths on the neutral body, m.

    Attributes:
        sleeve: metres from the shoulder along the arm; 0 = sleeveless.
        hem: height of the lower border (crotch −0.02, waist 0.19).
        v_depth: height of the lowest point of a V collar.
        ease: distance from the skin.
        looseness: 0 follows the body, 1 hangs.
        tucked: worn inside the trousers.
    """

    sleeve: float
    hem: float
    collar: Collar = "crew"
    v_depth: float = 0.47
    ease: float = 0.008
    looseness: float = 0.3
    tucked: bool = False


@dataclass(frozen=True)
class Bottom:
    """Trousers, shorts or a skirt; lengths on the neutral body, m.

    Attributes:
        kind: which helper it is made of.
        waist: height of the upper border.
        length: trousers: metres from the hip along the leg (knee 0.42, at most 0.752); skirt: height of the hem.
        drop: how much further down the hem is pulled, for trousers that reach the shoe (ankle 0.80).
        flare: widening towards the hem, share of the limb's distance from its axis.
    """

    kind: Literal["trousers", "skirt"]
    waist: float
    length: float
    ease: float = 0.008
    looseness: float = 0.3
    flare: float = 0.0
    drop: float = 0.0


@dataclass(frozen=True)
class Shoes:
    """Shoes or boots.

    Attributes:
        height: of the upper border on the neutral body, m (ankle −0.745, floor −0.82).
        sole: thickness below the foot, m.
        bulk: distance of the upper from the foot, m.
    """

    height: float
    sole: float = 0.025
    bulk: float = 0.006


def top_field(top: Top, anatomy: Anatomy) -> np.ndarray:
    """(N,) metres inside the garment; negative where it leaves the body free."""
    x, y, z = anatomy.reference.T
    field = np.minimum(y - top.hem, NECK_TOP - y)
    if top.sleeve > 0:
        field = np.minimum(field, top.sleeve - anatomy.arm)
    else:
        field = np.minimum(field, 0.12 * (0.42 - anatomy.arm_weight))
    if top.collar != "high":
        field = np.minimum(field, _outside_collar(np.array(_COLLARS[top.collar]), anatomy.reference))
    if top.collar == "v":
        slope = (0.57 - top.v_depth) / 0.07
        line = (top.v_depth + slope * np.abs(x) - y) / np.hypot(1, slope)
        field = np.minimum(field, np.maximum(line, 0.02 - z))
    return field


def _outside_collar(axes: np.ndarray, points: np.ndarray) -> np.ndarray:
    unit = (points - _NECK_BASE) / axes
    unit[:, 1] = np.minimum(unit[:, 1], 0.0)  # a tube upwards: the whole neck is free
    return (np.linalg.norm(unit, axis=1) - 1) * axes.min()


def bottom_field(bottom: Bottom, anatomy: Anatomy) -> np.ndarray:
    """(N,) metres inside the garment; arms are always outside."""
    y = anatomy.reference[:, 1]
    lower = y - bottom.length if bottom.kind == "skirt" else bottom.length - anatomy.leg
    field = np.minimum(bottom.waist - y, lower)
    return np.where(anatomy.arm_weight > 0.5, -0.1, field)


def shoe_field(shoes: Shoes, anatomy: Anatomy) -> np.ndarray:
    """(N,) metres below the shoe's upper border, which is a little lower towards the toes."""
    return shoes.height - anatomy.reference[:, 1] - 0.04 * np.maximum(anatomy.reference[:, 2], 0)


def drape(
    body: np.ndarray, faces: np.ndarray, mean: sp.csr_matrix, ease: np.ndarray, looseness: float
) -> np.ndarray:
    """Offset a patch from the body and let it span hollows.

    Args:
        body: (N, 3) the patch lying on the body, m.
        mean: neighbour averages of the patch.
        ease: (N,) distance from the body, m.
        looseness: 0–1; more of it smooths longer.

    Returns:
        (N, 3); nowhere nearer to the body, along its normal, than 0.7 of `ease`.
    """
    normals = vertex_normals(body, faces)
    cloth = body + normals * ease[:, None]
    for _ in range(5 + round(40 * looseness)):
        cloth = 0.4 * cloth + 0.6 * (mean @ cloth)
        missing = 0.7 * ease - ((cloth - body) * normals).sum(axis=1)
        cloth += normals * np.maximum(missing, 0)[:, None]
    return cloth


def widen(points: np.ndarray, axis: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Move points (N, 3) horizontally away from `axis` (N, 3) by `share` (N,) of their distance."""
    away = (points - axis) * [1, 0, 1]
    return points + away * share[:, None]


def folds(
    coordinates: ClothCoordinates, anatomy: Anatomy, depth: float, rng: np.random.Generator
) -> np.ndarray:
    """(N,) outward displacement, m: rings where limbs bend and at cuffs, slack diagonals elsewhere."""
    s, t = coordinates.s, coordinates.t
    slack = waves(s, t, rng, count=7, wavelength=(0.10, 0.22), along=0.8)
    rings = waves(s, t, rng, count=6, wavelength=(0.05, 0.09), along=4.0)
    elbow = np.exp(-(((anatomy.arm - 0.23) / 0.06) ** 2))
    cuff = smoothstep(0.36, 0.46, anatomy.arm)
    knee = np.exp(-(((anatomy.leg - 0.42) / 0.08) ** 2))
    ankle = smoothstep(0.62, 0.80, anatomy.leg)
    groin = 0.7 * np.exp(-(((anatomy.leg - 0.06) / 0.06) ** 2))
    waist = 0.6 * np.exp(-(((anatomy.reference[:, 1] - 0.16) / 0.07) ** 2)) * (anatomy.arm_weight < 0.5)
    bend = np.clip(np.maximum.reduce([elbow, cuff, knee, ankle, groin, waist]), 0, 1)
    return depth * (0.55 * slack + 0.9 * bend * rings)


def waves(
    s: np.ndarray,
    t: np.ndarray,
    rng: np.random.Generator,
    *,
    count: int,
    wavelength: tuple[float, float],
    along: float = 1.0,
) -> np.ndarray:
    """(N,) smooth noise of about unit amplitude: a sum of random plane waves.

    Args:
        wavelength: range in the unit of `s` and `t`.
        along: > 1 makes crests run across (`s`), < 1 along (`t`).
    """
    length = rng.uniform(*wavelength, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    direction = np.stack([np.cos(angle), along * np.sin(angle)])
    direction /= np.linalg.norm(direction, axis=0)
    frequency = 2 * np.pi * direction / length
    phase = rng.uniform(0, 2 * np.pi, count)
    total = np.zeros(len(s), np.float32)
    s32, t32 = s.astype(np.float32), t.astype(np.float32)
    for k in range(count):
        total += np.sin(
            s32 * np.float32(frequency[0, k]) + t32 * np.float32(frequency[1, k]) + np.float32(phase[k])
        )
    return total * np.float32(np.sqrt(2 / count) * 0.6)


SOLE_TOP = -0.797
"""Height on the neutral foot, m, at which the upper meets the sole."""


def sole_field(anatomy: Anatomy) -> np.ndarray:
    """(N,) metres above the line where the upper meets the sole."""
    return anatomy.reference[:, 1] - SOLE_TOP
