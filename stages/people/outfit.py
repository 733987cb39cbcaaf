"""Who wears what: random looks, garments and fabrics that go together."""

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from stages.makehuman.phenotypes import Phenotypes
from stages.people.anatomy import BACK, FRONT
from stages.people.fabrics import Fabric, Pattern, sample_motif
from stages.people.garments import WHOLE_LEG, WHOLE_SLEEVE, Bottom, Collar, Shoes, Top
from stages.people.hair import SHAPES
from stages.people.skin_and_hair import HAIR_COLOURS, IRIS_COLOURS, Colour, Looks

_NEUTRALS: tuple[Colour, ...] = (
    (0.93, 0.93, 0.91), (0.82, 0.80, 0.76), (0.60, 0.60, 0.61), (0.36, 0.37, 0.39), (0.13, 0.13, 0.15),
    (0.12, 0.17, 0.30), (0.76, 0.66, 0.52), (0.42, 0.32, 0.24), (0.34, 0.37, 0.25), (0.25, 0.30, 0.36),
)  # fmt: skip
_DENIM: tuple[Colour, ...] = ((0.16, 0.22, 0.36), (0.28, 0.38, 0.54), (0.46, 0.56, 0.68), (0.12, 0.13, 0.16))
_TOP_PATTERNS: tuple[tuple[Pattern, float], ...] = (
    ("plain", 0.34), ("heather", 0.08), ("stripes", 0.14), ("pinstripes", 0.05), ("checks", 0.07), ("tartan", 0.08),
    ("dots", 0.06), ("blots", 0.07), ("camouflage", 0.03), ("blocks", 0.08),
)  # fmt: skip
_BOTTOM_PATTERNS: tuple[tuple[Pattern, float], ...] = (
    ("plain", 0.45), ("denim", 0.35), ("heather", 0.06), ("checks", 0.04), ("camouflage", 0.04), ("pinstripes", 0.06)
)  # fmt: skip
_SKIRT_PATTERNS: tuple[tuple[Pattern, float], ...] = (
    ("plain", 0.4), ("dots", 0.14), ("tartan", 0.14), ("blots", 0.2), ("stripes", 0.12)
)  # fmt: skip


@dataclass(frozen=True)
class Outfit:
    """Everything that a person wears, and how the person looks.

    Attributes:
        dress: top and skirt are one garment of one fabric.
        coat: the top is an open jacket: a strip of `shirt` shows down its front.
        trim: colour of collar, cuffs and hem bands.
        buttons: a placket down the front.
        socks: height of their border on the neutral body, m; None = none.
        belt: colour of a belt; None = none.
    """

    looks: Looks
    top: Top
    top_fabric: Fabric
    bottom: Bottom
    bottom_fabric: Fabric
    shoes: Shoes
    shoe_colours: tuple[Colour, Colour, Colour]
    dress: bool = False
    coat: bool = False
    shirt: Colour = (0.9, 0.9, 0.9)
    trim: Colour | None = None
    buttons: bool = False
    socks: float | None = None
    belt: Colour | None = None


def sample_outfit(person: Phenotypes, rng: np.random.Generator) -> Outfit:
    """Looks and clothes for one person (a `Phenotypes` of length 1)."""
    feminine = float(person.gender[0])
    skirt = feminine > 0.5 and rng.random() < 0.42
    dress = skirt and rng.random() < 0.45
    top = _sample_top(feminine, skirt, rng)
    bottom = _sample_skirt(rng) if skirt else _sample_trousers(feminine, rng)
    coat = not dress and top.sleeve > 0.4 and rng.random() < 0.3
    if coat:
        top = replace(top, collar="v", v_depth=0.40, tucked=False, ease=max(top.ease, 0.014))
    top_fabric = _sample_fabric(_TOP_PATTERNS, rng, motifs=not coat and not dress)
    bottom_fabric = (
        top_fabric if dress else _sample_fabric(_SKIRT_PATTERNS if skirt else _BOTTOM_PATTERNS, rng)
    )
    bare_legs = skirt or bottom.length < 0.5
    return Outfit(
        looks=sample_looks(person, rng),
        top=replace(top, tucked=True, hem=0.12) if dress else top,
        top_fabric=top_fabric,
        bottom=replace(bottom, waist=0.20) if dress else bottom,
        bottom_fabric=bottom_fabric,
        shoes=_sample_shoes(bare_legs, rng),
        shoe_colours=(_sample_colour(rng, 0.7), _sample_colour(rng, 0.9), _sole_colour(rng)),
        dress=dress,
        coat=coat,
        shirt=_sample_colour(rng, 0.7),
        trim=_sample_colour(rng, 0.6) if rng.random() < 0.3 else None,
        buttons=not coat and rng.random() < 0.2,
        socks=float(rng.uniform(-0.72, -0.5)) if bare_legs and not skirt and rng.random() < 0.7 else None,
        belt=_NEUTRALS[int(rng.choice([4, 7]))] if not dress and rng.random() < 0.5 else None,
    )


