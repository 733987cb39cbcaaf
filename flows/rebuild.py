"""The graph as a Prefect flow: one task per DVC stage, up-to-date stages shown as such."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from flows import engine


@task(cache_policy=NO_CACHE, persist_result=False, retries=0, task_run_name="{name}")
def stage_task(name: str, due: bool, root: str) -> State[Any]:
    """Run one stage through DVC, or show that there is nothing to do."""
    if not due:
        return Completed(name="UpToDate", message="nothing that it depends on has changed")
    run = engine.run_stage(name, Path(root), echo=get_run_logger().info)
    if run.ran:
        return Completed(name="Rebuilt", message="rebuilt")
    return Completed(name="UpToDate", message="DVC found the same inputs")


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="{name}")
def blocked_task(name: str, because: str) -> State[Any]:
    """A stage that cannot run because one that it depends on failed."""
    return Failed(name="Blocked", message=f"not run: {because} failed")


@flow(name="rebuild", log_prints=False, persist_result=False)
def rebuild(root: str = str(engine.ROOT)) -> dict[str, str]:
    """Bring every stage up to date; a failing data set is named while the rest goes on.

    Returns:
        Stage → UpToDate, Rebuilt, Failed or Blocked.

    Raises:
        engine.EngineError: at the end, when any stage failed.
    """
    changed = engine.changed_stages(Path(root))
    outcome: dict[str, str] = {}
    messages: dict[str, str] = {}
    for name, needs in engine.stage_order(Path(root)):
        broken = [n for n in needs if outcome.get(n) in ("Failed", "Blocked")]
        if broken:
            state = blocked_task(name, broken[0], return_state=True)
        else:
            due = name in changed or any(outcome.get(n) == "Rebuilt" for n in needs)
            state = stage_task(name, due, root, return_state=True)
        outcome[name], messages[name] = state.name or state.type.value, state.message or ""
    _publish_table(outcome, messages)
    failed, blocked = ([n for n, s in outcome.items() if s == state] for state in ("Failed", "Blocked"))
    if failed:
        waiting = f"; not run, as they depend on it: {', '.join(blocked)}" if blocked else ""
        raise engine.EngineError(f"failed: {', '.join(failed)}{waiting}; the rest was brought up to date")
    return outcome


def _publish_table(outcome: dict[str, str], messages: dict[str, str]) -> None:
    rows = [{"stage": n, "state": s, "message": messages[n][:300]} for n, s in outcome.items()]
    create_table_artifact(key="rebuild-stages", table=rows, description="Stages of the last rebuild")
