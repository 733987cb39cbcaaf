"""Labels of pixels: CIHP's 20 classes, 7 groups, person against background, and the label maps of others.

A label image is uint8. Data sets know their pixels at different granularity, so a pixel may say

| value | meaning |
|---|---|
| 0 | background, at every level |
| 1–19 | a class of CIHP, in its order |
| 21–26 | SOME + g: some class of group g, which one is not known |
| 27 | PERSON: some class, which one is not known |
| 255 | UNKNOWN: no loss, no vote in a metric |

This is the label hierarchy of Graphonomy (Gong et al., CVPR 2019) as values of one image: one net learns from all
of them, at the level that each pixel has (`dinar_models/parsing_loss.py`).
"""

import functools
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

CLASSES = (
    "background",
    "hat",
    "hair",
    "glove",
    "sunglasses",
    "upper_clothes",
    "dress",
    "coat",
    "socks",
    "pants",
    "torso_skin",
    "scarf",
    "skirt",
    "face",
    "left_arm",
    "right_arm",
    "left_leg",
    "right_leg",
    "left_shoe",
    "right_shoe",
)
"""CIHP's classes in its order; left and right are the person's own."""

GROUPS = ("background", "head", "upper_garment", "lower_garment", "arms", "legs", "shoes")

SOME = len(CLASSES)
PERSON = SOME + len(GROUPS)
UNKNOWN = 255

_GROUP_OF = {
    "head": ("hat", "hair", "sunglasses", "face", "torso_skin"),
    "upper_garment": ("upper_clothes", "dress", "coat", "scarf"),
    "lower_garment": ("pants", "skirt"),
    "arms": ("glove", "left_arm", "right_arm"),
    "legs": ("socks", "left_leg", "right_leg"),
    "shoes": ("left_shoe", "right_shoe"),
}
CLASS_TO_GROUP: tuple[int, ...] = tuple(
    next((GROUPS.index(g) for g, members in _GROUP_OF.items() if name in members), 0) for name in CLASSES
)
"""Group number of each class. Torso skin counts as head: in clothed people it is mostly the neck."""

MIRRORED_CLASS: tuple[int, ...] = tuple(
    CLASSES.index(
        name.replace("left_", "right_") if name.startswith("left_") else name.replace("right_", "left_")
    )
    for name in CLASSES
)
"""What each class becomes in a mirrored image."""

Level = Literal["classes", "groups", "person"]
LEVELS: tuple[Level, ...] = ("classes", "groups", "person")
"""Granularities of labels, the finest first."""


def at_level(labels: UInt8[Tensor, "*shape"], level: Level) -> UInt8[Tensor, "*shape"]:
    """The number of each pixel's class, its group, or 0/1 for background/person; UNKNOWN where it does not say."""
    return look_up(_AT_LEVEL[level], labels)


def to_groups(labels: UInt8[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Labels → the 7 groups."""
    return at_level(labels, "groups")


def mirror_parts(labels: UInt8[Tensor, "*b h w"]) -> UInt8[Tensor, "*b h w"]:
    """Label images of mirrored photos: flipped left to right, left and right classes exchanged."""
    return look_up((*MIRRORED_CLASS, *range(SOME, PERSON + 1)), labels.flip(-1))


def allowed_classes(labels: UInt8[Tensor, "*b h w"]) -> Bool[Tensor, "*b 20 h w"]:
    """Which classes each pixel may have: what its label says binds, and what it leaves open is open."""
    return _allowed_table()[labels.long()].movedim(-1, -3)


def look_up(table: Sequence[int], labels: UInt8[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """table[label] of each pixel; labels beyond the table become UNKNOWN."""
    full = torch.full((256,), UNKNOWN, dtype=torch.uint8, device=labels.device)
    full[: len(table)] = torch.tensor(table, dtype=torch.uint8, device=labels.device)
    return full[labels.long()]


@functools.cache
def _allowed_table() -> Bool[Tensor, "256 20"]:
    """Rows by label: those classes that agree with it at every level at which it says something."""
    classes, labels = torch.arange(SOME, dtype=torch.uint8), torch.arange(256, dtype=torch.uint8)
    allowed = torch.ones(256, SOME, dtype=torch.bool)
    for level in LEVELS:
        said, has = at_level(labels, level)[:, None], at_level(classes, level)[None]
        allowed &= (said == UNKNOWN) | (said == has)
    return allowed


_AT_LEVEL: dict[Level, tuple[int, ...]] = {
    "classes": (*range(SOME), 0),
    "groups": (*CLASS_TO_GROUP, *range(len(GROUPS))),
    "person": (0, *[1] * (SOME - 1), 0, *[1] * len(GROUPS)),
}


def label_named(name: str) -> int:
    """The label of a class of CIHP, of a group, of "person" or of "unknown".

    Raises:
        ValueError: listing the names.
    """
    names = {**{g: SOME + i for i, g in enumerate(GROUPS)}, **{c: i for i, c in enumerate(CLASSES)}}
    names |= {"person": PERSON, "unknown": UNKNOWN}
    if name not in names:
        raise ValueError(f"{name!r} is no label; the labels are {', '.join(names)}")
    return names[name]


_NAMES_BY_TABLE: dict[str, tuple[str, ...]] = {
    "cihp": CLASSES,
    "lip": tuple("person" if name == "torso_skin" else name for name in CLASSES),
    "atr": (
        "background", "hat", "hair", "sunglasses", "upper_clothes", "skirt", "pants", "dress", "person", "left_shoe",
        "right_shoe", "face", "left_leg", "right_leg", "left_arm", "right_arm", "background", "scarf",
    ),
    "pascal": ("background", "head", "person", "person", "person", "person", "person"),
}  # fmt: skip
LABEL_TABLES: dict[str, tuple[int, ...]] = {
    table: tuple(label_named(name) for name in names) for table, names in _NAMES_BY_TABLE.items()
}
"""Our label of each number of a public label set.

The class lists are those of CIHP (Gong et al., ECCV 2018), LIP (Gong et al., CVPR 2017), ATR (Liang et al., ICCV
2015) in the order of SCHP (Li et al., TPAMI 2020), and PASCAL-Person-Part (Chen et al., CVPR 2014). What has no class
in CIHP: LIP's jumpsuits (10) and ATR's belts (8) are a person of unknown class, ATR's bags (16) are background as in
CIHP. PASCAL's torso, arms and legs are body parts whatever covers them, so only its heads name one of our groups.
"""