def _sample_top(feminine: float, skirt: bool, rng: np.random.Generator) -> Top:
    sleeve = float(
        rng.choice([0.0, 0.10, 0.15, 0.19, 0.33, WHOLE_SLEEVE], p=[0.10, 0.10, 0.24, 0.12, 0.06, 0.38])
    )
    if sleeve == 0.0 and feminine < 0.5 and rng.random() < 0.6:
        sleeve = 0.15
    collar: Collar = str(rng.choice(["crew", "scoop", "v", "boat", "high"], p=[0.5, 0.14, 0.2, 0.06, 0.1]))  # type: ignore[assignment]
    if sleeve == 0.0 and collar == "boat":
        collar = "scoop"
    loose = float(rng.choice([0.1, 0.35, 0.8]))
    tucked = bool(skirt or rng.random() < 0.25)
    return Top(
        sleeve=sleeve,
        hem=float(rng.uniform(-0.04, 0.06)),
        collar=collar,
        v_depth=float(rng.uniform(0.44, 0.50)),
        ease=0.005 + 0.014 * loose,
        looseness=loose,
        tucked=tucked,
    )


def _sample_trousers(feminine: float, rng: np.random.Generator) -> Bottom:
    short = rng.random() < 0.25
    length = float(
        rng.uniform(0.20, 0.36) if short else rng.choice([WHOLE_LEG, 0.70, 0.62], p=[0.75, 0.15, 0.1])
    )
    loose = float(
        rng.choice([0.05, 0.3, 0.7], p=[0.2 + 0.25 * feminine, 0.5 - 0.2 * feminine, 0.3 - 0.05 * feminine])
    )
    return Bottom(
        "trousers",
        waist=float(rng.uniform(0.13, 0.19)),
        length=length,
        ease=0.005 + 0.012 * loose,
        looseness=loose,
        flare=float(rng.choice([0.0, 0.15, 0.35], p=[0.6, 0.25, 0.15])) if not short else 0.12,
        drop=float(rng.uniform(0.03, 0.055)) if length == WHOLE_LEG else 0.0,
    )


def _sample_skirt(rng: np.random.Generator) -> Bottom:
    hem = float(rng.choice([-0.24, -0.34, -0.42, -0.55, -0.65], p=[0.2, 0.3, 0.25, 0.15, 0.1]))
    return Bottom(
        "skirt", waist=0.18, length=hem, ease=0.006, looseness=0.2, flare=float(rng.uniform(-0.1, 0.15))
    )


def _sample_shoes(bare_legs: bool, rng: np.random.Generator) -> Shoes:
    height = float(rng.choice([-0.757, -0.745, -0.70, -0.55], p=[0.35, 0.35, 0.15, 0.15]))
    if not bare_legs and height > -0.6:
        height = -0.70
    return Shoes(height, sole=float(rng.uniform(0.003, 0.016)), bulk=float(rng.uniform(0.007, 0.010)))


def _sole_colour(rng: np.random.Generator) -> Colour:
    return _NEUTRALS[int(rng.choice([0, 0, 1, 4, 7]))]


def _sample_fabric(
    patterns: tuple[tuple[Pattern, float], ...], rng: np.random.Generator, motifs: bool = False
) -> Fabric:
    names, shares = zip(*patterns, strict=True)
    pattern = names[int(rng.choice(len(names), p=np.array(shares) / sum(shares)))]
    base = _DENIM[int(rng.integers(len(_DENIM)))] if pattern == "denim" else _sample_colour(rng, 0.5)
    second = _contrasting(base, rng)
    if pattern in ("heather", "denim"):
        second = _towards(base, (1.0, 1.0, 1.0), 0.3)
    third = _contrasting(second, rng)
    scales = {"stripes": (0.03, 0.10), "pinstripes": (0.02, 0.05), "checks": (0.03, 0.08), "tartan": (0.07, 0.14),
              "dots": (0.03, 0.07), "blots": (0.06, 0.14), "camouflage": (0.05, 0.1)}  # fmt: skip
    scale = float(rng.uniform(*scales.get(pattern, (0.04, 0.05))))
    prints = []
    if motifs and pattern in ("plain", "heather", "blocks", "stripes"):
        for piece, share in ((FRONT, 0.55), (BACK, 0.45)):
            if rng.random() < share:
                prints.append(sample_motif(piece, rng, _contrasting(base, rng)))
    return Fabric(pattern, (base, second, third), scale, tuple(prints))


