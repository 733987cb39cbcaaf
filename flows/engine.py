"""The only place that calls DVC. DVC owns what is up to date; everything above asks here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BESIDE = "pipelines"
"""Folder of the graphs that nothing runs by itself."""


class EngineError(RuntimeError):
    """DVC refused or a stage failed; the text ends with what it printed last."""


@dataclass(frozen=True)
class StageRun:
    """How one stage ended: `ran` is False when DVC found nothing to do."""

    name: str
    ran: bool


def environment() -> dict[str, str]:
    """The environment of every DVC call: this interpreter first on PATH, nothing sent anywhere."""
    env = dict(os.environ)
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    env.update(DVC_NO_ANALYTICS="1", DO_NOT_TRACK="1")
    return env


def repro(targets: list[str] | None = None, force: bool = False, root: Path = ROOT) -> int:
    """`dvc repro` with its output passed through. Returns the exit code.

    A stage that fails, as of one data set, stops only those that depend on it.
    """
    command = [*_dvc(), "repro", "--keep-going", *(["--force"] if force else []), *(targets or [])]
    return subprocess.run(command, cwd=root, env=environment()).returncode


def run_stage(name: str, root: Path = ROOT, echo: Callable[[str], None] | None = None) -> StageRun:
    """Run one stage, and only it, if DVC finds that it is not up to date.

    `--wait-for-lock repro --single-item` is the one form that survives other DVC processes beside it.

    Raises:
        EngineError: with the last lines that the stage printed.
    """
    command = [*_dvc(), "--wait-for-lock", "repro", "--single-item", name]
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if echo is not None:
                echo(line.rstrip())
    if process.returncode != 0:
        raise EngineError(f"{name} failed:\n" + "\n".join(lines[-12:]))
    return StageRun(name, ran=not any("didn't change, skipping" in line for line in lines))


def changed_stages(root: Path = ROOT) -> dict[str, Any]:
    """Stages of the main graph that are not up to date by themselves, with DVC's reasons."""
    done = subprocess.run(
        [*_dvc(), "status", "--json"], cwd=root, env=environment(), capture_output=True, text=True
    )
    if done.returncode != 0:
        raise EngineError(f"dvc status failed: {done.stderr.strip() or done.stdout.strip()}")
    return {name: why for name, why in json.loads(done.stdout or "{}").items() if not _is_beside(name)}


def stage_order(root: Path = ROOT) -> list[tuple[str, list[str]]]:
    """Every stage of the main graph after those that it depends on, each with its direct dependencies."""
    import networkx as nx
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        graph = repo.index.graph.copy()
        graph.remove_nodes_from([stage for stage in repo.index.stages if _is_beside(stage.path_in_repo)])
        order = nx.lexicographical_topological_sort(graph.reverse(copy=True), key=_address)
        return [(_address(stage), sorted(map(_address, graph.successors(stage)))) for stage in order]


def track(path: Path, root: Path = ROOT) -> None:
    """Put raw data under DVC: `dvc add`, which writes PATH.dvc beside it.

    Raises:
        EngineError: with what DVC said.
    """
    _call(["add", "--quiet", str(path.relative_to(root))], root)


def untrack(path: Path, root: Path = ROOT) -> None:
    """Take PATH.dvc away; the data stay."""
    pointer = path.with_name(f"{path.name}.dvc")
    if pointer.is_file():
        _call(["remove", "--quiet", str(pointer.relative_to(root))], root)


def forget(items: set[str], root: Path = ROOT) -> None:
    """Drop the entries `stage@ITEM` of dvc.lock, which DVC keeps after a list got shorter."""
    from dvc.utils.serialize import modify_yaml

    lock = root / "dvc.lock"
    if not lock.is_file():
        return
    with modify_yaml(str(lock)) as data:
        stages = data.get("stages", {})
        for name in [n for n in stages if n.partition("@")[2] in items]:
            del stages[name]


def _call(arguments: list[str], root: Path) -> None:
    done = subprocess.run([*_dvc(), *arguments], cwd=root, env=environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise EngineError(f"dvc {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")


def _is_beside(address: str) -> bool:
    """Whether a file or stage belongs to a graph of its own, which runs only when it is asked for."""
    return address.startswith(f"{BESIDE}/")


def _address(stage: Any) -> str:
    """The name in dvc.yaml, or the path of a .dvc file: what `dvc repro` takes in the root."""
    return str(getattr(stage, "name", None) or stage.path_in_repo)


def _dvc() -> list[str]:
    return [sys.executable, "-m", "dvc"]
