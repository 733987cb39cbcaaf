import pytest
import torch
from torch import Tensor, nn

from dinar_models.parser import (
    CLASS_TO_GROUP,
    CLASSES,
    GROUPS,
    MIRRORED_CLASS,
    UNKNOWN,
    Parser,
    build_parser,
    confusion_matrix,
    mean_iou,
    mirror_parts,
    parse_images,
    parsing_scores,
    start_at_prior,
    to_groups,
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


def test_groups_and_mirroring_by_name() -> None:
    group = {name: GROUPS[number] for name, number in zip(CLASSES, CLASS_TO_GROUP, strict=True)}
    assert group["background"] == "background"
    assert group["dress"] == group["coat"] == "upper_garment"
    assert group["skirt"] == "lower_garment"
    assert group["right_arm"] == "arms"
    assert group["left_shoe"] == "shoes"
    assert set(group.values()) == set(GROUPS)
    assert MIRRORED_CLASS[CLASSES.index("left_leg")] == CLASSES.index("right_leg")
    assert [MIRRORED_CLASS[MIRRORED_CLASS[c]] for c in range(20)] == list(range(20))
    assert sum(m != c for c, m in enumerate(MIRRORED_CLASS)) == 6


def test_mirrored_labels_move_and_change_side_but_unknown_stays() -> None:
    left_arm, right_arm = CLASSES.index("left_arm"), CLASSES.index("right_arm")
    parts = torch.tensor([[[left_arm, 0, UNKNOWN]]], dtype=torch.uint8)
    assert mirror_parts(parts).tolist() == [[[UNKNOWN, 0, right_arm]]]
    assert to_groups(parts).tolist() == [[[GROUPS.index("arms"), 0, UNKNOWN]]]


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
    parts, foreground = parse_images(RedIsHair(), rgb, batch=2)
    assert parts.shape == (3, 16, 16)
    assert set(parts[1, :, :7].flatten().tolist()) == {2}
    assert set(parts[1, :, 9:].flatten().tolist()) == {0}
    assert foreground[1, 8, 0] > 0.99
    assert foreground[0].max() < 0.01


@pytest.mark.parametrize("architecture", ["unet", "deeplabv3plus"])
def test_architectures_give_logits_at_full_size(architecture: str) -> None:
    parser = build_parser({"architecture": architecture, "size": 64}).eval()
    with torch.no_grad():
        assert parser(torch.zeros(1, 3, 64, 64)).shape == (1, 20, 64, 64)


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
