"""Shots: a few frames of one scan in one variant, or of one video, read at once, with rasters of their bodies.

Reading a whole shot of a scan costs little more than reading one frame: its rows lie together in the stores, and its
body is posed and put into the ray tracer once.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, crop_camera, crop_image
from dinar_models.rasterize.base import make_rasterizer, uv_raster
from dinar_models.texture import merge_textures
from dinar_models.uv_atlas import Atlas
from stages._core.store import Store, open_store
from stages._data.images import read_bodies, read_cameras, read_crops

STORES = ("views", "parsing", "bodies", "textures")

UV_STEPS = 65535
"""UV rasters are held as uint16: 1 to UV_STEPS on the body, 0 on the background."""

POINT_STRIDE = 27
"""One vertex in so many is kept as a possible middle of a loss's crop: 500 of the open body's."""


@dataclass(frozen=True)
class Shot:
    """n frames; images and textures are uint8 as in the stores.

    Attributes:
        rgb: (n, S, S, 3) square crops.
        mask: (n, S, S).
        texture: (n, 5, T, T) colour, sampled, filled.
        frontality: (n, T, T).
        uv: (n, S, S, 2) uint16 raster of the body, see UV_STEPS.
        face: (n, S, S) bool, the front of the face.
        points: (n, P, 2) float32, some of the body's vertices in the image, px.
    """

    rgb: np.ndarray
    mask: np.ndarray
    texture: np.ndarray
    frontality: np.ndarray
    uv: np.ndarray
    face: np.ndarray
    points: np.ndarray

    @functools.cached_property
    def merged(self) -> np.ndarray:
        """(5, T, T) uint8: colour, sampled, filled merged over the frames, as eq. 5 does it."""
        texture = torch.from_numpy(self.texture).float()
        frontality = torch.from_numpy(self.frontality).float() / 255
        merged, _ = merge_textures(texture, frontality, texture[:, -1] > 127)
        return merged.round().to(torch.uint8).numpy()


@dataclass(frozen=True)
class LookedUp(Store):
    """A store that looks its arrays up once: each look-up parses their metadata, a tenth of a shot's time."""

    @functools.cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        return {}

    def __getitem__(self, name: str) -> zarr.Array[Any]:
        if name not in self._arrays:
            self._arrays[name] = super().__getitem__(name)
        return self._arrays[name]


class ShotReader:
    """Reads shots of one data set.

    Args:
        paths: its stores by name (STORES).
        body: the built body's folder.
        image_size: pixels per side of the crops.
    """

    def __init__(self, paths: Mapping[str, Path], body: Path, image_size: int) -> None:
        self.stores = {name: LookedUp(**vars(open_store(paths[name], name))) for name in STORES}
        self.body, self.image_size = body, image_size

    @torch.no_grad()
    def read(self, rows: tuple[int, ...]) -> Shot:
        """The frames in some rows of the stores."""
        chosen = list(rows)
        views, textures = self.stores["views"], self.stores["textures"]
        crop = read_crops(self.stores["bodies"], chosen)
        camera = crop_camera(read_cameras(views, chosen), crop, self.image_size)
        rgb = torch.from_numpy(_block(views, "rgb", chosen)).permute(0, 3, 1, 2)
        mask = torch.from_numpy(_block(self.stores["parsing"], "mask", chosen))[:, None]
        both = crop_image(torch.cat([rgb, mask], dim=1).float(), crop, self.image_size, fill=0.0)
        images = both.round().to(torch.uint8).numpy()
        masks = [_block(textures, name, chosen)[:, None] for name in ("sampled", "filled")]
        uv, face, points = _rasters(read_bodies(self.stores["bodies"], chosen), camera, self.body)
        return Shot(
            rgb=np.ascontiguousarray(images[:, :3].transpose(0, 2, 3, 1)),
            mask=np.ascontiguousarray(images[:, 3]),
            texture=np.concatenate([_block(textures, "rgb", chosen), *masks], axis=1),
            frontality=_block(textures, "frontality", chosen),
            uv=uv,
            face=face,
            points=points,
        )


def _block(store: Store, name: str, rows: list[int]) -> np.ndarray:
    """Rows that lie near each other as one slice, ten times faster than picking them; else picked."""
    first = min(rows)
    if max(rows) - first >= 2 * len(rows):
        return store.read(name, rows)
    block = np.asarray(store[name][first : max(rows) + 1])
    return block[np.array(rows) - first]


def _rasters(params: BodyParams, camera: Camera, body: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """UV, face region and points of a shot's body."""
    model, atlas = _surface(body)
    if all(bool((value == value[:1]).all()) for value in params.as_dict().values()):
        params = params.select([0])
    vertices = model(params).vertices
    fragments = make_rasterizer("embree").rasterize(vertices, model.faces, camera)
    fine = (uv_raster(fragments, torch.from_numpy(atlas.corner_uv)) * UV_STEPS).round().clamp(min=1)
    uv = torch.where(fragments.covered[..., None], fine, 0).numpy().astype(np.uint16)
    region = torch.from_numpy(atlas.face_region)
    face = fragments.covered & region[fragments.face_id.clamp(min=0)]
    return uv, face.numpy(), camera.project(vertices[:, ::POINT_STRIDE]).numpy()


@functools.lru_cache(maxsize=1)
def _surface(body: Path) -> tuple[BodyModel, Atlas]:
    """Loaded once per process."""
    return BodyModel.load(body), Atlas.load(body / "atlas.npz")


def unpack_uv(uv: Tensor) -> Tensor:
    """Rasters as the renderer takes them: [0, 1], −1 on the background."""
    values = uv.float()
    return torch.where(values > 0, values / UV_STEPS, -1.0)
