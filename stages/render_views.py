"""Scans → views: cameras around each scan in several variants, lit, anti-aliased, with exact masks."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from dinar_models.cameras import Camera, orbit_camera
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.shading import (
    CutOut,
    Light,
    SamplePixels,
    interpolate_corners,
    sample_bilinear,
    sample_nearest,
    shrink_texture,
    texels_per_metre,
    vertex_light,
)
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.scan_store import Scan, open_scans, read_scan
from stages._core.seeds import rng_for
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary

SHARD_IMAGES = 64
"""Images in a shard, roughly: shards hold whole scans."""

MAX_SAMPLES = 1 << 21
"""Rays of one call of the rasteriser: bounds its memory to a few hundred megabytes."""

PARTS_UNKNOWN = 255

OPAQUE = 128
"""Alpha of a texture from here on is surface, below it is a hole."""


class RenderViewsParams(StageParams):
    """Cameras, light and colour of the renders."""

    seed: int
    image_size: int
    views: int = Field(8, ge=1, le=64, description="cameras around each scan, view 0 from the front")
    variants: int = Field(3, ge=1, le=64, description="variant 0 has no jitter; the others have their own")
    supersample: int = Field(2, ge=1, le=4, description="samples per pixel and axis")
    margin: float = Field(1.2, ge=1, le=3, description="image side over the longest side of the scan's box")
    distance: float = Field(4.0, ge=1, le=50, description="camera to the scan's middle, m")
    distance_jitter: float = Field(0.35, ge=0, lt=1, description="largest relative change of the distance")
    yaw_jitter: float = Field(12, ge=0, le=45, description="largest change, degrees")
    pitch_jitter: float = Field(8, ge=0, le=45, description="largest change, degrees")
    zoom_jitter: float = Field(
        0.08, ge=0, lt=0.5, description="largest relative reduction of the focal length"
    )
    colour_gain: float = Field(0.15, ge=0, lt=1, description="largest relative change of each colour channel")
    colour_offset: float = Field(0.04, ge=0, le=0.5, description="largest shift of each channel, of 0 to 1")
    shading: float = Field(0.35, ge=0, le=1, description="0: texture as it is; 1: black where no light falls")


@dataclass(frozen=True)
class Variant:
    """What the views of one scan share in one variant: angles in radians, colour as gain and offset."""

    yaw: float = 0.0
    pitch: float = 0.0
    distance: float = 1.0
    zoom: float = 1.0
    gain: tuple[float, ...] = (1.0, 1.0, 1.0)
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)


def run(params: RenderViewsParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Render all views of all scans; rejected scans keep their rows and reasons."""
    scans = open_scans(inputs["scans"])
    index = views_index(scans.index, params)
    per_scan = params.views * params.variants
    names = scans.index[["subject", "scan"]].to_numpy(str)
    ok = scans.index["ok"].to_numpy(bool)
    return build_store(
        out=outputs["views"],
        schema="views",
        index=index,
        sizes={"H": params.image_size, "W": params.image_size},
        attrs={**params.model_dump(), "has_mask": True, "has_parts": _labelled(inputs["scans"], ok)},
        shard_rows=per_scan * max(SHARD_IMAGES // per_scan, 1),
        work=partial(render_shard, store=inputs["scans"], names=names, ok=ok, params=params),
        runtime=runtime,
        key=work_key(params, [inputs["scans"]]),
    )


def views_index(scans: pd.DataFrame, params: RenderViewsParams) -> pd.DataFrame:
    """One line per image, scan by scan, variant by variant; `yaw` is the nominal one, before jitter."""
    per_scan = params.views * params.variants
    index = scans.loc[scans.index.repeat(per_scan)].reset_index(drop=True)
    index["variant"] = np.tile(np.repeat(np.arange(params.variants), params.views), len(scans))
    index["view"] = np.tile(np.arange(params.views), len(scans) * params.variants)
    index["yaw"] = index["view"] * (360.0 / params.views)
    return index


def render_shard(
    rows: range, *, store: Path, names: np.ndarray, ok: np.ndarray, params: RenderViewsParams
) -> ShardResult:
    """The images of consecutive whole scans."""
    per_scan = params.views * params.variants
    blocks = []
    for scan in range(rows.start // per_scan, rows.stop // per_scan):
        if ok[scan]:
            subject, name = names[scan]
            blocks.append(render_scan(read_scan(store, scan), subject, name, params))
        else:
            blocks.append(_empty(per_scan, params.image_size))
    return ShardResult({key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]})


def render_scan(scan: Scan, subject: str, name: str, params: RenderViewsParams) -> dict[str, np.ndarray]:
    """All variants and views of one scan as arrays of the `views` schema.

    The light and the colours of a variant are the subject's, so that two scans of a subject show the same
    person; the camera's jitter is the scan's.
    """
    vertices = torch.from_numpy(scan.vertices)
    faces = torch.from_numpy(scan.faces).long()
    variants = [draw_variant(params, subject, name, number) for number in range(params.variants)]
    cameras = [scan_cameras(vertices, variant, params) for variant in variants]
    surface = Surface.of(scan, vertices, faces, draw_light(params, subject), cameras[0], params)
    camera = _join(cameras)
    step = max(MAX_SAMPLES // (params.image_size * params.supersample) ** 2, 1)
    images: list[tuple[Tensor, Tensor, Tensor]] = []
    for first in range(0, len(camera), step):
        chosen = torch.arange(first, min(first + step, len(camera)))
        colours = [variants[i // params.views] for i in chosen.tolist()]
        images.append(surface.render(camera.select(chosen), colours, params))
    rgb, mask, parts = (torch.cat(batches).numpy() for batches in zip(*images, strict=True))
    return {
        "rgb": rgb,
        "mask": mask,
        "parts": parts,
        "K": camera.K.float().numpy(),
        "R": camera.R.float().numpy(),
        "T": camera.T.float().numpy(),
    }


def draw_variant(params: RenderViewsParams, subject: str, scan: str, number: int) -> Variant:
    """Jitter of camera (per scan) and colour (per subject); none in variant 0."""
    if number == 0:
        return Variant()
    camera = rng_for(params.seed, "render_views", "camera", scan, number)
    colour = rng_for(params.seed, "render_views", "colour", subject, number)
    yaw, pitch, distance = camera.uniform(-1, 1, 3)
    return Variant(
        yaw=math.radians(params.yaw_jitter * yaw),
        pitch=math.radians(params.pitch_jitter * pitch),
        distance=1 + params.distance_jitter * distance,
        zoom=1 - params.zoom_jitter * camera.uniform(),
        gain=tuple(1 + params.colour_gain * colour.uniform(-1, 1, 3)),
        offset=tuple(params.colour_offset * colour.uniform(-1, 1, 3)),
    )


def draw_light(params: RenderViewsParams, subject: str) -> Light:
    """A key light within 60° of the front, 15° to 60° up."""
    rng = rng_for(params.seed, "render_views", "light", subject)
    return Light.around(math.radians(rng.uniform(-60, 60)), math.radians(rng.uniform(15, 60)), params.shading)


def scan_cameras(vertices: Tensor, variant: Variant, params: RenderViewsParams) -> Camera:
    """The views of one variant: one focal length, such that the scan × margin fills the square."""
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    target = (low + high) / 2
    yaw = variant.yaw + torch.arange(params.views) * (2 * math.pi / params.views)
    pitch = torch.full_like(yaw, variant.pitch)
    distance = torch.full_like(yaw, params.distance * variant.distance)
    camera = orbit_camera(yaw, pitch, distance, focal=1.0, target=target, size=params.image_size)
    rays = camera.transform(vertices[None])
    extent = (rays[..., :2].abs() / rays[..., 2:]).max()
    focal = variant.zoom * params.image_size / (2 * params.margin * float(extent))
    return orbit_camera(yaw, pitch, distance, focal=focal, target=target, size=params.image_size)


@dataclass(frozen=True)
class Surface:
    """A scan made ready for rendering.

    Attributes:
        corners: (F, 3, 3) u, v and light at each face's corners.
        material: (F,) index into textures.
        textures: (h, w, 3) float, 0–1, no finer than the image needs; those with holes as cut-outs.
        colours: (F, 3, 3) vertex colours at the corners, where there are no textures.
        parts: (h, w) uint8 or None.
    """

    vertices: Tensor
    faces: Tensor
    corners: Tensor
    material: Tensor
    textures: list[Tensor | CutOut]
    colours: Tensor | None
    parts: Tensor | None

    @staticmethod
    def of(
        scan: Scan, vertices: Tensor, faces: Tensor, light: Light, camera: Camera, params: RenderViewsParams
    ) -> "Surface":
        uv = torch.from_numpy(scan.corner_uv)
        shade = vertex_light(vertices, faces, light)[faces]
        depth = float(camera.transform(vertices[None])[..., 2].mean())
        samples_per_metre = float(camera.K[0, 0, 0]) * params.supersample / depth
        material = torch.from_numpy(scan.face_material).long()
        textures: list[Tensor | CutOut] = []
        for number, image in enumerate(scan.textures):
            here = material == number
            density = texels_per_metre(vertices, faces[here], uv[here], image.shape[0] * image.shape[1])
            textures.append(_texture(torch.from_numpy(image), density / samples_per_metre))
        rgb = None if scan.vertex_rgb is None else torch.from_numpy(scan.vertex_rgb)[faces].float() / 255
        return Surface(
            vertices=vertices,
            faces=faces,
            corners=torch.cat([uv, shade[..., None]], dim=-1),
            material=material,
            textures=textures,
            colours=rgb,
            parts=None if scan.texture_parts is None else torch.from_numpy(scan.texture_parts),
        )

    def render(
        self, camera: Camera, variants: list[Variant], params: RenderViewsParams
    ) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 images of some views: rgb (B, H, W, 3) on white, mask and parts (B, H, W)."""
        side = params.image_size * params.supersample
        opaque = self._opaque if any(isinstance(t, CutOut) for t in self.textures) else None
        fragments = EmbreeRasterizer().rasterize(self.vertices, self.faces, camera, side, opaque)
        covered = torch.nonzero(fragments.face_id.reshape(-1) >= 0)[:, 0]
        face = fragments.face_id.reshape(-1)[covered]
        bary = fragments.barycentric.reshape(-1, 3)[covered]
        values = interpolate_corners(self.corners, face, bary)
        colour = self._albedo(face, bary, values[:, :2]) * values[:, 2:]
        image = covered // side**2
        gain = torch.tensor([v.gain for v in variants], dtype=torch.float32)[image]
        offset = torch.tensor([v.offset for v in variants], dtype=torch.float32)[image]
        pixels = SamplePixels.of(covered, (len(camera), side, side), params.supersample)
        rgb, coverage = pixels.blend((colour * gain + offset).clamp(0, 1), background=1.0)
        if self.parts is None:
            parts = torch.where(coverage > 0, PARTS_UNKNOWN, 0).to(torch.uint8)
        else:
            parts = pixels.vote(sample_nearest(self.parts, values[:, :2]))
        return _to_bytes(rgb), _to_bytes(coverage), parts

    def _albedo(self, face: Tensor, bary: Tensor, uv: Tensor) -> Tensor:
        if self.colours is not None:
            return interpolate_corners(self.colours, face, bary)
        material = self.material[face]
        albedo = uv.new_zeros(len(uv), 3)
        for number, texture in enumerate(self.textures):
            here = material == number
            if isinstance(texture, CutOut):
                albedo[here] = texture.sample(uv[here])
            else:
                albedo[here] = sample_bilinear(texture, uv[here])
        return albedo

    def _opaque(self, face: Tensor, bary: Tensor) -> Tensor:
        """Whether points of the surface are no holes."""
        material = self.material[face]
        opaque = torch.ones(len(face), dtype=torch.bool)
        for number, texture in enumerate(self.textures):
            if isinstance(texture, CutOut):
                here = material == number
                uv = interpolate_corners(self.corners[..., :2], face[here], bary[here])
                opaque[here] = sample_nearest(texture.opaque, uv) > 0
        return opaque


def _texture(rgba: Tensor, oversampling: float) -> Tensor | CutOut:
    """A uint8 RGBA texture made ready for an image that it is `oversampling` times as fine as."""
    rgb = rgba[..., :3].float() / 255
    opaque = rgba[..., 3] >= OPAQUE
    return shrink_texture(rgb, oversampling) if opaque.all() else CutOut.of(rgb, opaque, oversampling)


def _join(cameras: list[Camera]) -> Camera:
    return Camera(
        K=torch.cat([c.K for c in cameras]),
        R=torch.cat([c.R for c in cameras]),
        T=torch.cat([c.T for c in cameras]),
        size=cameras[0].size,
    )


def _to_bytes(values: Tensor) -> Tensor:
    return (values * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def _empty(count: int, size: int) -> dict[str, np.ndarray]:
    """Placeholders for the rows of a rejected scan; the store fills such rows itself."""
    return {
        "rgb": np.zeros((count, size, size, 3), np.uint8),
        "mask": np.zeros((count, size, size), np.uint8),
        "parts": np.zeros((count, size, size), np.uint8),
        "K": np.zeros((count, 3, 3), np.float32),
        "R": np.zeros((count, 3, 3), np.float32),
        "T": np.zeros((count, 3), np.float32),
    }


def _labelled(store: Path, ok: np.ndarray) -> bool:
    """Whether the source labels its textures; a source does so for all scans or for none."""
    rows = np.flatnonzero(ok)
    return bool(len(rows)) and read_scan(store, int(rows[0])).texture_parts is not None


STAGE = Stage("render_views", RenderViewsParams, inputs=("scans",), outputs=("views",), run=run)

if __name__ == "__main__":
    main(STAGE)