def _sample_colour(rng: np.random.Generator, neutral_share: float) -> Colour:
    if rng.random() < neutral_share:
        return _NEUTRALS[int(rng.integers(len(_NEUTRALS)))]
    # Dyes are rarely both bright and saturated, and seldom green or violet.
    hue = float(rng.choice([0.0, 0.04, 0.10, 0.14, 0.25, 0.38, 0.50, 0.57, 0.63, 0.78, 0.92])) + rng.normal(
        0, 0.02
    )
    value = rng.uniform(0.3, 0.92)
    return colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.2, 0.8) * (1.15 - 0.55 * value), value)


def _contrasting(colour: Colour, rng: np.random.Generator) -> Colour:
    """A random colour that can be told from `colour`."""
    for _ in range(20):
        other = _sample_colour(rng, 0.5)
        if abs(_luma(other) - _luma(colour)) > 0.25:
            return other
    return (0.95, 0.95, 0.93) if _luma(colour) < 0.5 else (0.1, 0.1, 0.12)


def _luma(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _towards(colour: Colour, other: Colour, share: float) -> Colour:
    return tuple((1 - share) * a + share * b for a, b in zip(colour, other, strict=True))  # type: ignore[return-value]


def sample_looks(person: Phenotypes, rng: np.random.Generator) -> Looks:
    """Skin, face and hair that fit the person's origin, sex and age."""
    african, asian, _ = person.origin[0]
    feminine, age = float(person.gender[0]) > 0.5, float(person.age[0])
    tone = float(np.clip(0.6 + 5.4 * african + 1.0 * asian + rng.normal(0, 0.6), 0, 7))
    hair_colour = _sample_hair_colour(tone, age, rng)
    style = str(rng.choice(["buzz", "short", "quiff", "afro", "bald"], p=[0.2, 0.42, 0.22, 0.06, 0.10]))
    if feminine:
        styles = ["short", "bob", "long", "bun", "ponytail", "afro"]
        style = str(rng.choice(styles, p=[0.10, 0.24, 0.30, 0.13, 0.16, 0.07]))
    skin_lips = (0.72, 0.42, 0.40) if tone < 4 else (0.42, 0.22, 0.20)
    lipstick = feminine and rng.random() < 0.4
    lip_colour = (
        colorsys.hsv_to_rgb(rng.uniform(0.93, 1.0), 0.7, rng.uniform(0.45, 0.75)) if lipstick else skin_lips
    )
    beard = 0.0 if feminine else float(rng.choice([0.06, 0.28, 0.75], p=[0.55, 0.28, 0.17]))
    iris = IRIS_COLOURS[int(rng.integers(2 if tone > 3 else len(IRIS_COLOURS)))]
    return Looks(
        tone=tone,
        blush=float(rng.uniform(0.3, 1.0)),
        lips=0.85 if lipstick else 0.55,
        lip_colour=lip_colour,
        brows=float(rng.uniform(0.6, 0.95)),
        beard=beard,
        iris=iris,
        hair_colour=hair_colour,
        hair=SHAPES[style],
        recession=0.0 if feminine else float(rng.choice([0.0, 0.012, 0.03], p=[0.6, 0.28, 0.12])),
        tail_length=float(rng.uniform(0.16, 0.32)),
    )


def _sample_hair_colour(tone: float, age: float, rng: np.random.Generator) -> Colour:
    if rng.random() < max(0.0, 1.4 * (age - 0.35)):
        return HAIR_COLOURS[str(rng.choice(["grey", "white"]))]
    names = ["black", "dark brown", "brown", "auburn", "blond", "fair", "red", "blue", "pink"]
    light = np.array([0.12, 0.24, 0.22, 0.10, 0.14, 0.08, 0.06, 0.02, 0.02])
    dark = np.array([0.62, 0.28, 0.04, 0.02, 0.01, 0.0, 0.01, 0.01, 0.01])
    shares = light if tone < 2.5 else dark
    return HAIR_COLOURS[names[int(rng.choice(len(names), p=shares / shares.sum()))]]
