"""Colour of a textured, lit mesh in an image: attributes, texture look-up, light, anti-aliasing."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Light:
    """A key light, a fill light and the sky, all diffuse.

    Attributes:
        key, fill: unit directions towards the lights, world frame.
        strength: 0 = unlit (the texture as it is), 1 = black where no light falls.
    """

    key: tuple[float, float, float]
    fill: tuple[float, float, float]
    strength: float

    @staticmethod
    def around(azimuth: float, elevation: float, strength: float) -> "Light":
        """A key light at (azimuth from the front, elevation), radians, and a fill light opposite, low."""
        return Light(_direction(azimuth, elevation), _direction(azimuth + math.pi, 0.2), strength)


KEY_SHARE, FILL_SHARE, SKY_SHARE = 0.55, 0.25, 0.20


def vertex_normals(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """Unit normals, faces weighted by area; zero at vertices without faces."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    face_normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(0, faces[:, corner], face_normal)
    return F.normalize(total, dim=1)


def vertex_light(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], light: Light
) -> Float[Tensor, " v"]:
    """Light on each vertex, in [1 − strength, 1].

    Each light counts by wrapped Lambert ((1 + n·l) / 2)²: soft as a large lamp, never a hard terminator.
    """
    normals = vertex_normals(vertices, faces)
    lamps = torch.tensor([light.key, light.fill], dtype=vertices.dtype, device=vertices.device)
    wrapped = ((1 + normals @ lamps.T) / 2).square()
    sky = (1 + normals[:, 1]) / 2
    amount = KEY_SHARE * wrapped[:, 0] + FILL_SHARE * wrapped[:, 1] + SKY_SHARE * sky
    return 1 - light.strength * (1 - amount)


def interpolate_corners(
    corner_values: Float[Tensor, "f 3 c"], face_id: Int[Tensor, " p"], barycentric: Float[Tensor, "p 3"]
) -> Float[Tensor, "p c"]:
    """Values at points inside faces from the values at the faces' corners."""
    return torch.einsum("pk,pkc->pc", barycentric, corner_values[face_id])


def sample_bilinear(texture: Float[Tensor, "h w c"], uv: Float[Tensor, "p 2"]) -> Float[Tensor, "p c"]:
    """Texture values at uv (v down, texel centres at half texels); uv outside [0, 1] repeats the texture."""
    repeated = torch.where((uv < 0) | (uv > 1), uv - uv.floor(), uv)
    grid = (2 * repeated - 1)[None, :, None]
    values = F.grid_sample(texture.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False)
    return values[0, :, :, 0].T


def sample_nearest(texture: UInt8[Tensor, "h w"], uv: Float[Tensor, "p 2"]) -> UInt8[Tensor, " p"]:
    """The texel in which each uv lies."""
    height, width = texture.shape
    repeated = torch.where((uv < 0) | (uv > 1), uv - uv.floor(), uv)
    column = (repeated[:, 0] * width).long().clamp(0, width - 1)
    row = (repeated[:, 1] * height).long().clamp(0, height - 1)
    return texture[row, column]


