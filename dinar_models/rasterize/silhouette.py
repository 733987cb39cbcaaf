"""Silhouettes whose coverage has gradients with respect to the vertices.

The hard mask of a rasteriser is corrected where two neighbouring pixels, one inside and one outside, have the
outline between their centres: the coverage of the pixel that the outline crosses becomes the distance to it
(analytic anti-aliasing after Laine et al., "Modular Primitives for High-Performance Differentiable
Rendering", 2020). The crossings are found from the edges of the outline, not from the face at a pixel,
because a body's faces are smaller than the pixels of a fit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dinar_models.cameras import Camera
from dinar_models.rasterize.base import Rasterizer


@dataclass(frozen=True)
class Edges:
    """The edges of a mesh and the one or two faces at each.

    Attributes:
        ends: vertex indices.
        sides: face indices; both the same where the surface ends.
    """

    ends: Int[Tensor, "e 2"]
    sides: Int[Tensor, "e 2"]

    @staticmethod
    def of(faces: Int[Tensor, "f 3"]) -> "Edges":
        """Find them; beyond two faces at an edge, the first and the last count."""
        count = len(faces)
        ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
        unique, which = ends.unique(dim=0, return_inverse=True)
        owner = torch.arange(count, device=faces.device).repeat(3)
        first = owner.new_full((len(unique),), count).scatter_reduce(0, which, owner, "amin")
        last = owner.new_full((len(unique),), -1).scatter_reduce(0, which, owner, "amax")
        return Edges(unique, torch.stack([first, last], dim=1))


def soft_silhouette(
    vertices: Float[Tensor, "m v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
    rasterizer: Rasterizer,
    size: int | None = None,
    edges: Edges | None = None,
) -> Float[Tensor, "b h w"]:
    """Coverage of each pixel in [0, 1], differentiable with respect to the vertices.

    Args:
        vertices: M meshes, world, m; M divides the number of cameras, B / M consecutive cameras see each.
        faces: of the whole mesh or of any part of it.
        camera: B cameras; the meshes lie in front of them.
        size: pixels per side; the camera's own by default.
        edges: `Edges.of(faces)`, to be made once where this is called often.
    """
    edges = edges if edges is not None else Edges.of(faces)
    camera = camera if size in (None, camera.size) else camera.resize(size)
    inside = rasterizer.cover(vertices, faces, camera)
    mesh_of = torch.arange(len(camera), device=vertices.device) // (len(camera) // len(vertices))
    with torch.no_grad():
        pixels = camera.project(vertices[mesh_of])
        image, edge = _outline_edges(pixels, faces, edges)
        pairs = [_crossed_pairs(pixels, edges.ends, image, edge, inside, axis) for axis in (0, 1)]
    coverage = inside.to(vertices.dtype).flatten()
    for axis, (image, edge, inner, outer) in enumerate(pairs):
        ends = vertices[mesh_of[image][:, None], edges.ends[edge]]
        border = _place_between(_project_rows(ends, camera, image), inner, outer, camera.size, axis)
        # the outline lies in the outer pixel (> ½) or in the inner one (< ½)
        coverage = coverage.index_add(0, torch.where(border > 0.5, outer, inner), border - 0.5)
    return coverage.view(inside.shape).clamp(0, 1)


def _outline_edges(
    pixels: Float[Tensor, "b v 2"], faces: Int[Tensor, "f 3"], edges: Edges
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """(image, edge) wherever a front side meets a back side, or the surface ends."""
    a, b, c = (pixels[:, faces[:, i]] for i in range(3))
    s, t = b - a, c - a
    front = s[..., 0] * t[..., 1] > s[..., 1] * t[..., 0]
    first, last = edges.sides[:, 0], edges.sides[:, 1]
    turns = (front[:, first] != front[:, last]) | (first == last)
    image, edge = turns.nonzero(as_tuple=True)
    return image, edge


def _crossed_pairs(
    pixels: Float[Tensor, "b v 2"],
    ends: Int[Tensor, "e 2"],
    image: Int[Tensor, " n"],
    edge: Int[Tensor, " n"],
    inside: Bool[Tensor, "b h w"],
    axis: int,
) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"], Int[Tensor, " p"], Int[Tensor, " p"]]:
    """Pixel pairs along `axis` (0 = x, 1 = y) with the outline between them.

    Each pair is decided by its outermost crossing and counts if that edge is steep for the axis (|dy| ≥ |dx|
    for x, |dx| > |dy| for y), so no piece of outline counts twice.

    Returns:
        image, edge, and the flat indices of the inner and outer pixels.
    """
    size = inside.shape[-1]
    start, end = (pixels[image, ends[edge, i]] for i in range(2))
    which, line = _lines_crossed(start[:, 1 - axis], end[:, 1 - axis], size)
    image, edge, start, end = image[which], edge[which], start[which], end[which]
    run, rise = (end - start)[:, axis], (end - start)[:, 1 - axis]
    place = start[:, axis] + run * ((line + 0.5 - start[:, 1 - axis]) / rise) - 0.5
    low = place.floor().long()
    flat = inside.flatten()
    step, across = (1, size) if axis == 0 else (size, 1)
    kept = ((low >= 0) & (low < size - 1)).nonzero()[:, 0]
    left = image[kept] * size * size + line[kept] * across + low[kept] * step
    mixed = flat[left] != flat[left + step]
    kept, left = kept[mixed], left[mixed]
    outward = torch.where(flat[left], 1.0, -1.0).to(place)
    score = outward * place[kept]
    best = score.new_full((flat.numel(),), -torch.inf).scatter_reduce(0, left, score, "amax")
    steep = (run.abs() <= rise.abs() if axis == 0 else run.abs() < rise.abs())[kept]
    chosen = _first_of_each(left, (score == best[left]) & steep)
    kept, left, outward = kept[chosen], left[chosen], outward[chosen]
    inner, outer = torch.where(outward > 0, left, left + step), torch.where(outward > 0, left + step, left)
    return image[kept], edge[kept], inner, outer


def _lines_crossed(
    start: Float[Tensor, " n"], end: Float[Tensor, " n"], size: int
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """(edge, line) for every line of pixel centres between an edge's ends, half open so none counts twice."""
    low = (torch.minimum(start, end) - 0.5).ceil().clamp(0, size).long()
    high = (torch.maximum(start, end) - 0.5).ceil().clamp(0, size).long()
    count = high - low
    which = torch.arange(len(count), device=count.device).repeat_interleave(count)
    before = count.cumsum(0) - count
    return which, low[which] + torch.arange(len(which), device=count.device) - before[which]


