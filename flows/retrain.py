"""Rebuild, compare with the champion on the gate split, promote or keep."""

import json
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import engine
from flows.champion import Decision, Rule, consider
from flows.rebuild import rebuild


@task(cache_policy=NO_CACHE, persist_result=False)
def compare_with_champion(root: str, rule: Rule) -> Decision:
    """Decide by data/reports/gate.json. The champion's files change only when the candidate wins."""
    gate = json.loads((Path(root) / "data/reports/gate.json").read_text())
    return consider(Path(root) / "data/models", gate, rule)


@flow(name="retrain", log_prints=False, persist_result=False)
def retrain(margin: float = 0.01, tolerance: float = 0.3, root: str = str(engine.ROOT)) -> Decision:
    """Rebuild everything that is out of date, then let the gate split decide.

    Args:
        margin: share by which the gate's novel-view distance must fall.
        tolerance: how many dB the same-view PSNR may lose.

    Raises:
        engine.EngineError: when a stage failed; the champion stays as it is.
    """
    rebuild(root)
    decision = compare_with_champion(root, Rule(margin=margin, tolerance=tolerance))
    verdict = "promoted" if decision.promote else "kept the champion"
    create_markdown_artifact(key="promotion", markdown=f"**{verdict}**: {decision.reason}")
    return decision
