"""What the atlas of a body promises: no flips, no overlaps, little shear, the back in one piece."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from dinar_models.atlas.flattening import singular_ratios
from dinar_models.atlas.segmentation import PART_NAMES, face_adjacency
from dinar_models.uv_atlas import GUTTER, Atlas, vertex_normals

FINE = 1536
"""Texels per side at which overlaps are counted: ten thousand and more on each island with toes."""


def doubled_areas(corner_uv: np.ndarray) -> np.ndarray:
    """(F,) signed, of corners (F, 3, 2)."""
    (ax, ay), (bx, by) = ((corner_uv[:, k] - corner_uv[:, 0]).T for k in (1, 2))
    return ax * by - ay * bx


def face_normals(atlas: Atlas) -> np.ndarray:
    a, b, c = (atlas.positions[atlas.faces[:, k]].astype(np.float64) for k in range(3))
    normals = np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-15)


def times_covered(corner_uv: np.ndarray, size: int) -> np.ndarray:
    """(size, size): how many triangles hold each texel's centre in their inside."""
    counts = np.zeros((size, size), np.int32)
    for (ax, ay), (bx, by), (cx, cy) in corner_uv.astype(np.float64) * size - 0.5:
        x0, x1 = int(np.ceil(min(ax, bx, cx))), int(max(ax, bx, cx)) + 1
        y0, y1 = int(np.ceil(min(ay, by, cy))), int(max(ay, by, cy)) + 1
        y, x = np.mgrid[y0:y1, x0:x1]
        sides = (
            (bx - ax) * (y - ay) - (by - ay) * (x - ax),
            (cx - bx) * (y - by) - (cy - by) * (x - bx),
            (ax - cx) * (y - cy) - (ay - cy) * (x - cx),
        )
        inside = (sides[0] > 0) & (sides[1] > 0) & (sides[2] > 0)
        inside |= (sides[0] < 0) & (sides[1] < 0) & (sides[2] < 0)
        counts[y0:y1, x0:x1] += inside
    return counts


def test_overlaps_are_counted() -> None:
    """The counter itself: a square of two triangles, and a third over half of it."""
    square = np.array([[[0, 0], [1, 0], [0, 1]], [[1, 0], [1, 1], [0, 1]], [[0, 0], [0, 0.5], [1, 0]]])
    counts = times_covered(square, 64)
    assert (counts == 2).mean() == pytest.approx(0.25, abs=0.02)
    assert (counts == 0).mean() < 0.03  # centres on the diagonal


def test_no_triangle_is_flipped(tiny_atlas: Atlas) -> None:
    """Seen from outside the body all turn one way, which is clockwise where v grows downwards."""
    assert doubled_areas(tiny_atlas.corner_uv.astype(np.float64)).max() < 0


@pytest.mark.parametrize("name", PART_NAMES)
def test_islands_do_not_overlap_themselves(tiny_atlas: Atlas, name: str) -> None:
    faces = tiny_atlas.face_part == PART_NAMES.index(name)
    counts = times_covered(tiny_atlas.corner_uv[faces], FINE)
    assert (counts > 1).sum() <= 0.001 * (counts > 0).sum()


def test_both_eyes_have_texels_of_their_own(tiny_atlas: Atlas) -> None:
    """In the published map they lie on one disc."""
    part = tiny_atlas.tables(FINE).texel_part
    seen = [(part == PART_NAMES.index(f"{side}_eye")).sum() for side in ("left", "right")]
    assert min(seen) > 50
    assert abs(seen[0] - seen[1]) < 0.1 * max(seen)


def test_islands_lie_apart_within_the_square(tiny_atlas: Atlas) -> None:
    boxes = []
    for number in range(len(PART_NAMES)):
        uv = tiny_atlas.corner_uv[tiny_atlas.face_part == number].reshape(-1, 2)
        boxes.append((*uv.min(axis=0), *uv.max(axis=0)))
    placed = np.array(boxes)
    assert placed.min() >= GUTTER - 1e-6
    assert placed.max() <= 1 - GUTTER + 1e-6
    for i, (x0, y0, x1, y1) in enumerate(placed):
        other = np.delete(placed, i, axis=0)
        gap = np.maximum.reduce([other[:, 0] - x1, x0 - other[:, 2], other[:, 1] - y1, y0 - other[:, 3]])
        assert gap.min() >= 2 * GUTTER - 1e-6


