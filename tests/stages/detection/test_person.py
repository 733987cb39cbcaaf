"""Who is in a picture: by numbers for the rules, and by painted people for the detectors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinar_models.keypoints import MEDIAPIPE
from stages.detection.holistic import Detection
from stages.detection.people import Figure, PeopleDetector
from stages.detection.person import (
    NOBODY,
    SEVERAL,
    PersonFinder,
    PersonRules,
    fill_in,
    is_other,
    square_at,
    squares_around,
    tiles,
    unusable,
    without_padding,
)
from stages.sources.frames import PhotoFrame
from stages.sources.photos import inner_box
from tests.stages.painted_person import SIDE, render_painted, side_by_side


def standing(**confidence: float) -> np.ndarray:
    """A person 100 px tall of whom all points of the pose are seen but those given."""
    xyc = np.zeros((len(MEDIAPIPE), 3), np.float32)
    xyc[:33, 1] = np.linspace(50, 150, 33)
    xyc[:33, 2] = 1
    for name, value in confidence.items():
        xyc[MEDIAPIPE.find(name), 2] = value
    return xyc


LEGS = dict.fromkeys(("left_knee", "right_knee", "left_ankle", "right_ankle"), 0.05)


@pytest.mark.parametrize(
    ("xyc", "side", "reason"),
    [
        (standing(), 256, ""),
        (standing(left_wrist=0.0, nose=0.0), 256, ""),
        (standing(left_hip=0.4), 256, "shoulders and hips are not all visible"),
        (standing(**LEGS), 256, "the legs are not in the picture"),
        (standing(**{**LEGS, "left_knee": 0.2}), 256, ""),
        (standing(), 1000, "the person is too small: 100 px of 1000"),
    ],
)
def test_why_keypoints_are_unusable(xyc: np.ndarray, side: int, reason: str) -> None:
    assert unusable(xyc, side, 0.15) == reason


def test_points_on_the_padding_do_not_count() -> None:
    """The photo is the columns 20 to 80: a point at 80 is beyond."""
    xyc = standing()
    xyc[:4, 0] = (19.9, 20, 79.9, 80)
    found = without_padding(Detection(xyc, np.zeros_like(xyc)), (20, 0, 80, 200))
    assert found.xyc[:4, 2].tolist() == [0, 1, 1, 0]
    assert xyc[0, 2] == 1


@pytest.mark.parametrize(
    ("x", "reach", "other"),
    [(0, 50, False), (5, 50, False), (7, 50, True), (7, 26, True), (7, 24, False), (90, 200, True)],
)
def test_someone_else_is_apart_and_not_half_as_long(x: float, reach: float, other: bool) -> None:
    """The person is 100 px long; another is at least 50 px long and 6 px away."""
    xyc = standing()
    shoulders = xyc[MEDIAPIPE.find("left_shoulder", "right_shoulder"), :2].mean(axis=0)
    figure = Figure(hips=np.zeros(2), shoulders=shoulders + np.array([x, 0]), reach=reach)
    assert is_other(figure, xyc) == other


def test_squares_lie_in_the_image_and_empty_ones_are_left_out() -> None:
    assert square_at(np.array([50, 30]), 20, (100, 200)) == (slice(20, 40), slice(40, 60))
    assert square_at(np.array([5, 95]), 20, (100, 200)) == (slice(85, 100), slice(0, 15))
    xyc = standing()  # at the left edge, from row 50 to 150
    views = squares_around(xyc, (200, 300))
    assert views == [
        (slice(0, 200), slice(0, 300)),
        (slice(20, 180), slice(0, 80)),
        (slice(20, 180), slice(0, 30)),
        (slice(20, 180), slice(0, 130)),
    ]
    far_left = squares_around(xyc - (400, 0, 0), (200, 300))
    assert far_left == views[:1]


def test_tiles_cover_a_photo_and_overlap() -> None:
    strip = tiles((0, 100, 500, 300))  # 200 px high: squares of 200 px, 100 px apart
    assert [(rows.start, rows.stop) for rows, _ in strip] == [(100, 300)] * 4
    assert [(columns.start, columns.stop) for _, columns in strip] == [
        (0, 200),
        (100, 300),
        (200, 400),
        (300, 500),
    ]
    whole = tiles((0, 0, 100, 100))  # squares of 60 px
    assert len(whole) == 9
    assert {rows.start for rows, _ in whole} == {0, 20, 40}
    assert tiles((5, 5, 6, 500))[0] == (slice(5, 6), slice(5, 6))


def test_a_person_is_filled_in_with_the_colours_around() -> None:
    rgb = np.full((512, 256, 3), (200, 180, 90), np.uint8)
    rgb[:, 128:] = (20, 60, 160)
    person = np.zeros((512, 256), bool)
    person[100:300, 40:80] = True
    seen = rgb.copy()
    seen[person] = 0
    np.testing.assert_allclose(fill_in(seen, person).astype(int), rgb, atol=12)


@pytest.fixture(scope="module")
def painted(tiny_body: Path) -> np.ndarray:
    return render_painted(tiny_body)


@pytest.fixture(scope="module")
def finder() -> Iterator[PersonFinder]:
    with PersonFinder(PersonRules(), photos=True) as finder:
        yield finder


def look(finder: PersonFinder, rgb: np.ndarray, scale: float = 1.0) -> str:
    """The reason for a photo that fills its square."""
    return finder.look(rgb, PhotoFrame((0, 0, rgb.shape[1], rgb.shape[0]), scale))[1]


def test_one_person_is_found_and_nobody_is_said(finder: PersonFinder, painted: np.ndarray) -> None:
    assert look(finder, painted) == ""
    assert look(finder, np.full_like(painted, 255)) == NOBODY
    assert look(finder, painted[: SIDE * 2 // 5]) in (
        "the legs are not in the picture",
        "shoulders and hips are not all visible",
    )


def test_small_in_the_file_is_too_small_whatever_the_square(
    finder: PersonFinder, painted: np.ndarray
) -> None:
    assert "px long in the file, 180 are needed" in look(finder, painted, scale=2.0)
    assert finder.look(painted, None)[1] == ""


@pytest.mark.parametrize(("apart", "behind"), [(110, 1.0), (60, 1.0), (60, 0.75)])
def test_several_people_are_noticed_even_if_one_hides_a_part_of_the_other(
    apart: int, behind: float, finder: PersonFinder, painted: np.ndarray
) -> None:
    both = side_by_side(painted, apart, behind)
    assert look(finder, both) == SEVERAL
    assert finder.look(both, None)[1] == ""  # a render: its mesh is one person


def test_a_passer_by_is_no_reason(finder: PersonFinder, painted: np.ndarray) -> None:
    assert look(finder, side_by_side(painted, 160, behind=0.4)) == ""


def test_many_small_people_are_several(finder: PersonFinder, painted: np.ndarray) -> None:
    """Ten on a strip, each too small for the pose model to find in the whole."""
    row = np.concatenate([painted[:, 40:-40]] * 10, axis=1)
    left, top, right, bottom = inner_box((row.shape[1], row.shape[0]), 512)
    square = np.full((512, 512, 3), 255, np.uint8)
    small = Image.fromarray(row).resize((right - left, bottom - top), Image.Resampling.BOX)
    square[top:bottom, left:right] = np.asarray(small)
    assert finder.look(square, PhotoFrame((left, top, right, bottom), 512 / row.shape[1]))[1] == SEVERAL


def test_everybody_is_found_where_they_are(painted: np.ndarray) -> None:
    with PeopleDetector() as people:
        figures = people.find(side_by_side(painted, 140))
        (alone,) = people.find(painted)
        assert people.find(np.zeros((50, 80, 3), np.uint8)) == []
    assert len(figures) == 2
    left, right = sorted(figures, key=lambda figure: figure.hips[0])
    assert right.hips[0] - left.hips[0] == pytest.approx(140, abs=15)
    assert alone.hips[0] == pytest.approx(SIDE / 2, abs=10)
    assert alone.shoulders[1] < alone.hips[1]
    assert 2 * alone.reach == pytest.approx(0.9 * SIDE, rel=0.25)
