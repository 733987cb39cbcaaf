"""Textures and images: sampling a texture from a photo, filling gaps, merging views, compositing, look-up.

A texture is read by gathering: every texel knows its face and barycentric weights, hence its 3-D point, hence
its pixel. Texel centres lie at half texels and row 0 is v = 0 (`align_corners=False` everywhere), so what is
sampled into a texture comes out of `rasterise_texture` without a shift.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dinar_models.cameras import Camera
from dinar_models.rasterize.base import Fragments
from dinar_models.uv_atlas import AtlasTables

STEEPEST = 5.0
"""Largest slope (tangent) between surface and image plane that the depth test makes allowance for."""


@dataclass(frozen=True)
class Texels:
    """The texels that lie on the surface, of a texture with `size` texels per side.

    Attributes:
        place: flat index of each such texel, row by row.
        face: the face it lies on.
        barycentric: where on that face.
        island: (size, size) label of the island, −1 off all islands.
    """

    place: Int[Tensor, " n"]
    face: Int[Tensor, " n"]
    barycentric: Float[Tensor, "n 3"]
    island: Int[Tensor, "t t"]

    @property
    def size(self) -> int:
        """Texels per side."""
        return self.island.shape[0]

    @staticmethod
    def of(tables: AtlasTables, device: torch.device | str = "cpu") -> "Texels":
        """From the atlas' tables of one size."""
        face = torch.as_tensor(tables.texel_face, device=device).long().flatten()
        place = (face >= 0).nonzero()[:, 0]
        weights = torch.as_tensor(tables.texel_bary, device=device).float().view(-1, 3)
        part = torch.as_tensor(tables.texel_part, device=device).long()
        island = torch.where(face.view_as(part) >= 0, part, -1)
        return Texels(place, face[place], weights[place], island)


@dataclass(frozen=True)
class SampleRules:
    """When a texel is seen.

    Attributes:
        erosion: the mask's border that is not trusted, px of a 512-pixel image (the published code's 5 × 5).
        depth_tolerance: of the depth test on surfaces that face the camera, m.
        min_frontality: smallest cosine between normal and direction to the camera.
        fill_texels: gaps and borders this wide are filled from their neighbours on the same island.
    """

    erosion: int = 2
    depth_tolerance: float = 0.005
    min_frontality: float = 0.1
    fill_texels: int = 1


@dataclass
class TextureSample:
    """A partial texture.

    Attributes:
        rgb: [0, 1], 0 where nothing was sampled or filled.
        sampled: B_smp, 0 or 1.
        filled: B_fill, 0 or 1: sampled, or filled from neighbours.
        frontality: cosine between normal and direction to the camera, 0 where not filled.
    """

    rgb: Float[Tensor, "b 3 t t"]
    sampled: Float[Tensor, "b t t"]
    filled: Float[Tensor, "b t t"]
    frontality: Float[Tensor, "b t t"]


