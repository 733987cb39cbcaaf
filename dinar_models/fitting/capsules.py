"""Capsules in place of the flesh: a cheap price of limbs that pass through each other or the torso.

SMPLify-X finds colliding triangles with a tree on the GPU; SMPLify (Bogo et al., ECCV 2016, section 3.2) used
capsules whose radii follow the shape, which need no mesh at all. These are such capsules.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.keypoints import SKELETON_NAMES, SMPLX_NAMES

Point = dict[str, float]
"""A mixture of joints that sums to 1."""

QUANTILE = 0.5
"""Share of a part's vertices that lie inside its capsule: proxies stay within the flesh they stand for."""

_SIDES = ("left", "right")
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def _limb(side: str, start: str, end: str, *parts: str) -> tuple[Point, Point, tuple[str, ...]]:
    return {f"{side}_{start}": 1.0}, {f"{side}_{end}": 1.0}, tuple(f"{side}_{part}" for part in parts)


def _flank(side: str) -> tuple[Point, Point, tuple[str, ...]]:
    """Half of the torso: two capsules beside each other are as flat as a torso is."""
    other = _SIDES[1 - _SIDES.index(side)]
    hip = {f"{side}_hip": 1.0}
    chest = {f"{side}_shoulder": 0.75, f"{other}_shoulder": 0.25}
    return hip, chest, ("pelvis", "spine1", "spine2", "spine3")


CAPSULES: dict[str, tuple[Point, Point, tuple[str, ...]]] = {
    "head": ({"head": 1.0}, {"left_ear": 0.5, "right_ear": 0.5}, ("head",)),
    **{f"{side}_flank": _flank(side) for side in _SIDES},
    **{f"{side}_upper_arm": _limb(side, "shoulder", "elbow", "shoulder") for side in _SIDES},
    **{f"{side}_forearm": _limb(side, "elbow", "wrist", "elbow") for side in _SIDES},
    **{f"{side}_hand": _limb(side, "wrist", "middle2", "wrist", "middle1", "index1") for side in _SIDES},
    **{f"{side}_thigh": _limb(side, "hip", "knee", "hip") for side in _SIDES},
    **{f"{side}_calf": _limb(side, "knee", "ankle", "knee") for side in _SIDES},
    **{f"{side}_foot": _limb(side, "ankle", "big_toe", "ankle", "foot") for side in _SIDES},
}
"""Name: both ends, and the joints whose vertices give the radius."""


def _pairs() -> list[tuple[str, str]]:
    """Capsules that must not overlap: never neighbours in the body, which always do."""
    arms = [f"{side}_{part}" for side in _SIDES for part in ("forearm", "hand")]
    solid = ["head", *(f"{s}_{part}" for s in _SIDES for part in ("flank", "thigh"))]
    pairs = [(arm, part) for arm in arms for part in solid]
    pairs += [(f"left_{a}", f"right_{b}") for a in ("forearm", "hand") for b in ("forearm", "hand")]
    for side, other in (_SIDES, _SIDES[::-1]):
        pairs += [(f"{side}_{part}", f"{other}_upper_arm") for part in ("forearm", "hand")]
        pairs += [(f"{side}_calf", f"{other}_thigh"), (f"{side}_foot", f"{other}_calf")]
    return [*pairs, ("left_calf", "right_calf"), ("left_foot", "right_foot")]


PAIRS = tuple(_pairs())


