"""From a scan's own frame to ours: metres, y up, facing +z.

Up and facing are inferred where the body shows them. People are taller than they are deep, and their toes
are in front of their ankles: on 156 clothed people in all kinds of poses the soles lay 2.0 to 4.0 % of the
height before the ankles, at most 21° from where the person faced; heads, turned down, at most 1.1 %.
"""

from dataclasses import dataclass

import numpy as np
from trimesh.remesh import subdivide_to_size

from stages.sources.card import METRES_PER_UNIT, Card
from stages.sources.mesh import ScanError

UP_RATIO = 1.25
"""The height is at least so many times the depth, or other evidence is needed."""

UNLIKE_RATIO = 2.0
"""How much less alike the ends of the vertical axis are than those of the other, where lengths do not tell."""

HIGHEST_ANKLE = 0.09
FINE = 0.04
"""In heights of the person: the top of the ankle, and how long the edges of faces there may be."""

TOES_AHEAD = 0.015
"""Of the height: soles less far before the ankles say nothing."""

SURE_ANGLE = 40.0
"""Degrees: a direction further than this from the nearest axis says nothing."""

LOWEST, HIGHEST = 0.4, 3.0
"""Metres: the height of a person, big or small, in any pose."""

FAR = 1.0
"""Metres between the origin and the scan's box beyond which the scan is moved to the origin."""

