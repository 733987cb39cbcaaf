"""The body, its atlas and a rasteriser together: from a posed body to the UV raster that a renderer reads."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera
from dinar_models.rasterize.base import Rasterizer, uv_raster
from dinar_models.uv_atlas import Atlas


@dataclass(frozen=True)
class Surface:
    """The body, its atlas and a rasteriser: what turns photos into textures and back."""

    body: BodyModel
    atlas: Atlas
    rasterizer: Rasterizer

    def uv(self, params: BodyParams, camera: Camera) -> Float[Tensor, "b s s 2"]:
        """UV rasters of bodies, one camera each."""
        return torch.cat(
            [self.uv_of(self.body(params.select([i])).vertices, camera.select(i)) for i in range(len(params))]
        )

    def uv_of(self, vertices: Float[Tensor, "1 v 3"], camera: Camera) -> Float[Tensor, "c s s 2"]:
        """UV rasters of one posed body, seen by each camera."""
        fragments = self.rasterizer.rasterize(vertices, self.body.faces, camera)
        return uv_raster(fragments, torch.from_numpy(self.atlas.corner_uv))
