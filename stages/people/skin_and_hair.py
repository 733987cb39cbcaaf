"""Colours of skin, face, eyes and hair, painted by where a texel lies on the neutral head and body."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from stages.makehuman.assets import asset_root
from stages.people.anatomy import Anatomy, smoothstep
from stages.people.garments import waves
from stages.people.hair import HairShape, above_hairline

Colour = tuple[float, float, float]

SKIN_TONES = np.array([
    (246, 222, 203), (236, 200, 172), (224, 180, 148), (202, 152, 116),
    (168, 118, 86), (132, 88, 62), (98, 64, 46), (72, 48, 37),
]) / 255  # fmt: skip
HAIR_COLOURS: dict[str, Colour] = {
    "black": (0.07, 0.06, 0.06),
    "dark brown": (0.16, 0.10, 0.07),
    "brown": (0.30, 0.19, 0.12),
    "auburn": (0.38, 0.17, 0.09),
    "blond": (0.70, 0.55, 0.34),
    "fair": (0.84, 0.73, 0.52),
    "grey": (0.55, 0.54, 0.53),
    "white": (0.83, 0.82, 0.80),
    "red": (0.62, 0.20, 0.10),
    "blue": (0.16, 0.30, 0.58),
    "pink": (0.80, 0.40, 0.55),
}
IRIS_COLOURS: tuple[Colour, ...] = (
    (0.22, 0.13, 0.08), (0.33, 0.20, 0.11), (0.28, 0.42, 0.55), (0.33, 0.45, 0.30), (0.45, 0.42, 0.32),
)  # fmt: skip


@dataclass(frozen=True)
class Looks:
    """A face and a head of hair.

    Attributes:
        tone: place on SKIN_TONES, 0 lightest – 7 darkest.
        blush: redness of cheeks and nose, 0–1.
        lips: strength of lip colour, 0–1; lipstick is `lip_colour` at full strength.
        beard: 0 none – 1 full.
        hair: shape of the hair; None = bald.
        recession: metres by which the hairline lies further back.
    """

    tone: float
    blush: float
    lips: float
    lip_colour: Colour
    brows: float
    beard: float
    iris: Colour
    hair_colour: Colour
    hair: HairShape | None
    recession: float = 0.0
    tail_length: float = 0.25


def skin_colour(looks: Looks) -> np.ndarray:
    """(3,) sRGB 0–1."""
    return np.array([np.interp(looks.tone, np.arange(len(SKIN_TONES)), SKIN_TONES[:, k]) for k in range(3)])


def paint_skin(looks: Looks, at: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) bare skin of trunk, limbs and head, before the face is painted."""
    x, y, z = at.reference.T
    mottle = waves(x + 0.7 * z, y, rng, count=8, wavelength=(0.03, 0.25))
    colour = skin_colour(looks) * (1 + 0.018 * mottle[:, None])
    rosy = np.clip(
        0.12 * np.exp(-(((at.arm - 0.46) / 0.03) ** 2)) + 0.1 * smoothstep(0.50, 0.58, at.arm), 0, 1
    )
    return mix(colour, _flushed(looks), rosy)


def paint_face(colour: np.ndarray, looks: Looks, at: Anatomy, uv: np.ndarray) -> np.ndarray:
    """Add cheeks, lips, brows, lash lines, beard and the hair's roots to the head's (N, 3) skin."""
    x, y, z = at.reference.T
    side = np.abs(x)
    front = smoothstep(0.085, 0.12, z)
    skin, hair = skin_colour(looks), np.array(looks.hair_colour)
    cheek = _blob(side, y, (0.045, 0.697), (0.020, 0.016)) + 0.7 * _blob(
        side, y, (0.0, 0.692), (0.014, 0.010)
    )
    colour = mix(colour, _flushed(looks), np.clip(0.45 * looks.blush * cheek, 0, 1) * front)
    socket = _blob(side, y, (0.032, 0.729), (0.022, 0.012))
    colour = mix(colour, 0.72 * skin, 0.35 * socket * front)
    colour = mix(colour, 0.55 * hair + 0.25 * skin, _beard(looks, at))
    lips = _mask("mpfb_lips.jpg", uv)
    colour = mix(colour, np.array(looks.lip_colour), looks.lips * lips)
    colour = mix(colour, 0.45 * skin, 0.6 * _blob(side, y, (0.0, 0.6612), (0.024, 0.0012)) * front)
    brow_colour = 0.75 * hair + 0.08 * skin
    colour = mix(colour, brow_colour, looks.brows * _brows(side, y) * front)
    colour = mix(colour, 0.25 * skin, 0.8 * _lashes(side, y) * front)
    if looks.hair is not None:
        roots = smoothstep(-0.004, 0.006, above_hairline(at, looks.recession))
        colour = mix(colour, hair, 0.92 * roots)
    return np.clip(colour, 0, 1)