def texels_per_metre(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], corner_uv: Float[Tensor, "f 3 2"], texels: int
) -> float:
    """How densely a texture of `texels` pixels covers a surface, by area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    surface = torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2
    s, t = corner_uv[:, 1] - corner_uv[:, 0], corner_uv[:, 2] - corner_uv[:, 0]
    chart = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).abs().sum() / 2
    return math.sqrt(texels * float(chart) / max(float(surface), 1e-12))


def shrink_texture(texture: Float[Tensor, "h w c"], oversampling: float) -> Float[Tensor, "h2 w2 c"]:
    """Halve a texture by area until it is less than twice as fine as the image, so that it does not alias."""
    halvings = max(int(math.log2(max(oversampling, 1.0))), 0)
    for _ in range(halvings):
        if min(texture.shape[:2]) < 2:
            break
        texture = F.avg_pool2d(texture.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    return texture


@dataclass(frozen=True)
class CutOut:
    """A texture whose texels are surface or hole.

    Attributes:
        opaque: (h, w) uint8, 1 where there is surface.
        colour: (h2, w2, 4) colour times coverage, and coverage; no finer than the image needs.
    """

    opaque: UInt8[Tensor, "h w"]
    colour: Float[Tensor, "h2 w2 4"]

    @staticmethod
    def of(rgb: Float[Tensor, "h w 3"], opaque: Bool[Tensor, "h w"], oversampling: float) -> "CutOut":
        """From a texture `oversampling` times as fine as the image. Holes are decided in full detail."""
        coverage = opaque[..., None].to(rgb)
        colour = shrink_texture(torch.cat([rgb * coverage, coverage], dim=-1), oversampling)
        return CutOut(opaque.to(torch.uint8), colour)

    def sample(self, uv: Float[Tensor, "p 2"]) -> Float[Tensor, "p 3"]:
        """Colours at uv where there is surface, from surface alone: what colour holes have does not matter."""
        values = sample_bilinear(self.colour, uv)
        return values[:, :3] / values[:, 3:].clamp(min=1e-6)


@dataclass(frozen=True)
class SamplePixels:
    """Which pixel, and which of its s × s samples, each covered sample of a supersampled image is.

    Attributes:
        pixel: (p,) flat index into (b, h, w).
        sample: (p,) in 0 … s² − 1.
        shape: (b, h, w).
        per_pixel: s².
    """

    pixel: Int[Tensor, " p"]
    sample: Int[Tensor, " p"]
    shape: tuple[int, int, int]
    per_pixel: int

    @staticmethod
    def of(covered: Int[Tensor, " p"], shape: tuple[int, int, int], factor: int) -> "SamplePixels":
        """From flat indices of covered samples into `shape`, (b, s·h, s·w)."""
        batch, rows, columns = shape
        image, place = covered // (rows * columns), covered % (rows * columns)
        y, x = place // columns, place % columns
        height, width = rows // factor, columns // factor
        pixel = (image * height + y // factor) * width + x // factor
        return SamplePixels(pixel, (y % factor) * factor + x % factor, (batch, height, width), factor**2)

    def blend(
        self, colour: Float[Tensor, "p c"], background: float
    ) -> tuple[Float[Tensor, "b h w c"], Float[Tensor, "b h w"]]:
        """Mean over each pixel's samples, uncovered ones being `background`; and the covered share."""
        size = self.shape[0] * self.shape[1] * self.shape[2]
        values = torch.cat([colour, colour.new_ones(len(colour), 1)], dim=1) / self.per_pixel
        total = colour.new_zeros(size, values.shape[1]).index_add_(0, self.pixel, values)
        coverage = total[:, -1]
        mixed = total[:, :-1] + (1 - coverage)[:, None] * background
        return mixed.view(*self.shape, -1), coverage.view(self.shape)

    def vote(self, label: UInt8[Tensor, " p"]) -> UInt8[Tensor, "b h w"]:
        """The label that most of a pixel's samples have; uncovered samples vote 0, the first wins a tie."""
        size = self.shape[0] * self.shape[1] * self.shape[2]
        votes = torch.zeros(size, self.per_pixel, dtype=torch.uint8, device=label.device)
        votes[self.pixel, self.sample] = label
        touched = torch.zeros(size, dtype=torch.bool, device=label.device)
        touched[self.pixel] = True
        rows = votes[touched]
        count = torch.stack([(rows == rows[:, i : i + 1]).sum(dim=1) for i in range(self.per_pixel)], dim=1)
        winner = torch.zeros(size, dtype=torch.uint8, device=label.device)
        winner[touched] = rows.gather(1, count.argmax(dim=1, keepdim=True))[:, 0]
        return winner.view(self.shape)


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    """Unit vector; azimuth 0 is +z, positive towards +x."""
    return (
        math.sin(azimuth) * math.cos(elevation),
        math.sin(elevation),
        math.cos(azimuth) * math.cos(elevation),
    )
