"""Views, masks and bodies → partial textures: what each image shows of the body's surface."""

import functools
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera
from dinar_models.occlusion import occlusion_contours
from dinar_models.rasterize.base import Rasterizer, make_rasterizer, uv_raster
from dinar_models.texture import SampleRules, Texels, TextureSample, sample_texture
from dinar_models.uv_atlas import Atlas
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._core.weights import read_body_digests
from stages._data.images import read_bodies, read_cameras

SHARD_ROWS = 48

NOTHING_SEEN = "no texel of the body is seen in the image"


class SampleTexturesParams(StageParams):
    """Which pixels and texels count."""

    texture_size: int
    supersample: int = Field(2, ge=1, le=4, description="samples per texel and axis")
    occlusion_contours: bool = Field(
        True, description="leave out the outlines of limbs in front of the body (paper, section 3.5)"
    )
    mask_erosion: int = Field(
        2, ge=0, le=16, description="untrusted border of the mask, px of a 512 px image"
    )
    depth_tolerance: float = Field(0.005, gt=0, le=0.1, description="of the visibility test, m")
    min_frontality: float = Field(
        0.1, ge=0, lt=1, description="smallest cosine between surface normal and direction to the camera"
    )
    fill_texels: int = Field(1, ge=0, le=8, description="width of the gaps that neighbours fill, texels")
    max_reject_ratio: float = Field(0.2, ge=0, le=1, description="share of images that may be rejected")

    def rules(self) -> SampleRules:
        """The same for the sampler."""
        return SampleRules(
            erosion=self.mask_erosion,
            depth_tolerance=self.depth_tolerance,
            min_frontality=self.min_frontality,
            fill_texels=self.fill_texels,
        )


def run(params: SampleTexturesParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Sample every image whose body was fitted."""
    bodies = open_store(inputs["bodies"], "bodies")
    return build_store(
        out=outputs["textures"],
        schema="textures",
        index=bodies.index,
        sizes={"T": params.texture_size},
        attrs={**params.model_dump(), **read_body_digests(inputs["body"])},
        shard_rows=SHARD_ROWS,
        work=partial(sample_shard, inputs=dict(inputs), params=params),
        runtime=runtime,
        key=work_key(params, [inputs[name] for name in STAGE.inputs]),
        max_reject_ratio=params.max_reject_ratio,
    )


def sample_shard(rows: range, *, inputs: dict[str, Path], params: SampleTexturesParams) -> ShardResult:
    """The textures of some images; those of one body share one build of the rasteriser."""
    views, parsing, bodies = (open_store(inputs[name], name) for name in ("views", "parsing", "bodies"))
    camera, body = read_cameras(views, rows), read_bodies(bodies, rows)
    rgb = torch.from_numpy(views["rgb"][rows.start : rows.stop]).permute(0, 3, 1, 2)
    mask = torch.from_numpy(parsing["mask"][rows.start : rows.stop])
    surface = load_surface(inputs["body"], params.texture_size * params.supersample)
    shape = (len(rows), params.texture_size, params.texture_size)
    arrays = {name: np.zeros(shape, np.uint8) for name in ("sampled", "filled", "frontality")}
    arrays["rgb"] = np.zeros((len(rows), 3, *shape[1:]), np.uint8)
    rejects = {}
    for group in same_bodies(body, bodies.index["ok"].to_numpy(bool)[rows.start : rows.stop]):
        sample = sample_images(
            rgb[group].float() / 255,
            mask[group].float() / 255,
            camera.select(group),
            body.select(group[:1]),
            surface,
            params,
        )
        for name in arrays:
            arrays[name][group.numpy()] = (getattr(sample, name) * 255).round().to(torch.uint8).numpy()
        unseen = ~sample.sampled.flatten(1).any(dim=1)
        rejects.update({rows.start + row: NOTHING_SEEN for row in group[unseen].tolist()})
    return ShardResult(arrays, rejects)


@dataclass(frozen=True)
class Surface:
    """What all images share."""

    body: BodyModel
    atlas: Atlas
    texels: Texels
    limb_colour: Float[Tensor, "3 t t"]
    rasterizer: Rasterizer


@functools.lru_cache(maxsize=1)
def load_surface(folder: Path, texture_size: int) -> Surface:
    """Loaded once per worker."""
    atlas = Atlas.load(folder / "atlas.npz")
    tables = atlas.tables(texture_size)
    colour = torch.from_numpy(tables.limb_colour)
    return Surface(BodyModel.load(folder), atlas, Texels.of(tables), colour, make_rasterizer("embree"))


def same_bodies(params: BodyParams, ok: np.ndarray) -> list[Int[Tensor, " g"]]:
    """The usable rows, those with the very same body together."""
    usable = torch.from_numpy(np.flatnonzero(ok))
    table = torch.cat(list(params.as_dict().values()), dim=1)[usable]
    distinct, which = table.unique(dim=0, return_inverse=True)
    return [usable[which == body] for body in range(len(distinct))]


@torch.no_grad()
def sample_images(
    rgb: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b h w"],
    camera: Camera,
    body: BodyParams,
    surface: Surface,
    params: SampleTexturesParams,
) -> TextureSample:
    """Partial textures of images (in [0, 1]) that show the same body."""
    vertices, faces = surface.body(body).vertices, surface.body.faces
    fragments = surface.rasterizer.rasterize(vertices, faces, camera)
    blocked = None
    if params.occlusion_contours:
        uv = uv_raster(fragments, torch.from_numpy(surface.atlas.corner_uv))
        blocked = occlusion_contours(uv, surface.limb_colour)
    return sample_texture(
        rgb,
        mask,
        vertices,
        faces,
        camera,
        surface.texels,
        fragments,
        blocked=blocked,
        rules=params.rules(),
        supersample=params.supersample,
    )


STAGE = Stage(
    "sample_textures",
    SampleTexturesParams,
    inputs=("views", "parsing", "bodies", "body"),
    outputs=("textures",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
