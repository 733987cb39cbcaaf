"""Patterns and prints at places where the colour is known."""

import numpy as np
import pytest

from stages.people.anatomy import BACK, FRONT, SLEEVE, ClothCoordinates
from stages.people.fabrics import PATTERNS, Fabric, Motif, paint_fabric, sample_motif

RED, BLUE, WHITE = (0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.9, 0.9, 0.9)


def _grid(piece: int = FRONT, side: float = 0.3, count: int = 61) -> ClothCoordinates:
    s, t = np.meshgrid(np.linspace(-side / 2, side / 2, count), 0.4 + np.linspace(side / 2, -side / 2, count))
    return ClothCoordinates(s.ravel(), t.ravel(), np.full(count * count, piece))


def _paint(fabric: Fabric, at: ClothCoordinates) -> np.ndarray:
    return paint_fabric(fabric, at, np.random.default_rng(0)).reshape(61, 61, 3)


def test_stripes_run_around_the_body_with_the_asked_repeat():
    image = _paint(Fabric("stripes", (RED, BLUE, BLUE), scale=0.10), _grid())
    blue = image[..., 2] > image[..., 0]
    assert (blue == blue[:, :1]).all()  # constant across
    edges = np.flatnonzero(np.diff(blue[:, 0].astype(int)))
    assert np.diff(edges[::2]).mean() * 0.3 / 60 == pytest.approx(0.10, rel=0.06)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_stays_in_range_and_starts_from_its_colours(pattern):
    image = _paint(Fabric(pattern, (RED, BLUE, WHITE), scale=0.08), _grid())
    assert image.min() >= 0
    assert image.max() <= 1
    assert (image.std(axis=(0, 1)).max() > 0.05) == (pattern != "plain")


def test_a_print_is_on_its_own_panel_only():
    motif = Motif("disc", "", BACK, (0.0, 0.4), 0.2, WHITE)
    fabric, bare = (Fabric("plain", (RED, RED, RED), motifs=m) for m in ((motif,), ()))
    for piece in (FRONT, SLEEVE):
        np.testing.assert_array_equal(_paint(fabric, _grid(piece)), _paint(bare, _grid(piece)))
    printed = _paint(fabric, _grid(BACK))
    np.testing.assert_allclose(printed[30, 30], WHITE, atol=0.12)
    assert printed[0, 0, 1] < 0.2


@pytest.mark.parametrize("piece", [FRONT, BACK])
def test_words_are_not_mirrored(piece):
    """An L has its stem on the reader's left (s < 0 on both panels) and its foot at the bottom."""
    image = _paint(
        Fabric("plain", (RED, RED, RED), motifs=(Motif("word", "L", piece, (0, 0.4), 0.15, WHITE),)),
        _grid(piece),
    )
    ink = image[..., 1] > 0.5
    assert ink[:, :30].sum() > 1.5 * ink[:, 31:].sum()
    assert ink[31:].sum() > ink[:30].sum()


def test_prints_of_front_and_back_are_drawn_apart():
    rng = np.random.default_rng(3)
    pairs = [(sample_motif(FRONT, rng, WHITE), sample_motif(BACK, rng, WHITE)) for _ in range(20)]
    assert sum((a.shape, a.text) != (b.shape, b.text) for a, b in pairs) > 14
