"""Rectangles in the unit square."""

import numpy as np
import pytest

from dinar_models.atlas.packing import pack


def boxes(sizes: np.ndarray, gutter: float) -> np.ndarray:
    """(N, 4) x0, y0, x1, y1 of packed rectangles with the gutter around each."""
    corners, turned, scale = pack(sizes, gutter)
    extent = np.where(turned[:, None], sizes[:, ::-1], sizes) * scale
    return np.concatenate([corners - gutter, corners + extent + gutter], axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_overlaps_or_leaves_the_square(seed: int) -> None:
    sizes = np.random.default_rng(seed).uniform(0.1, 1.5, (15, 2))
    placed = boxes(sizes, 0.01)
    assert placed.min() >= 0
    assert placed.max() <= 1 + 1e-9
    for i, (x0, y0, x1, y1) in enumerate(placed):
        other = np.delete(placed, i, axis=0)
        apart = (other[:, 0] >= x1 - 1e-9) | (other[:, 2] <= x0 + 1e-9)
        apart |= (other[:, 1] >= y1 - 1e-9) | (other[:, 3] <= y0 + 1e-9)
        assert apart.all()
    area = (placed[:, 2] - placed[:, 0]) * (placed[:, 3] - placed[:, 1])
    assert area.sum() > 0.7


def test_one_square_fills_all_but_its_gutter() -> None:
    corners, _, scale = pack(np.array([[3.0, 3.0]]), 0.1)
    assert corners == pytest.approx(np.array([[0.1, 0.1]]))
    assert 3 * scale == pytest.approx(0.8, abs=1e-6)


def test_a_lying_and_a_standing_half_are_turned_to_fit() -> None:
    """Halves of the square, one given upright, one flat: only turned do they fill it."""
    _, turned, scale = pack(np.array([[2.0, 1.0], [1.0, 2.0]]), 0.0)
    assert turned.sum() == 1
    assert scale == pytest.approx(0.5, abs=1e-6)


def test_scale_keeps_the_proportions_between_islands() -> None:
    """A big square, three of half its side and a gap: 1 : ½, so the big side is 2/3 of the whole."""
    _, _, scale = pack(np.array([[2.0, 2.0], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1]]), 0.0)
    assert 2 * scale == pytest.approx(2 / 3, abs=1e-6)


def test_too_wide_a_gutter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 islands with a gutter of 0.3 do not fit"):
        pack(np.ones((3, 2)), 0.3)
