"""From the detector's square back to the pixels that were given."""

from types import SimpleNamespace

import numpy as np
import pytest

from stages.detection.holistic import MAX_SIDE, HolisticDetector, to_square


def test_an_image_is_padded_with_white_at_the_right_and_bottom_then_enlarged() -> None:
    rgb = np.zeros((10, 20, 3), np.uint8)
    square, scale = to_square(rgb, 256)
    assert square.shape == (256, 256, 3)
    assert scale == 256 / 20
    assert square[:120].max() < 20  # the image, 128 rows of it; cubic resampling rings near its edge
    assert square[136:].min() > 235
    wide, _ = to_square(np.zeros((20, 10, 3), np.uint8), 256)
    assert wide[:, :120].max() < 20
    assert wide[:, 136:].min() > 235


@pytest.mark.parametrize(
    ("side", "min_side", "expected"),
    [(300, 256, 300), (100, 512, 512), (3000, 512, MAX_SIDE), (512, 512, 512)],
)
def test_sides_are_kept_within_the_detectors_range(side: int, min_side: int, expected: int) -> None:
    square, scale = to_square(np.zeros((side, 8, 3), np.uint8), min_side)
    assert square.shape[0] == expected
    assert scale == expected / side


def landmarks(*points: tuple[float, float], visibility: float = 0.75) -> SimpleNamespace:
    """What MediaPipe returns: fractions of the square's side."""
    return SimpleNamespace(
        landmark=[SimpleNamespace(x=x, y=y, z=0.1, visibility=visibility) for x, y in points]
    )


class FixedGraph:
    """Stands in for the native graph: the same landmarks whatever the image."""

    def __init__(self, **found: SimpleNamespace) -> None:
        nothing = ("pose_landmarks", "pose_world_landmarks", "face_landmarks")
        nothing += ("left_hand_landmarks", "right_hand_landmarks")
        self.found = SimpleNamespace(**{**dict.fromkeys(nothing), **found})

    def process(self, rgb: np.ndarray) -> SimpleNamespace:
        return self.found


def detector(**found: SimpleNamespace) -> HolisticDetector:
    made = HolisticDetector(min_side=512)
    made._graph = FixedGraph(**found)
    return made


def test_fractions_of_the_square_become_pixels_of_the_image_as_given() -> None:
    """A 200 × 100 image: the square's side is 200 px of it, so (0.25, 0.4) lies at (50, 80)."""
    points = [(0.25, 0.4), (0.25, 0.6), (1.1, 0.1), (-0.01, 0.1)] + [(0.5, 0.25)] * 29
    hand = landmarks(*[(0.75, 0.1)] * 21)
    found = detector(
        pose_landmarks=landmarks(*points), pose_world_landmarks=landmarks(*points), left_hand_landmarks=hand
    ).detect(np.zeros((100, 200, 3), np.uint8))
    assert found is not None
    np.testing.assert_allclose(found.xyc[0], [50, 80, 0.75], rtol=1e-6)
    assert found.xyc[1:4, 2].tolist() == [0, 0, 0]  # below the image, in the padding; and beside it
    np.testing.assert_allclose(found.xyc[33:54], [[150, 20, 1]] * 21, rtol=1e-6)
    assert not found.xyc[54:].any()  # the right hand and the face were not found
    np.testing.assert_allclose(found.world[0], [0.25, 0.4, 0.1], rtol=1e-6)
    assert not found.world[33:].any()


def test_nobody_is_none() -> None:
    assert detector().detect(np.zeros((8, 8, 3), np.uint8)) is None
