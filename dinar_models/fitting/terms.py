"""Terms of the body fit: robust reprojection, priors on pose, shape and hands, silhouette overlap.

Every term is an energy per body: a sum of squares over twice a variance, so that weights of 1 mean "as
likely as the measured spread says". The terms follow SMPLify-X (Pavlakos et al., CVPR 2019, section 3.2);
its learned pose prior VPoser is replaced by a Gaussian around a natural stance with joint limits.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dinar_models.cameras import Camera
from dinar_models.keypoints import SKELETON_NAMES

BODY_JOINT_NAMES = SKELETON_NAMES[1:22]
"""The 21 joints of `body_pose`, in its order."""


def geman_mcclure(squared: Float[Tensor, "*s"], sigma: float) -> Float[Tensor, "*s"]:
    """ρ(r²) = σ² r² / (σ² + r²): quadratic near zero, at most σ², so an outlier costs a bounded amount."""
    return sigma**2 * squared / (sigma**2 + squared)


def reprojection(
    points: Float[Tensor, "n j 3"],
    xyc: Float[Tensor, "n j 3"],
    camera: Camera,
    sigma: float,
) -> Float[Tensor, "n j"]:
    """Confidence-weighted robust distance between projected points and keypoints, m².

    Pixels are turned into metres at the depth of the body's middle, so that the term does not depend on the
    image's size or the person's distance.

    Args:
        points: world, m.
        xyc: pixels and confidence.
        camera: one per row.
        sigma: scale of the Geman-McClure function, m.
    """
    in_camera = camera.transform(points)
    depth = in_camera[..., 2:].clamp(min=0.1)
    focal = torch.stack([camera.K[:, 0, 0], camera.K[:, 1, 1]], dim=-1)[:, None]
    centre = camera.K[:, None, :2, 2]
    pixels = in_camera[..., :2] / depth * focal + centre
    metres_per_pixel = depth.detach().median(dim=1, keepdim=True).values / focal
    squared = ((pixels - xyc[..., :2]) * metres_per_pixel).square().sum(dim=-1)
    return xyc[..., 2] * geman_mcclure(squared, sigma)


def direction_difference(
    bones: Float[Tensor, "n k 3"], measured: Float[Tensor, "n k 3"], known: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """1 − cos of the angle between bones and measured directions, times how well these are known.

    Args:
        bones, measured: in one frame, of any length.
        known: confidence 0–1.
    """
    cosine = torch.nn.functional.cosine_similarity(bones, measured, dim=-1, eps=1e-6)
    return known * (1 - cosine)


@dataclass(frozen=True)
class PosePrior:
    """A natural stance, how far each joint strays from it, and the limits of each joint.

    All (21, 3), axis-angle components in rad in the joint's own frame, which in the T-pose is the world's:
    x to the subject's left, y up, z to the front.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def to(self, like: Tensor) -> "PosePrior":
        """The prior with the type and device of `like`."""
        return PosePrior(*(t.to(like) for t in (self.mean, self.std, self.low, self.high)))

    def stance_energy(self, body_pose: Float[Tensor, "b 63"]) -> Float[Tensor, " b"]:
        """Half the squared distance to the stance, in standard deviations."""
        z = (body_pose.view(-1, 21, 3) - self.mean) / self.std
        return 0.5 * z.square().sum(dim=(1, 2))

    def excess(self, body_pose: Float[Tensor, "b 63"]) -> Float[Tensor, "b 21 3"]:
        """How far each component is beyond its limits, rad, 0 inside."""
        pose = body_pose.view(-1, 21, 3)
        return (pose - self.high).clamp(min=0) + (self.low - pose).clamp(min=0)

    def limit_energy(self, body_pose: Float[Tensor, "b 63"], softness: float = 0.1) -> Float[Tensor, " b"]:
        """Half the squared excess over the limits, in units of `softness` rad."""
        return 0.5 * (self.excess(body_pose) / softness).square().sum(dim=(1, 2))


