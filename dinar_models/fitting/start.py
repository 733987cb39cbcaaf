"""Where a body fit begins: triangulated keypoints, exchanged sides, the turn and place of the torso."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from dinar_models.cameras import Camera
from dinar_models.fitting.terms import geman_mcclure

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")

RAY_SIGMA = 0.06
"""Scale of the distance between a point and a keypoint's ray at which it counts as an outlier, m."""

MAX_PAIRS = 32
"""Pairs of views that are tried as hypotheses for each point."""


@dataclass
class Rays:
    """Lines of sight through keypoints, in the world.

    Attributes:
        origin: camera centres, m.
        direction: unit vectors.
        confidence: 0–1.
    """

    origin: Float[Tensor, "b v 1 3"]
    direction: Float[Tensor, "b v j 3"]
    confidence: Float[Tensor, "b v j"]

    @staticmethod
    def through(xyc: Float[Tensor, "b v j 3"], camera: Camera) -> "Rays":
        """Rays of the keypoints of B bodies seen by V cameras each (camera batch B·V, body by body)."""
        bodies, views = xyc.shape[:2]
        pixels = torch.cat([xyc[..., :2], torch.ones_like(xyc[..., :1])], dim=-1).flatten(0, 1)
        rays = pixels @ torch.linalg.inv(camera.K).mT @ camera.R
        rays = torch.nn.functional.normalize(rays, dim=-1).view(bodies, views, -1, 3)
        return Rays(camera.centers.view(bodies, views, 1, 3), rays, xyc[..., 2])

    def squared_distance(self, points: Float[Tensor, "b 1 j 3"]) -> Float[Tensor, "b v j"]:
        """Squared distance of each point to each view's ray, m²."""
        offset = points - self.origin
        along = (offset * self.direction).sum(dim=-1, keepdim=True)
        return (offset - along * self.direction).square().sum(dim=-1)

    def nearest_point(self, weight: Float[Tensor, "b v j"]) -> Float[Tensor, "b j 3"]:
        """The point with the least weighted sum of squared distances to the rays."""
        eye = torch.eye(3).to(self.direction)
        across = eye - self.direction[..., :, None] * self.direction[..., None, :]
        across = across * weight[..., None, None]
        matrix = across.sum(dim=1) + 1e-6 * eye
        # The tiny ridge pulls towards the mean centre of the cameras: it decides only where no view knows.
        middle = self.origin.mean(dim=1, keepdim=True)
        right = (across @ (self.origin - middle)[..., None]).sum(dim=1)
        return torch.linalg.solve(matrix, right)[..., 0] + middle[:, 0]


def triangulate(rays: Rays, rounds: int = 3) -> tuple[Float[Tensor, "b j 3"], Float[Tensor, "b j"]]:
    """Robust points from rays: the best pair of views, then iteratively reweighted least squares.

    Returns:
        Points (m) and their confidence, 0–1: the share of the views' confidence that agrees, zero where
        fewer than two views do.
    """
    points = _best_pair(rays)
    weight = rays.confidence
    for _ in range(rounds):
        squared = rays.squared_distance(points[:, None])
        weight = rays.confidence * (RAY_SIGMA**2 / (RAY_SIGMA**2 + squared)) ** 2
        points = rays.nearest_point(weight)
    agreeing = (weight > 0.1).sum(dim=1)
    confidence = weight.sum(dim=1) / rays.confidence.sum(dim=1).clamp(min=1e-6)
    return points, torch.where(agreeing >= 2, confidence, 0)


def _best_pair(rays: Rays) -> Float[Tensor, "b j 3"]:
    """For each point the pair of views whose intersection agrees best with all views."""
    views = rays.direction.shape[1]
    pairs = list(combinations(range(views), 2))
    pairs = pairs[:: -(-len(pairs) // MAX_PAIRS)]
    best_cost = torch.full_like(rays.confidence[:, 0], torch.inf)
    best = torch.zeros_like(rays.direction[:, 0])
    for first, second in pairs:
        weight = torch.zeros_like(rays.confidence)
        weight[:, [first, second]] = rays.confidence[:, [first, second]] + 1e-6
        points = rays.nearest_point(weight)
        squared = rays.squared_distance(points[:, None])
        cost = (rays.confidence * geman_mcclure(squared, RAY_SIGMA)).sum(dim=1)
        better = cost < best_cost
        best_cost = torch.where(better, cost, best_cost)
        best = torch.where(better[..., None], points, best)
    return best


def exchanged_views(
    rays: Rays, points: Float[Tensor, "b j 3"], known: Float[Tensor, "b j"], mirrored: Int[Tensor, " j"]
) -> Bool[Tensor, "b v"]:
    """Views in which the detector took left for right: their rays fit the mirrored points far better."""
    cost = []
    for target, sure in ((points, known), (points[:, mirrored], known[:, mirrored])):
        squared = rays.squared_distance(target[:, None])
        weight = rays.confidence * sure[:, None]
        cost.append((weight * geman_mcclure(squared, RAY_SIGMA)).sum(dim=-1))
    as_given, exchanged = cost
    return exchanged < 0.5 * as_given


def rigid_transform(
    source: Float[Tensor, "b n 3"], target: Float[Tensor, "b n 3"]
) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b 3"]]:
    """Rotation and translation with R source + t nearest to target (Kabsch)."""
    from_mean, to_mean = source.mean(dim=1, keepdim=True), target.mean(dim=1, keepdim=True)
    u, _, vh = torch.linalg.svd((target - to_mean).mT @ (source - from_mean))
    sign = torch.ones_like(source[:, 0])
    sign[:, 2] = torch.linalg.det(u @ vh).sign()
    rotation = u @ (sign[..., None] * vh)
    return rotation, (to_mean - from_mean @ rotation.mT)[:, 0]


def place_before_camera(
    points: Float[Tensor, "b n 3"], xyc: Float[Tensor, "b n 3"], camera: Camera
) -> Float[Tensor, "b 3"]:
    """The shift (world, m) that makes turned points project nearest to their keypoints.

    Linear least squares in the camera's frame: (X + t_x) − u (Z + t_z) = 0 for the normalised pixel u, the
    depth following from the size of the torso.
    """
    turned = points @ camera.R.mT
    homogeneous = torch.cat([xyc[..., :2], torch.ones_like(xyc[..., :1])], dim=-1)
    pixel = (homogeneous @ torch.linalg.inv(camera.K).mT)[..., :2]
    zero, one = torch.zeros_like(pixel[..., 0]), torch.ones_like(pixel[..., 0])
    rows = torch.stack(
        [
            torch.stack([one, zero, -pixel[..., 0]], dim=-1),
            torch.stack([zero, one, -pixel[..., 1]], dim=-1),
        ],
        dim=2,
    )
    values = pixel * turned[..., 2:] - turned[..., :2]
    weight = xyc[..., 2].clamp(min=1e-3).sqrt()[..., None]
    matrix = (rows * weight[..., None]).flatten(1, 2).double()
    right = (values * weight).flatten(1, 2)[..., None].double()
    # Normal equations, not lstsq: its last bits change with where LAPACK's workspace happens to lie.
    shift = torch.linalg.solve(matrix.mT @ matrix, matrix.mT @ right)[..., 0].to(points)
    # Keypoints in nonsense places may ask for a body behind the camera.
    shift = torch.cat([shift[:, :2], shift[:, 2:].clamp(min=0.5)], dim=1)
    return ((shift - camera.T)[:, None] @ camera.R)[:, 0]


def facing_rotation(camera: Camera, turn: float) -> Float[Tensor, "b 3 3"]:
    """World rotations of a body that stands upright in the image and faces the camera, turned by `turn`."""
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0])).to(camera.R)
    return camera.R.mT @ (facing @ rotation_matrix(camera.R.new_tensor([[0.0, turn, 0.0]])))


