"""SMPLify-X style body fitting: many bodies at once, each seen by one view or by several.

The objective is that of SMPLify-X (Pavlakos et al., CVPR 2019, eq. 1) plus the silhouette's Dice term that
DINAR adds (section 4.2): robust reprojection of body, hands, feet and face, priors on pose, shape, expression
and hands, in phases with growing freedom. Bodies are independent: Adam treats each number by itself and the
energies are summed, so a batch gives what its bodies give one by one.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams, BodySubset
from dinar_models.cameras import Camera
from dinar_models.fitting_schedule import STEP_SIZES, Phase, Schedule, Weights
from dinar_models.fitting_start import (
    LIMBS,
    TORSO,
    Rays,
    bent_limb,
    exchanged_views,
    faces_camera,
    facing_rotation,
    place_before_camera,
    rigid_transform,
    rotation_matrix,
    rotation_vector,
    triangulate,
)
from dinar_models.fitting_terms import (
    BODY_JOINT_NAMES,
    balance_energy,
    bending_energy,
    direction_difference,
    gaussian_energy,
    intersection_over_union,
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

LEAST_KNOWN = 0.3
"""A limb whose measured directions are less sure starts in the natural stance."""

POINT_WEIGHTS = {"hip": 0.3, "ear": 0.5, "big_toe": 0.5, "knuckle": 0.3, "mouth_corner": 0.3}
"""Points that detectors and body models place differently count less; by the end of the name."""

Phases = tuple[Phase, ...]
Variables = dict[str, Tensor]
"""The fields of BodyParams but `transl` and `scale`, and `pelvis`: where that joint is in the world, m.

A shape that changes moves the pelvis in the body's own frame; with the pelvis as variable it stays put."""


@dataclass
class Observations:
    """What is known of B bodies from V views each.

    Attributes:
        xyc: keypoints, pixels of the camera's image and confidence; 0 confidence = not seen.
        camera: B·V cameras, body by body.
        mask: of the person, 0–1, square, of any resolution; None switches the silhouette term off.
        world: the detector's own 3-D guess in camera axes, m, zeros where it has none; used with one view.
    """

    xyc: Float[Tensor, "b v j 3"]
    camera: Camera
    mask: Float[Tensor, "b v h w"] | None = None
    world: Float[Tensor, "b v j 3"] | None = None

    def __len__(self) -> int:
        return len(self.xyc)

    @property
    def views(self) -> int:
        """Views of each body."""
        return self.xyc.shape[1]

    def select(self, bodies: Int[Tensor, " r"]) -> "Observations":
        """The observations of some bodies."""
        rows = (bodies[:, None] * self.views + torch.arange(self.views)).flatten()
        mask = None if self.mask is None else self.mask[bodies]
        world = None if self.world is None else self.world[bodies]
        return Observations(self.xyc[bodies], self.camera.select(rows), mask, world)


@dataclass
class Target:
    """Observations in the form that the energy takes.

    Attributes:
        observations: with sides exchanged where the detector erred.
        bones: measured directions of BONES, world.
        known: how sure they are, 0–1.
    """

    observations: Observations
    bones: Float[Tensor, "b k 3"]
    known: Float[Tensor, "b k"]

    @property
    def up(self) -> Float[Tensor, "b 3"]:
        """Against gravity: the first camera's up, since people hold cameras level."""
        return -self.observations.camera.R[:: self.observations.views, 1]

    def select(self, bodies: Int[Tensor, " r"]) -> "Target":
        """The target of some bodies."""
        return Target(self.observations.select(bodies), self.bones[bodies], self.known[bodies])


@dataclass
class Fit:
    """Bodies and how well they explain what was seen.

    Attributes:
        params: in the world of the cameras.
        reprojection: mean confidence-weighted distance of the body's and feet's keypoints, px.
        person: length of the person in the image, px: what `reprojection` is to be compared with.
        iou: overlap of the body's and the person's silhouette, 0–1; NaN where the mask is empty or missing.
        stance: energy of the pose prior.
        excess: largest angle beyond a joint's limits, rad.
    """

    params: BodyParams
    reprojection: Float[Tensor, "b v"]
    person: Float[Tensor, "b v"]
    iou: Float[Tensor, "b v"]
    stance: Float[Tensor, " b"]
    excess: Float[Tensor, " b"]


