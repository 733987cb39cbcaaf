import math

import pytest
import torch

from dinar_models.shading import (
    FILL_SHARE,
    KEY_SHARE,
    Light,
    SamplePixels,
    interpolate_corners,
    sample_bilinear,
    sample_nearest,
    shrink_texture,
    texels_per_metre,
    vertex_light,
    vertex_normals,
)

SQUARE = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])  # seen from +z: normal (0, 0, 1)
TRIANGLES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_normals_of_a_square_and_of_a_lonely_vertex() -> None:
    vertices = torch.cat([SQUARE, torch.tensor([[9.0, 9, 9]])])
    expected = [[0.0, 0, 1]] * 4 + [[0.0, 0, 0]]
    assert vertex_normals(vertices, TRIANGLES).tolist() == expected


def test_light_from_the_front_and_from_behind() -> None:
    front = vertex_light(SQUARE, TRIANGLES, Light((0.0, 0.0, 1.0), (0.0, 0.0, -1.0), strength=0.5))
    behind = vertex_light(SQUARE, TRIANGLES, Light((0.0, 0.0, -1.0), (0.0, 0.0, 1.0), strength=0.5))
    sky = 0.2 / 2
    torch.testing.assert_close(front, torch.full((4,), 1 - 0.5 * (1 - KEY_SHARE - sky)))
    torch.testing.assert_close(behind, torch.full((4,), 1 - 0.5 * (1 - FILL_SHARE - sky)))


def test_no_strength_means_no_light_and_directions_are_units() -> None:
    light = Light.around(azimuth=math.pi / 2, elevation=0.0, strength=0.0)
    torch.testing.assert_close(torch.tensor(light.key), torch.tensor([1.0, 0, 0]))
    assert torch.tensor(light.fill).norm().item() == pytest.approx(1.0)
    assert vertex_light(SQUARE, TRIANGLES, light).tolist() == [1.0] * 4


def test_interpolation_inside_a_face() -> None:
    corners = torch.tensor([[[0.0, 10], [1, 20], [2, 30]], [[5.0, 5], [5, 5], [5, 5]]])
    values = interpolate_corners(
        corners, torch.tensor([0, 1]), torch.tensor([[0.5, 0.25, 0.25], [1.0, 0, 0]])
    )
    assert values.tolist() == [[0.75, 17.5], [5.0, 5.0]]


def test_bilinear_look_up_has_texel_centres_at_half_texels_and_v_down() -> None:
    texture = torch.tensor([[[0.0], [1.0]], [[2.0], [3.0]]])  # rows v = 0.25 and 0.75
    uv = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [1.25, -0.75], [1.0, 1.0]])
    torch.testing.assert_close(sample_bilinear(texture, uv)[:, 0], torch.tensor([0, 1, 2, 1.5, 0, 3]))


def test_nearest_look_up() -> None:
    texture = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8)
    uv = torch.tensor([[0.1, 0.4], [0.6, 0.4], [0.4, 0.6], [1.0, 1.0], [1.1, 0.9]])
    assert sample_nearest(texture, uv).tolist() == [0, 1, 2, 3, 2]


def test_texture_density_and_the_size_that_does_not_alias() -> None:
    corner_uv = torch.tensor([[[0.0, 0], [1, 0], [1, 1]], [[0.0, 0], [1, 1], [0, 1]]])
    assert texels_per_metre(SQUARE, TRIANGLES, corner_uv, 100 * 100) == pytest.approx(50)
    texture = torch.arange(16.0).view(4, 4, 1)
    assert shrink_texture(texture, 1.9).shape == (4, 4, 1)
    assert shrink_texture(texture, 2.0)[..., 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert shrink_texture(texture, 1000.0).tolist() == [[[7.5]]]


def test_one_covered_sample_of_four_is_a_quarter() -> None:
    # Two images of 1 × 2 pixels at 2 × 2 samples: image 1, pixel 1, its lower left sample.
    pixels = SamplePixels.of(torch.tensor([8 + 4 + 2]), (2, 2, 4), 2)
    assert pixels.pixel.tolist() == [3]
    assert pixels.sample.tolist() == [2]
    colour, coverage = pixels.blend(torch.tensor([[0.0, 0.4]]), background=1.0)
    assert coverage.flatten().tolist() == [0, 0, 0, 0.25]
    torch.testing.assert_close(colour[1, 0, 1], torch.tensor([0.75, 0.85]))
    assert (colour[0] == 1).all()


def test_labels_are_voted_with_the_background_taking_part() -> None:
    covered = torch.tensor([0, 1, 4, 2, 3, 6])  # pixel 0: three samples, pixel 1: three samples
    pixels = SamplePixels.of(covered, (1, 2, 4), 2)
    label = torch.tensor([7, 9, 9, 3, 4, 5], dtype=torch.uint8)
    assert pixels.vote(label).tolist() == [[[9, 3]]]
    lonely = SamplePixels.of(torch.tensor([0]), (1, 2, 4), 2)
    assert lonely.vote(torch.tensor([7], dtype=torch.uint8)).tolist() == [[[0, 0]]]
