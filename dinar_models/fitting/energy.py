"""The objective of a fit: SMPLify-X's (Pavlakos et al., CVPR 2019, eq. 1) and DINAR's Dice term of silhouettes.

The formulas are in `terms`, `capsules` and `clips`; here they meet the body, the keypoints and the weights.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams, BodySubset
from dinar_models.fitting.capsules import Capsules
from dinar_models.fitting.clips import smoothness_energy
from dinar_models.fitting.observations import Observations, Target, Variables
from dinar_models.fitting.schedule import Schedule, Weights
from dinar_models.fitting.terms import (
    balance_energy,
    bending_energy,
    direction_difference,
    gaussian_energy,
    natural_stance,
    nearest_seed_mesh,
    relaxed_hands,
    reprojection,
    spread_points,
    tversky,
)
from dinar_models.keypoints import GROUPS, SMPLX_NAMES, KeypointLayout
from dinar_models.rasterize.base import Rasterizer
from dinar_models.rasterize.silhouette import Edges, soft_silhouette

BONES = (
    *(("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")),
    *(("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist")),
    *(("left_hip", "left_knee"), ("left_knee", "left_ankle")),
    *(("right_hip", "right_knee"), ("right_knee", "right_ankle")),
    *(("right_shoulder", "left_shoulder"), ("right_hip", "left_hip")),
    *(("left_hip", "left_shoulder"), ("right_hip", "right_shoulder")),
)
"""Pairs of joints whose directions are compared with measured ones."""

POINT_WEIGHTS = {"hip": 0.3, "ear": 0.5, "big_toe": 0.5, "knuckle": 0.3, "mouth_corner": 0.3}
"""Points that detectors and body models place differently count less; by the end of the name."""

SMOOTH_JOINTS = 22
"""Pelvis to wrists: the first joints of the skeleton."""


class Energy:
    """The weighted terms for one body model and one keypoint layout."""

    def __init__(
        self, body: BodyModel, layout: KeypointLayout, rasterizer: Rasterizer, surface_vertices: int
    ) -> None:
        self.rasterizer = rasterizer
        self.prior = natural_stance()
        self.relaxed = torch.cat(relaxed_hands())
        self.capsules = Capsules.of(body)
        self.points = torch.from_numpy(np.flatnonzero(layout.smplx_index >= 0))
        self.joint_of_point = torch.from_numpy(layout.smplx_index)[self.points]
        self.group = torch.from_numpy(layout.group)[self.points]
        self.point_weight = torch.tensor([_point_weight(layout.points[i]) for i in self.points])
        self.joint_bones = bone_differences(SMPLX_NAMES)
        self.light = body.subset(torch.zeros(0, dtype=torch.long))
        rest = body(BodyParams.zeros(1)).vertices[0]
        seeds = spread_points(rest, surface_vertices)
        self.surface = body.subset(seeds)
        self.surface_faces = nearest_seed_mesh(body.faces, rest, seeds)
        self.surface_edges = Edges.of(self.surface_faces)

    def pose(self, model: BodyModel | BodySubset, variables: Variables) -> tuple[Tensor, Tensor]:
        """Joints (B, 127, 3) and vertices (B, n, 3) in the world; `betas` with a row for each body."""
        params = {**BodyParams.zeros(len(variables["pelvis"])).as_dict(), **variables}
        pelvis = params.pop("pelvis")
        out = model(BodyParams.from_dict(params))
        shift = (pelvis - out.joints[:, 0])[:, None]
        return out.joints + shift, out.vertices + shift

    def terms(
        self,
        variables: Variables,
        target: Target,
        masks: Float[Tensor, "m h w"] | None,
        schedule: Schedule,
        weights: Weights,
    ) -> dict[str, Float[Tensor, " b"]]:
        """The weighted energy of each body, term by term; a term without weight is not computed.

        Args:
            variables: `betas` has a row for each person.
            masks: of all views; None switches the silhouette off.
        """
        variables = {**variables, "betas": variables["betas"][target.person]}
        outlined = masks is not None and weights.silhouette > 0
        posed = self.pose(self.surface if outlined else self.light, variables)
        functions = self.functions(variables, *posed, target, masks, schedule, weights)
        factors = {name: getattr(weights, name, 1.0) for name in functions}
        return {name: factors[name] * term() for name, term in functions.items() if factors[name] > 0}

    def functions(
        self,
        variables: Variables,
        joints: Float[Tensor, "b 127 3"],
        vertices: Float[Tensor, "b n 3"],
        target: Target,
        masks: Float[Tensor, "m h w"] | None,
        schedule: Schedule,
        weights: Weights,
    ) -> dict[str, Callable[[], Float[Tensor, " b"]]]:
        """The terms of posed bodies, not yet computed and without their weights.

        Keypoints are one term, `data`, that weighs its groups itself.

        Args:
            variables: `betas` has a row for each body.
            vertices: of `surface`, for the silhouette.
        """
        observations = target.observations
        functions = self._priors(variables)
        functions["data"] = lambda: self._data(joints, observations, schedule, weights)
        functions["direction"] = lambda: direction_difference(
            self.joint_bones @ joints, target.bones, target.known
        ).sum(dim=1)
        functions["balance"] = lambda: balance_energy(joints, target.up)
        functions["penetration"] = lambda: self.capsules.energy(joints, variables["betas"])
        functions["smoothness"] = lambda: smoothness_energy(joints[:, :SMOOTH_JOINTS], target.triples)
        if masks is not None:
            functions["silhouette"] = lambda: self._outline(vertices, observations, masks, schedule)
        return functions

    def _priors(self, variables: Variables) -> dict[str, Callable[[], Tensor]]:
        pose = variables["body_pose"]
        hands = torch.cat([variables["left_hand_pose"], variables["right_hand_pose"]], dim=1)
        return {
            "stance": lambda: self.prior.stance_energy(pose),
            "limits": lambda: self.prior.limit_energy(pose),
            "bending": lambda: bending_energy(pose),
            "shape": lambda: gaussian_energy(variables["betas"], 0.0, 1.0),
            "expression": lambda: gaussian_energy(variables["expression"], 0.0, 1.0),
            "jaw": lambda: gaussian_energy(variables["jaw_pose"], 0.0, 0.1),
            "hand_prior": lambda: gaussian_energy(hands, self.relaxed, 0.3),
        }

    def _data(
        self, joints: Tensor, observations: Observations, schedule: Schedule, weights: Weights
    ) -> Float[Tensor, " b"]:
        """Reprojection energy over all keypoints and views; body, feet, hands and face have their own weights."""
        of_group = torch.tensor([getattr(weights, name) for name in GROUPS])[self.group]
        squared = reprojection(
            joints[:, self.joint_of_point].repeat_interleave(observations.views, dim=0),
            observations.xyc[:, :, self.points].flatten(0, 1),
            observations.camera,
            schedule.sigma,
        )
        energy = (squared * of_group * self.point_weight).sum(dim=1) / (2 * schedule.spread**2)
        return energy.view(len(joints), -1).sum(dim=1)

    def _outline(
        self, vertices: Tensor, observations: Observations, masks: Tensor, schedule: Schedule
    ) -> Float[Tensor, " b"]:
        """1 − Dice of the body's and the person's silhouette, summed over the views."""
        coverage = soft_silhouette(
            vertices,
            self.surface_faces,
            observations.camera,
            self.rasterizer,
            schedule.silhouette_size,
            self.surface_edges,
        )
        loss = tversky(coverage, masks, schedule.outside, schedule.uncovered)
        loss = loss * (masks.amax(dim=(1, 2)) > 0)  # a view whose mask is not known says nothing
        return loss.view(len(vertices), -1).sum(dim=1)


def bone_differences(names: tuple[str, ...]) -> Float[Tensor, "k n"]:
    """Matrix that turns points with these names into the vectors of BONES."""
    matrix = torch.zeros(len(BONES), len(names))
    for row, (start, end) in enumerate(BONES):
        matrix[row, names.index(end)] += 1
        matrix[row, names.index(start)] -= 1
    return matrix


def small_masks(observations: Observations, size: int) -> Tensor | None:
    """Masks of all views (B·V, size, size)."""
    if observations.mask is None:
        return None
    return F.interpolate(observations.mask.flatten(0, 1)[:, None], size=(size, size), mode="area")[:, 0]


def _point_weight(name: str) -> float:
    return next((weight for end, weight in POINT_WEIGHTS.items() if name.endswith(end)), 1.0)
