"""Tables of flat atlases by hand, and of the small open body by going round: texel → face → point → texel."""

import numpy as np
import pytest

from dinar_models.atlas.segmentation import PART_NAMES
from dinar_models.atlas.tables import LIMB_COLOURS, AtlasTables, limb_colours
from dinar_models.uv_atlas import Atlas
from tests.dinar_models.flat_atlas import flat_atlas

SIZE = 8
ARM = {16: (0.0, 0.0, 0.0), 20: (1.0, 0.0, 0.0)}
"""The left arm of the skeleton along x, from 0 to 1 m."""


@pytest.fixture
def tables() -> AtlasTables:
    """An arm in the upper quarter of the texture; an eye in its lower right sixteenth; the rest is free."""
    return flat_atlas({"left_arm": (0, 0, 1, 0.25), "left_eye": (0.75, 0.75, 1, 1)}, ARM).tables(SIZE)


def test_islands_by_hand(tables: AtlasTables) -> None:
    part = np.full((SIZE, SIZE), -1)
    part[:2] = PART_NAMES.index("left_arm")
    part[6:, 6:] = PART_NAMES.index("left_eye")
    assert np.array_equal(tables.texel_part, part)
    assert np.array_equal(tables.island_mask, part >= 0)
    assert np.array_equal(tables.texel_face >= 0, part >= 0)
    assert set(tables.texel_face[6:, 6:].ravel()) <= {2, 3}
    assert not tables.texel_bary[part < 0].any()


def test_texels_know_their_points(tables: AtlasTables) -> None:
    """The flat body lies at x = u, y = −v: half a texel from the corner at first."""
    ticks = (np.arange(SIZE) + 0.5) / SIZE
    expected = np.stack([*np.meshgrid(ticks, -ticks), np.zeros((SIZE, SIZE))], axis=-1)
    inside = tables.island_mask
    assert tables.texel_position[inside] == pytest.approx(expected[inside], abs=1e-6)
    assert not tables.texel_position[~inside].any()


def test_gutter_looks_to_the_nearest_island(tables: AtlasTables) -> None:
    assert tables.gutter_index[1, 3].tolist() == [1, 3]  # on the island: itself
    assert tables.gutter_index[3, 0].tolist() == [1, 0]
    assert tables.gutter_index[7, 4].tolist() == [7, 6]
    row, column = tables.gutter_index[..., 0], tables.gutter_index[..., 1]
    assert tables.island_mask[row, column].all()


def test_limb_colour_runs_along_the_arm_and_on_beyond_its_border(tables: AtlasTables) -> None:
    body, hand = (np.array(LIMB_COLOURS[n]) for n in ("body", "left_hand"))
    along = (np.arange(SIZE) + 0.5) / SIZE
    expected = (1 - along) * body[:, None] + along * hand[:, None]
    assert tables.limb_colour[:, 0] == pytest.approx(expected, abs=1e-6)
    assert tables.limb_colour[:, 3, :4] == pytest.approx(expected[:, :4], abs=1e-6)
    assert tables.limb_colour[:, 7, 7] == pytest.approx(body)


def test_limb_colours_of_points() -> None:
    joints = np.zeros((55, 3))
    joints[20, 0] = 1.0
    names = ("torso", "left_palm", "right_sole", "left_arm", "left_arm", "left_arm")
    part = np.array([*(PART_NAMES.index(n) for n in names), -1])
    points = np.array([[0.0, 0, 0]] * 3 + [[-1.0, 0, 0], [0.25, 7, 7], [3, 0, 0], [0, 0, 0]])
    body, hand = np.array(LIMB_COLOURS["body"]), np.array(LIMB_COLOURS["left_hand"])
    expected = [body, hand, LIMB_COLOURS["right_foot"], body, 0.75 * body + 0.25 * hand, hand, (0, 0, 0)]
    assert limb_colours(points, part, joints) == pytest.approx(np.array(expected))


def test_tuned_colours_are_kept_on_eyes_and_grow_along_hands() -> None:
    """A palm from wrist (x = 0) to beyond the knuckles (x = ½): 0 … 1, then 1; eyes are 1, backs of eyes 0."""
    pieces = {
        "left_palm": (0, 0, 1, 0.25),
        "left_eye": (0, 0.5, 0.5, 0.75),
        "left_eye_back": (0.5, 0.5, 1, 0.75),
    }
    tables = flat_atlas(pieces, {20: (0.0, 0, 0), 28: (0.5, 0, 0)}).tables(SIZE)
    expected = np.minimum((np.arange(SIZE) + 0.5) / SIZE / 0.5, 1)
    assert tables.eyes_hands[0] == pytest.approx(expected, abs=1e-6)
    assert tables.eyes_hands[4].tolist() == [1] * 4 + [0] * 4
    assert not tables.eyes_hands[7].any()


def test_face_region_is_on_islands_only() -> None:
    tables = flat_atlas({"head": (0, 0, 0.5, 1), "torso": (0.5, 0, 1, 0.5)}, {}).tables(SIZE)
    expected = np.zeros((SIZE, SIZE), bool)
    expected[:, :4] = True
    assert np.array_equal(tables.face_region, expected)


@pytest.mark.parametrize("size", [64, 128])
def test_going_round_on_a_body(tiny_atlas: Atlas, size: int) -> None:
    """The uv of each texel's face at its weights is the texel's own centre; its point is on the face."""
    tables = tiny_atlas.tables(size)
    inside = tables.island_mask
    face, weights = tables.texel_face[inside], tables.texel_bary[inside].astype(np.float64)
    assert weights.min() >= 0
    assert weights.sum(axis=1) == pytest.approx(1)
    row, column = np.nonzero(inside)
    uv = np.einsum("nk,nkc->nc", weights, tiny_atlas.corner_uv[face])
    centre = (np.stack([column, row], axis=1) + 0.5) / size
    assert np.abs(uv - centre).max() < 1e-3 / size
    point = np.einsum("nk,nkc->nc", weights, tiny_atlas.positions[tiny_atlas.faces[face]])
    assert tables.texel_position[inside] == pytest.approx(point, abs=1e-6)
    assert np.array_equal(tables.texel_part[inside], tiny_atlas.face_part[face])


def test_tables_of_one_size_are_made_once(tiny_atlas: Atlas) -> None:
    assert tiny_atlas.tables(64) is tiny_atlas.tables(64)
