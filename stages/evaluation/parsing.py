"""Metrics of the parsing of held-out people, put before photographs that no training uses."""

import torch

from dinar_models.labels import UNKNOWN
from dinar_models.metrics import parsing_scores
from dinar_models.parser import Parser
from dinar_models.parsing import parse_closely
from stages._data.labelled import LabelledPeople, before_photographs

SCORES = ("miou", "miou_coarse", "foreground_iou")


def parsing_table(
    parser: Parser, people: LabelledPeople | None, generator: torch.Generator, device: str = "cpu"
) -> dict[str, float | None]:
    """What the parser says of these people; all null without people, or when only masks are known of them."""
    if people is None:
        return dict.fromkeys(SCORES)
    rgb, labels = before_photographs(people, generator)
    if not bool(((labels != UNKNOWN) & (labels > 0)).any()):
        return dict.fromkeys(SCORES)
    return dict(parsing_scores(parse_closely(parser, rgb, device), labels))
