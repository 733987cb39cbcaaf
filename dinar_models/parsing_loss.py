"""What the parser is trained with: cross entropy and Dice at every level of labels that a pixel has."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dinar_models import ranks
from dinar_models.labels import CLASS_TO_GROUP, GROUPS, LEVELS, UNKNOWN, Level, at_level

_MEMBERS = [[c for c, group in enumerate(CLASS_TO_GROUP) if group == g] for g in range(len(GROUPS))]


def level_log_probabilities(logits: Float[Tensor, "b 20 h w"]) -> dict[Level, Float[Tensor, "b _ h w"]]:
    """Logarithms of the probabilities of the 20 classes, the 7 groups, and background and person.

    What a group or a person gets is the sum over its classes, so a pixel that is only known to show a person asks
    for probability in any of the 19, and says nothing about which.
    """
    classes = logits.log_softmax(dim=1)
    groups = torch.stack([classes[:, members].logsumexp(dim=1) for members in _MEMBERS], dim=1)
    person = torch.stack([groups[:, 0], groups[:, 1:].logsumexp(dim=1)], dim=1)
    return {"classes": classes, "groups": groups, "person": person}


def cross_entropies(
    log_probabilities: dict[Level, Tensor], labels: UInt8[Tensor, "b h w"]
) -> dict[Level, Float[Tensor, "b h w"]]:
    """−log p of each pixel's label at each level, 0 where the label does not say: a class counts at all three."""
    return {
        level: F.nll_loss(
            log_probabilities[level], at_level(labels, level).long(), ignore_index=UNKNOWN, reduction="none"
        )
        for level in LEVELS
    }


def soft_dice(
    log_probability: Float[Tensor, "b k h w"], target: UInt8[Tensor, "b h w"]
) -> Float[Tensor, "k"]:
    """1 − 2 |p ∩ t| / (|p| + |t|) of each class over the batch (of all ranks), NaN where it does not show the class.

    Args:
        target: class numbers, UNKNOWN where not known.
    """
    known = target != UNKNOWN
    kinds = log_probability.shape[1]
    truth = F.one_hot(torch.where(known, target, 0).long(), kinds).permute(0, 3, 1, 2) * known[:, None]
    share = log_probability.exp() * known[:, None]
    sums = [values.sum(dim=(0, 2, 3)) for values in (share * truth, share + truth, truth.to(share))]
    overlap, total, count = ranks.total(torch.stack(sums))
    return torch.where(count > 0, 1 - 2 * overlap / total.clamp_min(1e-6), torch.nan)
