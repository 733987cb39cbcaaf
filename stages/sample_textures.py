"""Views, masks and bodies → partial textures: what each image shows of the body's surface."""

import functools
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

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
from stages._core.schemas import BODY_ARRAYS
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._core.weights import read_body_digests

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
    size = params.texture_size
    arrays = {
        "rgb": np.zeros((len(rows), 3, size, size), np.uint8),
        **{name: np.zeros((len(rows), size, size), np.uint8) for name in ("sampled", "filled", "frontality")},
    }
    rejects = {}
    images = _Images.read(rows, inputs)
    surface = _surface(inputs["body"], size * params.supersample)
    for group in images.by_body():
        sample = sample_images(images, group, surface, params)
        for name in arrays:
            values = getattr(sample, name)
            arrays[name][group] = (values * 255).round().to(torch.uint8).numpy()
        unseen = ~sample.sampled.flatten(1).any(dim=1).numpy()
        rejects.update({int(row) + rows.start: NOTHING_SEEN for row in group[unseen]})
    return ShardResult(arrays, rejects)


@dataclass(frozen=True)
class _Surface:
    """What all images share."""

    body: BodyModel
    atlas: Atlas
    texels: Texels
    limb_colour: torch.Tensor
    rasterizer: Rasterizer


@functools.lru_cache(maxsize=1)
def _surface(folder: Path, texture_size: int) -> _Surface:
    """Loaded once per worker."""
    atlas = Atlas.load(folder / "atlas.npz")
    tables = atlas.tables(texture_size)
    colour = torch.as_tensor(tables.limb_colour, dtype=torch.float32)
    return _Surface(BodyModel.load(folder), atlas, Texels.of(tables), colour, make_rasterizer("embree"))


@dataclass(frozen=True)
class _Images:
    """Some rows of the input stores; `ok` tells which may be used."""

    rgb: np.ndarray
    mask: np.ndarray
    camera: Camera
    params: dict[str, np.ndarray]
    ok: np.ndarray

    @staticmethod
    def read(rows: range, inputs: dict[str, Path]) -> "_Images":
        views = open_store(inputs["views"], "views")
        parsing = open_store(inputs["parsing"], "parsing")
        bodies = open_store(inputs["bodies"], "bodies")
        part = slice(rows.start, rows.stop)
        K, R, T = (torch.from_numpy(views[name][part]) for name in ("K", "R", "T"))
        return _Images(
            rgb=views["rgb"][part],
            mask=parsing["mask"][part],
            camera=Camera(K, R, T, views["rgb"].shape[1]),
            params={name: bodies[name][part] for name in BODY_ARRAYS},
            ok=bodies.index["ok"].to_numpy(bool)[part],
        )

    def by_body(self) -> list[np.ndarray]:
        """The usable rows, those with the very same body together."""
        usable = np.flatnonzero(self.ok)
        if len(usable) == 0:
            return []
        table = np.concatenate(
            [values[usable].reshape(len(usable), -1) for values in self.params.values()], 1
        )
        _, which = np.unique(table, axis=0, return_inverse=True)
        return [usable[which == body] for body in range(which.max() + 1)]


@torch.no_grad()
def sample_images(
    images: _Images, rows: np.ndarray, surface: _Surface, params: SampleTexturesParams
) -> TextureSample:
    """Partial textures of images that show the same body."""
    one = BodyParams.from_dict({k: torch.from_numpy(v[rows[:1]]) for k, v in images.params.items()})
    vertices = surface.body(one).vertices
    faces = surface.body.faces
    camera = images.camera.select(torch.from_numpy(rows))
    fragments = surface.rasterizer.rasterize(vertices, faces, camera)
    blocked = None
    if params.occlusion_contours:
        uv = uv_raster(fragments, torch.as_tensor(surface.atlas.corner_uv))
        blocked = occlusion_contours(uv, surface.limb_colour)
    return sample_texture(
        torch.from_numpy(images.rgb[rows]).permute(0, 3, 1, 2).float() / 255,
        torch.from_numpy(images.mask[rows]).float() / 255,
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
