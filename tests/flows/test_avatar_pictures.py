"""The pictures of an avatar: dots where the keypoints are, and every channel where it belongs."""

import numpy as np
import torch

from dinar_models.keypoints import MEDIAPIPE
from dinar_models.types import NeuralTexture
from flows.avatar_pictures import MIDDLE_COLOUR, SIDE_COLOURS, skeleton_overlay, texture_pictures

WHITE = np.full((340, 340, 3), 255, np.uint8)


def marked(**places: tuple[float, float, float]) -> np.ndarray:
    xyc = np.zeros((len(MEDIAPIPE), 3), np.float32)
    for name, place in places.items():
        xyc[MEDIAPIPE.find(name)] = place
    return xyc


def test_bones_join_the_points_in_the_colour_of_their_side() -> None:
    points = {"left_hip": (100, 100, 1), "left_knee": (100, 200, 1), "right_hip": (50, 100, 1)}
    image = skeleton_overlay(WHITE, marked(**points), MEDIAPIPE)
    assert tuple(image[150, 100]) == SIDE_COLOURS["left"]  # half-way down the thigh
    assert tuple(image[100, 75]) == MIDDLE_COLOUR  # between the hips
    assert tuple(image[100, 50]) == SIDE_COLOURS["right"]
    assert (image[210:] == 255).all()


def test_doubtful_points_are_faint_and_unlikely_ones_are_not_drawn() -> None:
    image = skeleton_overlay(WHITE, marked(left_hip=(100, 100, 0.5), nose=(200, 200, 0.2)), MEDIAPIPE)
    mixed = np.array(SIDE_COLOURS["left"]) * 0.5 + 255 * 0.5
    np.testing.assert_allclose(image[100, 100], mixed, atol=2)
    assert (image[190:210, 190:210] == 255).all()


def test_every_channel_is_in_its_picture() -> None:
    """Channel k holds a one in texel (k, k), the photo's colours are half as bright."""
    data = torch.zeros(1, 21, 32, 32)
    for channel in range(21):
        data[0, channel, channel, channel] = 1
    pictures = texture_pictures(NeuralTexture(data), NeuralTexture(data / 2))
    assert [tuple(pictures["texture"][k, k]) for k in (16, 17, 18)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert tuple(pictures["texture_photo"][16, 16]) == (128, 0, 0)
    step = 36  # 32 texels and a gap
    assert pictures["texture_masks"][19, 19, 0] == 128
    assert pictures["texture_masks"][20, step + 20, 0] == 128
    generated = pictures["texture_generated"]
    for channel in range(16):
        tile = generated[channel // 4 * step :, channel % 4 * step :][:32, :32, 0]
        assert np.argwhere(tile > 0).tolist() == [[channel, channel]]
