"""What every rasteriser takes and gives."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dinar_models.cameras import Camera

Backend = Literal["auto", "embree", "pytorch3d"]


@dataclass
class Fragments:
    """The surface seen at each pixel's centre.

    Attributes:
        face_id: index of the nearest face, −1 on the background.
        barycentric: perspective-correct weights of the face's corners, 0 on the background.
        depth: z in the camera's frame, m; 0 on the background.
    """

    face_id: Int[Tensor, "b h w"]
    barycentric: Float[Tensor, "b h w 3"]
    depth: Float[Tensor, "b h w"]

    @property
    def covered(self) -> Tensor:
        """(b, h, w) bool: a face is seen."""
        return self.face_id >= 0


@runtime_checkable
class Rasterizer(Protocol):
    """Finds the nearest face at each pixel; both sides of a face are seen; no gradient passes through."""

    def rasterize(
        self,
        vertices: Float[Tensor, "..."],
        faces: Int[Tensor, "f 3"],
        camera: Camera,
        size: int | None = None,
    ) -> Fragments:
        """See the meshes.

        Args:
            vertices: (V, 3) or (M, V, 3), m, world. M divides the number of cameras: B / M consecutive
                cameras see each mesh.
            faces: vertex indices.
            camera: B cameras.
            size: pixels per side of the raster, the view staying the same; the camera's own by default.
        """
        ...


def make_rasterizer(backend: Backend = "auto", device: torch.device | str = "cpu") -> Rasterizer:
    """`auto` is Embree on the CPU and PyTorch3D on a GPU."""
    if backend == "auto":
        backend = "pytorch3d" if torch.device(device).type == "cuda" else "embree"
    if backend == "embree":
        from dinar_models.rasterize.embree import EmbreeRasterizer

        return EmbreeRasterizer()
    if backend == "pytorch3d":
        from dinar_models.rasterize.pytorch3d import PyTorch3DRasterizer

        return PyTorch3DRasterizer(device)
    raise ValueError(f"rasterizer {backend!r}: auto, embree or pytorch3d is expected")


def uv_raster(fragments: Fragments, corner_uv: Float[Tensor, "f 3 2"]) -> Float[Tensor, "b h w 2"]:
    """Texture coordinates of every pixel in [0, 1], −1 on the background."""
    uv = fragments.barycentric.new_full((*fragments.face_id.shape, 2), -1.0)
    covered = fragments.covered
    corners = corner_uv.to(uv)[fragments.face_id[covered]]
    uv[covered] = torch.einsum("pk,pkc->pc", fragments.barycentric[covered], corners).clamp(0, 1)
    return uv


def meshes_of(vertices: Float[Tensor, "..."], cameras: int) -> Float[Tensor, "m v 3"]:
    """The distinct meshes; cameras / M consecutive cameras see each."""
    meshes = vertices.detach()
    meshes = meshes[None] if meshes.ndim == 2 else meshes
    if meshes.ndim != 3 or meshes.shape[-1] != 3 or cameras % len(meshes):
        raise ValueError(
            f"vertices {tuple(vertices.shape)} with {cameras} cameras: (V, 3) or (M, V, 3) is expected, "
            "M dividing the number of cameras"
        )
    return meshes


def complete(
    face_id: Int[Tensor, "b h w"],
    meshes: Float[Tensor, "m v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
) -> Fragments:
    """Barycentric weights and depth of the faces that a backend found.

    Backends work in single precision, which small faces seen from far away do not survive (errors of 1e-3 for
    a photo's focal length); here faces and rays meet in double precision, so backends agree where they see
    the same face.
    """
    barycentric = meshes.new_zeros((*face_id.shape, 3))
    depth = meshes.new_zeros(face_id.shape)
    views = len(camera) // len(meshes)
    precise = camera.to(face_id.device, torch.float64)
    for image in range(len(camera)):
        in_camera = precise.select(image).transform(meshes[image // views, None].double())[0]
        row, column = (face_id[image] >= 0).nonzero(as_tuple=True)
        pixels = torch.stack([column + 0.5, row + 0.5, torch.ones_like(row)], dim=1).double()
        rays = pixels @ torch.linalg.inv(precise.K[image]).mT
        corners = in_camera[faces[face_id[image, row, column]]]
        weights = meet(corners, rays)
        barycentric[image, row, column] = weights.to(barycentric)
        depth[image, row, column] = (weights * corners[..., 2]).sum(dim=1).to(depth)
    return Fragments(face_id, barycentric, depth)


def meet(corners: Float[Tensor, "p 3 3"], rays: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
    """Barycentric weights of the points where rays from the origin meet their triangles.

    With corners a, b, c and a ray d, Cramer's rule gives weights proportional to d·(b×c), d·(c×a), d·(a×b).
    Pixels within a rounding error of an edge may give −1e−9: weights are kept in [0, 1]. A face seen exactly
    edge-on has no area: its middle is taken.
    """
    a, b, c = corners.unbind(dim=1)
    opposite = (torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b))
    weights = torch.stack([(normal * rays).sum(dim=1) for normal in opposite], dim=1)
    total = weights.sum(dim=1, keepdim=True)
    weights = torch.where(total.abs() > 1e-30, weights / total, 1 / 3).clamp(0, 1)
    return weights / weights.sum(dim=1, keepdim=True)
