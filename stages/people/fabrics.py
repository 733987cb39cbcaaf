"""Procedural fabrics: a pattern painted in metres of cloth, with motifs that differ front and back."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from stages.people.anatomy import BACK, FRONT, ClothCoordinates
from stages.people.garments import waves

Pattern = Literal[
    "plain",
    "heather",
    "denim",
    "stripes",
    "pinstripes",
    "checks",
    "tartan",
    "dots",
    "blots",
    "camouflage",
    "blocks",
]
PATTERNS: tuple[Pattern, ...] = (
    "plain", "heather", "denim", "stripes", "pinstripes", "checks", "tartan", "dots", "blots", "camouflage", "blocks",
)  # fmt: skip

MotifShape = Literal["number", "word", "disc", "ring", "star", "bar", "triangle", "heart"]
_INK = (255,)
_WORDS = (
    "NOVA",
    "ATLAS",
    "RIVER",
    "ORBIT",
    "LUMEN",
    "DELTA",
    "ECHO",
    "CEDAR",
    "KITE",
    "UNIT",
    "PEAK",
    "WAVE",
)


@dataclass(frozen=True)
class Motif:
    """A print on one panel.

    Attributes:
        shape: what it shows; `text` for numbers and words.
        piece: front or back panel.
        centre: (s, t) on the panel, m.
        width: m.
        colour: (3,) linear 0–1.
    """

    shape: MotifShape
    text: str
    piece: int
    centre: tuple[float, float]
    width: float
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Fabric:
    """How cloth looks.

    Attributes:
        pattern: what is woven or printed all over.
        colours: three colours (3, 3) as tuples, 0–1; the first covers most.
        scale: repeat of the pattern, m.
        motifs: prints on top.
    """

    pattern: Pattern
    colours: tuple[tuple[float, float, float], ...]
    scale: float = 0.04
    motifs: tuple[Motif, ...] = ()


def paint_fabric(fabric: Fabric, at: ClothCoordinates, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) colours 0–1 of the points `at`, with the slight unevenness of real cloth."""
    base, second, third = (np.array(c, np.float32) for c in fabric.colours)
    weight_second, weight_third = _pattern(fabric, at, rng)
    colour = base + weight_second[:, None] * (second - base)
    colour += weight_third[:, None] * (third - colour)
    for motif in fabric.motifs:
        _stamp(colour, motif, at)
    shade = 1 + 0.035 * waves(at.s, at.t, rng, count=6, wavelength=(0.06, 0.25))
    return np.clip(colour * shade[:, None], 0, 1)


