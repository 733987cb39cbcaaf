"""Both fillings on an atlas of flat rectangles."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dinar_models.atlas.tables import AtlasTables
from dinar_models.fills import fill_guess, mean_fill, mirror_fill
from dinar_models.types import NeuralTexture
from tests.dinar_models.flat_atlas import flat_atlas

SIZE = 8
Filling = Callable[[NeuralTexture, NeuralTexture, AtlasTables], NeuralTexture]


@pytest.fixture
def tables() -> AtlasTables:
    """Front (left half of the texture, `torso`) and back (right half, `head`) of a sheet, in the same (x, y)."""
    atlas = flat_atlas({"torso": (0, 0, 0.5, 0.75), "head": (0.5, 0, 1, 0.75)}, {})
    behind: np.ndarray = atlas.positions[4:] - np.array([0.5, 0, 1], np.float32)
    return replace(atlas, positions=np.concatenate([atlas.positions[:4], behind])).tables(SIZE)


def textures(seen: Tensor) -> tuple[NeuralTexture, NeuralTexture]:
    """(completed, partial): grey 0.9 with full masks; on seen texels red is the row, green the column."""
    step = torch.arange(SIZE) / 10
    colour = torch.stack([step[:, None].expand(SIZE, SIZE), step.expand(SIZE, SIZE), torch.zeros(SIZE, SIZE)])
    known = seen.float()[None, None]
    generated = torch.randn(1, 16, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    partial = NeuralTexture.assemble(generated, colour[None] * known, known, known)
    half = torch.full((1, 1, SIZE, SIZE), 0.5)
    completed = NeuralTexture.assemble(generated, torch.full((1, 3, SIZE, SIZE), 0.9), half, half)
    return completed, partial


def seen_texels(columns: slice) -> Tensor:
    seen = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    seen[:6, columns] = True
    return seen


def test_mirror_brings_the_front_to_the_back(tables: AtlasTables) -> None:
    """Even where another part of the back is seen, which is nearer in space: depth does not count."""
    seen = seen_texels(slice(0, 4))
    seen[:6, 7] = True
    completed, partial = textures(seen)
    filled = mirror_fill(completed, partial, tables)
    torch.testing.assert_close(filled.rgb[..., :6, 4:7], partial.rgb[..., :6, :3])


def test_mirror_takes_the_nearest_where_the_very_spot_is_hidden_too(tables: AtlasTables) -> None:
    """Columns 0 and 1 are seen: columns 2 and 3, and 6 and 7 behind them, repeat column 1."""
    completed, partial = textures(seen_texels(slice(0, 2)))
    filled = mirror_fill(completed, partial, tables)
    for column in (2, 3, 5, 6, 7):
        torch.testing.assert_close(filled.rgb[..., :6, column], partial.rgb[..., :6, 1])
    torch.testing.assert_close(filled.rgb[..., :6, 4], partial.rgb[..., :6, 0])


def test_a_guess_is_the_mirrored_partial_texture_or_the_partial_texture_itself(tables: AtlasTables) -> None:
    _, partial = textures(seen_texels(slice(0, 4)))
    assert fill_guess(partial, tables, "none") is partial
    guess = fill_guess(partial, tables, "mirror")
    assert torch.equal(guess.rgb[..., :6, 4:], partial.rgb[..., :6, :4])
    assert torch.equal(guess.filled[..., :6, :], torch.ones(1, 1, 6, SIZE))
    assert torch.equal(guess.data[..., :6, :4], partial.data[..., :6, :4])


def test_mean_fill_by_part(tables: AtlasTables) -> None:
    """Of the torso columns 0 and 1 are seen: red 0.25 (mean of six rows), green 0.05. The head shows nothing."""
    completed, partial = textures(seen_texels(slice(0, 2)))
    filled = mean_fill(completed, partial, tables)
    mean = torch.tensor([0.25, 0.05, 0.0]).view(3, 1, 1)
    torch.testing.assert_close(filled.rgb[0, :, :6, 2:], mean.expand(3, 6, 6))
    seen = seen_texels(slice(0, 2))
    seen[:3, 7] = True  # now the head shows three texels: red 0.1, green 0.7
    filled = mean_fill(*textures(seen), tables)
    torch.testing.assert_close(filled.rgb[0, :, 5, 4:], torch.tensor([0.1, 0.7, 0.0])[:, None].expand(3, 4))
    torch.testing.assert_close(filled.rgb[0, :, :6, 2:4], mean.expand(3, 6, 2))


@pytest.mark.parametrize("fill", [mirror_fill, mean_fill])
def test_only_hidden_texels_of_islands_change(tables: AtlasTables, fill: Filling) -> None:
    """Their colours and masks; seen texels and the free rows keep what the completed texture has."""
    seen = seen_texels(slice(0, 4))
    completed, partial = textures(seen)
    filled = fill(completed, partial, tables)
    hidden = torch.from_numpy(tables.island_mask) & ~seen
    assert torch.equal(filled.generated, completed.generated)
    kept = ~hidden
    kept[6] = False  # the row beyond the islands carries the row before it on
    assert torch.equal(filled.data[..., kept], completed.data[..., kept])
    assert torch.equal(filled.filled[..., 6, 5:7], torch.ones(1, 1, 2))
    torch.testing.assert_close(filled.rgb[..., 6, 6], filled.rgb[..., 5, 5:8].mean(-1))
    assert filled.sampled[..., hidden].eq(1).all()
    assert filled.filled[..., hidden].eq(1).all()


@pytest.mark.parametrize("fill", [mirror_fill, mean_fill])
def test_who_shows_nothing_stays_black(tables: AtlasTables, fill: Filling) -> None:
    completed, partial = textures(torch.zeros(SIZE, SIZE, dtype=torch.bool))
    filled = fill(completed, partial, tables)
    assert filled.rgb[..., :6, :].eq(0).all()
    assert filled.rgb[..., 6, :].eq(0).all()
    assert filled.rgb[..., 7, :].eq(0.9).all()
