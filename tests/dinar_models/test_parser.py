import pytest
import torch
from torch import Tensor, nn

from dinar_models.cameras import Crop
from dinar_models.labels import CLASSES, PERSON, UNKNOWN
from dinar_models.parser import (
    Parser,
    build_parser,
    confusion_matrix,
    mean_iou,
    parse_closely,
    parse_crop,
    parse_images,
    parsing_scores,
    start_at_prior,
    train_mode,
)


class RedIsHair(Parser):
    """A parser with a known answer: hair where red is above one half, background elsewhere."""

    def __init__(self, size: int = 8) -> None:
        nn.Module.__init__(self)
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(len(image), len(CLASSES), *image.shape[2:])
        logits[:, 0] = -100 * image[:, 0]
        logits[:, 2] = 100 * image[:, 0]
        return logits


def test_intersection_over_union_by_hand() -> None:
    target = torch.tensor([[[0, 0, 1, 1, UNKNOWN]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 1, 1, 1, 0]]], dtype=torch.uint8)
    confusion = confusion_matrix(predicted, target, 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert mean_iou(confusion) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_confusing_arms_costs_the_fine_score_only() -> None:
    left_arm, right_arm = CLASSES.index("left_arm"), CLASSES.index("right_arm")
    target = torch.tensor([[[0, left_arm, left_arm, right_arm]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, left_arm, right_arm, right_arm]]], dtype=torch.uint8)
    scores = parsing_scores(predicted, target)
    assert scores["miou"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert scores["miou_coarse"] == 1.0
    assert scores["foreground_iou"] == 1.0


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


def test_a_parsed_crop_is_put_back_in_place() -> None:
    image = torch.zeros(40, 60, 3, dtype=torch.uint8)
    image[10:20, 30:40, 0] = 255
    crop = Crop(torch.tensor([25.0]), torch.tensor([5.0]), torch.tensor([20.0]))
    parts, _, foreground = parse_crop(RedIsHair(20), image, crop)
    expected = torch.zeros(40, 60, dtype=torch.uint8)
    expected[10:20, 30:40] = 2
    assert torch.equal(parts, expected)
    assert foreground[15, 35] > 0.99
    assert foreground[0, 0] == 0


def test_small_people_are_parsed_again_closer() -> None:
    rgb = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    rgb[0, 41:66, 25:50, 0] = 255
    once = parse_images(RedIsHair(32), rgb).parts
    twice = parse_closely(RedIsHair(32), rgb)
    red = rgb[..., 0] > 127
    assert ((once == 2) != red).sum() > 3 * ((twice == 2) != red).sum()


@pytest.mark.parametrize(("architecture", "side"), [("unet", 32), ("deeplabv3plus", 16)])
def test_architectures_give_logits_at_their_stride(architecture: str, side: int) -> None:
    parser = build_parser({"architecture": architecture, "size": 64}).eval()
    with torch.no_grad():
        assert parser(torch.zeros(1, 3, 64, 64)).shape == (1, 20, side, side)
    assert 64 // parser.stride == side


def test_training_leaves_the_encoders_statistics_and_first_stages_alone() -> None:
    parser = build_parser({"architecture": "unet", "size": 64})
    train_mode(parser)
    before = {name: value.clone() for name, value in parser.net.encoder.state_dict().items()}
    parser(torch.randn(2, 3, 64, 64)).sum().backward()
    after = parser.net.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert parser.net.encoder.model.conv_stem.weight.grad is None
    assert parser.net.encoder.model.blocks[4][0].conv_pw.weight.grad is not None
    assert parser.net.decoder.training


def test_an_untrained_parser_can_start_at_the_share_of_the_background() -> None:
    parser = build_parser({"architecture": "deeplabv3plus", "size": 64})
    start_at_prior(parser, 0.9)
    prior = parser.net.segmentation_head[0].bias.softmax(dim=0)
    assert prior[0].item() == pytest.approx(0.9)
    assert prior[7].item() == pytest.approx(0.1 / 19)


def test_wrong_configs_are_refused() -> None:
    with pytest.raises(ValueError, match="deeplabv3plus"):
        build_parser({"architecture": "fcn", "size": 64})
    with pytest.raises(ValueError, match="multiple of 32"):
        build_parser({"architecture": "unet", "size": 100})
