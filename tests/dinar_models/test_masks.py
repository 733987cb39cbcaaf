import numpy as np

from dinar_models.masks import firm, follow_edges, largest_person


def test_pieces_near_each_other_are_one_person() -> None:
    probability = np.zeros((100, 100), np.float32)
    probability[10:60, 40:60] = 0.9
    probability[62:70, 40:60] = 0.8  # two pixels below: a foot
    probability[10:40, 80:95] = 1.0  # someone else
    person = largest_person(probability)
    assert person[65, 50] == np.float32(0.8)
    assert person[20, 90] == 0
    assert largest_person(np.zeros((10, 10), np.float32)).max() == 0


def test_a_blurred_outline_moves_to_the_edge_of_the_image() -> None:
    rgb = np.full((270, 270, 3), 30, np.uint8)
    rgb[:, 43:] = 220  # the person is bright and starts at column 43
    ramp = np.clip((np.arange(270) - 43) / 8 + 0.5, 0, 1)  # right in the middle, and soft over eight pixels
    blurred = np.broadcast_to(ramp, (270, 270)).astype(np.float32)
    refined = follow_edges(blurred, rgb)
    before, after = blurred[135, 42], refined[135, 42]
    assert after < before - 0.15
    assert refined[135, 43] > blurred[135, 43] + 0.15
    assert refined.min() >= 0
    assert refined.max() <= 1


def test_nobody_stays_nobody() -> None:
    faint = np.full((20, 20), 0.4, np.float32)
    np.testing.assert_array_equal(follow_edges(faint, np.zeros((20, 20, 3), np.uint8)), faint)


def test_the_nearly_sure_becomes_opaque_and_one_half_stays() -> None:
    probability = np.array([[0.2, 0.25, 0.5, 0.6, 0.8]], np.float32)
    np.testing.assert_allclose(firm(probability), [[0, 0, 0.5, 0.7, 1]], atol=1e-6)
