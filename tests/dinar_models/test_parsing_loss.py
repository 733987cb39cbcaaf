import math

import pytest
import torch

from dinar_models.labels import CLASSES, GROUPS, PERSON, SOME, UNKNOWN
from dinar_models.parsing_loss import cross_entropies, level_log_probabilities, soft_dice

PANTS, SKIRT = CLASSES.index("pants"), CLASSES.index("skirt")
LOWER = GROUPS.index("lower_garment")


def logits_of(shares: dict[int, float], pixels: int = 1) -> torch.Tensor:
    """Logits whose probabilities are these; the other classes get almost nothing."""
    logits = torch.full((1, 20, 1, pixels), -60.0)
    for kind, share in shares.items():
        logits[:, kind] = math.log(share)
    return logits


def test_a_groups_probability_is_the_sum_of_its_classes() -> None:
    shares = level_log_probabilities(logits_of({0: 0.5, PANTS: 0.2, SKIRT: 0.3}))
    assert shares["classes"][0, SKIRT].exp().item() == pytest.approx(0.3)
    assert shares["groups"][0, LOWER].exp().item() == pytest.approx(0.5)
    assert shares["person"][0, :, 0, 0].exp().tolist() == pytest.approx([0.5, 0.5])
    for level in shares.values():
        assert level.exp().sum(dim=1).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (SKIRT, {"classes": 0.3, "groups": 0.5, "person": 0.8}),
        (SOME + LOWER, {"classes": 1.0, "groups": 0.5, "person": 0.8}),
        (PERSON, {"classes": 1.0, "groups": 1.0, "person": 0.8}),
        (0, {"classes": 0.2, "groups": 0.2, "person": 0.2}),
        (UNKNOWN, {"classes": 1.0, "groups": 1.0, "person": 1.0}),
    ],
)
def test_the_loss_is_taken_at_the_levels_that_a_label_has(label: int, expected: dict[str, float]) -> None:
    shares = level_log_probabilities(logits_of({0: 0.2, 1: 0.3, PANTS: 0.2, SKIRT: 0.3}))
    entropies = cross_entropies(shares, torch.full((1, 1, 1), label, dtype=torch.uint8))
    assert {level: math.exp(-value.item()) for level, value in entropies.items()} == pytest.approx(expected)


def test_a_coarse_label_pulls_its_classes_alike_and_decides_nothing_between_them() -> None:
    logits = torch.zeros(1, 20, 1, 1, requires_grad=True)
    entropies = cross_entropies(
        level_log_probabilities(logits), torch.full((1, 1, 1), SOME + LOWER, dtype=torch.uint8)
    )
    entropies["groups"].sum().backward()
    gradient = logits.grad
    assert gradient is not None
    assert gradient[0, PANTS] == gradient[0, SKIRT] == pytest.approx(1 / 20 - 1 / 2)
    assert gradient[0, 0].item() == pytest.approx(1 / 20)


def test_dice_by_hand() -> None:
    shares = torch.tensor([[[[0.5, 1.0, 1.0]], [[0.5, 1e-9, 1e-9]], [[1e-9, 1e-9, 1e-9]]]]).log()
    target = torch.tensor([[[1, 0, UNKNOWN]]], dtype=torch.uint8)
    dice = soft_dice(shares, target)
    assert dice[0].item() == pytest.approx(1 - 2 * 1.0 / (1.5 + 1))
    assert dice[1].item() == pytest.approx(1 - 2 * 0.5 / (0.5 + 1))
    assert dice[2].isnan()
