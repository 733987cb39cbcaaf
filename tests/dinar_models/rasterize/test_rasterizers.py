"""Both backends on triangles worked out by hand, and against each other."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, orbit_camera
from dinar_models.rasterize.base import Rasterizer, make_rasterizer, uv_raster
from dinar_models.rasterize.embree import LAYERS, EmbreeRasterizer

BACKENDS = [
    "embree",
    pytest.param("pytorch3d", marks=pytest.mark.filterwarnings("ignore::DeprecationWarning")),
]


@pytest.fixture(params=BACKENDS)
def rasterizer(request: pytest.FixtureRequest) -> Rasterizer:
    if request.param == "pytorch3d":
        pytest.importorskip("pytorch3d")
    return make_rasterizer(request.param)


def looking_along_z(size: int, focal: float) -> Camera:
    """At the origin, axes as the world's."""
    K = torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]])
    return Camera(K, torch.eye(3)[None], torch.zeros(1, 3), size)


def test_lower_left_triangle_of_four_pixels(rasterizer: Rasterizer) -> None:
    """Corners upper left, lower left, lower right of a 2 × 2 image: three pixel centres on or below the diagonal."""
    corners = torch.tensor([[-1.2, -1.4, 1], [-1.2, 1.2, 1], [1.4, 1.2, 1]])
    fragments = rasterizer.rasterize(corners, torch.tensor([[0, 1, 2]]), looking_along_z(2, 1.0))
    assert fragments.face_id[0].tolist() == [[0, -1], [0, 0]]
    assert fragments.depth[0, 1, 1] == pytest.approx(1.0)
    assert fragments.depth[0, 0, 1] == 0
    # pixel (row 1, column 0) has its centre at (−½, ½) on the plane z = 1
    expected = torch.linalg.solve(corners.T, torch.tensor([-0.5, 0.5, 1.0]))
    torch.testing.assert_close(fragments.barycentric[0, 1, 0], expected)


def test_rotated_triangle_is_perspective_correct(rasterizer: Rasterizer) -> None:
    """A triangle slanted in depth: the weights put the point back on the pixel's ray."""
    corners = torch.tensor([[-0.6, -0.5, 1.0], [0.9, -0.7, 2.5], [-0.2, 1.1, 1.8]])
    camera = looking_along_z(32, 20.0)
    fragments = rasterizer.rasterize(corners, torch.tensor([[2, 0, 1]]), camera)
    row, column = fragments.covered[0].nonzero(as_tuple=True)
    assert len(row) > 100
    points = fragments.barycentric[0, row, column] @ corners[[2, 0, 1]]
    centres = torch.stack([column + 0.5, row + 0.5], dim=1)
    torch.testing.assert_close(camera.project(points[None])[0], centres, atol=1e-4, rtol=0)
    torch.testing.assert_close(fragments.depth[0, row, column], points[:, 2])


def test_nearest_face_wins_and_back_faces_are_seen(rasterizer: Rasterizer) -> None:
    near, far = ([[-9.0, -9, z], [9, -9, z], [0, 18, z]] for z in (2.0, 3.0))
    corners, camera = torch.tensor(far + near), looking_along_z(4, 4.0)
    for winding in ([3, 4, 5], [5, 4, 3]):
        fragments = rasterizer.rasterize(corners, torch.tensor([[0, 1, 2], winding]), camera)
        assert (fragments.face_id == 1).all()
        torch.testing.assert_close(fragments.depth, torch.full((1, 4, 4), 2.0))


