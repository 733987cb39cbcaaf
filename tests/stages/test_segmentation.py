import numpy as np
import pytest

from dinar_models.labels import CLASSES, PERSON, UNKNOWN
from stages._data.segmentation import PARSER_WEIGHT, join_opinions, second_look, segment_images
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


def test_in_photos_the_mask_decides_where_the_background_is() -> None:
    def person(rgb: np.ndarray) -> np.ndarray:
        return np.pad(np.ones((40, 40), np.float32), 12)

    rgb = red_square(64, 12, 12, 40)
    rgb[0, 30:34, 30:34] = 0  # the parser sees a hole in the person,
    rgb[0, :4, :4, 0] = 255  # and someone in the corner
    parts, mask = segment_images(RedIsHair(64), rgb, None, person)
    np.testing.assert_array_equal(parts > 0, mask >= 128)
    assert parts[0, 32, 32] > 0
    assert parts[0, 1, 1] == 0


def test_where_the_prior_sees_nobody_there_is_nobody() -> None:
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


def test_label_maps_of_others_give_classes_and_mask() -> None:
    rgb = red_square(64, 0, 0, 64)  # all hair, says the parser
    labels = np.zeros((1, 64, 64), np.uint8)
    labels[0, 8:56, 16:40] = CLASSES.index("skirt")
    labels[0, 8:20, 16:40] = PERSON
    parts, mask = segment_images(RedIsHair(64), rgb, labels=labels)
    np.testing.assert_array_equal(mask, np.where(labels > 0, 255, 0))
    assert parts[0, [4, 12, 40], 30].tolist() == [0, HAIR, CLASSES.index("skirt")]


def test_a_photo_without_a_label_map_is_the_parsers_among_others_that_have_one() -> None:
    rgb = np.concatenate([red_square(64, 8, 8, 50)] * 2)
    labels = np.zeros((2, 64, 64), np.uint8)
    labels[0, 8:56, 16:40] = CLASSES.index("skirt")
    labels[1] = UNKNOWN
    parts, mask = segment_images(RedIsHair(64), rgb, labels=labels)
    assert parts[:, 30, 30].tolist() == [CLASSES.index("skirt"), HAIR]
    assert mask[:, 30, 50].tolist() == [0, 255]


def test_opinions_are_weighed_and_only_one_person_is_kept() -> None:
    flat = np.zeros((60, 60, 3), np.uint8)
    parser, prior = np.zeros((60, 60), np.float32), np.zeros((60, 60), np.float32)
    parser[10:50, 10:50], prior[10:50, 10:50] = 0.8, 1.0
    parser[:4, 56:] = 1.0  # the parser alone sees something there
    parser[30:40, 30:40] = 0.0  # and nothing where the prior is unsure
    prior[30:40, 30:40] = 0.8
    person = join_opinions(parser, prior, flat)
    assert person[35, 35] == pytest.approx(2 * (1 - PARSER_WEIGHT) * 0.8 - 0.5)
    assert person[30, 30] == 1
    assert person[1, 58] == 0
    assert join_opinions(np.ones((60, 60), np.float32), np.zeros((60, 60), np.float32), flat).max() == 0
    assert join_opinions(np.ones((60, 60), np.float32), None, flat).min() == 1


def test_the_second_look_averages_mirrored_and_closer_looks() -> None:
    rgb = red_square(120, 20, 30, 40)[0]
    looks = []

    def red_and_some_of_the_left(image: np.ndarray) -> np.ndarray:
        looks.append(image)
        answer = (image[..., 0] > 127).astype(np.float32)
        answer[:, :10] = np.maximum(answer[:, :10], 0.4)  # a prior that errs on the left
        return answer

    mean = second_look(rgb, red_and_some_of_the_left)
    assert len(looks) == 4
    assert mean[40, 50] == pytest.approx(1)  # the square's middle
    assert mean[5, 5] == mean[5, 115] == pytest.approx(0.4 / 2 / 2)  # one of two looks, and not in the crop
    assert (mean > 0.5).sum() == pytest.approx(1600, abs=80)
    assert (
        second_look(np.zeros((8, 8, 3), np.uint8), lambda image: image[..., 0].astype(np.float32)).max() == 0
    )
