"""Cutting and flattening surfaces whose flat shape is known."""

import numpy as np
import pytest

from dinar_models.atlas.flattening import (
    Island,
    SeamRule,
    boundary_loops,
    connect_loops,
    cut,
    flatten,
    signed_areas,
    singular_ratios,
    slit,
)

AROUND, RINGS = 24, 9
RADIUS, LENGTH = 1.0, 3.0


def grid(columns: int, rows: int) -> Island:
    """A flat sheet of unit squares, each of two triangles."""
    y, x = np.mgrid[: rows + 1, : columns + 1]
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1).astype(float)
    first = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()
    right, above = first + 1, first + columns + 1
    lower, upper = np.stack([first, right, above], 1), np.stack([right, above + 1, above], 1)
    return Island(vertices, np.stack([lower, upper], axis=1).reshape(-1, 3))


def tube() -> Island:
    """An open cylinder along y."""
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    height = np.linspace(0, LENGTH, RINGS)
    vertices = np.stack([np.tile(RADIUS * np.cos(angle), RINGS), np.repeat(height, AROUND),
                         np.tile(RADIUS * np.sin(angle), RINGS)], axis=1)  # fmt: skip
    sheet = grid(AROUND, RINGS - 1)
    row, column = sheet.faces // (AROUND + 1), sheet.faces % (AROUND + 1)
    return Island(vertices, row * AROUND + column % AROUND)


def hemisphere() -> Island:
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(3, 1.0)
    upper = ball.vertices[ball.faces][..., 1].mean(axis=1) > 0
    ids, faces = np.unique(ball.faces[upper], return_inverse=True)
    return Island(np.asarray(ball.vertices)[ids], faces.reshape(-1, 3))


def is_disc(faces: np.ndarray) -> bool:
    """One border, V − E + F = 1."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    euler = len(np.unique(faces)) - len(np.unique(edges, axis=0)) + len(faces)
    return len(boundary_loops(faces)) == 1 and euler == 1


def test_border_of_a_sheet_and_of_a_tube() -> None:
    (loop,) = boundary_loops(grid(2, 2).faces)
    assert sorted(loop.tolist()) == [0, 1, 2, 3, 5, 6, 7, 8]
    loops = boundary_loops(tube().faces)
    assert sorted(len(loop) for loop in loops) == [AROUND, AROUND]


def test_longest_border_comes_first() -> None:
    island = grid(6, 6)
    hole = np.delete(island.faces, [28, 29], axis=0)  # one square in the middle
    assert [len(loop) for loop in boundary_loops(hole)] == [24, 4]


def test_cutting_two_triangles_along_their_edge() -> None:
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    whole, original = cut(faces, np.empty((0, 2), int))
    assert len(original) == 4
    assert np.array_equal(original[whole], faces)
    apart, original = cut(faces, np.array([[2, 1]]))
    assert len(original) == 6
    assert np.array_equal(original[apart], faces)


def test_triangles_that_meet_in_a_point_are_cut_apart() -> None:
    faces = np.array([[0, 1, 2], [2, 3, 4]])
    assert len(cut(faces, np.empty((0, 2), int))[1]) == 6


def test_a_seam_inside_opens_only_where_it_has_two_sides() -> None:
    """In a sheet of 2 × 2 one inner edge alone is no cut; two from border to border part the sheet."""
    sheet = grid(2, 2).faces
    assert len(cut(sheet, np.array([[4, 5]]))[1]) == 9 + 1  # vertex 5 is on the border: it splits, 4 does not
    assert len(cut(sheet, np.array([[3, 4], [4, 5]]))[1]) == 9 + 3


def test_seam_of_a_tube_runs_where_the_rule_wants_it() -> None:
    """Cheap at x = −1: a straight line of one vertex per ring there; the tube becomes a disc."""
    island = tube()
    seams = connect_loops(island, SeamRule(1 + island.vertices[:, 0]))
    assert len(seams) == RINGS - 1
    assert island.vertices[seams][..., 0].max() == pytest.approx(-1)
    faces, original = cut(island.faces, seams)
    assert len(original) == len(island.vertices) + RINGS
    assert is_disc(faces)


def test_a_disc_needs_no_seams() -> None:
    assert connect_loops(grid(3, 3), SeamRule(np.zeros(16))).shape == (0, 2)


def test_slit_goes_from_the_border_inside() -> None:
    island = grid(6, 6)
    middle = 3 * 7 + 3
    seams = slit(island, SeamRule(np.zeros(49)), boundary_loops(island.faces)[0], middle)
    assert len(seams) == 3
    assert seams.ravel()[0] == middle or seams.ravel()[-1] == middle
    faces, original = cut(island.faces, seams)
    assert len(original) == 49 + 3  # its inner end does not split
    assert is_disc(faces)


def test_a_tube_unrolls_to_its_own_rectangle() -> None:
    """Developable: no shear, its true size in metres, circumference by length."""
    island = tube()
    faces, original = cut(island.faces, connect_loops(island, SeamRule(1 + island.vertices[:, 0])))
    points = island.vertices[original]
    flat = flatten(points, faces, 40)
    assert signed_areas(flat, faces).min() > 0
    assert np.median(singular_ratios(points, faces, flat)) < 1.02
    edges = faces[:, [0, 1]]
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    assert np.linalg.norm(flat[edges[:, 0]] - flat[edges[:, 1]], axis=1) == pytest.approx(length, rel=0.05)


def test_a_hemisphere_is_flattened_without_flips_and_keeps_its_area() -> None:
    island = hemisphere()
    flat = flatten(island.vertices, island.faces, 20)
    areas = signed_areas(flat, island.faces)
    assert areas.min() > 0
    a, b, c = (island.vertices[island.faces[:, k]] for k in range(3))
    assert areas.sum() == pytest.approx(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)
    assert 1 < np.median(singular_ratios(island.vertices, island.faces, flat)) < 1.3


def test_a_sheet_with_a_hole_stays_as_it_is() -> None:
    island = grid(6, 6)
    faces = np.delete(island.faces, [28, 29], axis=0)
    flat = flatten(island.vertices, faces, 40)
    assert len(flat) == 49
    assert np.abs(signed_areas(flat, faces)) == pytest.approx(np.full(70, 0.5), rel=0.03)


def test_signed_areas_by_hand() -> None:
    uv = np.array([[0.0, 0], [2, 0], [0, 3]])
    assert signed_areas(uv, np.array([[0, 1, 2], [0, 2, 1]])).tolist() == [3, -3]


def test_singular_ratios_by_hand() -> None:
    """Scaled by 2: 1. Stretched threefold along x: 3. Sheared by 1: the golden ratio squared."""
    vertices, faces = np.array([[0.0, 0, 5], [1, 0, 5], [0, 1, 5]]), np.array([[0, 1, 2]])
    flat = vertices[:, :2]
    assert singular_ratios(vertices, faces, 2 * flat) == pytest.approx(1)
    assert singular_ratios(vertices, faces, flat * [3, 1]) == pytest.approx(3)
    sheared = flat + np.array([[0, 0], [0, 0], [1, 0]])
    assert singular_ratios(vertices, faces, sheared) == pytest.approx((1 + 5**0.5) ** 2 / 4)
