"""The open body model: MakeHuman people in the SMPL-X file format."""

from dataclasses import dataclass

import numpy as np

from stages._core.progress import progress
from stages._core.seeds import rng_for
from stages.makehuman.hands import hand_components, relaxed_hand
from stages.makehuman.joint_regressor import joint_regressor
from stages.makehuman.joints import PARENTS
from stages.makehuman.landmarks import face_landmarks
from stages.makehuman.phenotypes import sample_phenotypes
from stages.makehuman.shape_space import (
    LinearSpace,
    expression_components,
    principal_components,
    tposed_people,
)
from stages.makehuman.subject import skinning_weights
from stages.makehuman.twist_correctives import twist_correctives
from stages.makehuman.vertex_order import body_faces, body_vertices

COMPONENTS = 10
"""Shape and expression components each: what `smplx` reads from a file of this kind."""

ROOT_PARENT = 2**32 - 1
"""How SMPL files write "no parent" in an unsigned table."""


@dataclass(frozen=True)
class OpenBody:
    """What the file holds, and how well it fits the people it was made from.

    Attributes:
        arrays: key → array, as `smplx` expects them.
        explained: (10,) cumulative share of the shape variance.
        expression_explained: (10,) of the expressions' variance.
    """

    arrays: dict[str, np.ndarray]
    explained: np.ndarray
    expression_explained: np.ndarray


def build_open_body(subjects: int, seed: int, *, bar: bool = False) -> OpenBody:
    """Sample people, T-pose them and distil the model.

    Args:
        subjects: people in the shape sample; 1000 for the real body, 120 will do for a test.
        seed: every draw derives from it.
        bar: draw a progress bar instead of plain lines.
    """
    body = body_vertices()
    people = sample_phenotypes(subjects, rng_for(seed, "build_body", "phenotypes"))
    with progress("T-posing people", subjects, bar=bar) as advance:
        sample = tposed_people(people, body, advance)
    shape = principal_components(sample.vertices, COMPONENTS)
    expression = expression_components(body, COMPONENTS, rng_for(seed, "build_body", "expressions"))
    joints = sample.joints.mean(axis=0, dtype=np.float64)
    joint_shape = np.einsum("pk,pjc->kjc", shape.scores, sample.joints - joints) / subjects
    weights = skinning_weights()[body]
    regressor = joint_regressor(
        shape.mean, shape.components, expression.components, joints, joint_shape, weights
    )
    correctives = twist_correctives(shape.mean, joints, weights)
    arrays = _arrays(shape, expression, regressor, weights) | {"posedirs": correctives}
    return OpenBody(arrays, shape.explained, expression.explained)


def _arrays(
    shape: LinearSpace, expression: LinearSpace, regressor: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    components = np.concatenate([shape.components, expression.components])
    landmark_faces, landmark_bary = face_landmarks()
    parents = np.where(PARENTS < 0, ROOT_PARENT, PARENTS)
    return {
        "v_template": shape.mean.astype(np.float32),
        "f": body_faces().astype(np.uint32),
        "shapedirs": np.moveaxis(components, 0, -1).astype(np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "kintree_table": np.stack([parents, np.arange(len(PARENTS))]).astype(np.int64),
        "hands_componentsl": hand_components("left").astype(np.float32),
        "hands_componentsr": hand_components("right").astype(np.float32),
        "hands_meanl": relaxed_hand("left").astype(np.float32),
        "hands_meanr": relaxed_hand("right").astype(np.float32),
        "lmk_faces_idx": landmark_faces.astype(np.int64),
        "lmk_bary_coords": landmark_bary.astype(np.float32),
    }