def sample_texture(
    rgb: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b h w"],
    vertices: Float[Tensor, "m v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
    texels: Texels,
    fragments: Fragments,
    *,
    blocked: Bool[Tensor, "b h w"] | None = None,
    rules: SampleRules = SampleRules(),
    supersample: int = 1,
) -> TextureSample:
    """T(x): the partial texture that an image gives (paper §3.1), then small gaps filled.

    Args:
        rgb: images in [0, 1].
        mask: coverage of the person in [0, 1].
        vertices: M bodies; B / M consecutive images show each.
        camera: of the images.
        texels: of a texture `supersample` times finer than the result; each texel averages its samples.
        fragments: the bodies rasterised at the images' size: the depth test.
        blocked: pixels not to be sampled (`occlusion_contours`).
    """
    usable = trusted_pixels(mask, rules.erosion)
    if blocked is not None:
        usable = usable & ~blocked
    points, normals = (
        on_texels(values, faces, texels) for values in (vertices, vertex_normals(vertices, faces))
    )
    pixels, depth, frontality = _seen_by(points, F.normalize(normals, dim=-1), camera)
    facing = (frontality > max(rules.min_frontality, 0.0)) & (depth > 0)
    image, texel = facing.nonzero(as_tuple=True)
    pixels, depth, frontality = pixels[image, texel], depth[image, texel], frontality[image, texel]
    around, weights, inside = _four_pixels(pixels, image, rgb.shape[-1])
    footprint = depth / camera.K[image, 0, 0]
    seen = inside & usable.flatten()[around].all(dim=1)
    seen &= _depth_agrees(around, depth, frontality, footprint, fragments, rules.depth_tolerance)
    kept = seen.nonzero()[:, 0]
    colours = rgb.permute(0, 2, 3, 1).reshape(-1, 3)[around[kept]]
    values = torch.cat([(weights[kept, :, None] * colours).sum(dim=1), frontality[kept, None]], dim=1)
    values, sampled, island = _to_texture(values, image[kept], texel[kept], len(rgb), texels, supersample)
    values, filled = fill_gaps(values, sampled, island, rules.fill_texels)
    values = torch.cat([values, sampled[:, None], filled[:, None]], dim=1)
    values = grow_borders(values, filled, island)
    return TextureSample(values[:, :3], values[:, 4].ceil(), values[:, 5], values[:, 3])


def on_texels(
    values: Float[Tensor, "m v c"], faces: Int[Tensor, "f 3"], texels: Texels
) -> Float[Tensor, "m n c"]:
    """Values at vertices → values at texels."""
    corners = faces[texels.face]
    a, b, c = (texels.barycentric[:, i, None] * values[:, corners[:, i]] for i in range(3))
    return a + b + c


def vertex_normals(vertices: Float[Tensor, "m v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "m v 3"]:
    """Unit outward normals, faces weighted by area; zero at vertices without faces."""
    a, b, c = (vertices[:, faces[:, i]] for i in range(3))
    face_normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(1, faces[:, corner], face_normal)
    return F.normalize(total, dim=-1)


def trusted_pixels(mask: Float[Tensor, "b h w"], erosion: int) -> Bool[Tensor, "b h w"]:
    """Pixels inside the mask, its border left out; `erosion` counts pixels of a 512-pixel image."""
    radius = round(erosion * mask.shape[-1] / 512)
    radius = max(radius, 1) if erosion else 0
    outside = (mask <= 0.5).float()[:, None]
    return F.max_pool2d(outside, 2 * radius + 1, stride=1, padding=radius)[:, 0] == 0


def fill_gaps(
    values: Float[Tensor, "b c t t"], known: Bool[Tensor, "b t t"], island: Int[Tensor, "t t"], rounds: int
) -> tuple[Float[Tensor, "b c t t"], Bool[Tensor, "b t t"]]:
    """Unknown texels become the mean of their known neighbours (3 × 3) on the same island, `rounds` times.

    Never across islands, which the published code's dilation does.
    """
    for _ in range(rounds):
        values, known = _take_from_neighbours(values, known, ~known & (island >= 0), island)
    return values, known


def grow_borders(
    values: Float[Tensor, "b c t t"], known: Bool[Tensor, "b t t"], island: Int[Tensor, "t t"]
) -> Float[Tensor, "b c t t"]:
    """Carry values one texel beyond the islands, so that bilinear look-ups at a seam mix in no empty texels."""
    beyond = (island < 0).expand(known.shape)
    return _take_from_neighbours(values, known, beyond, island.new_zeros(island.shape))[0]


def _take_from_neighbours(
    values: Float[Tensor, "b c t t"],
    known: Bool[Tensor, "b t t"],
    wanted: Bool[Tensor, "b t t"],
    label: Int[Tensor, "t t"],
) -> tuple[Float[Tensor, "b c t t"], Bool[Tensor, "b t t"]]:
    """Wanted texels become the mean of their known neighbours (3 × 3) of the same label, if there are any."""
    near = F.max_pool2d(known[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    image, row, column = (near & wanted).nonzero(as_tuple=True)
    step = torch.tensor([-1, 0, 1], device=row.device)
    y, x = row[:, None] + step.repeat_interleave(3), column[:, None] + step.repeat(3)
    size = label.shape[0]
    counts = (y >= 0) & (y < size) & (x >= 0) & (x < size)
    y, x = y.clamp(0, size - 1), x.clamp(0, size - 1)
    counts &= known[image[:, None], y, x] & (label[y, x] == label[row, column][:, None])
    total = (values.permute(0, 2, 3, 1)[image[:, None], y, x] * counts[..., None]).sum(dim=1)
    found = counts.any(dim=1)
    image, row, column = image[found], row[found], column[found]
    values, known = values.clone(), known.clone()
    values[image, :, row, column] = total[found] / counts[found].sum(dim=1, keepdim=True)
    known[image, row, column] = True
    return values, known


def merge_textures(
    textures: Float[Tensor, "v c h w"],
    frontality: Float[Tensor, "v h w"],
    seen: Bool[Tensor, "v h w"],
    temperature: float = 10.0,
) -> tuple[Float[Tensor, "c h w"], Bool[Tensor, "h w"]]:
    """Eq. 5: the views' textures weighted by softmax(temperature × frontality) over the views.

    Views that do not see a texel weigh nothing there (the published code gave them exp(0)). Where no view
    sees it all weigh alike: colours and masks stay 0 as they are in every view, and the channels that the
    generator makes everywhere stay dense.

    Returns:
        The merged texture, and where at least one view sees it.
    """
    covered = seen.any(dim=0)
    score = (temperature * frontality).masked_fill(~seen, -torch.inf).masked_fill(~covered, 0.0)
    weight = score.softmax(dim=0).to(textures.dtype)
    return torch.einsum("vhw,vchw->chw", weight, textures), covered


def composite(
    decoded: Float[Tensor, "b c t t"],
    partial: Float[Tensor, "b c t t"],
    filled: Float[Tensor, "b t t"],
    island: Bool[Tensor, "t t"],
) -> tuple[Float[Tensor, "b c t t"], Float[Tensor, "b t t"]]:
    """Eq. 6: the decoded texture where nothing was seen, the partial one elsewhere, softly joined.

    The mask B_fill is eroded and blurred (3 × 3 each) at the edges of inner holes only: texels off the
    islands count as filled meanwhile, so the islands' own borders stay sharp. One texel beyond the islands
    weight and texture are carried on, for bilinear look-ups: what a decoder says there is a mixture with
    nothing, and shows as a dark seam.

    Returns:
        The texture, and the weight of `partial` in it.
    """
    outside = (~island).to(filled)
    weight = F.pad((filled + outside).clamp(0, 1)[:, None], (2, 2, 2, 2), value=1.0)
    weight = -F.max_pool2d(-weight, 3, stride=1)
    weight = F.avg_pool2d(weight, 3, stride=1)
    weight = (weight - outside).clamp(0, 1)
    joined = torch.cat([weight * partial + (1 - weight) * decoded, weight], dim=1)
    joined = grow_borders(joined, island.expand(len(joined), -1, -1), island.long() - 1)
    return joined[:, :-1], joined[:, -1]


def fit_colour(
    source: Float[Tensor, "b 3 t t"], target: Float[Tensor, "b 3 t t"], weight: Float[Tensor, "b t t"]
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b 3"]]:
    """α and β of Eq. 7 by least squares: α source + β ≈ target where weighted, channel by channel.

    A ridge worth one per cent of the weight pulls towards α = 1, β = 0, the answer without any weight.
    """
    w = weight[:, None]
    total = w.sum((-1, -2)).clamp(min=1e-6)
    mean_s, mean_t = ((w * image).sum((-1, -2)) / total for image in (source, target))
    s, t = source - mean_s[..., None, None], target - mean_t[..., None, None]
    variance, covariance = ((w * s * other).sum((-1, -2)) / total for other in (s, t))
    ridge = 0.01 * (variance + 1e-3)
    alpha = (covariance + ridge) / (variance + ridge)
    known = (weight.sum((-1, -2)) > 0)[:, None]
    return torch.where(known, alpha, 1.0), torch.where(known, mean_t - alpha * mean_s, 0.0)


def rasterise_texture(
    texture: Float[Tensor, "b c t t"], uv: Float[Tensor, "b h w 2"]
) -> Float[Tensor, "b c h w"]:
    """The texture as seen in images with the given UV raster; 0 on the background (uv = −1)."""
    values = F.grid_sample(texture, 2 * uv - 1, padding_mode="border", align_corners=False)
    return values * (uv[..., :1] >= 0).permute(0, 3, 1, 2).to(values)


def _seen_by(
    points: Float[Tensor, "m n 3"], normals: Float[Tensor, "m n 3"], camera: Camera
) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Pixels, depths, and cosines between normal and direction to the camera; B / M cameras for each body."""
    views = len(camera) // len(points)
    shape = (len(camera), points.shape[1])
    repeated = points.repeat_interleave(views, dim=0)
    image = torch.baddbmm((camera.K @ camera.T[..., None]).mT, repeated, (camera.K @ camera.R).mT)
    pixels, depth = image[..., :2] / image[..., 2:], image[..., 2]
    centers = camera.centers.view(len(points), views, 3)
    along_normal = normals @ centers.mT - (normals * points).sum(dim=-1, keepdim=True)
    distance = torch.cdist(points, centers, compute_mode="donot_use_mm_for_euclid_dist")
    cosine = (along_normal / distance).transpose(1, 2).reshape(shape)
    return pixels, depth, cosine.clamp(0, 1)


def _four_pixels(
    pixels: Float[Tensor, "p 2"], image: Int[Tensor, " p"], size: int
) -> tuple[Int[Tensor, "p 4"], Float[Tensor, "p 4"], Bool[Tensor, " p"]]:
    """The pixels that a bilinear sample mixes: flat indices into (b, size, size), weights, all in the image."""
    first = (pixels - 0.5).floor()
    x, y = (pixels - 0.5 - first).unbind(dim=1)
    weights = torch.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], dim=1)
    inside = ((first >= 0) & (first < size - 1)).all(dim=1)
    column, row = first.clamp(0, size - 2).long().unbind(dim=1)
    start = (image * size + row) * size + column
    return start[:, None] + torch.tensor([0, 1, size, size + 1], device=start.device), weights, inside


def _depth_agrees(
    around: Int[Tensor, "p 4"],
    depth: Float[Tensor, " p"],
    frontality: Float[Tensor, " p"],
    footprint: Float[Tensor, " p"],
    fragments: Fragments,
    tolerance: float,
) -> Bool[Tensor, " p"]:
    """The four pixels all show this surface or the background, and not only the background.

    One pixel (a footprint in metres) away, a slanted surface is deeper by footprint × slope, which the
    tolerance allows for.
    """
    rendered, covered = fragments.depth.flatten()[around], fragments.covered.flatten()[around]
    slope = ((1 - frontality**2).clamp(min=0).sqrt() / frontality.clamp(min=1e-3)).clamp(max=STEEPEST)
    allowed = tolerance + 2**0.5 * footprint * slope
    agrees = (rendered - depth[:, None]).abs() <= allowed[:, None]
    return (agrees | ~covered).all(dim=1) & covered.any(dim=1)


def _to_texture(
    values: Float[Tensor, "p c"],
    image: Int[Tensor, " p"],
    texel: Int[Tensor, " p"],
    images: int,
    texels: Texels,
    supersample: int,
) -> tuple[Float[Tensor, "b c t t"], Bool[Tensor, "b t t"], Int[Tensor, "t t"]]:
    """Average samples over blocks of supersample² texels; a block counts if half of it is seen.

    Returns:
        Values, where they are known, and the blocks' islands.
    """
    size = texels.size // supersample
    row, column = texels.place // texels.size, texels.place % texels.size
    block = row // supersample * size + column // supersample
    ones = torch.ones_like(values[:, :1])
    total = values.new_zeros(images * size**2, values.shape[1] + 1)
    total.index_add_(0, image * size**2 + block[texel], torch.cat([values, ones], dim=1))
    total = total.view(images, size, size, -1).permute(0, 3, 1, 2)
    count, on_island = total[:, -1], torch.bincount(block, minlength=size**2).view(size, size)
    known = (count > 0) & (2 * count >= on_island)
    island = F.max_pool2d(texels.island[None, None].float(), supersample)[0, 0].long()
    mean = torch.where(known[:, None], total[:, :-1] / count[:, None].clamp(min=1), 0.0)
    return mean.contiguous(), known, island