# joint: (component: mean, std, low, high), rad; of the left side where there are two.
_LIMITS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "hip": ((-0.05, 0.45, -2.3, 0.7), (0, 0.2, -0.8, 0.8), (0.02, 0.2, -0.5, 1.2)),
    "knee": ((0.1, 0.5, -0.03, 2.6), (0, 0.08, -0.2, 0.2), (0, 0.08, -0.2, 0.2)),
    "ankle": ((0, 0.2, -0.7, 0.9), (0, 0.15, -0.5, 0.5), (0, 0.12, -0.4, 0.4)),
    "foot": ((0, 0.1, -0.4, 0.4), (0, 0.05, -0.2, 0.2), (0, 0.05, -0.2, 0.2)),
    "spine1": ((0.02, 0.15, -0.4, 0.9), (0, 0.12, -0.5, 0.5), (0, 0.1, -0.4, 0.4)),
    "spine2": ((0, 0.12, -0.4, 0.7), (0, 0.12, -0.5, 0.5), (0, 0.1, -0.4, 0.4)),
    "spine3": ((0, 0.1, -0.4, 0.5), (0, 0.12, -0.5, 0.5), (0, 0.1, -0.4, 0.4)),
    "neck": ((0, 0.18, -0.6, 0.8), (0, 0.2, -0.8, 0.8), (0, 0.15, -0.5, 0.5)),
    "head": ((0, 0.2, -0.6, 0.7), (0, 0.25, -0.9, 0.9), (0, 0.15, -0.5, 0.5)),
    "collar": ((0, 0.08, -0.3, 0.3), (0, 0.12, -0.5, 0.5), (-0.05, 0.12, -0.5, 0.6)),
    "shoulder": ((0, 0.4, -1.6, 1.6), (-0.1, 0.5, -2.2, 1.2), (-1.05, 0.5, -1.75, 1.7)),
    "elbow": ((0, 0.4, -1.6, 1.6), (-0.25, 0.55, -2.7, 0.05), (0, 0.12, -0.3, 0.3)),
    "wrist": ((0, 0.25, -1.0, 1.0), (0, 0.2, -0.7, 0.7), (0, 0.3, -1.3, 1.3)),
}


def natural_stance() -> PosePrior:
    """Standing with the arms hanging; spreads wide for what people bend, narrow for what hardly bends."""
    table = torch.zeros(21, 3, 4)
    for number, name in enumerate(BODY_JOINT_NAMES):
        side, _, joint = name.partition("_")
        values = torch.tensor(_LIMITS[joint or name])
        table[number] = _mirror(values) if side == "right" else values
    mean, std, low, high = table.unbind(dim=-1)
    return PosePrior(mean, std, low, high)


def _mirror(values: Tensor) -> Tensor:
    """The other side's (3, 4) rows: reflection at x = 0 keeps x and turns the signs of y and z."""
    mean, std, low, high = values.unbind(dim=-1)
    sign = values.new_tensor([1, -1, -1])
    flipped = sign < 0
    low, high = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    return torch.stack([mean * sign, std, low, high], dim=-1)


def relaxed_hands() -> tuple[Float[Tensor, "45"], Float[Tensor, "45"]]:
    """Left and right hand with slightly curled fingers, rad: about z, the thumbs (the last joints) straight.

    The mean of the open body's own hand poses, rounded; 0 is the flat hand.
    """
    curl = torch.zeros(5, 3, 3)
    curl[:4, :, 2] = torch.tensor([0.33, 0.15, 0.09])
    return -curl.flatten(), curl.flatten()


_BENDS = (("left_knee", 0, 1.0), ("right_knee", 0, 1.0), ("left_elbow", 1, -1.0), ("right_elbow", 1, 1.0))


def bending_energy(body_pose: Float[Tensor, "b 63"], steepness: float = 8.0) -> Float[Tensor, " b"]:
    """Exponential price of knees and elbows bent the wrong way (SMPLify-X's bending prior).

    Knees bend about +x; the left elbow about −y, the right one about +y.
    """
    rows = [3 * BODY_JOINT_NAMES.index(name) + axis for name, axis, _ in _BENDS]
    signs = body_pose.new_tensor([sign for _, _, sign in _BENDS])
    wrong = (-signs * body_pose[:, rows] * steepness).clamp(max=10)
    return wrong.exp().sum(dim=1)


def gaussian_energy(
    values: Float[Tensor, "b d"], mean: Float[Tensor, " d"] | float, std: float
) -> Float[Tensor, " b"]:
    """Half the squared distance to `mean`, in standard deviations, summed over the components."""
    return 0.5 * ((values - mean) / std).square().sum(dim=1)