TURNS = {"y": np.eye(3), "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])}
"""What makes y the vertical axis, by what it is in the raw mesh."""

FACING = {"+z": 0, "-x": 1, "-z": 2, "+x": 3}
"""Quarter turns about y, +z towards +x, that bring the direction to +z."""


@dataclass(frozen=True)
class Frame:
    """What a file format says about its axes; `auto`: nothing."""

    up: str = "auto"
    facing: str = "auto"


UNKNOWN = Frame()
GLTF = Frame(up="y", facing="+z")
"""glTF 2.0, §3.4."""


@dataclass(frozen=True)
class Placement:
    """ours = scale · rotation @ raw + shift.

    Attributes:
        rotation: (3, 3), quarter turns.
        scale: metres per unit.
        shift: (3,) metres.
    """

    rotation: np.ndarray
    scale: float
    shift: np.ndarray

    def apply(self, vertices: np.ndarray) -> np.ndarray:
        """(V, 3) raw → metres."""
        if np.array_equal(self.matrix, np.eye(3, 4)):
            return vertices
        return vertices @ (self.scale * self.rotation).T + self.shift

    @property
    def matrix(self) -> np.ndarray:
        """(3, 4): scale · rotation | shift."""
        return np.concatenate([self.scale * self.rotation, self.shift[:, None]], axis=1)


def place(vertices: np.ndarray, faces: np.ndarray, card: Card, fallback: Frame = UNKNOWN) -> Placement:
    """How a scan comes to stand in our frame.

    Args:
        vertices: (V, 3) raw.
        faces: (F, 3).
        card: says units, up and facing, or that they are to be inferred.
        fallback: what the file format says, for where nothing can be inferred.

    Raises:
        ScanError: something is unclear; names the card's key.
    """
    up = _up(vertices, faces, card.up, fallback.up)
    upright = vertices @ up.T
    scale = _metres(float(np.ptp(upright[:, 1])), card)
    if card.facing == "auto":
        turn = _facing_turn(upright, faces, fallback.facing)
    else:
        turn = _quarter_turns(FACING[card.facing])
    near = Placement(turn @ up, scale, np.zeros(3))
    return Placement(turn @ up, scale, _shift(near.apply(vertices)))


def toes_ahead(upright: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(2,) how far the soles lie before the ankles in x and z, in heights of the person.

    For each piece of the sole's surface the ankle's surface near it counts, so that a stride does not matter.
    """
    height = np.ptp(upright[:, 1])
    unit = (upright - (0, upright[:, 1].min(), 0)) / height
    small = np.ptp(unit[faces], axis=1).max(axis=1) < 2  # a floor is no foot
    low = faces[small & (unit[faces, 1] < HIGHEST_ANKLE).any(axis=1)]
    points, triangles = subdivide_to_size(unit, low, max_edge=FINE)
    corners = points[triangles]
    centre = corners.mean(axis=1)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    sole, sole_area = _thinned(centre, area, 0.0, 0.03)
    ankle, ankle_area = _thinned(centre, area, 0.05, HIGHEST_ANKLE)
    if not len(sole) or not len(ankle):
        return np.zeros(2)
    squared = ((sole[:, None] - ankle[None]) ** 2).sum(axis=2)
    weight = np.exp(-squared / (2 * 0.05**2)) * ankle_area
    near = weight.sum(axis=1) > 1e-3 * ankle_area.sum() / len(ankle)
    if not near.any():
        return np.zeros(2)
    above = weight[near] @ ankle / weight[near].sum(axis=1, keepdims=True)
    return np.average(sole[near] - above, axis=0, weights=sole_area[near])


def _thinned(centre: np.ndarray, area: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Faces between two heights: x and z, and areas; about a thousand cells, whatever the mesh's fineness."""
    here = (centre[:, 1] >= low) & (centre[:, 1] < high) & (area > 0)
    place, area = centre[here][:, [0, 2]], area[here]
    cells, number = np.unique(np.round(place / 0.008).astype(np.int64), axis=0, return_inverse=True)
    total = np.bincount(number.ravel(), area, len(cells))
    mean = [np.bincount(number.ravel(), area * place[:, k], len(cells)) / total for k in range(2)]
    return np.stack(mean, axis=1), total


def _up(vertices: np.ndarray, faces: np.ndarray, said: str, fallback: str) -> np.ndarray:
    """The turn that makes y the vertical axis."""
    if said == "auto":
        said = _longer_axis(vertices, faces)
    if said == "auto":
        said = fallback
    if said == "auto":
        _, y, z = np.ptp(vertices, axis=0)
        raise ScanError(
            f"up is unclear: the mesh measures {y:.3g} along y and {z:.3g} along z; "
            "say `up: y` or `up: z` in the card"
        )
    return TURNS[said]


def _longer_axis(vertices: np.ndarray, faces: np.ndarray) -> str:
    """y or z, whichever the person stands along; auto if that is unclear.

    Arms spread along the other axis make it nearly as long. But they are alike at both ends, feet and head
    are not.
    """
    _, y, z = np.ptp(vertices, axis=0)
    axis, short = (1, 2) if y >= z else (2, 1)
    if min(y, z) * UP_RATIO > max(y, z):
        unlike = _unlike_ends(vertices, faces)
        if not unlike[axis] > UNLIKE_RATIO * unlike[short]:
            return "auto"
    return "xyz"[axis]


def _unlike_ends(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(3,) how much the surface along each axis differs from its mirror image: 0 not at all, 1 all of it."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    centre = (corners.mean(axis=1) - low) / np.maximum(high - low, 1e-30)
    profile = np.stack([np.histogram(centre[:, k], 20, (0, 1), weights=area)[0] for k in range(3)])
    return np.abs(profile - profile[:, ::-1]).sum(axis=1) / (2 * area.sum())


def _facing_turn(upright: np.ndarray, faces: np.ndarray, fallback: str) -> np.ndarray:
    """The turn about y that makes the person face +z."""
    x, z = toes_ahead(upright, faces)
    upside_down = upright * (1, -1, 1)
    if np.hypot(x, z) < TOES_AHEAD <= np.hypot(*toes_ahead(upside_down, faces)):
        raise ScanError("the person seems to stand on the head; turn the mesh, or say `facing` in the card")
    angle = np.degrees(np.arctan2(x, z))
    quarters = round(angle / 90)
    if np.hypot(x, z) >= TOES_AHEAD and abs(angle - 90 * quarters) <= SURE_ANGLE:
        return _quarter_turns(-quarters)
    if fallback != "auto":
        return _quarter_turns(FACING[fallback])
    raise ScanError(
        "the feet do not show where the person faces; say `facing: +z` (or -z, +x, -x) in the card"
    )


def _quarter_turns(count: int) -> np.ndarray:
    """Rotation about y by count · 90°, +z towards +x."""
    c, s = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[count % 4]
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _metres(height: float, card: Card) -> float:
    """Metres per unit: the card's, or what makes the height that of a person in any pose."""
    units = METRES_PER_UNIT if card.units == "auto" else {card.units: METRES_PER_UNIT[card.units]}
    for scale in units.values():
        if LOWEST <= height * scale < HIGHEST:
            return scale
    names = {"m": "metres", "cm": "centimetres", "mm": "millimetres"}
    listed = " or ".join(names[unit] for unit in units)
    raise ScanError(
        f"a height of {height:.4g} is no person's in {listed}; the card's `units` says which it is"
    )


def _shift(vertices: np.ndarray) -> np.ndarray:
    """What brings a scan far from the origin there, feet at y = 0; nothing for one that stands near it."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    distance = np.maximum(np.maximum(low, -high), 0)
    if distance.max() <= FAR:
        return np.zeros(3)
    middle = (low + high) / 2
    return np.array([-middle[0], -low[1], -middle[2]])
