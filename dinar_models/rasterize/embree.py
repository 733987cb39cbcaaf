"""Rasterising by casting a ray through each pixel's centre with Embree: the default on CPUs.

Embree (single precision) finds the faces; barycentric weights and depth are then computed from the face and
the ray in double precision, so they do not depend on how far away the camera is.
"""

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Float, Int
from torch import Tensor

from dinar_models.cameras import Camera
from dinar_models.rasterize.base import Fragments, meshes_of

NEAREST = 1e-4
"""Metres: a mesh nearer to the camera's plane than this is searched for in the whole image."""


class EmbreeRasterizer:
    """All cameras that see one mesh share one build of its tree."""

    def rasterize(
        self,
        vertices: Float[Tensor, "..."],
        faces: Int[Tensor, "f 3"],
        camera: Camera,
        size: int | None = None,
    ) -> Fragments:
        """See `Rasterizer.rasterize`. The results lie on the vertices' device."""
        camera = camera if size in (None, camera.size) else camera.resize(size)
        meshes = meshes_of(vertices, len(camera)).cpu().double().numpy()
        triangles = np.ascontiguousarray(faces.cpu().numpy(), dtype=np.int32)
        K, R, T = (t.detach().cpu().double().numpy() for t in (camera.K, camera.R, camera.T))
        result = _Buffers(len(camera), camera.size)
        views = len(camera) // len(meshes)
        for row in range(len(camera)):
            if row % views == 0:
                scene = _build(meshes[row // views], triangles)
            in_camera = meshes[row // views] @ R[row].T + T[row]
            _see(scene, in_camera, triangles, (K[row], R[row], T[row]), result, row)
        return result.fragments(vertices.device)


class _Buffers:
    """The images being filled, all background at first."""

    def __init__(self, count: int, size: int) -> None:
        self.face_id = np.full((count, size, size), -1, np.int64)
        self.barycentric = np.zeros((count, size, size, 3), np.float32)
        self.depth = np.zeros((count, size, size), np.float32)

    def fragments(self, device: torch.device) -> Fragments:
        images = (self.face_id, self.barycentric, self.depth)
        return Fragments(*(torch.from_numpy(image).to(device) for image in images))


def _see(
    scene: EmbreeScene,
    in_camera: np.ndarray,
    triangles: np.ndarray,
    camera: tuple[np.ndarray, np.ndarray, np.ndarray],
    result: _Buffers,
    row: int,
) -> None:
    """Cast the rays of one camera (K, R, T) and enter what they hit into image `row`."""
    K, R, T = camera
    window = _window(in_camera, K, result.face_id.shape[1])
    if window is None:
        return
    rays = _rays(K, window)
    hit = scene.run(_origins(R, T, len(rays)), (rays @ R).astype(np.float32))
    seen = np.flatnonzero(hit >= 0)
    faces = hit[seen]
    rows, columns = np.divmod(seen, window[2] - window[0])
    place = (row, rows + window[1], columns + window[0])
    result.face_id[place] = faces
    result.barycentric[place], result.depth[place] = _solve(in_camera, triangles[faces], rays[seen])


def _build(vertices: np.ndarray, triangles: np.ndarray) -> EmbreeScene:
    scene = EmbreeScene()
    TriangleMesh(scene, vertices.astype(np.float32), triangles)
    return scene


def _window(in_camera: np.ndarray, K: np.ndarray, size: int) -> tuple[int, int, int, int] | None:
    """Columns and rows [x0, y0, x1, y1) that can see the mesh, None if no pixel can."""
    if in_camera[:, 2].max() < NEAREST:
        return None
    if in_camera[:, 2].min() < NEAREST:
        return 0, 0, size, size
    pixels = in_camera @ K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    x0, y0 = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, size)
    x1, y1 = np.clip(np.ceil(pixels.max(axis=0)).astype(int), 0, size)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _rays(K: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """(P, 3) directions in the camera's frame with z = 1, row by row."""
    x0, y0, x1, y1 = window
    y, x = np.mgrid[y0:y1, x0:x1] + 0.5
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    return pixels @ np.linalg.inv(K).T


def _origins(R: np.ndarray, T: np.ndarray, count: int) -> np.ndarray:
    return np.broadcast_to((-R.T @ T).astype(np.float32), (count, 3))


def _solve(in_camera: np.ndarray, corners: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric weights and depth where rays meet the planes of their triangles.

    With corners a, b, c and a ray d, Cramer's rule gives weights proportional to d·(b×c), d·(c×a), d·(a×b).
    Pixels within a rounding error of an edge may give −1e−9: weights are kept in [0, 1].
    """
    a, b, c = (in_camera[corners[:, i]] for i in range(3))
    weights = np.stack([_triple(rays, b, c), _triple(rays, c, a), _triple(rays, a, b)], axis=1)
    total = weights.sum(axis=1, keepdims=True)
    flat = np.abs(total) < 1e-30  # a face seen exactly edge-on has no area: take its middle
    weights = np.where(flat, 1 / 3, weights / np.where(flat, 1, total)).clip(0, 1)
    weights /= weights.sum(axis=1, keepdims=True)
    depth = weights[:, 0] * a[:, 2] + weights[:, 1] * b[:, 2] + weights[:, 2] * c[:, 2]
    return weights, depth


def _triple(d: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """d · (a × b), row by row; np.cross costs several times as much."""
    return (
        d[:, 0] * (a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1])
        + d[:, 1] * (a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2])
        + d[:, 2] * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    )