@dataclass(frozen=True)
class Capsules:
    """The capsules of one body model.

    Attributes:
        ends: weights of the joints in both ends of each capsule.
        radius: of the mean shape, m.
        radius_of_shape: change with each shape coefficient, m.
        pairs: numbers of the capsules that must not overlap.
    """

    ends: Float[Tensor, "2 c 127"]
    radius: Float[Tensor, " c"]
    radius_of_shape: Float[Tensor, "10 c"]
    pairs: Int[Tensor, "2 p"]

    @staticmethod
    def of(body: BodyModel) -> "Capsules":
        """Measure the radii on the mean body and on those of one standard deviation in each shape component."""
        ends = torch.zeros(2, len(CAPSULES), len(SMPLX_NAMES))
        for row, (first, last, _) in enumerate(CAPSULES.values()):
            for end, point in enumerate((first, last)):
                for joint, share in point.items():
                    ends[end, row, SMPLX_NAMES.index(joint)] = share
        shapes = BodyParams.zeros(11)
        shapes.betas[1:] = torch.eye(10)
        out = body(shapes)
        radii = _radii(out.vertices, ends @ out.joints[:, None], body)
        names = list(CAPSULES)
        pairs = torch.tensor([[names.index(a), names.index(b)] for a, b in PAIRS]).T
        return Capsules(ends, radii[0], radii[1:] - radii[0], pairs)

    def overlap(self, joints: Float[Tensor, "b 127 3"], betas: Float[Tensor, "b 10"]) -> Float[Tensor, "b p"]:
        """How deep the capsules of each pair are inside each other, m; 0 where they are apart."""
        start, end = (self.ends[side] @ joints for side in (0, 1))
        radius = (self.radius + betas @ self.radius_of_shape).clamp(min=0.01)
        first, second = self.pairs
        distance = segment_distance(start[:, first], end[:, first], start[:, second], end[:, second])
        return (radius[:, first] + radius[:, second] - distance).clamp(min=0)

    def energy(
        self, joints: Float[Tensor, "b 127 3"], betas: Float[Tensor, "b 10"], spread: float = 0.02
    ) -> Float[Tensor, " b"]:
        """Half the squared depths, in units of `spread` m."""
        return 0.5 * (self.overlap(joints, betas) / spread).square().sum(dim=1)


def segment_distance(
    p0: Float[Tensor, "*n 3"], p1: Float[Tensor, "*n 3"], q0: Float[Tensor, "*n 3"], q1: Float[Tensor, "*n 3"]
) -> Float[Tensor, "*n"]:
    """Least distance between the segments p0–p1 and q0–q1.

    The nearest points in closed form (Ericson, Real-Time Collision Detection, section 5.1.9). Their places along
    the segments take no gradient: at the nearest points the distance does not change with them.
    """
    d1, d2, r = p1 - p0, q1 - q0, p0 - q0
    with torch.no_grad():
        a, e, f = (d1 * d1).sum(-1), (d2 * d2).sum(-1), (d2 * r).sum(-1)
        b, c = (d1 * d2).sum(-1), (d1 * r).sum(-1)
        tiny = 1e-12
        s = ((b * f - c * e) / (a * e - b * b).clamp(min=tiny)).clamp(0, 1)
        t = (b * s + f) / e.clamp(min=tiny)
        t = t.clamp(0, 1)
        s = ((b * t - c) / a.clamp(min=tiny)).clamp(
            0, 1
        )  # changes s only where t was clamped or has no length
    gap = r + d1 * s[..., None] - d2 * t[..., None]
    return (gap.square().sum(dim=-1) + tiny).sqrt()


def _radii(vertices: Tensor, ends: Tensor, body: BodyModel) -> Float[Tensor, "s c"]:
    """Quantile of the distances of each part's vertices to its capsule's axis, for several shapes.

    Args:
        vertices: (S, V, 3).
        ends: (S, 2, C, 3).
    """
    owner = body.model.lbs_weights.argmax(dim=1)
    on_left = vertices[0, :, 0] > 0  # left is +x in the T-pose
    radii = []
    for row, (name, (_, _, parts)) in enumerate(CAPSULES.items()):
        mine = torch.isin(owner, torch.tensor([SKELETON_NAMES.index(part) for part in parts]))
        if name != "head":
            mine &= on_left == name.startswith("left")
        points = vertices[:, mine]
        start, end = (ends[:, side, row, None].expand_as(points) for side in (0, 1))
        distance = segment_distance(start, end, points, points)
        radii.append(distance.quantile(QUANTILE, dim=1))
    return torch.stack(radii, dim=1)
