import torch
import torch.nn.functional as F
from torch import Tensor

from dinar_models.cameras import Crop
from dinar_models.labels import CLASSES, PERSON, UNKNOWN
from dinar_models.parsing import look_closely, parse_closely, parse_images
from tests.dinar_models.test_parser import RedIsHair

LEFT_ARM, RIGHT_ARM = CLASSES.index("left_arm"), CLASSES.index("right_arm")


def test_images_of_another_size_are_parsed_at_the_parsers_own() -> None:
    rgb = torch.zeros(3, 16, 16, 3, dtype=torch.uint8)
    rgb[1, :, :8, 0] = 255
    parts, kinds, foreground = parse_images(RedIsHair(), rgb, batch=2)
    assert parts.shape == (3, 16, 16)
    assert set(parts[1, :, :7].flatten().tolist()) == {2}
    assert set(parts[1, :, 9:].flatten().tolist()) == {0}
    assert set(kinds[1].flatten().tolist()) <= {1, 2}  # never background
    assert foreground[1, 8, 0] > 0.99
    assert foreground[0].max() < 0.01


def test_what_is_known_of_a_pixel_binds_and_leaves_the_rest_to_the_parser() -> None:
    rgb = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    rgb[:, :8, :, 0] = 255  # the parser says hair above, background below
    labels = torch.full((1, 16, 16), UNKNOWN, dtype=torch.uint8)
    labels[:, :, :4] = PERSON
    labels[:, :, 12:] = CLASSES.index("skirt")
    parts, _, _ = parse_images(RedIsHair(), rgb, labels=labels)
    hair = CLASSES.index("hair")
    assert parts[0, 2, [1, 6, 14]].tolist() == [hair, hair, CLASSES.index("skirt")]
    assert parts[0, 14, [6, 14]].tolist() == [0, CLASSES.index("skirt")]
    assert parts[0, 14, 1] != 0


def test_a_look_at_a_square_is_put_back_in_place() -> None:
    image = torch.zeros(40, 60, 3, dtype=torch.uint8)
    image[10:20, 30:40, 0] = 255
    crop = Crop(torch.tensor([25.0]), torch.tensor([5.0]), torch.tensor([20.0]))
    parts, _, foreground = look_closely(RedIsHair(24), image, crop)
    expected = torch.zeros(40, 60, dtype=torch.uint8)
    expected[10:20, 30:40] = 2
    assert torch.equal(parts, expected)
    assert foreground[15, 35] > 0.99
    assert foreground[0, 0] == 0


class LeftIsLeftArm(RedIsHair):
    """A parser that takes the left half of any image for the left arm, which is wrong in one of two mirror images."""

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.full((len(image), len(CLASSES), *image.shape[2:]), -10.0)
        half = image.shape[3] // 2
        logits[..., LEFT_ARM, :, :half] = 2.0
        logits[..., RIGHT_ARM, :, half:] = 1.0
        return logits


def test_mirrored_looks_exchange_left_and_right() -> None:
    """Mirrored, the left half is the right arm's: so the answers agree that left is left."""
    image = torch.zeros(64, 64, 3, dtype=torch.uint8)
    parts, _, _ = look_closely(LeftIsLeftArm(48), image)
    assert set(parts[:, :28].flatten().tolist()) == {LEFT_ARM}
    assert set(parts[:, 36:].flatten().tolist()) == {RIGHT_ARM}


class Blurred(RedIsHair):
    """As RedIsHair, at an eighth of the resolution and less sure."""

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(F.avg_pool2d(image, 8)) / 50
        logits[:, 3:] = -100
        return logits


def test_outlines_are_those_of_the_image() -> None:
    image = torch.zeros(64, 64, 3, dtype=torch.uint8)
    image[11:53, 19:47, 0] = 255
    red = image[..., 0] > 127
    quick = parse_images(Blurred(48), image[None]).parts[0]
    close = look_closely(Blurred(48), image).parts
    assert ((close == 2) != red).sum() < 0.4 * ((quick == 2) != red).sum()


def test_small_people_are_parsed_again_closer() -> None:
    rgb = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    rgb[0, 41:66, 25:50, 0] = 255
    once = parse_images(RedIsHair(32), rgb).parts
    twice = parse_closely(RedIsHair(32), rgb)
    red = rgb[..., 0] > 127
    assert ((once == 2) != red).sum() > 3 * ((twice == 2) != red).sum()
