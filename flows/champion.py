"""The promoted model: which weights serve, by which gate metrics, and why the last candidate won or lost."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stages._core.digests import digest_json, digest_path
from stages._core.publish import publish, write_file
from stages._core.store import open_store
from stages.reconstruct import ReconstructParams

WEIGHTS = ("body", "parser", "avatar_finetuned", "vqgan", "diffusion")
"""Folders below data/models that together make an avatar from a photo."""

CARD = "card.json"
"""Beside them, where they were promoted or released: how they are to be sampled, and more of released ones."""


@dataclass(frozen=True)
class Rule:
    """When a candidate takes the champion's place.

    Attributes:
        metric: dotted key of gate.json that must fall.
        margin: by at least this share of the champion's value.
        guard: dotted key that must not fall…
        tolerance: …by more than this.
    """

    metric: str = "novel_view.perceptual"
    margin: float = 0.01
    guard: str = "same_view.psnr"
    tolerance: float = 0.3


@dataclass(frozen=True)
class Decision:
    """Promote or keep, and the reason in one sentence."""

    promote: bool
    reason: str


def decide(candidate: dict[str, Any], champion: dict[str, Any] | None, rule: Rule) -> Decision:
    """Compare two gate tables.

    Raises:
        ValueError: when the candidate lacks a metric of the rule.
    """
    new, new_guard = _value(candidate, rule.metric), _value(candidate, rule.guard)
    if champion is None:
        return Decision(True, f"first champion: {rule.metric} {new:.4g}, {rule.guard} {new_guard:.4g}")
    old, old_guard = _value(champion, rule.metric), _value(champion, rule.guard)
    if new_guard < old_guard - rule.tolerance:
        return Decision(False, f"{rule.guard} fell from {old_guard:.4g} to {new_guard:.4g}")
    needed = old * (1 - rule.margin)
    if new > needed:
        limit = f"below {needed:.4g} is needed (champion {old:.4g}, margin {rule.margin:.0%})"
        return Decision(False, f"{rule.metric} is {new:.4g}; {limit}")
    return Decision(
        True, f"{rule.metric} fell from {old:.4g} to {new:.4g}, past the margin of {rule.margin:.0%}"
    )


def read_champion(models: Path) -> dict[str, Any] | None:
    """The content of champion.json, or None before the first promotion."""
    path = models / "champion.json"
    return dict(json.loads(path.read_text())) if path.is_file() else None


def candidate_digest(models: Path) -> str:
    """Identity of the weights that `dvc repro` made last."""
    return digest_json([digest_path_contents(models / name) for name in WEIGHTS])


def digest_path_contents(folder: Path) -> str:
    """Digest of a weight folder by content (it is small, and times do not matter)."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest_json([(str(p.relative_to(folder)), digest_path(p)) for p in files])


def consider(models: Path, gate: dict[str, Any], rule: Rule) -> Decision:
    """Decide on the candidate under `models`, and promote it or record why the champion stays."""
    record = read_champion(models)
    digest = candidate_digest(models)
    if record is not None and record["champion"]["digest"] == digest:
        decision = Decision(False, "the candidate is the champion: nothing changed")
    else:
        decision = decide(gate, record["champion"]["gate"] if record else None, rule)
    entry = {"digest": digest, "gate": gate}
    champion = entry if decision.promote else (record or {}).get("champion")
    if decision.promote:
        _copy_weights(models, measured_with(models.parent / "stores/avatars"))
    text = {"champion": champion, "candidate": entry, "decision": asdict(decision), "rule": asdict(rule)}
    write_file(models / "champion.json", json.dumps(text, indent=1, sort_keys=True) + "\n")
    return decision


def measured_with(avatars: Path) -> dict[str, Any] | None:
    """The section `reconstruct` with which a store of avatars was made; None where there is no such store.

    Its `dtype` is left out: what the processor multiplies well is for the processor at hand to say.
    """
    if not avatars.exists():
        return None
    attrs = open_store(avatars, "avatars").attrs
    return {name: attrs[name] for name in ReconstructParams.model_fields if name in attrs and name != "dtype"}


def _copy_weights(models: Path, reconstruct: dict[str, Any] | None) -> None:
    """Hard links where the file system has them: the weights are never edited in place."""
    with publish(models / "champion") as folder:
        for name in WEIGHTS:
            shutil.copytree(models / name, folder / name, copy_function=_link_or_copy)
        if reconstruct is not None:
            text = json.dumps({"reconstruct": reconstruct}, indent=1, sort_keys=True)
            write_file(folder / CARD, text + "\n")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _value(table: dict[str, Any], dotted: str) -> float:
    value: Any = table
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, int | float):
        raise ValueError(f"the gate table has no number at {dotted}; it holds {sorted(table)}")
    return float(value)