_MASSES = {
    **dict.fromkeys(("pelvis", "spine2", "spine3"), 2.0),
    **dict.fromkeys(("head", "left_shoulder", "right_shoulder", "left_hip", "right_hip"), 1.0),
    **dict.fromkeys(("left_knee", "right_knee"), 1.0),
}
_FEET = ("left_ankle", "right_ankle", "left_foot", "right_foot")


def balance_energy(
    joints: Float[Tensor, "b 127 3"], up: Float[Tensor, "b 3"], spread: float = 0.06, sigma: float = 0.5
) -> Float[Tensor, " b"]:
    """Robust price of a centre of mass that is not above the feet that carry it.

    One view says little about leaning to or from the camera, and the detector's 3-D guess leans; a still
    person does not fall over. The lower a foot, the more it carries (soft minimum over 5 cm).

    Args:
        joints: world, m.
        up: unit vectors against gravity.
        spread: standard deviation of the horizontal offset, m.
        sigma: scale of the Geman-McClure function, m: who sits or jumps is left alone.
    """
    mass = joints.new_tensor(list(_MASSES.values()))
    centre = (joints[:, [SKELETON_NAMES.index(n) for n in _MASSES]] * mass[:, None]).sum(dim=1) / mass.sum()
    feet = joints[:, [SKELETON_NAMES.index(n) for n in _FEET]]
    height = (feet * up[:, None]).sum(dim=-1)
    support = (feet * torch.softmax(-height / 0.05, dim=1)[..., None]).sum(dim=1)
    offset = centre - support
    level = offset - (offset * up).sum(dim=1, keepdim=True) * up
    return 0.5 * geman_mcclure(level.square().sum(dim=1), sigma) / spread**2


def tversky(
    coverage: Float[Tensor, "n h w"],
    mask: Float[Tensor, "n h w"],
    outside: float = 0.5,
    uncovered: float = 0.5,
) -> Float[Tensor, " n"]:
    """1 − TP / (TP + outside·FP + uncovered·FN): the soft Dice loss when both weights are a half.

    A clothed person's mask is wider than the body, so a body that leaves the mask is wrong for sure while a
    mask that the body does not fill may be cloth or hair: `outside` > `uncovered` says so.

    Args:
        coverage: of the body, 0–1.
        mask: of the person, 0–1.
    """
    both = (coverage * mask).sum(dim=(1, 2))
    false_positive = (coverage * (1 - mask)).sum(dim=(1, 2))
    false_negative = ((1 - coverage) * mask).sum(dim=(1, 2))
    return 1 - both / (both + outside * false_positive + uncovered * false_negative).clamp(min=1e-6)


def intersection_over_union(
    coverage: Float[Tensor, "n h w"], mask: Float[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Overlap of two soft masks, 0–1; 0 where both are empty."""
    both = torch.minimum(coverage, mask).sum(dim=(1, 2))
    either = torch.maximum(coverage, mask).sum(dim=(1, 2))
    return both / either.clamp(min=1e-6)


def spread_points(points: Float[Tensor, "v 3"], count: int) -> Int[Tensor, " {count}"]:
    """Indices of points that are far from each other (farthest-point sampling from the first)."""
    chosen = torch.zeros(count, dtype=torch.long)
    distance = torch.full_like(points[:, 0], torch.inf)
    for i in range(1, count):
        distance = torch.minimum(distance, (points - points[chosen[i - 1]]).square().sum(dim=1))
        chosen[i] = distance.argmax()
    return chosen


def nearest_seed_mesh(
    faces: Int[Tensor, "f 3"], points: Float[Tensor, "v 3"], seeds: Int[Tensor, " s"]
) -> Int[Tensor, "g 3"]:
    """Faces of a coarse mesh whose vertices are some of a mesh's own: the dual of their Voronoi cells.

    Every vertex goes to its nearest seed (in space; cells of thin parts are kept apart by many seeds); a
    face whose corners lie in three cells becomes a face of the coarse mesh.

    Returns:
        Indices into `seeds`, in the winding of `faces`, without repetition.
    """
    owner = torch.cdist(points, points[seeds]).argmin(dim=1)
    coarse = owner[faces]
    distinct = (
        (coarse[:, 0] != coarse[:, 1]) & (coarse[:, 1] != coarse[:, 2]) & (coarse[:, 0] != coarse[:, 2])
    )
    coarse = coarse[distinct]
    turn = coarse.argmin(dim=1, keepdim=True)
    return torch.gather(coarse, 1, (turn + torch.arange(3)) % 3).unique(dim=0)
