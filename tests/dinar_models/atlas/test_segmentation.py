"""Which island a face belongs to, on the small open body and on a few triangles."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from dinar_models.atlas.segmentation import PART_NAMES, face_adjacency, smooth_normals
from dinar_models.uv_atlas import Atlas


def of_part(atlas: Atlas, name: str) -> np.ndarray:
    """(F,) bool."""
    return atlas.face_part == PART_NAMES.index(name)


def centres(atlas: Atlas) -> np.ndarray:
    return atlas.positions[atlas.faces].mean(axis=1)


def test_faces_that_share_an_edge_are_neighbours() -> None:
    """0 and 1 share an edge, 2 touches 1 in a point only."""
    faces = np.array([[0, 1, 2], [2, 1, 3], [3, 4, 5]])
    assert face_adjacency(faces).toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_normals_are_smoothed_over_neighbours() -> None:
    """A floor and a wall of equal size: one round takes both to 45°; no round leaves them alone."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 1, 2], [0, 3, 1]])
    adjacency = face_adjacency(faces)
    assert smooth_normals(vertices, faces, adjacency, 0).tolist() == [[0, 0, 1], [0, 1, 0]]
    half = 0.5**0.5
    smooth = smooth_normals(vertices, faces, adjacency, 1)
    assert smooth == pytest.approx(np.array([[0, half, half], [0, half, half]]))


def test_every_part_is_there_and_in_one_piece(tiny_atlas: Atlas) -> None:
    adjacency = face_adjacency(tiny_atlas.faces)
    for number, name in enumerate(PART_NAMES):
        faces = np.flatnonzero(tiny_atlas.face_part == number)
        assert len(faces) > 20, name
        pieces, _ = connected_components(sp.csr_matrix(adjacency[faces][:, faces]), directed=False)
        assert pieces == 1, name


def test_left_is_the_subjects_left_and_both_sides_are_alike(tiny_atlas: Atlas) -> None:
    x = centres(tiny_atlas)[:, 0]
    for name in (n for n in PART_NAMES if n.startswith("left")):
        left, right = of_part(tiny_atlas, name), of_part(tiny_atlas, name.replace("left", "right"))
        assert x[left].min() > 0
        assert x[right].max() < 0
        assert left.sum() == pytest.approx(right.sum(), rel=0.02)


def test_parts_lie_where_a_body_has_them(tiny_atlas: Atlas) -> None:
    middle = {name: centres(tiny_atlas)[of_part(tiny_atlas, name)].mean(axis=0) for name in PART_NAMES}
    assert middle["head"][1] > middle["torso"][1] > middle["left_leg"][1] > middle["left_foot"][1]
    assert middle["left_palm"][0] > middle["left_arm"][0] > middle["torso"][0] + 0.2
    assert middle["left_palm"][1] < middle["left_hand_back"][1]
    assert middle["left_sole"][1] < middle["left_foot"][1]
    assert middle["left_eye"][2] > middle["left_eye_back"][2]
    assert middle["left_eye"][2] > middle["left_socket"][2]
    assert middle["mouth"][1] < middle["left_eye"][1]


def test_palms_and_soles_look_down(tiny_atlas: Atlas) -> None:
    a, b, c = (tiny_atlas.positions[tiny_atlas.faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    for down, up in (("left_palm", "left_hand_back"), ("right_sole", "right_foot")):
        assert normal[of_part(tiny_atlas, down)].sum(axis=0)[1] < 0
        assert normal[of_part(tiny_atlas, up)].sum(axis=0)[1] > 0