def _pattern(fabric: Fabric, at: ClothCoordinates, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N,) of the second and third colour."""
    s, t = (a.astype(np.float32) / np.float32(fabric.scale) for a in (at.s, at.t))
    none = np.zeros(len(s), np.float32)
    match fabric.pattern:
        case "plain":
            return none, none
        case "heather":
            return 0.5 + 0.35 * waves(s, t, rng, count=8, wavelength=(0.15, 0.5)), none
        case "denim":
            worn = waves(at.s, at.t, rng, count=6, wavelength=(0.15, 0.5), along=0.4)
            return np.clip(0.3 + 0.4 * worn, 0, 1), 0.12 * (np.sin(2 * np.pi * (s + t) * 6) > 0)
        case "stripes":
            return _band(t, 0.5), _band(t + 0.25, 0.1)
        case "pinstripes":
            return _band(s, 0.12), none
        case "checks":
            return 0.5 * (_band(s, 0.5) + _band(t, 0.5)), none
        case "tartan":
            return 0.5 * (_band(s, 0.45) + _band(t, 0.45)), np.maximum(
                _band(s + 0.3, 0.08), _band(t + 0.3, 0.08)
            )
        case "dots":
            shift = 0.5 * (np.floor(t) % 2)
            radius = np.hypot((s + shift) % 1 - 0.5, t % 1 - 0.5)
            return _edge(0.28 - radius), none
        case "blots":
            field = waves(s, t, rng, count=9, wavelength=(0.8, 2.0))
            other = waves(s, t, rng, count=9, wavelength=(0.6, 1.6))
            return _edge(0.4 * (field - 0.35)), _edge(0.4 * (other - 0.75))
        case "camouflage":
            field = waves(s, t, rng, count=9, wavelength=(1.0, 3.0), along=1.6)
            other = waves(s, t, rng, count=9, wavelength=(1.0, 3.0), along=1.6)
            return _edge(field), _edge(other - 0.4)
        case "blocks":
            return (at.piece > BACK).astype(np.float32), _edge((at.t - 0.40) * 20) * (at.piece <= BACK)


def _band(x: np.ndarray, share: float) -> np.ndarray:
    """1 on a band that takes `share` of each unit interval, with soft edges."""
    return _edge(share / 2 - np.abs(x % 1 - 0.5))


def _edge(distance: np.ndarray) -> np.ndarray:
    return np.clip(distance * 12 + 0.5, 0, 1).astype(np.float32)


def _stamp(colour: np.ndarray, motif: Motif, at: ClothCoordinates) -> None:
    """Print a motif onto `colour` (N, 3) in place."""
    stencil = _stencil(motif.shape, motif.text)
    height, width = stencil.shape
    texels_per_metre = width / motif.width
    # s grows to the wearer's left, which is the viewer's right on the front and on the back (s turns with it)
    x = (at.s - motif.centre[0]) * texels_per_metre + width / 2
    y = (motif.centre[1] - at.t) * texels_per_metre + height / 2
    inside = (at.piece == motif.piece) & (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    map_x, map_y = (a[inside].astype(np.float32).reshape(1, -1) for a in (x, y))
    if map_x.size == 0:
        return
    # cv2.remap takes at most 32767 columns
    alpha = np.concatenate([
        cv2.remap(stencil, map_x[:, i : i + 30000], map_y[:, i : i + 30000], cv2.INTER_LINEAR).ravel()
        for i in range(0, map_x.size, 30000)
    ])  # fmt: skip
    colour[inside] += alpha[:, None] * (np.array(motif.colour, np.float32) - colour[inside])


def _stencil(shape: str, text: str) -> np.ndarray:
    """(H, W) float32 coverage 0–1 of a motif that fills its width."""
    image = np.zeros((128, 128), np.uint8)
    if shape in ("number", "word"):
        thickness = 14 if shape == "number" else 9
        font = cv2.FONT_HERSHEY_DUPLEX
        (width, height), _ = cv2.getTextSize(text, font, 3.0, thickness)
        image = np.zeros((height + 40, width + 40), np.uint8)
        cv2.putText(image, text, (20, height + 20), font, 3.0, _INK, thickness, cv2.LINE_AA)
    elif shape == "disc":
        cv2.circle(image, (64, 64), 56, _INK, -1, cv2.LINE_AA)
    elif shape == "ring":
        cv2.circle(image, (64, 64), 48, _INK, 14, cv2.LINE_AA)
    elif shape == "bar":
        cv2.rectangle(image, (6, 46), (122, 82), _INK, -1)
    elif shape == "heart":
        cv2.circle(image, (42, 46), 28, _INK, -1, cv2.LINE_AA)
        cv2.circle(image, (86, 46), 28, _INK, -1, cv2.LINE_AA)
        cv2.fillPoly(image, [np.array([(17, 58), (111, 58), (64, 116)])], _INK, cv2.LINE_AA)
    else:
        points = 5 if shape == "star" else 3
        angle = np.arange(points * 2) * np.pi / points - np.pi / 2
        radius = np.where(np.arange(points * 2) % 2 == 0, 58, 24 if shape == "star" else 29)
        corners = np.stack([64 + radius * np.cos(angle), 64 + radius * np.sin(angle)], axis=1)
        cv2.fillPoly(image, [corners.astype(np.int32)], _INK, cv2.LINE_AA)
    return image.astype(np.float32) / 255


def sample_motif(piece: int, rng: np.random.Generator, colour: tuple[float, float, float]) -> Motif:
    """A random print for the chest or the back."""
    shape = str(rng.choice(["number", "word", "disc", "ring", "star", "bar", "triangle", "heart"]))
    text = (
        str(rng.integers(1, 99)) if shape == "number" else str(rng.choice(_WORDS)) if shape == "word" else ""
    )
    width = rng.uniform(0.20, 0.28) if shape == "word" else rng.uniform(0.11, 0.20)
    centre = (0.0, float(rng.uniform(0.36, 0.42)))
    if piece == FRONT and rng.random() < 0.3:  # a small crest over the heart
        centre, width = (float(rng.choice([-1, 1]) * 0.08), 0.42), 0.07
    return Motif(shape, text, piece, centre, float(width), colour)  # type: ignore[arg-type]
