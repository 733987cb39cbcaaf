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
    repeat = len(rgb) // len(vertices)
    points, normals = (
        on_texels(values, faces, texels).repeat_interleave(repeat, dim=0)
        for values in (vertices, vertex_normals(vertices, faces))
    )
    frontality = _frontality(points, normals, camera)
    pixels, depth = camera.project(points), camera.transform(points)[..., 2]
    usable = trusted_pixels(mask, rules.erosion)
    if blocked is not None:
        usable = usable & ~blocked
    seen = (frontality > max(rules.min_frontality, 0.0)) & (
        _look_up(usable[:, None].float(), pixels)[:, 0] > 0.99
    )
    seen &= _depth_agrees(pixels, depth, frontality, camera, fragments, rules.depth_tolerance)
    values = torch.cat([_look_up(rgb, pixels), frontality[:, None]], dim=1)
    values, sampled = _to_texture(values, seen, texels, supersample)
    island = F.max_pool2d(texels.island[None, None].float(), supersample)[0, 0].long()
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
        mean, found = _mean_of_neighbours(values, known, island)
        new = found & ~known
        values, known = torch.where(new[:, None], mean, values), known | new
    return values, known


def grow_borders(
    values: Float[Tensor, "b c t t"], known: Bool[Tensor, "b t t"], island: Int[Tensor, "t t"]
) -> Float[Tensor, "b c t t"]:
    """Carry values one texel beyond the islands, so that bilinear look-ups at a seam mix in no empty texels."""
    mean, found = _mean_of_neighbours(values, known, island.new_zeros(island.shape))
    return torch.where((found & (island < 0))[:, None], mean, values)


def _mean_of_neighbours(
    values: Float[Tensor, "b c t t"], known: Bool[Tensor, "b t t"], label: Int[Tensor, "t t"]
) -> tuple[Float[Tensor, "b c t t"], Bool[Tensor, "b t t"]]:
    """Mean over the known ones of a texel's eight neighbours with its own label, and where there is any.

    Texels with a negative label have no neighbours.
    """
    weighted = torch.cat([values, torch.ones_like(values[:, :1])], dim=1) * known[:, None]
    total = torch.zeros_like(weighted)
    for dy, dx in ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)):
        same = (_shifted(label, dy, dx, -1) == label) & (label >= 0)
        total += _shifted(weighted, dy, dx, 0) * same
    return total[:, :-1] / total[:, -1:].clamp(min=1), total[:, -1] > 0


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
    the weight is carried on, for bilinear look-ups.

    Returns:
        The texture, and the weight of `partial` in it.
    """
    outside = (~island).to(filled)
    weight = F.pad((filled + outside).clamp(0, 1)[:, None], (2, 2, 2, 2), value=1.0)
    weight = -F.max_pool2d(-weight, 3, stride=1)
    weight = F.avg_pool2d(weight, 3, stride=1)
    weight = (weight - outside).clamp(0, 1)
    label = island.long() - 1
    weight = grow_borders(weight, island.expand(len(weight), -1, -1), label)
    return weight * partial + (1 - weight) * decoded, weight[:, 0]


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


def _frontality(
    points: Float[Tensor, "b n 3"], normals: Float[Tensor, "b n 3"], camera: Camera
) -> Float[Tensor, "b n"]:
    """Cosine between the normal and the direction to the camera, 0 for surfaces that face away."""
    towards = F.normalize(camera.centers[:, None] - points, dim=-1)
    return (F.normalize(normals, dim=-1) * towards).sum(dim=-1).clamp(0, 1)


def _look_up(images: Float[Tensor, "b c h w"], pixels: Float[Tensor, "b n 2"]) -> Float[Tensor, "b c n"]:
    """Bilinear samples; 0 outside the image."""
    size = pixels.new_tensor([images.shape[-1], images.shape[-2]])
    return F.grid_sample(images, (2 * pixels / size - 1)[:, None], align_corners=False)[:, :, 0]


def _depth_agrees(
    pixels: Float[Tensor, "b n 2"],
    depth: Float[Tensor, "b n"],
    frontality: Float[Tensor, "b n"],
    camera: Camera,
    fragments: Fragments,
    tolerance: float,
) -> Bool[Tensor, "b n"]:
    """The four pixels whose colours a bilinear sample mixes all show this surface or the background.

    One pixel away, a slanted surface is deeper by footprint × slope, which the tolerance allows for.
    """
    height, width = fragments.depth.shape[1:]
    corner = (pixels - 0.5).floor().long()
    inside = ((corner >= 0) & (corner < corner.new_tensor([width - 1, height - 1]))).all(dim=-1)
    first = (corner[..., 1].clamp(0, height - 2) * width + corner[..., 0].clamp(0, width - 2)).unsqueeze(-1)
    around = first + torch.tensor([0, 1, width, width + 1], device=first.device)
    rendered = fragments.depth.flatten(1).gather(1, around.flatten(1)).view_as(around)
    covered = fragments.covered.flatten(1).gather(1, around.flatten(1)).view_as(around)
    slope = ((1 - frontality**2).clamp(min=0).sqrt() / frontality.clamp(min=1e-3)).clamp(max=STEEPEST)
    footprint = depth / camera.K[:, 0, 0, None]
    allowed = tolerance + 2**0.5 * footprint * slope
    agrees = (rendered - depth[..., None]).abs() <= allowed[..., None]
    return inside & (depth > 0) & (agrees | ~covered).all(dim=-1) & covered.any(dim=-1)


def _to_texture(
    values: Float[Tensor, "b c n"], seen: Bool[Tensor, "b n"], texels: Texels, supersample: int
) -> tuple[Float[Tensor, "b c t t"], Bool[Tensor, "b t t"]]:
    """Put samples at their texels and average blocks of them; a block counts if half of it is seen."""
    batch, channels, _ = values.shape
    ones = torch.ones_like(values[:, :1])
    stacked = torch.cat([torch.cat([values, ones], dim=1) * seen[:, None], ones], dim=1)
    fine = values.new_zeros(batch, channels + 2, texels.size**2)
    fine[:, :, texels.place] = stacked
    mean = F.avg_pool2d(fine.view(batch, -1, texels.size, texels.size), supersample)
    share, on_island = mean[:, -2], mean[:, -1]
    known = (share > 0) & (share >= 0.5 * on_island)
    return torch.where(known[:, None], mean[:, :channels] / share[:, None].clamp(min=1e-6), 0.0), known


def _shifted(image: Tensor, dy: int, dx: int, fill: int) -> Tensor:
    """The image whose texel (y, x) is the old (y + dy, x + dx); `fill` comes in at the border."""
    height, width = image.shape[-2:]
    padded = F.pad(image, (1, 1, 1, 1), value=fill)
    return padded[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
