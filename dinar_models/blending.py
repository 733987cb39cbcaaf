"""Merging views without seams: pyramid and Poisson blending beside the softmax of eq. 5 (paper section 3.2).

What lies beside an island of the atlas in the texture lies elsewhere on the body: every island is blended by itself.
Colours and generated channels are blended where at least one view sees the texel; masks, and what nobody sees, are
as eq. 5 makes them.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from kornia.geometry.transform import pyrdown, pyrup
from scipy.sparse import coo_array, csc_array, identity
from scipy.sparse.linalg import splu
from torch import Tensor

from dinar_models.texture import merge_textures
from dinar_models.types import NeuralTexture

Blending = Literal["softmax", "pyramid", "poisson"]

LEVELS = 5
"""Halvings of a pyramid: at a seam the coarsest colours mix over some 2⁵ texels."""

COARSEST = 4
"""Texels per side below which a pyramid ends."""

ANCHOR = 1e-3
"""Weight of eq. 5's values beside that of the gradients: a step is spread over about 1/√ANCHOR = 32 texels."""


def blend_textures(
    textures: Float[Tensor, "v 21 t t"],
    frontality: Float[Tensor, "v t t"],
    seen: Bool[Tensor, "v t t"],
    island: Int[Tensor, "t t"],
    *,
    temperature: float = 10.0,
    blending: Blending = "softmax",
) -> tuple[Float[Tensor, "21 t t"], Bool[Tensor, "t t"]]:
    """The neural textures of several views of one person as one.

    Args:
        textures, frontality, seen, temperature: see `merge_textures`.
        island: label of each texel's island, −1 off all islands.
        blending: eq. 5, or one of the schemes that the paper names beside it.

    Returns:
        The merged texture, and where at least one view sees it.
    """
    merged, covered = merge_textures(textures, frontality, seen, temperature)
    inside = covered & (island >= 0)
    if blending == "softmax" or len(textures) == 1 or not inside.any():
        return merged, covered
    views, plain = NeuralTexture(textures), NeuralTexture(merged[None])
    score = frontality.masked_fill(~seen, -1.0)
    blended = BLENDINGS[blending](
        torch.cat([views.generated, views.rgb], dim=1),
        torch.cat([plain.generated, plain.rgb], dim=1)[0],
        score,
        torch.where(inside, island, -1),
    )
    generated, rgb = blended[None].split([plain.generated.shape[1], plain.rgb.shape[1]], dim=1)
    return NeuralTexture.assemble(generated, rgb.clamp(0, 1), plain.sampled, plain.filled).data[0], covered


def pyramid_blend(
    layers: Float[Tensor, "v c t t"],
    base: Float[Tensor, "c t t"],
    score: Float[Tensor, "v t t"],
    island: Int[Tensor, "t t"],
) -> Float[Tensor, "c t t"]:
    """Laplacian pyramids of the views, each level cut from the best view's (Ogden et al., RCA Engineer 1985).

    Where another view begins to see better, detail changes sharply, without ghosts of two views, and coarse colours
    change gradually. Beyond what a view sees its values are carried on smoothly.

    Args:
        layers: channels of the views; values that a view does not see are not used.
        base: eq. 5's values, kept off the islands.
        score: how well each view sees each texel, negative where not at all.
        island: label of each texel that some view sees, −1 elsewhere.
    """
    out, best = base.clone(), score.argmax(dim=0)
    views = torch.arange(len(layers), device=best.device)[:, None, None]
    for label in island.unique().tolist():
        if label < 0:
            continue
        rows, columns = _box(island == label)
        here = island[rows, columns] == label
        chosen = (best[rows, columns] == views) & here
        used = chosen.flatten(1).any(dim=1)
        colours = _spread(layers[used][..., rows, columns], (score[used, rows, columns] >= 0) & here)
        shares = _spread(chosen[used, None].to(layers), here.expand(len(colours), -1, -1))
        mixed = _mix_levels(colours, shares)[:, : here.shape[0], : here.shape[1]]
        out[:, rows, columns] = torch.where(here, mixed, out[:, rows, columns])
    return out