@pytest.mark.parametrize("name", ["torso", "head", "left_arm", "right_arm", "left_leg", "right_leg"])
def test_shear_is_small(tiny_atlas: Atlas, name: str) -> None:
    """Median over the area of the ratio of singular values."""
    faces = np.flatnonzero(tiny_atlas.face_part == PART_NAMES.index(name))
    uv = tiny_atlas.corner_uv[faces].reshape(-1, 2).astype(np.float64)
    points = tiny_atlas.positions[tiny_atlas.faces[faces]].reshape(-1, 3).astype(np.float64)
    corners = np.arange(len(points)).reshape(-1, 3)
    ratio = singular_ratios(points, corners, uv)
    a, b, c = (points[corners[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    order = np.argsort(ratio)
    share = np.cumsum(area[order]) / area.sum()
    assert ratio[order][np.searchsorted(share, 0.5)] <= 1.25


def test_the_back_of_the_torso_is_one_piece(tiny_atlas: Atlas) -> None:
    """No seam between faces that look backwards: neighbours on the body are neighbours in the texture."""
    torso = tiny_atlas.face_part == PART_NAMES.index("torso")
    back = np.flatnonzero(torso & (face_normals(tiny_atlas)[:, 2] < -0.3))
    on_body = face_adjacency(tiny_atlas.faces)[back][:, back]
    in_texture = face_adjacency(tiny_atlas.uv_faces)[back][:, back]
    assert (on_body != in_texture).nnz == 0
    pieces, label = connected_components(sp.csr_matrix(in_texture), directed=False)
    largest = np.bincount(label).max()
    assert largest > 0.99 * len(back), f"{pieces} pieces"


def test_the_front_of_the_torso_is_open(tiny_atlas: Atlas) -> None:
    """The seam runs down the front: some neighbours on the midline are none in the texture."""
    torso = tiny_atlas.face_part == PART_NAMES.index("torso")
    centre = tiny_atlas.positions[tiny_atlas.faces].mean(axis=1)
    front = np.flatnonzero(torso & (centre[:, 2] > 0) & (np.abs(centre[:, 0]) < 0.05))
    parted = (
        face_adjacency(tiny_atlas.faces)[front][:, front]
        != face_adjacency(tiny_atlas.uv_faces)[front][:, front]
    )
    height = centre[front][parted.nonzero()[0], 1]
    assert np.ptp(height) > 0.3


def test_cut_open_mesh_agrees_with_the_corners(tiny_atlas: Atlas) -> None:
    """Each of its vertices has one place in the texture and one vertex of the body."""
    uv = np.zeros((len(tiny_atlas.uv_to_vertex), 2), np.float32)
    uv[tiny_atlas.uv_faces] = tiny_atlas.corner_uv
    assert np.array_equal(uv[tiny_atlas.uv_faces], tiny_atlas.corner_uv)
    assert np.array_equal(tiny_atlas.uv_to_vertex[tiny_atlas.uv_faces], tiny_atlas.faces)


def test_the_face_is_in_front_between_chin_and_brows(tiny_atlas: Atlas) -> None:
    face = tiny_atlas.face_region
    centre = tiny_atlas.positions[tiny_atlas.faces].mean(axis=1)
    eyes = tiny_atlas.joints[[23, 24]].mean(axis=0)
    assert set(np.unique(tiny_atlas.face_part[face])) == {
        PART_NAMES.index(n) for n in ("head", "left_eye", "right_eye")
    }
    assert np.abs(centre[face] - eyes).max() < 0.2
    assert centre[face, 0].mean() == pytest.approx(0, abs=2e-3)
    nose = int(np.argmax(np.where(centre[:, 1] > eyes[1] - 0.1, centre[:, 2], -np.inf)))
    assert face[nose]


def test_atlas_survives_saving_with_equal_bytes(tiny_atlas: Atlas, tmp_path: Path) -> None:
    for name in ("one", "two"):
        tiny_atlas.save(tmp_path / f"{name}.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    again = Atlas.load(tmp_path / "one.npz")
    assert again.digest == tiny_atlas.digest
    assert np.array_equal(again.uv_to_vertex, tiny_atlas.uv_to_vertex)


def test_digest_follows_the_layout(tiny_atlas: Atlas) -> None:
    """Moved texture coordinates are another atlas; another region of the face is not."""
    assert replace(tiny_atlas, corner_uv=tiny_atlas.corner_uv + 1e-3).digest != tiny_atlas.digest
    assert replace(tiny_atlas, face_region=~tiny_atlas.face_region).digest == tiny_atlas.digest


def test_a_missing_atlas_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dvc repro build_body"):
        Atlas.load(tmp_path / "atlas.npz")


def test_vertex_normals_weigh_by_area() -> None:
    """A vertex between a floor of area 2 and a wall of area 1."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 4, 0], [0, 0, 2]])
    faces = np.array([[0, 1, 2], [0, 3, 1]])
    normals = vertex_normals(vertices, faces)
    assert normals[0] == pytest.approx(np.array([0, 1, 2]) / 5**0.5)
    assert normals[2] == pytest.approx([0, 0, 1])
