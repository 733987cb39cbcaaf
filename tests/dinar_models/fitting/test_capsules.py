"""Distances of segments known by hand; limbs inside the torso cost and come out."""

from pathlib import Path

import pytest
import torch

from dinar_models.body import BodyModel, BodyParams
from dinar_models.fitting.capsules import CAPSULES, PAIRS, Capsules, segment_distance
from dinar_models.fitting.terms import BODY_JOINT_NAMES, natural_stance


@pytest.mark.parametrize(
    ("p0", "p1", "q0", "q1", "distance"),
    [
        ((0, 0, 0), (1, 0, 0), (0, 2, 0), (1, 2, 0), 2.0),  # parallel
        ((0, 0, 0), (2, 0, 0), (1, -1, 3), (1, 1, 3), 3.0),  # crossing above each other
        ((0, 0, 0), (1, 0, 0), (4, 4, 0), (4, 9, 0), 5.0),  # end to end, 3-4-5
        ((0, 0, 0), (1, 0, 0), (0.5, 0.25, 0), (0.5, 0.25, 0), 0.25),  # a point beside the middle
        ((1, 1, 1), (1, 1, 1), (1, 1, 3), (1, 1, 3), 2.0),  # two points
    ],
)
def test_distance_between_segments(
    p0: tuple[float, ...],
    p1: tuple[float, ...],
    q0: tuple[float, ...],
    q1: tuple[float, ...],
    distance: float,
) -> None:
    ends = [torch.tensor(e, dtype=torch.float64) for e in (p0, p1, q0, q1)]
    assert segment_distance(*ends).item() == pytest.approx(distance, abs=1e-5)
    assert segment_distance(*ends[2:], *ends[:2]).item() == pytest.approx(distance, abs=1e-5)


def test_distance_has_the_gradient_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    ends = [torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    assert torch.autograd.gradcheck(segment_distance, ends)


def test_nearest_points_are_nearest() -> None:
    """No pair of sampled points is closer."""
    generator = torch.Generator().manual_seed(1)
    p0, p1, q0, q1 = torch.randn(4, 50, 3, generator=generator)
    share = torch.linspace(0, 1, 41)[:, None]
    p, q = (a[:, None] + share * (b - a)[:, None] for a, b in ((p0, p1), (q0, q1)))
    sampled = torch.cdist(p, q).flatten(1).amin(dim=1)
    found = segment_distance(p0, p1, q0, q1)
    assert (found <= sampled + 1e-5).all()
    assert (found > sampled - 0.15).all()


@pytest.fixture(scope="module")
def body(tiny_body: Path) -> BodyModel:
    return BodyModel.load(tiny_body)


@pytest.fixture(scope="module")
def capsules(body: BodyModel) -> Capsules:
    return Capsules.of(body)


def stance(count: int = 1) -> BodyParams:
    params = BodyParams.zeros(count)
    params.body_pose = natural_stance().mean.flatten().repeat(count, 1)
    return params


def test_the_stance_touches_nothing_and_radii_are_a_persons(body: BodyModel, capsules: Capsules) -> None:
    params = BodyParams.cat([stance(), BodyParams.zeros(1)])
    assert capsules.overlap(body(params).joints, params.betas).max() == 0
    radius = dict(zip(CAPSULES, capsules.radius.tolist(), strict=True))
    assert 0.08 < radius["left_flank"] < 0.13
    assert 0.02 < radius["left_forearm"] < 0.05 < radius["left_thigh"] < 0.1
    for name, value in radius.items():
        if name.startswith("left"):
            assert value == pytest.approx(radius[name.replace("left", "right")], rel=0.05)


def folded_arm() -> BodyParams:
    """The left upper arm hangs, the forearm goes across into the belly."""
    params = stance()
    pose = params.body_pose.view(21, 3)
    pose[BODY_JOINT_NAMES.index("left_elbow")] = torch.tensor([0.0, -1.6, 0.0])
    pose[BODY_JOINT_NAMES.index("left_shoulder")] = torch.tensor([0.0, 0.5, -1.4])
    return params


def test_an_arm_in_the_belly_is_seen_and_pushed_out(body: BodyModel, capsules: Capsules) -> None:
    params = folded_arm()
    overlap = capsules.overlap(body(params).joints, params.betas)[0]
    deepest = PAIRS[int(overlap.argmax())]
    assert overlap.max() > 0.02
    assert deepest[0].startswith("left")
    assert deepest[1].endswith("flank")
    pose = params.body_pose.clone().requires_grad_()
    optimizer = torch.optim.Adam([pose], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        params.body_pose = pose
        capsules.energy(body(params).joints, params.betas).sum().backward()
        optimizer.step()
    params.body_pose = pose.detach()
    assert capsules.overlap(body(params).joints, params.betas).max() < 0.005


def test_pairs_are_no_neighbours_and_name_capsules() -> None:
    assert len(set(map(frozenset, PAIRS))) == len(PAIRS)
    for first, second in PAIRS:
        assert {first, second} <= set(CAPSULES)
        assert first.split("_")[0] != second.split("_")[0] or "flank" in second or "thigh" in second
