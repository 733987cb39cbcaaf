"""Metrics of the parsing of held-out people, put before photographs that no training uses."""

import torch
from torch import Tensor

from dinar_models.labels import UNKNOWN
from dinar_models.parser import Parser, parse_closely, parsing_scores
from stages._data.labelled import LabelledPeople, before_photographs
from stages._data.segmentation import PersonPrior, segment_images

Table = dict[str, float | None]

SCORES = ("miou", "miou_coarse", "foreground_iou")
NOTHING: Table = dict.fromkeys(SCORES)


def parsing_table(
    parser: Parser,
    people: LabelledPeople | None,
    prior: PersonPrior | None,
    generator: torch.Generator,
    device: str = "cpu",
) -> dict[str, float | Table | None]:
    """What `segment` makes of photos of these people, and what the parser says alone.

    `segment` is given no mask, as of a photo: its rule joins the parser's opinion with `prior`, and the classes end
    where the mask does. All is null without people, or when only masks are known of them.
    """
    if people is None:
        return {**NOTHING, "parser_alone": NOTHING}
    rgb, labels = before_photographs(people, generator)
    parts, _ = segment_images(parser, rgb.numpy(), None, prior, device=device)
    joined = torch.from_numpy(parts)
    return {
        **_scores(joined, labels),
        "parser_alone": _scores(parse_closely(parser, rgb, device=device), labels),
    }


def _scores(predicted: Tensor, labels: Tensor) -> Table:
    known = bool(((labels != UNKNOWN) & (labels > 0)).any())
    return dict(parsing_scores(predicted, labels)) if known else dict(NOTHING)
