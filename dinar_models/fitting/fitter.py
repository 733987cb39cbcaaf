"""SMPLify-X style body fitting: many bodies at once, each seen by one view or by several.

Phases of gradient descent with growing freedom over the objective of `energy`. Bodies are independent, but for
the frames of a clip: Adam treats each number by itself and the energies are summed, so a batch gives what its
bodies give one by one.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.fitting.clips import people_of, settle_turns, shared_shape, triples_of
from dinar_models.fitting.energy import BONES, Energy, bone_differences, small_masks
from dinar_models.fitting.observations import Fit, Observations, Target, Variables
from dinar_models.fitting.schedule import STEP_SIZES, Phase, Schedule
from dinar_models.fitting.start import (
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
from dinar_models.fitting.terms import BODY_JOINT_NAMES, intersection_over_union, relaxed_hands
from dinar_models.keypoints import GROUPS, SMPLX_NAMES, KeypointLayout
from dinar_models.rasterize.base import Rasterizer

LEAST_KNOWN = 0.3
"""A limb whose measured directions are less sure starts in the natural stance."""


class BodyFitter:
    """What all fits with one body model and one keypoint layout share."""

    def __init__(
        self, body: BodyModel, layout: KeypointLayout, rasterizer: Rasterizer, surface_vertices: int = 2500
    ) -> None:
        self.body = body
        self.layout = layout
        self.rasterizer = rasterizer
        self.energy = Energy(body, layout, rasterizer, surface_vertices)
        self.point_bones = bone_differences(layout.points)
        self.torso_joints = torch.tensor([SMPLX_NAMES.index(name) for name in TORSO])
        self.torso_points = torch.from_numpy(layout.find(*TORSO))

    def fit_multi_view(
        self,
        observations: Observations,
        schedule: Schedule,
        start: BodyParams | None = None,
        known: Bool[Tensor, " b"] | None = None,
    ) -> Fit:
        """One body each from several views with known cameras.

        Args:
            start: poses and turns in the world from which the bodies marked in `known` start, instead of the
                triangulated ones; where they stand and their shape always come from the views.
        """
        target, torso = self.triangulated(observations)
        variables = self._start(len(observations))
        joints = self._light_joints(variables)
        rotation, shift = rigid_transform(joints[:, self.torso_joints], torso)
        variables["global_orient"] = rotation_vector(rotation)
        variables["pelvis"] = (rotation @ variables["pelvis"][..., None])[..., 0] + shift
        self._bend_limbs(variables, target)
        if start is not None and known is not None:
            self._pose_as(variables, start, known)
            moved = self._light_joints(variables)[:, self.torso_joints]
            variables["pelvis"][known] += (torso - moved).mean(dim=1)[known]
        variables = self.run(variables, target, schedule, schedule.phases)
        return self._result(self._params(variables, target), target.observations, schedule)

    def fit_single_view(
        self,
        observations: Observations,
        schedule: Schedule,
        start: BodyParams | None = None,
        known: Bool[Tensor, " b"] | None = None,
    ) -> Fit:
        """One body each from one view; where the turn is in doubt, the opposite one is tried as well.

        Frames of a clip share the shape and move smoothly in the phases after `choose_after`; photos of one person
        share the shape.

        Args:
            start: as in `fit_multi_view`; the turn of known bodies is never in doubt.
        """
        if observations.views != 1:
            raise ValueError(f"{observations.views} views a body: one is expected")
        target = self.guessed(observations)
        turns, doubtful = self._turns(observations)
        if start is not None and known is not None:
            turns = torch.where(known[:, None, None], rotation_matrix(start.global_orient), turns)
            doubtful &= ~known
        doubted = torch.nonzero(doubtful)[:, 0]
        candidates = target.strangers(torch.cat([torch.arange(len(observations)), doubted]))
        opposite = turns[doubted] @ rotation_matrix(torch.tensor([[0.0, math.pi, 0.0]]).to(turns))
        variables = self._placed(torch.cat([turns, opposite]), candidates.observations)
        self._bend_limbs(variables, candidates)
        if start is not None and known is not None:
            self._pose_as(variables, start, torch.cat([known, torch.zeros_like(doubted, dtype=torch.bool)]))
        early, late = schedule.phases[: schedule.choose_after], schedule.phases[schedule.choose_after :]
        variables = self.run(variables, candidates, schedule, early)
        strangers = torch.arange(len(observations))
        moving = target.person if observations.clip is not None else strangers
        chosen = self._cheaper(variables, candidates, schedule, moving, doubted)
        variables = {name: value[chosen] for name, value in variables.items()}
        variables["betas"] = shared_shape(variables["betas"], target.person)
        variables = self.run(variables, target, schedule, late)
        return self._result(self._params(variables, target), observations, schedule)

    def judge_given(self, params: BodyParams, observations: Observations, schedule: Schedule) -> Fit:
        """How well given bodies explain what was seen; nothing is changed.

        Args:
            params: in the world of the cameras.
        """
        if observations.views > 1:
            observations = self.triangulated(observations)[0].observations
        return self._result(params, observations, schedule)

    def _start(self, bodies: int) -> Variables:
        """The natural stance of the mean shape, the pelvis at the origin, facing +z."""
        params = BodyParams.zeros(bodies).as_dict()
        variables = {name: params[name] for name in STEP_SIZES if name in params}
        variables["body_pose"] = self.energy.prior.mean.flatten().repeat(bodies, 1)
        variables["left_hand_pose"], variables["right_hand_pose"] = (
            hand.repeat(bodies, 1) for hand in relaxed_hands()
        )
        variables["pelvis"] = torch.zeros(bodies, 3)
        return variables

    def _pose_as(self, variables: Variables, start: BodyParams, known: Bool[Tensor, " c"]) -> None:
        """Take turn and poses of known bodies from `start`, whose rows are the first ones of the variables."""
        for name in ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose", "jaw_pose"):
            variables[name][known] = getattr(start, name)[known[: len(start)]].to(variables[name])

    def _light_joints(self, variables: Variables) -> Float[Tensor, "b 127 3"]:
        return self.energy.pose(self.energy.light, variables)[0]

    def triangulated(self, observations: Observations) -> tuple[Target, Float[Tensor, "b 4 3"]]:
        """The target of several views, and the torso's points in the world."""
        rays = Rays.through(observations.xyc, observations.camera)
        points, known = triangulate(rays)
        mirrored = torch.from_numpy(self.layout.mirrored)
        exchanged = exchanged_views(rays, points, known, mirrored)
        xyc = torch.where(exchanged[..., None, None], observations.xyc[:, :, mirrored], observations.xyc)
        observations = Observations(xyc, observations.camera, observations.mask, observations.world)
        points, known = triangulate(Rays.through(xyc, observations.camera))
        bones, sure = self._measured_bones(points, known)
        return Target.of_strangers(observations, bones, sure), points[:, self.torso_points]

    def guessed(self, observations: Observations) -> Target:
        """The target of single views: directions are the detector's guess, turned into the world."""
        count, points = len(observations), observations.xyc.shape[2]
        bones, sure = torch.zeros(count, len(BONES), 3), torch.zeros(count, len(BONES))
        if observations.world is not None:
            guess = observations.world[:, 0]
            known = observations.xyc[:, 0, :, 2] * (guess.abs().sum(dim=-1) > 0)
            bones, sure = self._measured_bones(guess @ observations.camera.R, known.view(count, points))
        target = Target.of_strangers(observations, bones, sure)
        if observations.clip is not None:
            target.person, target.triples = people_of(observations.clip), triples_of(observations.clip)
        elif observations.person is not None:
            target.person = observations.person
        return target

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
        joints = self._light_joints(self._start(len(observations)))
        guessed = camera.R.mT @ rigid_transform(joints[:, self.torso_joints], guess)[0]
        turns = torch.where(has_guess[:, None, None], guessed, turns)
        toward = (camera.R @ turns)[:, 2, 2] < 0
        return turns, ~certain | (toward != facing)

    def _placed(self, turns: Tensor, observations: Observations) -> Variables:
        """Turned bodies moved to where their torso projects onto its keypoints."""
        start = self._start(len(turns))
        start["global_orient"] = rotation_vector(turns)
        joints = self._light_joints(start)
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

    def run(
        self, variables: Variables, target: Target, schedule: Schedule, phases: tuple[Phase, ...]
    ) -> Variables:
        """Go through phases of gradient descent."""
        masks = small_masks(target.observations, schedule.silhouette_size)
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
            terms = self.energy.terms(variables, target, masks, schedule, phase.weights)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
        return {name: value.detach() for name, value in variables.items()}

    def _cheaper(
        self,
        variables: Variables,
        candidates: Target,
        schedule: Schedule,
        person: Int[Tensor, " b"],
        doubted: Int[Tensor, " d"],
    ) -> Int[Tensor, " b"]:
        """The row of each body's better candidate; the second ones, of the doubted, follow all first ones."""
        weights = schedule.phases[schedule.choose_after - 1].weights
        with torch.no_grad():
            terms = self.energy.terms(variables, candidates, None, schedule, weights)
        total = torch.stack(list(terms.values())).sum(dim=0)
        bodies = len(person)
        rows = torch.arange(bodies)[:, None].repeat(1, 2)
        rows[doubted, 1] = torch.arange(bodies, len(total))
        energy = total[rows]
        energy[rows[:, 0] == rows[:, 1], 1] = torch.inf  # certain: there is no second one
        rotation = rotation_matrix(variables["global_orient"])[rows]
        return rows.gather(1, settle_turns(energy, rotation, person)[:, None])[:, 0]

    def _params(self, variables: Variables, target: Target) -> BodyParams:
        """Variables in the form of the store: with a shift instead of the pelvis's place."""
        variables = {**variables, "betas": variables["betas"][target.person]}
        params = {**BodyParams.zeros(len(target.observations)).as_dict(), **variables}
        pelvis = params.pop("pelvis")
        params["transl"] = pelvis - self.energy.light(BodyParams.from_dict(params)).joints[:, 0]
        return BodyParams.from_dict(params)

    @torch.no_grad()
    def _result(self, params: BodyParams, observations: Observations, schedule: Schedule) -> Fit:
        """Bodies with their residuals."""
        energy, views = self.energy, observations.views
        joints = energy.light(params).joints
        pixels = observations.camera.project(joints.repeat_interleave(views, dim=0))
        seen = observations.xyc[:, :, energy.points].flatten(0, 1)
        weight = seen[..., 2] * (energy.group < GROUPS.index("hands")) * energy.point_weight
        error = (pixels[:, energy.joint_of_point] - seen[..., :2]).norm(dim=-1)
        extent = (pixels.amax(dim=1) - pixels.amin(dim=1)).amax(dim=1)
        depth = energy.capsules.overlap(self._unscaled(joints, params), params.betas)
        return Fit(
            params=params,
            reprojection=((error * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)).view(-1, views),
            person=extent.view(-1, views),
            iou=self._overlap(params, observations, schedule.silhouette_size),
            stance=energy.prior.stance_energy(params.body_pose),
            excess=energy.prior.excess(params.body_pose).amax(dim=(1, 2)),
            depth=depth.amax(dim=1),
        )

    def _unscaled(self, joints: Tensor, params: BodyParams) -> Float[Tensor, "b 127 3"]:
        """Joints of the body at its own size, to which its capsules belong."""
        return (joints - params.transl[:, None]) / params.scale[:, None]

    def _overlap(self, params: BodyParams, observations: Observations, size: int) -> Float[Tensor, "b v"]:
        """IoU of the full body's silhouette and the mask; NaN where there is none."""
        masks = small_masks(observations, size)
        if masks is None:
            return torch.full((len(observations), observations.views), torch.nan)
        vertices = self.body(params).vertices
        covered = self.rasterizer.cover(vertices, self.body.faces, observations.camera, size)
        overlap = intersection_over_union(covered.to(masks), masks)
        overlap = torch.where(masks.amax(dim=(1, 2)) > 0, overlap, torch.nan)
        return overlap.view(len(observations), observations.views)
