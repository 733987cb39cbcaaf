"""One generated person: body, outfit, texture and scans, all from a seed and a name."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from stages._core.seeds import rng_for
from stages.makehuman.phenotypes import sample_phenotypes
from stages.makehuman.subject import Subject, make_subject, skinning_weights
from stages.makehuman.vertex_order import body_vertices
from stages.people.base import load_base_geometry
from stages.people.outfit import Outfit, sample_outfit
from stages.people.painting import paint
from stages.people.poses import POSES, PosedSkeleton, pose_skeleton, sample_pose, skin
from stages.people.scan import Piece, ScanMesh, assemble, dress
from stages.people.template import Template, build_template
from stages.people.truth import BodyTruth

SKIRT_STRIDE = 0.55
"""How far a skirt lets legs swing; 1 = trousers."""


@dataclass(frozen=True)
class Person:
    """A dressed person, not yet posed.

    Attributes:
        texture: (1024, 1024, 3) uint8.
        parts: (1024, 1024) uint8 CIHP classes.
    """

    name: str
    body: Subject
    outfit: Outfit
    pieces: list[Piece]
    texture: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Posing:
    """One scan of a person."""

    pose: str
    mesh: ScanMesh
    truth: BodyTruth


def make_person(name: str, seed: int) -> Person:
    """Body, clothes and texture; the same for equal arguments, whatever was made before."""
    phenotype = sample_phenotypes(1, rng_for(seed, "synthesize_people", name, "body"))
    body = make_subject(phenotype)
    outfit = sample_outfit(phenotype, rng_for(seed, "synthesize_people", name, "outfit"))
    texture, parts = paint(_template(), outfit, rng_for(seed, "synthesize_people", name, "texture"))
    rest = body.vertices.astype(np.float64)
    pieces = dress(_template(), rest, outfit, rng_for(seed, "synthesize_people", name, "folds"))
    return Person(name, body, outfit, pieces, texture, parts)


def pose_person(person: Person, poses: int, seed: int) -> Iterator[Posing]:
    """The person in `poses` different kinds of pose."""
    rng = rng_for(seed, "synthesize_people", person.name, "poses")
    stride = SKIRT_STRIDE if person.outfit.bottom.kind == "skirt" else 1.0
    for pose in rng.permutation(list(POSES))[:poses]:
        skeleton = pose_skeleton(person.body.joints, sample_pose(str(pose), rng, stride))
        mesh = assemble(person.pieces, skeleton)
        lift = np.array([0.0, -mesh.vertices[:, 1].min(), 0.0])
        mesh = ScanMesh(mesh.vertices + lift, mesh.faces, mesh.uv, mesh.uv_faces)
        yield Posing(str(pose), mesh, _truth(person.body, skeleton, lift))


def _truth(body: Subject, skeleton: PosedSkeleton, transl: np.ndarray) -> BodyTruth:
    numbers = body_vertices()
    surface = skin(body.vertices[numbers].astype(np.float64), skinning_weights()[numbers], skeleton)
    return BodyTruth(skeleton.rotations, transl, skeleton.joints + transl, surface + transl)


@cache
def _template() -> Template:
    return build_template(load_base_geometry())
