"""Rasterising by casting a ray through each pixel's centre with Embree: the default on CPUs."""

from collections.abc import Callable

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dinar_models.cameras import Camera
from dinar_models.rasterize.base import Fragments, complete, meet, meshes_of

NEAREST = 1e-4
"""Metres: a mesh nearer to the camera's plane than this is searched for in the whole image."""

LAYERS = 24
"""Holes that a ray passes through at most; what lies behind more of them is not seen."""

STEP = 1e-4
"""Metres behind a hole from which its ray goes on: above the rounding of single precision at any distance of
cameras, below the distance of layers of hair."""

Opaque = Callable[[Int[Tensor, " p"], Float[Tensor, "p 3"]], Bool[Tensor, " p"]]
"""Whether there is surface at points given by face and barycentric weights, or a hole."""

Window = tuple[int, int, int, int]
"""Columns and rows [x0, y0, x1, y1) of an image."""


class EmbreeRasterizer:
    """All cameras that see one mesh share one build of its tree."""

    @torch.no_grad()
    def rasterize(
        self,
        vertices: Float[Tensor, "..."],
        faces: Int[Tensor, "f 3"],
        camera: Camera,
        size: int | None = None,
        opaque: Opaque | None = None,
    ) -> Fragments:
        """See `Rasterizer.rasterize`. The results lie on the vertices' device.

        Args:
            opaque: where the surface has holes; rays that meet one go on behind it.
        """
        camera = camera if size in (None, camera.size) else camera.resize(size)
        meshes = meshes_of(vertices, len(camera))
        triangles = np.ascontiguousarray(faces.numpy(force=True), dtype=np.int32)
        points = meshes.double().numpy(force=True)
        K, R, T = (t.double().numpy(force=True) for t in (camera.K, camera.R, camera.T))
        face_id = np.full((len(camera), camera.size, camera.size), -1, np.int64)
        views = len(camera) // len(meshes)
        for image in range(len(camera)):
            mesh = points[image // views]
            if image % views == 0:
                scene = _build(mesh, triangles)
            window = _window((mesh @ R[image].T + T[image]) @ K[image].T, camera.size)
            if window is not None:
                x0, y0, x1, y1 = window
                origin, directions = _rays(window, K[image], R[image], T[image])
                hit = _cast(scene, np.broadcast_to(origin, directions.shape), directions)
                if opaque is not None:
                    _pass_holes(scene, mesh[triangles], origin, directions, hit, opaque)
                face_id[image, y0:y1, x0:x1] = hit.reshape(y1 - y0, x1 - x0)
        return complete(torch.from_numpy(face_id).to(meshes.device), meshes, faces.to(meshes.device), camera)


def _build(vertices: np.ndarray, triangles: np.ndarray) -> EmbreeScene:
    scene = EmbreeScene()
    TriangleMesh(scene, vertices.astype(np.float32), triangles)
    return scene


def _window(image: np.ndarray, size: int) -> Window | None:
    """The part of the image that can see the mesh, None if no pixel can; `image` is (V, 3), K x_cam."""
    if image[:, 2].max() < NEAREST:
        return None
    if image[:, 2].min() < NEAREST:
        return 0, 0, size, size
    pixels = image[:, :2] / image[:, 2:]
    x0, y0 = np.clip(np.floor(pixels.min(axis=0)), 0, size).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(pixels.max(axis=0)), 0, size).astype(int).tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _rays(window: Window, K: np.ndarray, R: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The camera's place (3,), and (N, 3) directions through the pixels of the window, row by row; world."""
    x0, y0, x1, y1 = window
    y, x = np.mgrid[y0:y1, x0:x1] + 0.5
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    return -R.T @ T, pixels @ (R.T @ np.linalg.inv(K)).T


def _cast(scene: EmbreeScene, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The first face along each ray, −1 for none."""
    return np.array(scene.run(origins.astype(np.float32), directions.astype(np.float32)))


def _pass_holes(
    scene: EmbreeScene,
    corners: np.ndarray,
    origin: np.ndarray,
    directions: np.ndarray,
    hit: np.ndarray,
    opaque: Opaque,
) -> None:
    """Replace in `hit` (N,) the faces that have a hole where their ray meets them by what lies behind.

    Args:
        corners: (F, 3, 3) of the faces, world.
        directions: (N, 3), not normalised.
    """
    rays = np.flatnonzero(hit >= 0)
    for _ in range(LAYERS):
        triangles = torch.from_numpy(corners[hit[rays]] - origin)
        weights = meet(triangles, torch.from_numpy(directions[rays]))
        holes = ~opaque(torch.from_numpy(hit[rays]), weights.float()).numpy(force=True)
        rays = rays[holes]
        if not len(rays):
            return
        points = origin + (weights[:, :, None] * triangles).sum(dim=1).numpy()[holes]
        steps = directions[rays] * (STEP / np.linalg.norm(directions[rays], axis=1, keepdims=True))
        hit[rays] = _cast(scene, points + steps, directions[rays])
        rays = rays[hit[rays] >= 0]
    hit[rays] = -1
