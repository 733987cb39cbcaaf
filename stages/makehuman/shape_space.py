"""Linear shape and expression spaces of T-posed MakeHuman people (SMPL-X: 10 + 10 components)."""

from dataclasses import dataclass

import numpy as np

from stages._core.progress import Advance
from stages.makehuman.assets import asset_root, load_base_mesh, load_target
from stages.makehuman.phenotypes import Phenotypes, load_targets
from stages.makehuman.subject import pose_subject

BATCH = 64

LEFT_RIGHT = (
    "eye-{}-closure",
    "eye-{}-opened-up",
    "eye-{}-slit",
    "eyebrows-{}-down",
    "eyebrows-{}-extern-up",
    "eyebrows-{}-inner-up",
    "eyebrows-{}-up",
    "nose-{}-dilatation",
    "nose-{}-elevation",
)
MIDDLE = (
    "mouth-compression",
    "mouth-corner-puller",
    "mouth-depression",
    "mouth-depression-retraction",
    "mouth-elevation",
    "mouth-eversion",
    "mouth-parling",
    "mouth-part-later",
    "mouth-protusion",
    "mouth-pursing",
    "mouth-retraction",
    "mouth-upward-retraction",
    "nose-compression",
    "nose-depression",
)
"""Face units under mpfb2 (CC0). Not `mouth-open`: that is the jaw joint's part. Not the neck."""

ACTIVE = 0.3
"""Share of face units that take part in one expression."""

SIDES_TOGETHER = 0.85
"""Correlation of the left and right unit of a pair."""


@dataclass(frozen=True)
class People:
    """T-posed people. vertices: (P, n, 3) float32; joints: (P, 55, 3) float32; metres."""

    vertices: np.ndarray
    joints: np.ndarray


@dataclass(frozen=True)
class LinearSpace:
    """x = mean + Σ scores · components; scores have unit variance over the sample.

    Attributes:
        mean: (n, 3).
        components: (k, n, 3), metres per standard deviation.
        scores: (P, k) of the sample.
        explained: (k,) cumulative share of the variance.
    """

    mean: np.ndarray
    components: np.ndarray
    scores: np.ndarray
    explained: np.ndarray


def tposed_people(phenotypes: Phenotypes, keep: np.ndarray, advance: Advance) -> People:
    """T-pose everyone and keep some base-mesh vertices.

    Args:
        keep: (n,) base-mesh vertex numbers.
    """
    vertices = np.empty((len(phenotypes), len(keep), 3), dtype=np.float32)
    joints = np.empty((len(phenotypes), 55, 3), dtype=np.float32)
    for start in range(0, len(phenotypes), BATCH):
        rows = slice(start, min(start + BATCH, len(phenotypes)))
        for row, shaped in enumerate(load_targets().shape(phenotypes.select(rows)), start=start):
            subject = pose_subject(shaped.astype(np.float64), keep)
            vertices[row], joints[row] = subject.vertices, subject.joints
        advance(rows.stop - rows.start)
    return People(vertices, joints)


def principal_components(samples: np.ndarray, count: int, *, centre: bool = True) -> LinearSpace:
    """PCA by the Gram matrix: (P, n, 3) samples, P ≪ n.

    Signs are fixed so that each component's largest entry is positive.
    """
    flat = samples.reshape(len(samples), -1).astype(np.float64)
    mean = flat.mean(axis=0) if centre else np.zeros(flat.shape[1])
    flat -= mean
    values, vectors = np.linalg.eigh(flat @ flat.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    spread = np.sqrt(values[:count] / len(flat))
    scores = vectors[:, :count] * np.sqrt(len(flat))
    components = (vectors[:, :count] / np.sqrt(values[:count])).T @ flat * spread[:, None]
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(count), largest])
    shape = samples.shape[1:]
    return LinearSpace(
        mean=mean.reshape(shape),
        components=(components * signs[:, None]).reshape(count, *shape),
        scores=scores * signs,
        explained=np.cumsum(values[:count]) / values.sum(),
    )


def expression_components(
    keep: np.ndarray, count: int, rng: np.random.Generator, samples: int = 600
) -> LinearSpace:
    """Components of random expressions of the CC0 face units, as offsets of the kept vertices.

    The head keeps its orientation in the T-pose, hence the targets' offsets hold there as they are.
    """
    units = _face_units(keep)
    pairs, singles = len(LEFT_RIGHT), len(MIDDLE)
    active = rng.random((samples, pairs + singles)) < ACTIVE
    strength = active * rng.beta(1.5, 2.0, active.shape)
    lone = rng.random((samples, pairs)) * (rng.random((samples, pairs)) < ACTIVE)
    left = strength[:, :pairs]
    right = SIDES_TOGETHER * left + (1 - SIDES_TOGETHER) * lone
    weights = np.concatenate([left, right, strength[:, pairs:]], axis=1)
    offsets = np.einsum("su,uvc->svc", weights, units, optimize=True)
    return principal_components(offsets, count)


def _face_units(keep: np.ndarray) -> np.ndarray:
    """(units, n, 3): lefts, rights, then the middle ones."""
    folder = asset_root() / "targets" / "expression" / "units" / "caucasian"
    names = [n.format(side) for side in ("left", "right") for n in LEFT_RIGHT] + list(MIDDLE)
    count = len(load_base_mesh().vertices)
    return np.stack([load_target(folder / f"{n}.target.gz", count)[keep] for n in names])
