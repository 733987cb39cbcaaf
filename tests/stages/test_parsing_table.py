"""Parsing before photographs, with a parser whose answers are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from dinar_models.labels import CLASSES, PERSON
from stages._data.labelled import LabelledPeople
from stages.evaluation.parsing import SCORES, parsing_table
from tests.dinar_models.test_parser import RedIsHair
from tests.stages.tiny_world import save_store

SIZE, TOP, LEFT, SIDE = 64, 4, 4, 56
HAIR, HAT = CLASSES.index("hair"), CLASSES.index("hat")
MAGENTA = (255, 0, 255)
"""A colour that neither photograph has."""


class MagentaIsHair(RedIsHair):
    """A parser that is right about magenta people and never takes a photograph for one."""

    def forward(self, image: Tensor) -> Tensor:
        magenta = (image[:, 0] > 0.2) & (image[:, 1] < -0.2) & (image[:, 2] > 0.2)
        logits = torch.full((len(image), len(CLASSES), *image.shape[2:]), -100.0)
        logits[:, 0] = torch.where(magenta, -100.0, 100.0)
        logits[:, HAIR] = -logits[:, 0]
        return logits


def people(folder: Path, label: int) -> LabelledPeople:
    """Two test people who are magenta squares."""
    inside = (slice(None), slice(TOP, TOP + SIDE), slice(LEFT, LEFT + SIDE))
    rgb = np.full((2, SIZE, SIZE, 3), 255, np.uint8)
    mask, parts = np.zeros((2, SIZE, SIZE), np.uint8), np.zeros((2, SIZE, SIZE), np.uint8)
    rgb[inside], mask[inside], parts[inside] = MAGENTA, 255, label
    index = pd.DataFrame({"subject": ["s", "t"], "scan": ["s0", "t0"], "split": ["test"] * 2})
    eye = np.tile(np.eye(3, dtype=np.float32), (2, 1, 1))
    camera = {"K": eye, "R": eye, "T": np.zeros((2, 3), np.float32)}
    save_store(folder / "views", "views", index, {"rgb": rgb, "mask": mask, "parts": parts, **camera})
    return LabelledPeople({"made": folder / "views"}, "test", 10, SIZE, seed=0)


def table(folder: Path, label: int) -> dict:
    return parsing_table(MagentaIsHair(SIZE), people(folder, label), torch.Generator().manual_seed(0))


def test_a_parser_that_is_right_is_all_but_perfect(tmp_path: Path) -> None:
    """Only the outline is filtered, of 64 pixels."""
    assert table(tmp_path, HAIR) == pytest.approx({name: 1.0 for name in SCORES}, abs=0.05)


def test_another_class_of_the_same_group_is_coarsely_right(tmp_path: Path) -> None:
    """Half of the fine score is background's."""
    expected = {"miou": 0.5, "miou_coarse": 1.0, "foreground_iou": 1.0}
    assert table(tmp_path, HAT) == pytest.approx(expected, abs=0.05)


def test_without_people_or_without_their_classes_all_is_null(tmp_path: Path) -> None:
    nothing = {name: None for name in SCORES}
    assert parsing_table(MagentaIsHair(SIZE), None, torch.Generator()) == nothing
    assert table(tmp_path, PERSON) == nothing
