"""Subdivision, clipping and hems of patches, on meshes small enough to check by hand."""

import numpy as np
import pytest

from stages.people.patches import (
    border_edges,
    clip,
    drop_faces,
    hem,
    neighbour_mean,
    patch_of,
    vertex_normals,
    whole,
)

SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
QUAD = np.array([[0, 1, 2, 3]])


def _area(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (points[faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _square_cut():
    patch = patch_of(4, QUAD, QUAD, SQUARE[:, :2], subdivisions=0)
    return whole(patch.faces, patch.uv, patch.uv_faces, patch.size)


def test_subdividing_a_square_gives_nine_vertices_and_keeps_its_corners_on_the_border():
    patch = patch_of(4, QUAD, QUAD, SQUARE[:, :2], subdivisions=1)
    points = patch.lift @ SQUARE
    assert patch.size == 9
    assert len(patch.faces) == 8
    np.testing.assert_allclose(np.asarray(patch.lift.sum(axis=1)).ravel(), 1)
    np.testing.assert_allclose(patch.uv[patch.uv_faces].mean(axis=(0, 1)), 0.5)
    np.testing.assert_allclose(points.mean(axis=0), [0.5, 0.5, 0])
    assert (vertex_normals(points, patch.faces)[:, 2] > 0.99).all()


@pytest.mark.parametrize("height", [0.25, 0.5, 0.9])
def test_clipping_keeps_exactly_what_lies_below_a_line(height):
    cut = clip(_square_cut(), height - SQUARE[:, 1])
    points = cut.blend @ SQUARE
    assert points[:, 1].max() == pytest.approx(height)
    assert _area(points, cut.faces) == pytest.approx(height)
    assert (vertex_normals(points, cut.faces)[:, 2] > 0.99).all()  # the winding stayed
    np.testing.assert_allclose(cut.uv[cut.uv_faces], points[cut.faces][..., :2])  # UVs are cut alike


def test_neighbouring_triangles_share_the_vertices_of_a_cut():
    cut = clip(_square_cut(), 0.5 - SQUARE[:, 1])
    assert len(border_edges(cut.faces)) == 5  # three sides, and the new one crosses the diagonal
    assert cut.blend.shape[0] == 5


def test_clipping_twice_is_clipping_by_the_smaller_field():
    first, second = 0.7 - SQUARE[:, 1], 0.6 - SQUARE[:, 0]
    cut = clip(clip(_square_cut(), first), second)
    assert _area(cut.blend @ SQUARE, cut.faces) == pytest.approx(0.42)


def test_everything_or_nothing_is_kept_when_no_face_is_crossed():
    assert len(clip(_square_cut(), np.ones(4)).faces) == 2
    assert len(clip(_square_cut(), -np.ones(4)).faces) == 0


def test_dropped_faces_take_their_vertices_with_them():
    cut = drop_faces(_square_cut(), np.array([True, False]))
    assert cut.blend.shape[0] == 3
    assert len(cut.uv) == 3


def test_a_hem_continues_the_winding_around_the_whole_border():
    cut = _square_cut()
    inner, faces, uv_faces = hem(cut)
    assert sorted(inner.tolist()) == [0, 1, 2, 3]
    assert len(faces) == len(uv_faces) == 8
    points = np.concatenate([SQUARE, SQUARE[inner] + [0, 0, -1]])
    assert len(border_edges(np.concatenate([cut.faces, faces]))) == 4  # only the hem's own lower edge
    centre = points[faces].mean(axis=1) - [0.5, 0.5, -0.5]
    a, b, c = (points[faces[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, :2] * centre[:, :2]).sum(axis=1).min() > 0  # walls face outwards


def test_a_border_is_averaged_along_itself():
    mean = neighbour_mean(QUAD, 5)
    np.testing.assert_allclose((mean @ np.vstack([SQUARE, [7, 7, 7]]))[[0, 4]], [[0.5, 0.5, 0], [7, 7, 7]])
