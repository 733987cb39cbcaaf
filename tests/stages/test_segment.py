import numpy as np
import pytest

from stages.segment import largest_person, segment_images
from tests.dinar_models.test_parser import RedIsHair

HAIR = 2


def red_square(size: int, top: int, left: int, side: int) -> np.ndarray:
    image = np.zeros((1, size, size, 3), np.uint8)
    image[0, top : top + side, left : left + side, 0] = 255
    return image


def test_the_sources_mask_is_used_as_it_is_and_the_parts_are_the_parsers() -> None:
    known = np.zeros((1, 64, 64), np.uint8)
    known[0, 10:50, 10:30] = 200
    parts, mask = segment_images(RedIsHair(64), red_square(64, 0, 0, 60), known)
    np.testing.assert_array_equal(mask, known)
    assert parts[0, 5, 5] == HAIR


def test_without_a_mask_the_parser_decides_and_parts_end_where_the_mask_does() -> None:
    rgb = red_square(64, 8, 8, 50)
    rgb[0, 0:3, 60:64, 0] = 255  # a second, smaller red thing
    parts, mask = segment_images(RedIsHair(64), rgb, np.zeros((1, 64, 64), np.uint8))
    assert mask[0, 30, 30] == 255
    assert mask[0, 1, 62] == 0
    assert parts[0, 30, 30] == HAIR
    assert parts[0, 1, 62] == 0


def test_a_prior_that_sees_nobody_halves_the_probability() -> None:
    def nobody(rgb: np.ndarray) -> np.ndarray:
        return np.zeros(rgb.shape[:2], np.float32)

    _, mask = segment_images(RedIsHair(64), red_square(64, 8, 8, 50), None, nobody)
    assert mask.max() == 0


@pytest.mark.parametrize(("top", "left"), [(40, 24), (0, 100)])
def test_a_small_person_is_parsed_again_in_a_crop_and_put_back_in_place(top: int, left: int) -> None:
    rgb = red_square(128, top, left, 26)
    _, mask = segment_images(RedIsHair(32), rgb)  # the first pass sees 4 × 4 pixels as one
    wrong = (mask[0] > 127) != (rgb[0, ..., 0] > 127)
    assert wrong.sum() <= 4  # the square's corners, which resampling rounds off


def test_pieces_near_each_other_are_one_person() -> None:
    probability = np.zeros((100, 100), np.float32)
    probability[10:60, 40:60] = 0.9
    probability[62:70, 40:60] = 0.8  # two pixels below: a foot
    probability[10:40, 80:95] = 1.0  # someone else
    person = largest_person(probability)
    assert person[65, 50] == np.float32(0.8)
    assert person[20, 90] == 0
    assert largest_person(np.zeros((10, 10), np.float32)).max() == 0