class BodyFitter:
    """What all fits with one body model and one keypoint layout share."""

    def __init__(
        self, body: BodyModel, layout: KeypointLayout, rasterizer: Rasterizer, surface_vertices: int = 2500
    ) -> None:
        self.body = body
        self.layout = layout
        self.rasterizer = rasterizer
        self.prior = natural_stance()
        self.relaxed = torch.cat(relaxed_hands())
        self.points = torch.from_numpy(np.flatnonzero(layout.smplx_index >= 0))
        self.joint_of_point = torch.from_numpy(layout.smplx_index)[self.points]
        self.group = torch.from_numpy(layout.group)[self.points]
        self.point_weight = torch.tensor([_point_weight(layout.points[i]) for i in self.points])
        self.joint_bones = _differences(SMPLX_NAMES)
        self.point_bones = _differences(layout.points)
        self.torso_joints = torch.tensor([SMPLX_NAMES.index(name) for name in TORSO])
        self.torso_points = torch.from_numpy(layout.find(*TORSO))
        self.light = body.subset(torch.zeros(0, dtype=torch.long))
        rest = body(BodyParams.zeros(1)).vertices[0]
        seeds = spread_points(rest, surface_vertices)
        self.surface = body.subset(seeds)
        self.surface_faces = nearest_seed_mesh(body.faces, rest, seeds)
        self.surface_edges = Edges.of(self.surface_faces)

    def fit_multi_view(self, observations: Observations, schedule: Schedule) -> Fit:
        """One body each from several views with known cameras."""
        target, torso = self._triangulated(observations)
        start = self._start(len(observations))
        joints = self._pose(self.light, start)[0]
        rotation, shift = rigid_transform(joints[:, self.torso_joints], torso)
        start["global_orient"] = rotation_vector(rotation)
        start["pelvis"] = (rotation @ start["pelvis"][..., None])[..., 0] + shift
        self._bend_limbs(start, target)
        variables = self._run(start, target, schedule, schedule.phases)
        return self._result(variables, target, schedule)

    def fit_single_view(self, observations: Observations, schedule: Schedule) -> Fit:
        """One body each from one view; where the turn is in doubt, the opposite one is tried as well."""
        if observations.views != 1:
            raise ValueError(f"{observations.views} views a body: one is expected")
        target = self._guessed(observations)
        turns, doubtful = self._turns(observations)
        doubted = torch.nonzero(doubtful)[:, 0]
        candidates = target.select(torch.cat([torch.arange(len(observations)), doubted]))
        opposite = turns[doubted] @ rotation_matrix(torch.tensor([[0.0, math.pi, 0.0]]).to(turns))
        start = self._placed(torch.cat([turns, opposite]), candidates.observations)
        self._bend_limbs(start, candidates)
        early, late = schedule.phases[: schedule.choose_after], schedule.phases[schedule.choose_after :]
        variables = self._run(start, candidates, schedule, early)
        chosen = self._cheaper(variables, candidates, schedule, early[-1].weights, doubted)
        variables = {name: value[chosen] for name, value in variables.items()}
        return self._result(self._run(variables, target, schedule, late), target, schedule)

    def _start(self, bodies: int) -> Variables:
        """The natural stance of the mean shape, the pelvis at the origin, facing +z."""
        params = BodyParams.zeros(bodies).as_dict()
        variables = {name: params[name] for name in STEP_SIZES if name in params}
        variables["body_pose"] = self.prior.mean.flatten().repeat(bodies, 1)
        variables["left_hand_pose"], variables["right_hand_pose"] = (
            hand.repeat(bodies, 1) for hand in relaxed_hands()
        )
        variables["pelvis"] = torch.zeros(bodies, 3)
        return variables

    def _triangulated(self, observations: Observations) -> tuple[Target, Tensor]:
        """The target of several views, and the torso's points in the world (B, 4, 3)."""
        rays = Rays.through(observations.xyc, observations.camera)
        points, known = triangulate(rays)
        mirrored = torch.from_numpy(self.layout.mirrored)
        exchanged = exchanged_views(rays, points, known, mirrored)
        xyc = torch.where(exchanged[..., None, None], observations.xyc[:, :, mirrored], observations.xyc)
        observations = Observations(xyc, observations.camera, observations.mask, observations.world)
        points, known = triangulate(Rays.through(xyc, observations.camera))
        bones, sure = self._measured_bones(points, known)
        return Target(observations, bones, sure), points[:, self.torso_points]

    def _guessed(self, observations: Observations) -> Target:
        """The target of single views: directions are the detector's guess, turned into the world."""
        count, points = len(observations), observations.xyc.shape[2]
        if observations.world is None:
            bones = torch.zeros(count, len(BONES), 3)
            return Target(observations, bones, torch.zeros(count, len(BONES)))
        guess = observations.world[:, 0]
        known = observations.xyc[:, 0, :, 2] * (guess.abs().sum(dim=-1) > 0)
        bones, sure = self._measured_bones(guess @ observations.camera.R, known.view(count, points))
        return Target(observations, bones, sure)

    def _measured_bones(self, points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Directions of BONES between points (B, J, 3), each as sure as its less sure end."""
        ends = (self.point_bones != 0)[None]
        sure = torch.where(ends, known[:, None], torch.inf).amin(dim=-1)
        return self.point_bones @ points, sure

    def _turns(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """World rotations of the bodies (B, 3, 3) and whether their opposite is to be tried too.

        The detector's 3-D guess of the torso decides where there is one that agrees with the order of left
        and right in the image; otherwise that order alone.
        """
        camera = observations.camera
        torso = observations.xyc[:, 0, self.torso_points]
        facing, certain = faces_camera(torso)
        front, back = facing_rotation(camera, 0.0), facing_rotation(camera, math.pi)
        turns = torch.where(facing[:, None, None], front, back)
        if observations.world is None:
            return turns, ~certain
        guess = observations.world[:, 0, self.torso_points]
        has_guess = (guess.abs().sum(dim=-1) > 0).all(dim=1)
        joints = self._pose(self.light, self._start(len(observations)))[0]
        guessed = camera.R.mT @ rigid_transform(joints[:, self.torso_joints], guess)[0]
        turns = torch.where(has_guess[:, None, None], guessed, turns)
        toward = (camera.R @ turns)[:, 2, 2] < 0
        return turns, ~certain | (toward != facing)

    def _placed(self, turns: Tensor, observations: Observations) -> Variables:
        """Turned bodies moved to where their torso projects onto its keypoints."""
        start = self._start(len(turns))
        start["global_orient"] = rotation_vector(turns)
        joints = self._pose(self.light, start)[0]
        torso = observations.xyc[:, 0, self.torso_points]
        start["pelvis"] = place_before_camera(joints[:, self.torso_joints], torso, observations.camera)
        return start

    def _bend_limbs(self, variables: Variables, target: Target) -> None:
        """Set arms and legs to the measured directions where these are known."""
        turn = rotation_matrix(variables["global_orient"])
        bones = target.bones @ turn  # in the body's frame
        pose = variables["body_pose"].view(-1, 21, 3)
        for ball, hinge, along, bend in LIMBS:
            upper = next(i for i, (start, _) in enumerate(BONES) if start == ball)
            lower = next(i for i, (start, _) in enumerate(BONES) if start == hinge)
            known = torch.minimum(target.known[:, upper], target.known[:, lower]) > LEAST_KNOWN
            if not known.any():  # directions that were not measured are no directions
                continue
            first, second = bones[known, upper], bones[known, lower]
            both = bent_limb(first, second, torch.tensor(along), torch.tensor(bend))
            for joint, rotation in zip((ball, hinge), both, strict=True):
                pose[known, BODY_JOINT_NAMES.index(joint)] = rotation

    def _pose(self, model: BodyModel | BodySubset, variables: Variables) -> tuple[Tensor, Tensor]:
        """Joints (B, 127, 3) and vertices (B, n, 3) in the world."""
        params = {**BodyParams.zeros(len(variables["pelvis"])).as_dict(), **variables}
        pelvis = params.pop("pelvis")
        out = model(BodyParams.from_dict(params))
        shift = (pelvis - out.joints[:, 0])[:, None]
        return out.joints + shift, out.vertices + shift

    def _run(self, variables: Variables, target: Target, schedule: Schedule, phases: Phases) -> Variables:
        """Go through phases of gradient descent."""
        masks = _small_masks(target.observations, schedule.silhouette_size)
        for phase in phases:
            variables = self._run_phase(variables, target, masks, schedule, phase)
        return variables

    def _run_phase(
        self, variables: Variables, target: Target, masks: Tensor | None, schedule: Schedule, phase: Phase
    ) -> Variables:
        variables = {k: v.detach().clone().requires_grad_(k in phase.free) for k, v in variables.items()}
        groups = [{"params": [variables[name]], "size": STEP_SIZES[name]} for name in phase.free]
        optimizer = torch.optim.Adam(groups, lr=phase.rate, betas=(0.9, 0.99))
        for step in range(phase.steps):
            for group in optimizer.param_groups:
                group["lr"] = phase.rate_at(step) * group["size"]
            optimizer.zero_grad()
            terms = self.terms(variables, target, masks, schedule, phase.weights)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
        return {name: value.detach() for name, value in variables.items()}

    def terms(
        self,
        variables: Variables,
        target: Target,
        masks: Float[Tensor, "n h w"] | None,
        schedule: Schedule,
        weights: Weights,
    ) -> dict[str, Float[Tensor, " b"]]:
        """The weighted energy of each body, term by term."""
        masks = masks if weights.silhouette > 0 else None
        joints, vertices = self._pose(self.light if masks is None else self.surface, variables)
        pose = variables["body_pose"]
        hands = torch.cat([variables["left_hand_pose"], variables["right_hand_pose"]], dim=1)
        direction = direction_difference(self.joint_bones @ joints, target.bones, target.known)
        terms = {
            "data": self._data(joints, target.observations, schedule, weights),
            "direction": weights.direction * direction.sum(dim=1),
            "stance": weights.stance * self.prior.stance_energy(pose),
            "limits": weights.limits * self.prior.limit_energy(pose),
            "bending": weights.bending * bending_energy(pose),
            "balance": weights.balance * balance_energy(joints, target.up),
            "shape": weights.shape * gaussian_energy(variables["betas"], 0.0, 1.0),
            "expression": weights.expression * gaussian_energy(variables["expression"], 0.0, 1.0),
            "jaw": weights.jaw * gaussian_energy(variables["jaw_pose"], 0.0, 0.1),
            "hand_prior": weights.hand_prior * gaussian_energy(hands, self.relaxed, 0.3),
        }
        if masks is not None:
            coverage = soft_silhouette(
                vertices,
                self.surface_faces,
                target.observations.camera,
                self.rasterizer,
                schedule.silhouette_size,
                self.surface_edges,
            )
            loss = tversky(coverage, masks, schedule.outside, schedule.uncovered)
            loss = loss * (masks.amax(dim=(1, 2)) > 0)  # a view whose mask is not known says nothing
            terms["silhouette"] = weights.silhouette * loss.view(len(joints), -1).sum(dim=1)
        return terms

    def _data(
        self, joints: Tensor, observations: Observations, schedule: Schedule, weights: Weights
    ) -> Float[Tensor, " b"]:
        """Reprojection energy over all keypoints and views."""
        of_group = torch.tensor([getattr(weights, name) for name in GROUPS])[self.group]
        squared = reprojection(
            joints[:, self.joint_of_point].repeat_interleave(observations.views, dim=0),
            observations.xyc[:, :, self.points].flatten(0, 1),
            observations.camera,
            schedule.sigma,
        )
        energy = (squared * of_group * self.point_weight).sum(dim=1) / (2 * schedule.spread**2)
        return energy.view(len(joints), -1).sum(dim=1)

    def _cheaper(
        self,
        variables: Variables,
        candidates: Target,
        schedule: Schedule,
        weights: Weights,
        doubted: Int[Tensor, " d"],
    ) -> Int[Tensor, " b"]:
        """The row of each body's better candidate; the second ones, of the doubted, follow all first ones."""
        with torch.no_grad():
            terms = self.terms(variables, candidates, None, schedule, weights)
        energy = torch.stack(list(terms.values())).sum(dim=0)
        bodies = len(energy) - len(doubted)
        chosen = torch.arange(bodies)
        better = energy[bodies:] < energy[doubted]
        chosen[doubted[better]] = torch.nonzero(better)[:, 0] + bodies
        return chosen

    @torch.no_grad()
    def _result(self, variables: Variables, target: Target, schedule: Schedule) -> Fit:
        """Parameters in the store's form, and residuals."""
        observations = target.observations
        count, views = len(observations), observations.views
        joints, _ = self._pose(self.light, variables)
        params = {**BodyParams.zeros(count).as_dict(), **variables}
        pelvis = params.pop("pelvis")
        in_place = BodyParams.from_dict(params)
        params["transl"] = pelvis - self.light(in_place).joints[:, 0]
        pixels = observations.camera.project(joints.repeat_interleave(views, dim=0))
        seen = observations.xyc[:, :, self.points].flatten(0, 1)
        weight = seen[..., 2] * (self.group < GROUPS.index("hands")) * self.point_weight
        error = (pixels[:, self.joint_of_point] - seen[..., :2]).norm(dim=-1)
        extent = (pixels.amax(dim=1) - pixels.amin(dim=1)).amax(dim=1)
        fitted = BodyParams.from_dict(params)
        return Fit(
            params=fitted,
            reprojection=((error * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)).view(count, views),
            person=extent.view(count, views),
            iou=self._overlap(fitted, observations, schedule.silhouette_size),
            stance=self.prior.stance_energy(params["body_pose"]),
            excess=self.prior.excess(params["body_pose"]).amax(dim=(1, 2)),
        )

    def _overlap(self, params: BodyParams, observations: Observations, size: int) -> Float[Tensor, "b v"]:
        """IoU of the full body's silhouette and the mask; NaN where there is none."""
        masks = _small_masks(observations, size)
        if masks is None:
            return torch.full((len(observations), observations.views), torch.nan)
        vertices = self.body(params).vertices
        fragments = self.rasterizer.rasterize(vertices, self.body.faces, observations.camera, size)
        overlap = intersection_over_union(fragments.covered.to(masks), masks)
        overlap = torch.where(masks.amax(dim=(1, 2)) > 0, overlap, torch.nan)
        return overlap.view(len(observations), observations.views)


def _point_weight(name: str) -> float:
    return next((weight for end, weight in POINT_WEIGHTS.items() if name.endswith(end)), 1.0)


def _differences(names: tuple[str, ...]) -> Float[Tensor, "k n"]:
    """Matrix that turns points into the vectors of BONES."""
    matrix = torch.zeros(len(BONES), len(names))
    for row, (start, end) in enumerate(BONES):
        matrix[row, names.index(end)] += 1
        matrix[row, names.index(start)] -= 1
    return matrix


def _small_masks(observations: Observations, size: int) -> Tensor | None:
    """Masks of all views (B·V, size, size)."""
    if observations.mask is None:
        return None
    return F.interpolate(observations.mask.flatten(0, 1)[:, None], size=(size, size), mode="area")[:, 0]