def poisson_blend(
    layers: Float[Tensor, "v c t t"],
    base: Float[Tensor, "c t t"],
    score: Float[Tensor, "v t t"],
    island: Int[Tensor, "t t"],
) -> Float[Tensor, "c t t"]:
    """Values whose differences between neighbours are the best view's (Pérez et al., SIGGRAPH 2003).

    Least squares over all pairs of neighbours on an island, without fixed borders; instead the values are drawn
    weakly to eq. 5's (ANCHOR). Neighbours that no view sees together should not differ: steps where views of
    different brightness meet are spread out. Arguments as of `pyramid_blend`.
    """
    place = (island.flatten() >= 0).nonzero()[:, 0]
    number = torch.full((island.numel(),), -1, device=place.device)
    number[place] = torch.arange(len(place), device=place.device)
    first, second = _neighbours(island)
    flat, seen_as = layers.flatten(2), score.flatten(1)
    both = torch.minimum(seen_as[:, first], seen_as[:, second])
    view = both.argmax(dim=0)
    difference = flat[view, :, second] - flat[view, :, first]
    difference[both.amax(dim=0) < 0] = 0
    solved = _integrate(
        base.flatten(1)[:, place].T.double().numpy(force=True),
        number[first].numpy(force=True),
        number[second].numpy(force=True),
        difference.double().numpy(force=True),
    )
    out = base.flatten(1).clone()
    out[:, place] = torch.from_numpy(solved.T).to(out)
    return out.view_as(base)


BLENDINGS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "pyramid": pyramid_blend,
    "poisson": poisson_blend,
}


def _mix_levels(
    colours: Float[Tensor, "v c s s"], shares: Float[Tensor, "v 1 s s"]
) -> Float[Tensor, "c s s"]:
    """The sum over the views of (Laplacian pyramid of colours) × (Gaussian pyramid of shares), put together again."""
    levels = []
    for _ in range(LEVELS):
        if colours.shape[-1] <= COARSEST:
            break
        small = pyrdown(colours)
        levels.append(((colours - pyrup(small)) * shares).sum(dim=0, keepdim=True))
        colours, shares = small, pyrdown(shares)
    mixed = (colours * shares).sum(dim=0, keepdim=True)
    for detail in reversed(levels):
        mixed = pyrup(mixed) + detail
    return mixed[0]


def _spread(values: Float[Tensor, "v c h w"], known: Bool[Tensor, "v h w"]) -> Float[Tensor, "v c s s"]:
    """Padded to a square whose side is a power of two, the unknown filled from the known around it."""
    side = 1 << (max(values.shape[-2:]) - 1).bit_length()
    pad = (0, side - values.shape[-1], 0, side - values.shape[-2])
    return _pull_push(F.pad(values, pad), F.pad(known[:, None].to(values), pad))


def _pull_push(values: Float[Tensor, "v c s s"], known: Float[Tensor, "v 1 s s"]) -> Float[Tensor, "v c s s"]:
    """Unknown places take what an image of half the size says of them, itself filled in this way."""
    if values.shape[-1] == 1:
        return values
    share = F.avg_pool2d(known, 2)
    half = F.avg_pool2d(values * known, 2) / share.clamp_min(1e-6)
    around = _pull_push(half, (share > 0).to(known))
    return torch.where(
        known > 0, values, F.interpolate(around, scale_factor=2, mode="bilinear", align_corners=False)
    )


def _box(where: Bool[Tensor, "t t"]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around some texels."""
    (low, left), (high, right) = (bound.tolist() for bound in where.nonzero().aminmax(dim=0))
    return slice(low, high + 1), slice(left, right + 1)


def _neighbours(island: Int[Tensor, "t t"]) -> tuple[Int[Tensor, " e"], Int[Tensor, " e"]]:
    """Flat indices of all pairs of texels beside or below each other on one island."""
    index = torch.arange(island.numel(), device=island.device).view_as(island)
    pairs = [(index[:, :-1], index[:, 1:]), (index[:-1], index[1:])]
    first, second = (torch.cat([pair[k].flatten() for pair in pairs]) for k in range(2))
    label = island.flatten()
    together = (label[first] >= 0) & (label[first] == label[second])
    return first[together], second[together]


def _integrate(base: np.ndarray, first: np.ndarray, second: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Minimise |x[second] − x[first] − difference|² + ANCHOR |x − base|², channel by channel.

    Args:
        base: (n, c).
        first, second: (e,) pairs of rows.
        difference: (e, c).
    """
    edges, count = np.arange(len(first)), len(base)
    values = np.repeat([-1.0, 1.0], len(first))
    rows, columns = np.concatenate([edges, edges]), np.concatenate([first, second])
    slope = coo_array((values, (rows, columns)), shape=(len(first), count)).tocsr()
    system = csc_array(slope.T @ slope + ANCHOR * identity(count))
    return np.asarray(splu(system).solve(slope.T @ difference + ANCHOR * base))