def test_cameras_share_meshes_in_order(rasterizer: Rasterizer) -> None:
    """Two meshes and four cameras: the first two cameras see the first mesh."""
    vertices, faces, cameras = bumpy_ball()
    both = torch.stack([vertices, 0.5 * vertices])
    together = rasterizer.rasterize(both, faces, cameras)
    for image in range(4):
        alone = rasterizer.rasterize(both[image // 2], faces, cameras.select(image))
        assert torch.equal(together.face_id[image], alone.face_id[0])
    with pytest.raises(ValueError, match="dividing the number of cameras"):
        rasterizer.rasterize(both, faces, cameras.select([0, 1, 2]))


def test_nothing_in_view_is_background(rasterizer: Rasterizer) -> None:
    beside = torch.tensor([[50.0, 0, 1], [51, 0, 1], [50, 1, 1]])
    fragments = rasterizer.rasterize(beside, torch.tensor([[0, 1, 2]]), looking_along_z(8, 8.0))
    assert (fragments.face_id == -1).all()
    assert uv_raster(fragments, torch.rand(1, 3, 2)).eq(-1).all()


def test_uv_raster_of_a_full_view_is_the_pixel_grid(rasterizer: Rasterizer) -> None:
    """Two triangles that fill the image with their texture: uv = pixel centre / size, v down."""
    corners = torch.tensor([[-1.1, -1.2, 1], [1.3, -1.2, 1], [-1.1, 1.4, 1], [1.3, 1.4, 1]])
    uv = (corners[:, :2] + 1) / 2
    faces = torch.tensor([[0, 2, 1], [1, 2, 3]])
    raster = uv_raster(rasterizer.rasterize(corners, faces, looking_along_z(8, 4.0)), uv[faces])
    steps = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(raster[0, :, :, 0], steps.expand(8, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(raster[0, :, :, 1], steps[:, None].expand(8, 8), atol=1e-5, rtol=0)


def bumpy_ball(yaws: int = 4, size: int = 64) -> tuple[Tensor, Tensor, Camera]:
    """A sphere with bumps that hide each other, and cameras around it."""
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(3, 0.5)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32)
    vertices *= 1 + 0.15 * torch.randn(len(vertices), 1, generator=torch.Generator().manual_seed(0))
    yaw = torch.arange(yaws) * (2 * math.pi / yaws) + 0.2
    target = torch.tensor([0.1, 0.05, 0.0])
    return vertices, torch.tensor(ball.faces), orbit_camera(yaw, 0.3, 3.0, target=target, size=size, fov=0.5)


def test_embree_agrees_with_pytorch3d() -> None:
    """Faces with PyTorch3D's, and weights with those that PyTorch3D itself computes."""
    rasterize_meshes = pytest.importorskip("pytorch3d.renderer.mesh.rasterize_meshes").rasterize_meshes
    from pytorch3d.structures import Meshes

    from dinar_models.rasterize.pytorch3d import _normalised

    vertices, faces, cameras = bumpy_ball(yaws=3)
    ours = make_rasterizer("embree").rasterize(vertices, faces, cameras)
    ndc = _normalised(vertices[None].expand(3, -1, -1), cameras)
    packed, depth, weights, _ = rasterize_meshes(
        Meshes(ndc, faces[None].expand(3, -1, -1)), image_size=64, faces_per_pixel=1, perspective_correct=True
    )
    first = torch.arange(3)[:, None, None] * len(faces)
    theirs = torch.where(packed[..., 0] >= 0, packed[..., 0] - first, -1)
    same = theirs == ours.face_id
    assert same.float().mean() >= 0.999
    both = same & ours.covered
    assert both.sum() > 3000
    assert (weights[..., 0, :] - ours.barycentric)[both].abs().max() < 1e-4
    torch.testing.assert_close(depth[..., 0][both], ours.depth[both], atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_backends_agree_on_the_body(tiny_body: Path) -> None:
    """Its 27 000 faces are smaller than these pixels: the face under each centre, its weights, its depth."""
    pytest.importorskip("pytorch3d")
    body = BodyModel.load(tiny_body)
    vertices = body(BodyParams.zeros(1)).vertices
    camera = orbit_camera(0.4, 0.1, 2.5, target=torch.tensor([0.0, -0.2, 0.0]), size=96, fov=0.8)
    first, second = (
        make_rasterizer(b).rasterize(vertices, body.faces, camera) for b in ("embree", "pytorch3d")
    )
    same = first.face_id == second.face_id
    assert same[first.covered].float().mean() >= 0.999
    assert torch.equal(first.covered, second.covered)
    both = same & first.covered
    assert both.sum() > 700
    assert (first.barycentric - second.barycentric)[both].abs().max() < 1e-4
    torch.testing.assert_close(first.depth[both], second.depth[both], atol=1e-5, rtol=0)


def test_a_photos_long_focal_length_costs_no_precision() -> None:
    """The same view from 30 times as far away: weights put the points on their rays to 1e-3 of a pixel."""
    vertices, faces, _ = bumpy_ball()
    camera = orbit_camera(0.2, 0.0, 60.0, target=torch.zeros(3), size=64, focal=64 * 50.0)
    fragments = make_rasterizer("embree").rasterize(vertices, faces, camera)
    row, column = fragments.covered[0].nonzero(as_tuple=True)
    corners = vertices[faces[fragments.face_id[0, row, column]]].double()
    points = (fragments.barycentric[0, row, column, :, None].double() * corners).sum(dim=1)
    pixels = camera.to(dtype=torch.float64).project(points[None])[0]
    centres = torch.stack([column + 0.5, row + 0.5], dim=1).double()
    assert (pixels - centres).abs().max() < 1e-3


def walls(count: int, gap: float = 0.01) -> tuple[Tensor, Tensor]:
    """Large triangles across the view, one behind the other from z = 2 on."""
    corners = [[[-9.0, -9, 2 + gap * i], [9, -9, 2 + gap * i], [0, 18, 2 + gap * i]] for i in range(count)]
    return torch.tensor(corners).view(-1, 3), torch.arange(3 * count).view(-1, 3)


def test_rays_pass_holes_and_stop_at_the_first_surface_behind() -> None:
    """Faces 0 to 2 have holes where x < 0, face 3 everywhere: on the left face 4 is seen, on the right face 0."""
    vertices, faces = walls(6)
    camera = looking_along_z(4, 4.0)

    def opaque(face: Tensor, weights: Tensor) -> Tensor:
        points = torch.einsum("pk,pkc->pc", weights, vertices[faces[face]])
        return ((points[:, 0] > 0) | (face > 2)) & (face != 3)

    fragments = EmbreeRasterizer().rasterize(vertices, faces, camera, opaque=opaque)
    assert fragments.face_id[0].tolist() == [[4, 4, 0, 0]] * 4
    torch.testing.assert_close(fragments.depth[0, 0], torch.tensor([2.04, 2.04, 2.0, 2.0]))


def test_behind_nothing_but_holes_is_background() -> None:
    for count in (3, LAYERS + 3):
        vertices, faces = walls(count)
        fragments = EmbreeRasterizer().rasterize(
            vertices,
            faces,
            looking_along_z(4, 4.0),
            opaque=lambda face, _: torch.zeros_like(face, dtype=torch.bool),
        )
        assert not fragments.covered.any()
