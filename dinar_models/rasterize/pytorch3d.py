"""PyTorch3D's rasteriser behind the common protocol: the default on GPUs, the reference in tests."""

import torch
from jaxtyping import Bool, Float, Int
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes
from torch import Tensor

from dinar_models.cameras import Camera
from dinar_models.rasterize.base import Fragments, complete, meshes_of


class PyTorch3DRasterizer:
    """Rasterises on the given device, whatever the device of the input."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    @torch.no_grad()
    def rasterize(
        self,
        vertices: Float[Tensor, "..."],
        faces: Int[Tensor, "f 3"],
        camera: Camera,
        size: int | None = None,
    ) -> Fragments:
        """See `Rasterizer.rasterize`. The results lie on this rasteriser's device."""
        camera = (camera if size in (None, camera.size) else camera.resize(size)).to(self.device)
        meshes = meshes_of(vertices, len(camera)).to(self.device)
        ndc = _normalised(meshes.repeat_interleave(len(camera) // len(meshes), dim=0), camera)
        packed, _, _, _ = rasterize_meshes(
            Meshes(ndc, faces.to(self.device)[None].expand(len(ndc), -1, -1)),
            image_size=camera.size,
            blur_radius=0.0,
            faces_per_pixel=1,
            bin_size=0 if self.device.type == "cpu" else None,
            perspective_correct=True,
            cull_backfaces=False,
        )
        first = torch.arange(len(ndc), device=self.device)[:, None, None] * len(faces)
        face_id = torch.where(packed[..., 0] >= 0, packed[..., 0] - first, -1)
        return complete(face_id, meshes, faces.to(self.device), camera)

    def cover(
        self,
        vertices: Float[Tensor, "..."],
        faces: Int[Tensor, "f 3"],
        camera: Camera,
        size: int | None = None,
    ) -> Bool[Tensor, "b h w"]:
        """See `Rasterizer.cover`."""
        return self.rasterize(vertices, faces, camera, size).covered


def _normalised(meshes: Float[Tensor, "b v 3"], camera: Camera) -> Float[Tensor, "b v 3"]:
    """PyTorch3D's device coordinates: x left, y up, [−1, 1] across the image; z stays in metres.

    Computed in double precision: the rasteriser subtracts neighbouring coordinates of small faces.
    """
    precise = camera.to(dtype=torch.float64)
    in_camera = precise.transform(meshes.double())
    image = in_camera @ precise.K.mT
    pixels = image[..., :2] / image[..., 2:]
    return torch.cat([1 - 2 * pixels / camera.size, in_camera[..., 2:]], dim=-1).float()
