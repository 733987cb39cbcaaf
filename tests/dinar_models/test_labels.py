import pytest
import torch

from dinar_models.labels import (
    CLASS_TO_GROUP,
    CLASSES,
    GROUPS,
    LABEL_TABLES,
    MIRRORED_CLASS,
    PERSON,
    SOME,
    UNKNOWN,
    allowed_classes,
    at_level,
    label_named,
    mirror_parts,
)

HAIR, FACE, PANTS, SKIRT, LEFT_ARM, RIGHT_ARM = (
    CLASSES.index(name) for name in ("hair", "face", "pants", "skirt", "left_arm", "right_arm")
)
SOME_ARMS = SOME + GROUPS.index("arms")
SOME_LOWER = SOME + GROUPS.index("lower_garment")


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


def test_mirrored_labels_move_and_change_side_but_coarse_ones_and_unknown_stay() -> None:
    labels = torch.tensor([[[LEFT_ARM, 0, SOME_ARMS, PERSON, UNKNOWN]]], dtype=torch.uint8)
    assert mirror_parts(labels).tolist() == [[[UNKNOWN, PERSON, SOME_ARMS, 0, RIGHT_ARM]]]


def test_each_label_says_what_it_knows_at_each_level() -> None:
    labels = torch.tensor([0, HAIR, SOME_ARMS, PERSON, UNKNOWN], dtype=torch.uint8)
    head, arms = GROUPS.index("head"), GROUPS.index("arms")
    assert at_level(labels, "classes").tolist() == [0, HAIR, UNKNOWN, UNKNOWN, UNKNOWN]
    assert at_level(labels, "groups").tolist() == [0, head, arms, UNKNOWN, UNKNOWN]
    assert at_level(labels, "person").tolist() == [0, 1, 1, 1, UNKNOWN]


def test_labels_leave_open_the_classes_that_agree_with_them() -> None:
    labels = torch.tensor([[0, HAIR, SOME_LOWER, PERSON, UNKNOWN]], dtype=torch.uint8)
    allowed = [column.nonzero()[:, 0].tolist() for column in allowed_classes(labels)[:, 0].unbind(dim=1)]
    assert allowed == [[0], [HAIR], [PANTS, SKIRT], list(range(1, 20)), list(range(20))]


@pytest.mark.parametrize(
    ("table", "number", "label"),
    [
        ("cihp", 10, "torso_skin"),
        ("lip", 10, "person"),  # jumpsuits
        ("lip", 14, "left_arm"),
        ("atr", 4, "upper_clothes"),
        ("atr", 8, "person"),  # belt
        ("atr", 11, "face"),
        ("atr", 14, "left_arm"),
        ("atr", 16, "background"),  # bag
        ("pascal", 1, "head"),
        ("pascal", 2, "person"),  # torso, whatever covers it
    ],
)
def test_numbers_of_public_label_sets(table: str, number: int, label: str) -> None:
    assert LABEL_TABLES[table][number] == label_named(label)


def test_public_label_sets_have_their_sizes_and_start_with_the_background() -> None:
    assert {name: len(table) for name, table in LABEL_TABLES.items()} == {
        "cihp": 20, "lip": 20, "atr": 18, "pascal": 7,
    }  # fmt: skip
    assert all(table[0] == 0 for table in LABEL_TABLES.values())


def test_a_name_that_is_no_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'trousers' is no label; .*pants"):
        label_named("trousers")
