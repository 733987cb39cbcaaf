"""Hidden texels filled from seen ones: the baselines that inpainting must beat, and a guess that it may start from.

Fillings change colours and masks of hidden texels, and carry them one texel beyond the islands, nothing else.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from dinar_models.atlas.tables import AtlasTables
from dinar_models.texture import grow_borders
from dinar_models.types import NeuralTexture

Guess = Literal["none", "mirror"]
"""What the diffusion is told about hidden texels: nothing (paper), or what mirroring makes of them."""


def fill_guess(partial: NeuralTexture, tables: AtlasTables, guess: Guess) -> NeuralTexture:
    """The partial texture as the autoencoder is to see it: as it is, or with its hidden texels filled."""
    return partial if guess == "none" else mirror_fill(partial, partial, tables)


def mirror_fill(texture: NeuralTexture, partial: NeuralTexture, tables: AtlasTables) -> NeuralTexture:
    """A hidden texel takes the colour of the visible texel that is nearest in (x, y) of the canonical pose."""
    place = tables.texel_position[tables.island_mask][:, :2]
    colours = []
    for rgb, seen in _islands(partial, tables):
        filled = rgb.copy()
        if seen.any():
            _, nearest = cKDTree(place[seen]).query(place[~seen])
            filled[:, ~seen] = rgb[:, seen][:, nearest]
        colours.append(filled)
    return _with_hidden(texture, partial, np.stack(colours), tables)


def mean_fill(texture: NeuralTexture, partial: NeuralTexture, tables: AtlasTables) -> NeuralTexture:
    """A hidden texel takes the mean colour of its part's visible texels; of all, where the part shows none."""
    part = tables.texel_part[tables.island_mask]
    colours = []
    for rgb, seen in _islands(partial, tables):
        filled = rgb.copy()
        if seen.any():
            filled[:, ~seen] = rgb[:, seen].mean(axis=1, keepdims=True)
        for label in np.unique(part[seen]):
            here = part == label
            filled[:, here & ~seen] = rgb[:, here & seen].mean(axis=1, keepdims=True)
        colours.append(filled)
    return _with_hidden(texture, partial, np.stack(colours), tables)


def _islands(partial: NeuralTexture, tables: AtlasTables) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per person: colours (3, N) and visibility (N,) of the texels on islands."""
    inside = tables.island_mask
    rgb = partial.rgb.numpy(force=True)[:, :, inside]
    seen = partial.filled.numpy(force=True)[:, 0, inside] > 0.5
    return list(zip(rgb, seen, strict=True))


def _with_hidden(
    texture: NeuralTexture, partial: NeuralTexture, colours: np.ndarray, tables: AtlasTables
) -> NeuralTexture:
    """`texture` with colours (B, 3, N) and full masks on the hidden texels of the islands."""
    inside = torch.from_numpy(tables.island_mask).to(texture.data.device)
    rgb: Float[Tensor, "b 3 t t"] = torch.zeros_like(texture.rgb)
    rgb[:, :, inside] = torch.from_numpy(colours).to(rgb)
    hidden = inside & (partial.filled < 0.5)
    filled = NeuralTexture.assemble(
        texture.generated,
        torch.where(hidden, rgb, texture.rgb),
        torch.where(hidden, 1.0, texture.sampled),
        torch.where(hidden, 1.0, texture.filled),
    )
    grown = NeuralTexture(grow_borders(filled.data, inside.expand(len(rgb), -1, -1), inside.long() - 1))
    return NeuralTexture.assemble(texture.generated, grown.rgb, grown.sampled, grown.filled)
