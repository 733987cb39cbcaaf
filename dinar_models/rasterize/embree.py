"""Rasterising by casting a ray through each pixel's centre with Embree: the default on CPUs."""

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Float, Int
from torch import Tensor

from dinar_models.cameras import Camera
from dinar_models.rasterize.base import Fragments, complete, meshes_of

NEAREST = 1e-4
"""Metres: a mesh nearer to the camera's plane than this is searched for in the whole image."""

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
    ) -> Fragments:
        """See `Rasterizer.rasterize`. The results lie on the vertices' device."""
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
                hit = _cast(scene, window, K[image], R[image], T[image])
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


def _cast(scene: EmbreeScene, window: Window, K: np.ndarray, R: np.ndarray, T: np.ndarray) -> np.ndarray:
    """The first face along the ray of each pixel of the window, −1 for none; row by row."""
    x0, y0, x1, y1 = window
    y, x = np.mgrid[y0:y1, x0:x1] + 0.5
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    directions = (pixels @ (R.T @ np.linalg.inv(K)).T).astype(np.float32)
    origins = np.broadcast_to((-R.T @ T).astype(np.float32), directions.shape)
    return np.asarray(scene.run(origins, directions))
