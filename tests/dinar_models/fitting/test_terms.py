"""Terms of the body fit by hand, their gradients in double precision, and the coarse mesh of the silhouette."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera
from dinar_models.fitting.terms import (
    BODY_JOINT_NAMES,
    balance_energy,
    bending_energy,
    direction_difference,
    gaussian_energy,
    geman_mcclure,
    intersection_over_union,
    natural_stance,
    nearest_seed_mesh,
    relaxed_hands,
    reprojection,
    spread_points,
    tversky,
)
from dinar_models.keypoints import SKELETON_NAMES, SMPLX_NAMES

UP = torch.tensor([[0.0, 1.0, 0.0]])


@pytest.fixture(scope="module")
def body(tiny_body: Path) -> BodyModel:
    return BodyModel.load(tiny_body)


def random(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def camera(focal: float = 100.0, size: int = 100) -> Camera:
    """At the origin, looking along z."""
    K = torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]])
    return Camera(K, torch.eye(3)[None], torch.zeros(1, 3), size)


def pose_of(joint: str, axis: int, value: float) -> Tensor:
    """(1, 63): one component of one joint, the others 0."""
    pose = torch.zeros(1, 63)
    pose[0, 3 * BODY_JOINT_NAMES.index(joint) + axis] = value
    return pose


def test_geman_mcclure_by_hand() -> None:
    values = geman_mcclure(torch.tensor([0.0, 1e-6, 4.0, 1e9]), sigma=2.0)
    torch.testing.assert_close(values, torch.tensor([0.0, 1e-6, 2.0, 4.0]))


def test_reprojection_by_hand() -> None:
    """10 px beside a point at 2 m under a focal length of 100 px are 0.2 m: ρ(0.04) = 0.0225 · 0.04 / 0.0625."""
    points = torch.tensor([[[0.0, 0, 2], [0.2, 0.1, 2], [0.3, 0, 2]]])
    xyc = torch.tensor([[[60.0, 50, 0.5], [60, 55, 1], [0, 0, 0]]])
    energy = reprojection(points, xyc, camera(), sigma=0.15)
    torch.testing.assert_close(energy, torch.tensor([[0.5 * 0.0144, 0, 0]]))


def test_reprojection_does_not_depend_on_distance_or_image_size() -> None:
    """The same body twice as far away under twice the focal length; the same view at half the size."""
    points, offset = 0.3 * random(1, 5, 3), torch.tensor([0.0, 0.0, 400.0])
    xyc = torch.cat([500 + 20 * random(1, 5, 2, seed=6), torch.ones(1, 5, 1)], dim=2)
    far = reprojection(points + offset, xyc, camera(1e5, 1000), sigma=0.15)
    further = reprojection(points + 2 * offset, xyc, camera(2e5, 1000), sigma=0.15)
    torch.testing.assert_close(further, far, rtol=0.01, atol=1e-6)
    half = xyc * torch.tensor([0.5, 0.5, 1.0])
    torch.testing.assert_close(reprojection(points + offset, half, camera(5e4, 500), sigma=0.15), far)


def test_direction_difference_by_hand() -> None:
    bones = torch.tensor([[[2.0, 0, 0], [0, 3, 0], [0, 0, 1], [1, 0, 0]]])
    measured = torch.tensor([[[5.0, 0, 0], [1, 0, 0], [0, 0, -7], [1, 1, 0]]])
    known = torch.tensor([[1.0, 1.0, 0.5, 0.0]])
    expected = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    torch.testing.assert_close(direction_difference(bones, measured, known), expected)


def test_stance_energy_counts_standard_deviations() -> None:
    prior = natural_stance()
    mean = prior.mean.reshape(1, 63)
    assert prior.stance_energy(mean).item() == 0
    assert prior.stance_energy(mean + 2 * prior.std.reshape(1, 63)).item() == pytest.approx(63 * 2)


def test_limits_by_hand() -> None:
    """A knee bent 0.53 rad the wrong way is half a radian beyond its limit of −0.03."""
    prior, pose = natural_stance(), pose_of("left_knee", 0, -0.53)
    excess = prior.excess(pose)
    assert excess[0, BODY_JOINT_NAMES.index("left_knee"), 0].item() == pytest.approx(0.5)
    assert excess.sum().item() == pytest.approx(0.5)
    assert prior.limit_energy(pose).item() == pytest.approx(0.5 * 25)


def test_the_stance_itself_is_within_all_limits() -> None:
    prior = natural_stance()
    assert prior.excess(prior.mean.reshape(1, 63)).max() == 0
    assert (prior.low < prior.high).all()


def mirrored(pose: Tensor) -> Tensor:
    """Left and right exchanged: components about y and z turn their sign."""
    other = {"left": "right", "right": "left"}
    order = []
    for name in BODY_JOINT_NAMES:
        side, _, rest = name.partition("_")
        order.append(BODY_JOINT_NAMES.index(f"{other[side]}_{rest}" if side in other else name))
    return (pose.view(-1, 21, 3)[:, order] * torch.tensor([1.0, -1, -1])).view(-1, 63)


def test_priors_treat_left_and_right_alike() -> None:
    prior, pose = natural_stance(), random(4, 63)
    for energy in (prior.stance_energy, prior.limit_energy, bending_energy):
        torch.testing.assert_close(energy(mirrored(pose)), energy(pose))
        assert energy(pose).unique().numel() == 4


def test_bending_by_hand() -> None:
    """Four hinges at rest cost 1 each; a knee bent by 0.1 rad costs e^−0.8, the wrong way e^0.8, never over e^10."""
    assert bending_energy(torch.zeros(1, 63)).item() == 4
    for value, cost in ((0.1, -0.8), (-0.1, 0.8), (-9.0, 10.0)):
        expected = 3 + torch.tensor(cost).exp().item()
        assert bending_energy(pose_of("right_knee", 0, value)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("hinge", "end", "axis", "sign", "forward"),
    [
        ("left_knee", "left_ankle", 0, 1.0, False),
        ("right_knee", "right_ankle", 0, 1.0, False),
        ("left_elbow", "left_wrist", 1, -1.0, True),
        ("right_elbow", "right_wrist", 1, 1.0, True),
    ],
)
def test_cheap_bends_are_those_that_people_make(
    body: BodyModel, hinge: str, end: str, axis: int, sign: float, forward: bool
) -> None:
    """On the body: shins go back, forearms come forward; both cost less than at rest."""
    pose = pose_of(hinge, axis, sign)
    assert bending_energy(pose) < 4
    params = BodyParams.zeros(2)
    params.body_pose[1] = pose
    z = body(params).joints[:, SMPLX_NAMES.index(end), 2]
    assert (z[1] > z[0] + 0.1) if forward else (z[1] < z[0] - 0.1)


def test_relaxed_fingers_curl_towards_the_palms(body: BodyModel) -> None:
    """In the T-pose palms look down, so the tips of both hands sink by the same amount."""
    params = BodyParams.zeros(2)
    params.left_hand_pose[1], params.right_hand_pose[1] = relaxed_hands()
    joints = body(params).joints
    sunk = {
        side: joints[0, SMPLX_NAMES.index(f"{side}_middle"), 1]
        - joints[1, SMPLX_NAMES.index(f"{side}_middle"), 1]
        for side in ("left", "right")
    }
    assert 0.02 < sunk["left"] < 0.08
    torch.testing.assert_close(sunk["left"], sunk["right"], atol=2e-3, rtol=0)


def test_gaussian_energy_by_hand() -> None:
    values = torch.tensor([[1.0, 3.0]])
    assert gaussian_energy(values, 1.0, 0.5).item() == pytest.approx(0.5 * 16)
    assert gaussian_energy(values, torch.tensor([1.0, 2.0]), 1.0).item() == pytest.approx(0.5)


def standing(centre: tuple[float, float, float], left: Tensor, right: Tensor) -> Tensor:
    """Joints (1, 127, 3) all at one point but the feet."""
    joints = torch.tensor(centre, dtype=torch.float32).expand(1, 127, 3).clone()
    for side, place in (("left", left), ("right", right)):
        joints[0, [SKELETON_NAMES.index(f"{side}_{joint}") for joint in ("ankle", "foot")]] = place
    return joints


def test_balance_by_hand() -> None:
    """6 cm off: half a squared deviation, slightly less for robustness. Heights do not matter."""
    feet = torch.zeros(3)
    assert balance_energy(standing((0, 1, 0), feet, feet), UP).item() == 0
    expected = 0.5 * 0.25 / (0.25 + 0.06**2)
    assert balance_energy(standing((0.06, 1, 0), feet, feet), UP).item() == pytest.approx(expected, rel=1e-4)
    assert balance_energy(standing((0, 9, 0.06), feet, feet), UP).item() == pytest.approx(expected, rel=1e-4)


def test_the_lower_foot_carries() -> None:
    """One foot lifted by half a metre: the body stands on the other. With up turned round it is the other way."""
    low, high = torch.tensor([0.1, 0.0, 0.0]), torch.tensor([-0.1, 0.5, 0.0])
    assert balance_energy(standing((0.1, 1, 0), low, high), UP).item() < 1e-3
    assert balance_energy(standing((-0.1, 1, 0), low, high), UP).item() > 1
    assert balance_energy(standing((-0.1, -1, 0), low, high), -UP).item() < 1e-3


def test_tversky_by_hand() -> None:
    """One pixel right, one outside the mask, one not covered."""
    coverage, mask = torch.tensor([[[1.0, 1, 0, 0]]]), torch.tensor([[[1.0, 0, 1, 0]]])
    assert tversky(coverage, mask, 0.7, 0.3).item() == pytest.approx(1 - 1 / 2)
    assert tversky(coverage, mask, 3.0, 1.0).item() == pytest.approx(1 - 1 / 5)
    assert tversky(coverage, mask).item() == pytest.approx(1 - 2 / 4)  # Dice
    assert tversky(mask, mask).item() == 0


def test_intersection_over_union_by_hand() -> None:
    first, second = torch.tensor([[[1.0, 0.5, 0.0]]]), torch.tensor([[[1.0, 1.0, 1.0]]])
    assert intersection_over_union(first, second).item() == pytest.approx(1.5 / 3)
    assert intersection_over_union(first, first).item() == 1
    assert intersection_over_union(0 * first, 0 * first).item() == 0


TERMS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "geman_mcclure": (lambda x: geman_mcclure(x.square(), 0.7), (5,)),
    "direction": (
        lambda x: direction_difference(x, random(2, 3, 3, seed=1).double(), torch.ones(2, 3).double()),
        (2, 3, 3),
    ),
    "bending": (lambda x: bending_energy(0.2 * x), (2, 63)),
    "shape": (lambda x: gaussian_energy(x, 0.3, 0.5), (2, 10)),
    "balance": (lambda x: balance_energy(x, UP.double().expand(2, 3)), (2, 127, 3)),
    "tversky": (
        lambda x: tversky(x.sigmoid(), random(2, 3, 3, seed=2).double().sigmoid(), 0.7, 0.3),
        (2, 3, 3),
    ),
    "stance": (lambda x: natural_stance().to(x).stance_energy(x), (2, 63)),
    "limits": (lambda x: natural_stance().to(x).limit_energy(x), (2, 63)),
}


@pytest.mark.parametrize("name", list(TERMS))
def test_gradients_in_double_precision(name: str) -> None:
    term, shape = TERMS[name]
    assert torch.autograd.gradcheck(term, random(*shape).double().requires_grad_())


def test_gradient_of_reprojection_across_the_image() -> None:
    """Sideways only: the scale from pixels to metres takes the depth for given."""
    depth, xyc = 2 + random(1, 4, 1).double().abs(), random(1, 4, 3, seed=7).double().abs()

    def energy(across: Tensor) -> Tensor:
        points = torch.cat([across, depth], dim=2)
        return reprojection(points, xyc, camera(1.5, 2).to(dtype=torch.float64), 0.5)

    assert torch.autograd.gradcheck(energy, random(1, 4, 2, seed=8).double().requires_grad_())


def test_spread_points_on_a_line() -> None:
    """Ends first, then the middle, then the quarters."""
    line = torch.arange(9.0)[:, None] * torch.tensor([1.0, 0, 0])
    chosen = spread_points(line, 5).tolist()
    assert chosen[:3] == [0, 8, 4]
    assert sorted(chosen[3:]) == [2, 6]


def test_coarse_mesh_is_closed_and_looks_outwards() -> None:
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(4, 1.0)
    points, faces = torch.tensor(ball.vertices, dtype=torch.float32), torch.tensor(ball.faces)
    seeds = spread_points(points, 60)
    coarse = nearest_seed_mesh(faces, points, seeds)
    mesh = trimesh.Trimesh(points[seeds].numpy(), coarse.numpy(), process=False)
    assert mesh.is_watertight
    assert mesh.euler_number == 2
    assert 0.8 * ball.volume < mesh.volume < ball.volume