def faces_camera(xyc: Float[Tensor, "b 4 3"]) -> tuple[Bool[Tensor, " b"], Bool[Tensor, " b"]]:
    """From the order of shoulders and hips (TORSO): whether the subject faces the camera, and is it certain.

    A subject who faces the camera has the left side at the image's right. It is uncertain where shoulders and
    hips are narrow against the torso's length, as in profile.
    """
    across = (xyc[:, 0, 0] - xyc[:, 1, 0]) + (xyc[:, 2, 0] - xyc[:, 3, 0])
    length = (xyc[:, :2].mean(dim=1) - xyc[:, 2:].mean(dim=1))[:, :2].norm(dim=-1)
    return across > 0, across.abs() > 0.5 * length


LIMBS = (
    ("left_shoulder", "left_elbow", (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    ("right_shoulder", "right_elbow", (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    ("left_hip", "left_knee", (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
    ("right_hip", "right_knee", (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
)
"""Ball joint, hinge, the limb's direction in the T-pose, and where its lower half goes when the hinge bends."""

LEAST_BEND = 0.5
"""Below this angle of a hinge, rad, the plane of the bend says nothing about how the limb is turned."""


def bent_limb(
    upper: Float[Tensor, "b 3"],
    lower: Float[Tensor, "b 3"],
    along: Float[Tensor, "3"],
    bend: Float[Tensor, "3"],
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b 3"]]:
    """Rotations of ball joint and hinge (axis-angle) that give a limb's halves these directions.

    A straight limb is turned the shortest way; a bent one so that its hinge bends in its natural sense: a
    descent from the wrong turn would have to bend it backwards first.

    Args:
        upper, lower: directions in the frame of the ball joint's parent, of any length.
        along, bend: see LIMBS.
    """
    upper, lower = (torch.nn.functional.normalize(v, dim=1) for v in (upper, lower))
    cosine = (upper * lower).sum(dim=1, keepdim=True).clamp(-1, 1)
    angle = cosine.acos()
    plain = _shortest_turn(along, upper) @ bend
    across = lower - cosine * upper
    has_plane = (angle > LEAST_BEND) & (across.norm(dim=1, keepdim=True) > 1e-3)  # not folded flat
    aside = torch.where(has_plane, across, plain)
    aside = torch.nn.functional.normalize(aside - (aside * upper).sum(dim=1, keepdim=True) * upper, dim=1)
    turned = torch.stack([upper, aside, torch.linalg.cross(upper, aside)], dim=2)
    axis = torch.linalg.cross(along, bend)
    rest = torch.stack([along, bend, axis], dim=1)
    return rotation_vector(turned @ rest.T), angle * axis


def _shortest_turn(start: Float[Tensor, "3"], end: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Rotation matrices about the axis perpendicular to both unit vectors."""
    axis = torch.linalg.cross(start.expand_as(end), end)
    sine = axis.norm(dim=1, keepdim=True)
    angle = torch.atan2(sine, (end @ start)[:, None])
    return rotation_matrix(axis / sine.clamp(min=1e-6) * angle)


def rotation_vector(rotation: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3"]:
    """Axis-angle, rad, of rotation matrices; no gradient."""
    vectors = Rotation.from_matrix(rotation.detach().cpu().double().numpy()).as_rotvec()
    return torch.from_numpy(np.ascontiguousarray(vectors)).to(rotation)


def rotation_matrix(vector: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Matrices of axis-angle vectors; no gradient."""
    matrices = Rotation.from_rotvec(vector.detach().cpu().double().numpy()).as_matrix()
    return torch.from_numpy(matrices).to(vector)
