"""Promotion by the gate split: past the margin only, and a failure changes nothing."""

import json

import pytest

from flows.champion import WEIGHTS, Rule, consider, decide, read_champion

RULE = Rule(margin=0.1, tolerance=0.5)


def _gate(perceptual: float, psnr: float = 25.0) -> dict:
    return {"novel_view": {"perceptual": perceptual}, "same_view": {"psnr": psnr}}


@pytest.mark.parametrize(
    ("candidate", "promote", "words"),
    [
        (_gate(0.89), True, "fell from 1 to 0.89"),
        (_gate(0.91), False, "below 0.9 is needed"),
        (_gate(0.5, psnr=24.4), False, "same_view.psnr fell from 25 to 24.4"),
        (_gate(0.5, psnr=24.6), True, "fell from 1 to 0.5"),
    ],
)
def test_margin_and_guard(candidate, promote, words):
    decision = decide(candidate, _gate(1.0), RULE)
    assert decision.promote is promote
    assert words in decision.reason


def test_a_gate_table_without_the_metric_is_refused():
    with pytest.raises(ValueError, match=r"no number at novel_view.perceptual"):
        decide({"novel_view": {"perceptual": None}}, None, RULE)


def _weights(models, content: str) -> None:
    for name in WEIGHTS:
        (models / name).mkdir(parents=True, exist_ok=True)
        (models / name / "net.bin").unlink(missing_ok=True)
        (models / name / "net.bin").write_text(content)


def test_the_champion_changes_only_when_the_candidate_wins(tmp_path):
    _weights(tmp_path, "first")
    assert consider(tmp_path, _gate(1.0), RULE).promote
    _weights(tmp_path, "worse")
    assert not consider(tmp_path, _gate(0.99), RULE).promote
    assert (tmp_path / "champion/vqgan/net.bin").read_text() == "first"
    assert read_champion(tmp_path)["champion"]["gate"] == _gate(1.0)
    _weights(tmp_path, "better")
    assert consider(tmp_path, _gate(0.5), RULE).promote
    assert (tmp_path / "champion/vqgan/net.bin").read_text() == "better"
    record = json.loads((tmp_path / "champion.json").read_text())
    assert "fell from 1 to 0.5" in record["decision"]["reason"]


def test_the_same_weights_are_no_new_candidate(tmp_path):
    _weights(tmp_path, "first")
    consider(tmp_path, _gate(1.0), RULE)
    assert "nothing changed" in consider(tmp_path, _gate(0.1), RULE).reason
