"""Coverage and its gradients against supersampling, and a fit that only gradients can make."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinar_models.cameras import Camera, orbit_camera
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.rasterize.silhouette import Edges, soft_silhouette

RASTERIZER = EmbreeRasterizer()


def square(left: float, right: float, top: float, bottom: float) -> tuple[Tensor, Tensor, Camera]:
    """A rectangle in pixels of an 8 × 8 image."""
    x, y = (torch.tensor(v) for v in ([left, right, left, right], [top, top, bottom, bottom]))
    vertices = torch.stack([(x - 4) / 4, (y - 4) / 4, torch.ones(4)], dim=1)
    K = torch.tensor([[[4.0, 0, 4], [0, 4, 4], [0, 0, 1]]])
    camera = Camera(K, torch.eye(3)[None], torch.zeros(1, 3), 8)
    return vertices[None], torch.tensor([[0, 2, 1], [1, 2, 3]]), camera


@pytest.fixture(scope="module")
def figure() -> tuple[Tensor, Tensor, Camera]:
    """An ellipsoid with an arm, seen by two cameras."""
    trimesh = pytest.importorskip("trimesh")
    trunk = trimesh.creation.icosphere(3, 0.5)
    trunk.apply_scale([0.6, 1.8, 1])
    arm = trimesh.creation.capsule(height=0.9, radius=0.08, count=[16, 16])
    arm.apply_transform(trimesh.transformations.rotation_matrix(1.1, [0, 1, 0.3]))
    arm.apply_translation([-0.2, 0.35, 0])
    both = trimesh.util.concatenate([trunk, arm])
    camera = orbit_camera(torch.tensor([0.3, 1.2]), 0.1, 3.0, target=torch.zeros(3), size=80, fov=0.8)
    return torch.tensor(both.vertices, dtype=torch.float32)[None], torch.tensor(both.faces), camera


def supersampled(vertices: Tensor, faces: Tensor, camera: Camera, factor: int = 12) -> Tensor:
    covered = RASTERIZER.rasterize(vertices, faces, camera, camera.size * factor).covered
    return F.avg_pool2d(covered.float()[:, None], factor)[:, 0]


def test_coverage_of_a_square_is_exact_along_its_sides() -> None:
    """Left side at 2.25: column 2 is ¾ covered; right side at 5.25: column 5 is ¼ covered."""
    vertices, faces, camera = square(2.25, 5.25, 1.0, 7.0)
    row = soft_silhouette(vertices, faces, camera, RASTERIZER)[0, 4]
    torch.testing.assert_close(row, torch.tensor([0, 0, 0.75, 1, 1, 0.25, 0, 0]), atol=1e-5, rtol=0)


def test_gradient_of_a_square_is_the_length_of_its_sides() -> None:
    """Moving the two right corners by one pixel covers as many more pixels as the side is long."""
    vertices, faces, camera = square(2.25, 5.25, 1.75, 6.75)
    vertices.requires_grad_()
    soft_silhouette(vertices, faces, camera, RASTERIZER).sum().backward()
    right = vertices.grad[0, [1, 3], 0].sum() / 4  # one pixel is a quarter of a metre here
    left = vertices.grad[0, [0, 2], 0].sum() / 4
    assert right == pytest.approx(5, abs=1e-4)
    assert left == pytest.approx(-5, abs=1e-4)


def test_coverage_matches_supersampling(figure: tuple[Tensor, Tensor, Camera]) -> None:
    vertices, faces, camera = figure
    soft, truth = soft_silhouette(vertices, faces, camera, RASTERIZER), supersampled(*figure)
    hard = RASTERIZER.rasterize(vertices, faces, camera).covered.float()
    border = (truth > 0) & (truth < 1)
    error, hard_error = ((image - truth)[border].abs().mean() for image in (soft, hard))
    assert error < 0.02
    assert error < hard_error / 8
    assert (soft - truth)[~border].abs().max() < 0.05


def test_gradients_match_finite_differences(figure: tuple[Tensor, Tensor, Camera]) -> None:
    """Of weighted sums of pixels along translation, scale and stretch, as one vector for each weighting."""
    vertices, faces, camera = figure
    ramp = torch.linspace(-1, 1, camera.size)
    blobs = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    weights = [
        ramp.expand(2, camera.size, -1),
        ramp[:, None].expand(2, -1, camera.size),
        F.interpolate(blobs, size=camera.size, mode="bilinear")[:, 0],
    ]
    x, y = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    moves = [x.expand_as(vertices), y.expand_as(vertices), vertices, vertices * x]
    h = 0.01
    differences = [
        (supersampled(vertices + h * m, faces, camera) - supersampled(vertices - h * m, faces, camera))
        / (2 * h)
        for m in moves
    ]
    for weight, tolerance in zip(weights, (0.03, 0.03, 0.1), strict=True):  # the blobs' parts nearly cancel
        free = vertices.clone().requires_grad_()
        (soft_silhouette(free, faces, camera, RASTERIZER) * weight).sum().backward()
        analytic = torch.stack([(free.grad * move).sum() for move in moves])
        numeric = torch.stack([(difference * weight).sum() for difference in differences])
        assert (analytic - numeric).norm() < tolerance * numeric.norm()


def test_fit_recovers_a_translation(figure: tuple[Tensor, Tensor, Camera]) -> None:
    """From 40 mm and 30 mm off to less than a tenth of a pixel."""
    vertices, faces, camera = figure
    edges = Edges.of(faces)
    true = torch.tensor([0.04, -0.03, 0.02])
    target = soft_silhouette(vertices + true, faces, camera, RASTERIZER, edges=edges)
    offset = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([offset], lr=0.01)
    for step in range(60):
        optimiser.param_groups[0]["lr"] = 0.01 * (1 - step / 60)
        soft = soft_silhouette(vertices + offset, faces, camera, RASTERIZER, edges=edges)
        optimiser.zero_grad()
        (soft - target).square().sum().backward()
        optimiser.step()
    pixel = 3.0 / float(camera.K[0, 0, 0])
    assert (offset.detach() - true).norm() < 0.1 * pixel


def test_each_mesh_gets_its_own_image_and_gradient(figure: tuple[Tensor, Tensor, Camera]) -> None:
    """A batch of meshes equals one call each; sharing a mesh adds its gradients up."""
    vertices, faces, camera = figure
    meshes = torch.cat([vertices, 0.8 * vertices]).requires_grad_()
    batch = soft_silhouette(meshes, faces, camera, RASTERIZER, size=48)
    for i in range(2):
        alone = soft_silhouette(meshes[i : i + 1], faces, camera.select(i), RASTERIZER, size=48)
        torch.testing.assert_close(batch[i], alone[0])
    (gradient,) = torch.autograd.grad(batch[0].sum(), meshes)
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0


def test_part_of_a_surface_ends_where_its_faces_end() -> None:
    """One of the square's two triangles: its diagonal is an outline too, so the area is half."""
    vertices, faces, camera = square(1.2, 7.2, 1.1, 7.1)
    area = soft_silhouette(vertices, faces[:1], camera, RASTERIZER).sum()
    assert area == pytest.approx(18, abs=0.2)


def test_edges_of_two_triangles() -> None:
    edges = Edges.of(torch.tensor([[0, 2, 1], [1, 2, 3]]))
    assert edges.ends.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert edges.sides.tolist() == [[0, 0], [0, 0], [0, 1], [1, 1], [1, 1]]


def test_gradcheck_in_double_precision() -> None:
    """Away from the switches the coverage is a smooth function of the corners."""
    vertices, faces, camera = square(2.25, 5.3, 1.75, 6.7)
    vertices = vertices.double()
    vertices[0, :, 0] += torch.tensor([0.0, 0.01, 0.02, 0.05])
    vertices.requires_grad_()
    precise = camera.to(dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda v: soft_silhouette(v, faces, precise, RASTERIZER), vertices, eps=1e-6, atol=1e-4
    )