def _first_of_each(key: Int[Tensor, " n"], eligible: Bool[Tensor, " n"]) -> Int[Tensor, " k"]:
    """Positions of the first eligible entry of each key: two edges that share a vertex can tie."""
    candidates = eligible.nonzero()[:, 0]
    order = key[candidates].argsort(stable=True)
    candidates = candidates[order]
    keys = key[candidates]
    new = torch.ones_like(keys, dtype=torch.bool)
    new[1:] = keys[1:] != keys[:-1]
    return candidates[new]


def _project_rows(
    ends: Float[Tensor, "p 2 3"], camera: Camera, image: Int[Tensor, " p"]
) -> Float[Tensor, "p 2 2"]:
    return Camera(camera.K[image], camera.R[image], camera.T[image], camera.size).project(ends)


def _place_between(
    ends: Float[Tensor, "p 2 2"], inner: Int[Tensor, " p"], outer: Int[Tensor, " p"], size: int, axis: int
) -> Float[Tensor, " p"]:
    """Where each edge crosses its pair: 0 at the inner pixel's centre, 1 at the outer's."""
    line = (inner // size % size if axis == 0 else inner % size) + 0.5
    centre = (inner % size if axis == 0 else inner // size % size) + 0.5
    start, end = ends[:, 0], ends[:, 1]
    share = (line - start[:, 1 - axis]) / (end - start)[:, 1 - axis]
    place = start[:, axis] + (end - start)[:, axis] * share
    return (place - centre) * torch.where(outer > inner, 1.0, -1.0).to(place)