def paint_eyes(looks: Looks, at: Anatomy) -> np.ndarray:
    """(N, 3) white, iris and pupil by the angle from the eye's axis."""
    centre = (at.reference.max(axis=0) + at.reference.min(axis=0)) / 2
    away = at.reference - centre
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    degrees = np.degrees(np.arccos(np.clip(away[:, 2], -1, 1)))
    colour = np.tile(np.array([0.90, 0.88, 0.86]), (len(degrees), 1))
    colour = mix(colour, np.array([0.80, 0.62, 0.58]), smoothstep(40, 75, degrees) * 0.5)
    colour = mix(colour, np.array(looks.iris), smoothstep(31, 27, degrees))
    colour = mix(
        colour, 0.4 * np.array(looks.iris), smoothstep(25, 29, degrees) * smoothstep(33, 29, degrees)
    )
    return mix(colour, np.array([0.02, 0.02, 0.02]), smoothstep(14, 11, degrees))


def paint_hair(looks: Looks, across: np.ndarray, along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) strands.

    Args:
        across: (N,) position across the strands, m of hair.
        along: (N,) position along them, m.
    """
    fine = waves(across, along, rng, count=10, wavelength=(0.003, 0.012), along=0.06)
    coarse = waves(across, along, rng, count=6, wavelength=(0.02, 0.06), along=0.15)
    shade = 1 + 0.16 * fine + 0.14 * coarse
    return np.clip(np.array(looks.hair_colour) * shade[:, None] + 0.015 * fine[:, None], 0, 1)


def strand_coordinates(at: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Across and along (m) the hair of the scalp, which runs down from the crown."""
    x, y, z = at.reference.T
    angle = np.arctan2(x, z - 0.03)
    return 0.09 * angle, np.hypot(np.hypot(x, z - 0.03), 0.85 - y)


def mix(colour: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(N, 3) colours drawn towards `other` by `share` (N,) in [0, 1]."""
    return colour + share[:, None] * (other - colour)


def _flushed(looks: Looks) -> np.ndarray:
    return skin_colour(looks) * np.array([1.02, 0.74, 0.70])


def _blob(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    return np.exp(-(((x - centre[0]) / size[0]) ** 2) - ((y - centre[1]) / size[1]) ** 2)


def _brows(side: np.ndarray, y: np.ndarray) -> np.ndarray:
    u = (side - 0.012) / 0.042  # 0 inner end, 1 outer end
    height = 0.7475 + 0.006 * np.sin(np.pi * np.clip(0.12 + 0.68 * u, 0, 1))
    thickness = 0.0042 * (1 - 0.55 * np.clip(u, 0, 1))
    return (
        smoothstep(1.3, 0.7, np.abs(y - height) / thickness)
        * smoothstep(-0.08, 0.06, u)
        * smoothstep(1.05, 0.9, u)
    )


def _lashes(side: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A dark rim around the eye's opening, stronger above."""
    rim = np.hypot((side - 0.0335) / 0.0145, (y - 0.7285) / 0.0062)
    return np.exp(-(((rim - 1.0) / 0.16) ** 2)) * np.where(y > 0.7285, 1.0, 0.35)


def _beard(looks: Looks, at: Anatomy) -> np.ndarray:
    x, y, z = at.reference.T
    side = np.abs(x)
    upper = np.interp(side, [0.0, 0.025, 0.05, 0.075], [0.684, 0.676, 0.672, 0.715])
    below = smoothstep(0.004, -0.006, y - upper)
    above_throat = smoothstep(0.600, 0.615, y + 0.35 * np.clip(0.12 - z, 0, 1) - 0.02)
    return looks.beard * below * above_throat * smoothstep(0.045, 0.06, z)


@cache
def _mask_image(name: str) -> np.ndarray:
    with Image.open(asset_root() / "textures" / name) as image:
        return np.asarray(image.convert("L").resize((1024, 1024)), np.float32) / 255


def _mask(name: str, uv: np.ndarray) -> np.ndarray:
    """(N,) a mask of the assets, in the base mesh's UV layout (v up)."""
    image = _mask_image(name)
    column = np.clip((uv[:, 0] * 1024).astype(int), 0, 1023)
    row = np.clip(((1 - uv[:, 1]) * 1024).astype(int), 0, 1023)
    return image[row, column]
