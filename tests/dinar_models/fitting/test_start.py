"""Where a fit begins: points from rays, exchanged sides, turns and limbs that are known beforehand."""

import math

import pytest
import torch
from torch import Tensor

from dinar_models.cameras import Camera, orbit_camera
from dinar_models.fitting.start import (
    LIMBS,
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

VIEWS = 6


def random(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def around(views: int = VIEWS) -> Camera:
    """Cameras on a circle of 3 m, images of 200 px."""
    yaw = torch.arange(views) * (2 * math.pi / views)
    return orbit_camera(yaw, 0.2, 3.0, target=torch.zeros(3), size=200, fov=0.8)


def seen(points: Tensor, camera: Camera) -> Tensor:
    """(1, V, J, 3): keypoints of points (J, 3) in every view, fully confident."""
    pixels = camera.project(points[None])
    return torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)[None]


def test_rays_by_hand() -> None:
    """Along z from the origin, and 45° to the side; a point 5 m beside the first."""
    K = torch.tensor([[[10.0, 0, 5], [0, 10, 5], [0, 0, 1]]])
    camera = Camera(K, torch.eye(3)[None], torch.zeros(1, 3), 10)
    rays = Rays.through(torch.tensor([[[[5.0, 5, 1], [15, 5, 0.5]]]]), camera)
    half = 1 / math.sqrt(2)
    torch.testing.assert_close(rays.direction[0, 0], torch.tensor([[0.0, 0, 1], [half, 0, half]]))
    assert rays.confidence.tolist() == [[[1, 0.5]]]
    squared = rays.squared_distance(torch.tensor([[[[3.0, 4, 7], [2, 0, 0]]]]))
    torch.testing.assert_close(squared[0, 0], torch.tensor([25.0, 2.0]))


def test_rays_pass_through_what_was_projected() -> None:
    points, camera = 0.5 * random(7, 3), around()
    rays = Rays.through(seen(points, camera), camera)
    assert rays.squared_distance(points[None, None]).max() < 1e-8


def test_triangulation_finds_known_points() -> None:
    points, camera = 0.5 * random(7, 3), around()
    found, known = triangulate(Rays.through(seen(points, camera), camera))
    torch.testing.assert_close(found[0], points, atol=1e-4, rtol=0)
    torch.testing.assert_close(known, torch.ones(1, 7), atol=1e-4, rtol=0)


def test_triangulation_leaves_out_a_view_that_errs() -> None:
    """One view of six is 60 px off: the point stays, its confidence falls to what five of six agree on."""
    points, camera = 0.5 * random(3, 3), around()
    xyc = seen(points, camera)
    xyc[0, 2, 1, 0] += 60
    found, known = triangulate(Rays.through(xyc, camera))
    torch.testing.assert_close(found[0], points, atol=5e-3, rtol=0)
    torch.testing.assert_close(known[0], torch.tensor([1, 5 / 6, 1]), atol=0.01, rtol=0)


def test_a_point_that_one_view_alone_sees_is_unknown() -> None:
    points, camera = 0.5 * random(2, 3), around()
    xyc = seen(points, camera)
    xyc[0, 1:, 0, 2] = 0
    found, known = triangulate(Rays.through(xyc, camera))
    assert known[0].tolist() == pytest.approx([0, 1], abs=1e-4)
    assert found.isfinite().all()


def test_view_with_exchanged_sides_is_found() -> None:
    """Points 0 and 1 are a pair, point 2 lies on the midline."""
    points = torch.tensor([[0.3, 0.2, 0.0], [-0.3, 0.2, 0.05], [0.0, 0.4, 0.0]])
    camera, mirrored = around(), torch.tensor([1, 0, 2])
    xyc = seen(points, camera)
    xyc[0, 3] = xyc[0, 3, mirrored]
    rays = Rays.through(xyc, camera)
    exchanged = exchanged_views(rays, points[None], torch.ones(1, 3), mirrored)
    assert exchanged.tolist() == [[False, False, False, True, False, False]]


def test_sides_that_fit_either_way_stay() -> None:
    """A pair 1 cm from the midline, both keypoints 8 px off: exchanging explains that as badly."""
    points, camera = torch.tensor([[0.01, 0.2, 0.0], [-0.01, 0.2, 0.0]]), around()
    xyc = seen(points, camera)
    xyc[0, 3, :, 1] += 8
    exchanged = exchanged_views(
        Rays.through(xyc, camera), points[None], torch.ones(1, 2), torch.tensor([1, 0])
    )
    assert not exchanged[0, 3]


def test_rigid_motion_is_recovered() -> None:
    source, vector, shift = random(2, 4, 3), random(2, 3, seed=1), random(2, 3, seed=2)
    rotation = rotation_matrix(vector)
    moved = source @ rotation.mT + shift[:, None]
    found, by = rigid_transform(source, moved)
    torch.testing.assert_close(found, rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(by, shift, atol=1e-4, rtol=0)


def test_a_mirror_image_is_turned_not_mirrored() -> None:
    source = random(1, 4, 3)
    rotation, _ = rigid_transform(source, source * torch.tensor([-1.0, 1, 1]))
    assert torch.linalg.det(rotation).item() == pytest.approx(1, abs=1e-4)


def test_torso_is_placed_where_it_projects() -> None:
    points, shift, camera = 0.3 * random(3, 4, 3), 0.4 * random(3, 3, seed=1), around(3)
    pixels = camera.project(points + shift[:, None])
    xyc = torch.cat([pixels, torch.full_like(pixels[..., :1], 0.7)], dim=-1)
    torch.testing.assert_close(place_before_camera(points, xyc, camera), shift, atol=1e-3, rtol=0)


def test_a_place_has_the_same_bytes_wherever_memory_lies() -> None:
    """Stores are compared by digest; a solver whose last bits follow the heap made fits differ now and then."""
    points, shift, camera = 0.3 * random(5, 4, 3), 0.4 * random(5, 3, seed=1), around(5)
    pixels = camera.project(points + shift[:, None]) + random(5, 4, 2)
    xyc = torch.cat([pixels, torch.full_like(pixels[..., :1], 0.7)], dim=-1)
    first = place_before_camera(points, xyc, camera)
    for round_ in range(100):
        heap = [bytearray(17 + 13 * k) for k in range(round_)]
        assert torch.equal(place_before_camera(points, xyc, camera), first), len(heap)


def test_nothing_is_placed_behind_the_camera() -> None:
    """Keypoints upside down ask for a negative depth; half a metre in front is the least."""
    points, camera = 0.3 * random(1, 4, 3), around(1)
    pixels = camera.project(points)
    xyc = torch.cat([200 - pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    placed = place_before_camera(points, xyc, camera)
    assert camera.transform(placed[None])[0, 0, 2].item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(("turn", "sign"), [(0.0, 1), (math.pi, -1)])
def test_facing_rotation_shows_the_front_upright(turn: float, sign: int) -> None:
    """The body's +z looks to the camera (−z of its frame), its +y up (−y), its left to the right of the image."""
    camera = around(4)
    axes = camera.R @ facing_rotation(camera, turn)
    expected = torch.diag(torch.tensor([1.0 * sign, -1.0, -1.0 * sign])).expand(4, 3, 3)
    torch.testing.assert_close(axes, expected, atol=1e-5, rtol=0)


def test_order_of_shoulders_and_hips_tells_the_front() -> None:
    """Front, back, profile: the left shoulder 40 px right of the right one, left of it, 4 px beside it."""
    torso = torch.tensor([[20.0, 0, 1], [-20, 0, 1], [12, 60, 1], [-12, 60, 1]])
    across = torch.tensor([1.0, -1.0, 0.1])[:, None, None] * torso
    across[..., 1:] = torso[:, 1:]
    facing, certain = faces_camera(across)
    assert facing.tolist() == [True, False, True]
    assert certain.tolist() == [True, True, False]


@pytest.mark.parametrize("limb", range(4))
def test_a_bent_limb_points_as_measured(limb: int) -> None:
    """Ball joint, then hinge: both halves get their directions, and the hinge bends in its natural sense."""
    _, _, along, bend = LIMBS[limb]
    rest, side = torch.tensor(along), torch.tensor(bend)
    upper, lower = random(20, 3), random(20, 3, seed=6)
    ball, hinge = bent_limb(upper, lower, rest, side)
    first = rotation_matrix(ball)
    both = first @ rotation_matrix(hinge)
    straight = torch.nn.functional.normalize(lower, dim=1)
    angle = torch.nn.functional.cosine_similarity(upper, lower).acos()
    torch.testing.assert_close(first @ rest, torch.nn.functional.normalize(upper, dim=1), atol=1e-4, rtol=0)
    bent = angle > 0.5
    assert bent.sum() > 15
    torch.testing.assert_close((both @ rest)[bent], straight[bent], atol=1e-3, rtol=0)
    assert (hinge @ torch.linalg.cross(rest, side) >= 0).all()


def test_a_straight_limb_turns_the_shortest_way() -> None:
    """An arm that hangs: a quarter turn about z, no twist, no bend; an arm as in the T-pose does not turn."""
    rest, side = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])
    directions = torch.tensor([[0.0, -2, 0], [3.0, 0, 0]])
    ball, hinge = bent_limb(directions, directions, rest, side)
    expected = torch.tensor([[0.0, 0, -math.pi / 2], [0, 0, 0]])
    torch.testing.assert_close(ball, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(hinge, torch.zeros(2, 3), atol=1e-3, rtol=0)


def test_a_slightly_bent_limb_keeps_its_turn() -> None:
    """0.2 rad backwards is noise, not a reason to turn the arm round: the hinge bends as little."""
    rest, side = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])
    lower = torch.tensor([[math.cos(0.2), 0.0, -math.sin(0.2)]])
    ball, hinge = bent_limb(rest[None], lower, rest, side)
    torch.testing.assert_close(ball, torch.zeros(1, 3), atol=1e-5, rtol=0)
    assert hinge.norm().item() == pytest.approx(0.2, abs=1e-3)


def test_limbs_folded_flat_or_turned_round_are_still_rotations() -> None:
    """No plane of the bend, and no axis of the shortest turn."""
    rest, side = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])
    upper = torch.tensor([[0.0, -1, 0], [-1.0, 0, 0]])
    lower = torch.tensor([[0.0, 1, 0], [-1.0, 0, 0]])
    ball, hinge = bent_limb(upper, lower, rest, side)
    torch.testing.assert_close(rotation_matrix(ball) @ rest, upper, atol=1e-5, rtol=0)
    both = rotation_matrix(ball) @ rotation_matrix(hinge)
    torch.testing.assert_close(both @ rest, lower, atol=1e-3, rtol=0)


def test_rotation_vectors_and_matrices_are_inverse() -> None:
    vector = random(5, 3)
    torch.testing.assert_close(rotation_vector(rotation_matrix(vector)), vector)
    quarter = rotation_matrix(torch.tensor([[0.0, math.pi / 2, 0]]))
    expected = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]])
    torch.testing.assert_close(quarter, expected, atol=1e-6, rtol=0)
