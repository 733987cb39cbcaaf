"""Phenotypes: what a person is like, and the morph targets that make the base mesh look so.

Every macro target's file name is a product of factors (`female-old-maxmuscle-minweight-maxheight`); its
weight is the product of the factors' weights. A factor's weight is piecewise linear in one slider, as
`targets/macrodetails/macro.json` of the assets lays down.
"""

import logging
import re
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from stages.makehuman.assets import asset_root, load_base_mesh, load_target

log = logging.getLogger(__name__)

SLIDERS: dict[str, tuple[str, ...]] = {
    "gender": ("male", "female"),
    "age": ("young", "old"),
    "muscle": ("minmuscle", "averagemuscle", "maxmuscle"),
    "weight": ("minweight", "averageweight", "maxweight"),
    "height": ("minheight", "averageheight", "maxheight"),
    "proportions": ("uncommonproportions", "averageproportions", "idealproportions"),
    "cup": ("mincup", "averagecup", "maxcup"),
    "firmness": ("minfirmness", "averagefirmness", "maxfirmness"),
}
"""Evenly spaced stops of every slider on [0, 1]; between two stops both factors blend linearly."""

ORIGINS = ("african", "asian", "caucasian")
FACTORS = tuple(f for stops in SLIDERS.values() for f in stops) + ORIGINS

STATURE_M = {"male": (1.765, 0.074), "female": (1.63, 0.068)}
"""Mean and standard deviation of adult stature, metres."""


@dataclass(frozen=True)
class Phenotypes:
    """P people; every slider is (P,) in [0, 1].

    Attributes:
        gender: 0 male, 1 female.
        age: 0 young (about 25), 1 old (about 90).
        height: the slider, not metres; see `with_stature`.
        origin: (P, 3) shares of the African, Asian and Caucasian targets; rows sum to 1.
    """

    gender: np.ndarray
    age: np.ndarray
    muscle: np.ndarray
    weight: np.ndarray
    height: np.ndarray
    proportions: np.ndarray
    cup: np.ndarray
    firmness: np.ndarray
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.gender)

    def select(self, rows: np.ndarray | slice) -> "Phenotypes":
        """Some of the people."""
        return Phenotypes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def replace(self, **values: np.ndarray) -> "Phenotypes":
        """The same people with some sliders set."""
        return Phenotypes(**{f.name: values.get(f.name, getattr(self, f.name)) for f in fields(self)})

    @staticmethod
    def average(count: int = 1) -> "Phenotypes":
        """The middle of every slider, but young."""
        middle = {name: np.full(count, 0.5) for name in SLIDERS}
        return Phenotypes(**{**middle, "age": np.zeros(count)}, origin=np.full((count, 3), 1 / 3))


@dataclass(frozen=True)
class Targets:
    """The macro targets of adults.

    Attributes:
        names: of the K targets.
        offsets: (K, N, 3) float32 metres.
        factors: (K, 6) numbers into FACTORS; the number of factors + 1 pads with weight 1.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    factors: np.ndarray

    def weights(self, people: Phenotypes) -> np.ndarray:
        """(P, K) weight of every target for every person."""
        columns = [_stop_weights(getattr(people, name), len(stops)) for name, stops in SLIDERS.items()]
        values = np.concatenate([*columns, people.origin, np.ones((len(people), 1))], axis=1)
        return values[:, self.factors].prod(axis=2).astype(np.float32)

    def shape(self, people: Phenotypes, vertices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(P, n, 3) float32 base-mesh vertices (all or some) of these people in the assets' A-pose, m."""
        offsets = self.offsets[:, vertices]
        base = load_base_mesh().vertices[vertices].astype(np.float32)
        flat = self.weights(people) @ offsets.reshape(len(offsets), -1)
        return base + flat.reshape(len(people), *base.shape)


def _stop_weights(slider: np.ndarray, stops: int) -> np.ndarray:
    """(P, stops) hat functions of evenly spaced stops on [0, 1]; rows sum to 1."""
    place = np.clip(slider, 0, 1)[:, None] * (stops - 1)
    return np.clip(1 - np.abs(place - np.arange(stops)), 0, 1)


@cache
def load_targets() -> Targets:
    """Read every macro target of adults (about 340 files)."""
    folder = asset_root() / "targets"
    paths = sorted(
        [*(folder / "macrodetails").rglob("*.target.gz"), *(folder / "breast").glob("*.target.gz")]
    )
    named = [(p, re.split("-", p.name.removesuffix(".target.gz").removeprefix("universal-"))) for p in paths]
    named = [(p, words) for p, words in named if all(w in FACTORS for w in words)]
    log.info("reading %d MakeHuman targets", len(named))
    count = len(load_base_mesh().vertices)
    factors = np.full((len(named), 6), len(FACTORS))
    for row, (_, words) in enumerate(named):
        factors[row, : len(words)] = [FACTORS.index(w) for w in words]
    offsets = np.stack([load_target(p, count) for p, _ in named])
    return Targets(tuple("-".join(words) for _, words in named), offsets, factors)


def sample_phenotypes(count: int, rng: np.random.Generator) -> Phenotypes:
    """Adults of plausible stature.

    Stature is drawn from a normal distribution per sex and the height slider solved for it: drawing the
    slider itself would give people of 1.2 to 2.4 m.
    """
    gender = rng.beta(0.3, 0.3, count)
    people = Phenotypes(
        gender=gender,
        age=rng.beta(1.2, 2.0, count),
        muscle=rng.beta(2.0, 2.0, count),
        weight=rng.beta(2.0, 2.0, count),
        height=np.full(count, 0.5),
        proportions=rng.beta(3.0, 2.0, count),
        cup=rng.beta(2.0, 2.0, count),
        firmness=rng.beta(2.0, 2.0, count),
        origin=rng.dirichlet(np.ones(3), count),
    )
    (male, male_sd), (female, female_sd) = STATURE_M["male"], STATURE_M["female"]
    deviate = np.clip(rng.standard_normal(count), -2.5, 2.5)
    stature = (1 - gender) * (male + male_sd * deviate) + gender * (female + female_sd * deviate)
    return with_stature(people, stature)


def with_stature(people: Phenotypes, stature: np.ndarray, steps: int = 16) -> Phenotypes:
    """Set the height slider by bisection so that everyone is as tall as asked, where the slider reaches.

    Args:
        stature: (P,) metres from sole to crown in the assets' pose.
    """
    extremes = _extreme_vertices()
    low, high = np.zeros(len(people)), np.ones(len(people))
    for _ in range(steps):
        middle = (low + high) / 2
        y = load_targets().shape(people.replace(height=middle), extremes)[..., 1]
        too_tall = y.max(axis=1) - y.min(axis=1) > stature
        low, high = np.where(too_tall, low, middle), np.where(too_tall, middle, high)
    return people.replace(height=(low + high) / 2)


@cache
def _extreme_vertices() -> np.ndarray:
    """Body vertices near the crown and the soles: enough to measure anyone's stature."""
    mesh = load_base_mesh()
    body = np.unique(mesh.quads["body"])
    order = body[np.argsort(mesh.vertices[body, 1])]
    return np.concatenate([order[:200], order[-100:]])
