"""What the avatar's training stages read: frames of people as encoder inputs, partial textures and targets."""

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from dinar_models.avatar import over_white
from dinar_models.body import BodyModel
from dinar_models.cameras import crop_camera, crop_image
from dinar_models.rasterize.base import make_rasterizer
from dinar_models.surface import Surface
from dinar_models.texture import rasterise_texture
from dinar_models.uv_atlas import Atlas
from stages._core.store import open_store
from stages._data.images import encoder_input, read_bodies, read_cameras, read_crops

T = TypeVar("T")

Row = tuple[str, int]
"""A data set and a row of its stores."""

CACHED_SCANS = 512
"""Posed bodies kept in memory, 160 kB each."""


@dataclass
class Inputs:
    """What the networks see of B frames.

    Attributes:
        rgb: square crops in [−1, 1] on black; mask: in [0, 1].
        texture: colours in [0, 1], sampled, filled, frontality: the frames' partial textures.
    """

    rgb: Float[Tensor, "b 3 s s"]
    mask: Float[Tensor, "b 1 s s"]
    texture: Float[Tensor, "b 3 t t"]
    sampled: Float[Tensor, "b 1 t t"]
    filled: Float[Tensor, "b 1 t t"]
    frontality: Float[Tensor, "b t t"]


@dataclass
class Targets:
    """What renders of B frames are compared with.

    Attributes:
        rgb: square crops in [−1, 1] on white; mask: in [0, 1].
        uv: UV raster of the frame's body, −1 on the background.
        face: where the face is seen, 0 or 1.
        centre: a random vertex of the body, pixels: the middle of the perceptual loss's crop.
    """

    rgb: Float[Tensor, "b 3 s s"]
    mask: Float[Tensor, "b 1 s s"]
    uv: Float[Tensor, "b s s 2"]
    face: Float[Tensor, "b 1 s s"]
    centre: Float[Tensor, "b 2"]


class Frames:
    """The valid frames of one split of some data sets.

    Args:
        inputs: paths named `views.NAME`, `parsing.NAME`, `bodies.NAME`, `textures.NAME` and `body`.
        image_size: pixels per side of the crops.
    """

    def __init__(
        self, inputs: Mapping[str, Path], datasets: list[str], split: str, image_size: int, texture_size: int
    ) -> None:
        self.paths = {
            name: {k: inputs[f"{k}.{name}"] for k in ("views", "parsing", "bodies", "textures")}
            for name in datasets
        }
        self.image_size = image_size
        self.table = pd.concat([self._rows(name, split) for name in datasets], ignore_index=True)
        body = BodyModel.load(inputs["body"])
        self.surface = Surface(body, Atlas.load(inputs["body"] / "atlas.npz"), make_rasterizer("embree"))
        region = self.surface.atlas.tables(texture_size).face_region
        self.face_region = torch.from_numpy(region).float()[None, None]
        self._posed = functools.lru_cache(maxsize=CACHED_SCANS)(self._pose)

    def __len__(self) -> int:
        return len(self.table)

    def groups(self, by: list[str]) -> list[np.ndarray]:
        """Places in `table` of the frames that share some columns, in a fixed order."""
        return [np.asarray(g) for g in self.table.groupby(["dataset", *by], sort=True).indices.values()]

    def inputs(self, places: np.ndarray) -> Inputs:
        """What the networks see of some frames."""
        parts = [self._inputs(*self._row(p)) for p in places]
        return Inputs(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Inputs)))

    def targets(self, places: np.ndarray, rng: np.random.Generator) -> Targets:
        """What renders of some frames are compared with; `rng` picks the vertices."""
        parts = [self._target(*self._row(p), rng) for p in places]
        return Targets(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Targets)))

    def _rows(self, name: str, split: str) -> pd.DataFrame:
        """Frames whose texture was sampled: then view, mask and fit are valid too."""
        store = open_store(self.paths[name]["textures"], "textures")
        index = store.index.iloc[store.ok_rows(split)]
        return index.reset_index(names="row").assign(dataset=name)

    def _row(self, place: int) -> Row:
        line = self.table.iloc[int(place)]
        return str(line["dataset"]), int(line["row"])

    def _inputs(self, name: str, row: int) -> Inputs:
        rgb, mask = encoder_input([row], self.paths[name], self.image_size, "cpu")
        store = open_store(self.paths[name]["textures"], "textures")
        colour, sampled, filled, frontality = (
            torch.from_numpy(store.read(k, [row])).float() / 255
            for k in ("rgb", "sampled", "filled", "frontality")
        )
        return Inputs(rgb, mask, colour, sampled[:, None], filled[:, None], frontality)

    @torch.no_grad()
    def _target(self, name: str, row: int, rng: np.random.Generator) -> Targets:
        paths = self.paths[name]
        views = open_store(paths["views"], "views")
        crop = read_crops(open_store(paths["bodies"], "bodies"), [row])
        rgb = torch.from_numpy(views.read("rgb", [row])).permute(0, 3, 1, 2).float() / 127.5 - 1
        mask = torch.from_numpy(open_store(paths["parsing"], "parsing").read("mask", [row])).float() / 255
        rgb = crop_image(rgb, crop, self.image_size, fill=1.0)
        mask = crop_image(mask[:, None], crop, self.image_size, fill=0.0)
        camera = crop_camera(read_cameras(views, [row]), crop, self.image_size)
        vertices = self._posed(name, row)
        uv = self.surface.uv_of(vertices, camera)
        vertex = vertices[:, [int(rng.integers(vertices.shape[1]))]]
        face = (rasterise_texture(self.face_region, uv) > 0.5).float()
        return Targets(over_white(rgb, mask), mask, uv, face, camera.project(vertex)[:, 0])

    def _pose(self, name: str, row: int) -> Tensor:
        bodies = open_store(self.paths[name]["bodies"], "bodies")
        with torch.no_grad():
            return self.surface.body(read_bodies(bodies, [row])).vertices


def prefetched(make: Callable[[int], T], steps: Iterator[int] | range) -> Iterator[tuple[int, T]]:
    """(step, make(step)) for each step, the next one being made in a thread meanwhile.

    `make` is a pure function of the step, so the order of data survives a resume.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for step in steps:
            current = waiting if waiting is not None else pool.submit(make, step)
            batch = current.result()
            waiting = pool.submit(make, step + 1)
            yield step, batch
        if waiting is not None:
            waiting.cancel()
