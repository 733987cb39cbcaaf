"""What this machine has, what is missing, and how to get it."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from flows.profiles import PARAMS, profile_names, render_profile
from flows.weights import FOLDER, listing

ROOT = Path(__file__).parents[1]
NEEDED_DISK_GIB = 8
NEEDED_MEMORY_GIB = 8
PINNED = (
    "torch",
    "torchvision",
    "smplx",
    "mediapipe",
    "anny",
    "diffusers",
    "zarr",
    "dvc",
    "prefect",
    "embreex",
)

Level = Literal["ok", "note", "error"]


@dataclass(frozen=True)
class Finding:
    """One checked thing; `advice` says what to do about it."""

    level: Level
    subject: str
    state: str
    advice: str = ""


def examine(root: Path = ROOT) -> list[Finding]:
    """Every check; nothing is changed."""
    return [
        *_environment(root),
        *_resources(root),
        *_packages(root),
        *_params(),
        *_bodies(root),
        *_weights(),
    ]


def print_findings(findings: list[Finding], console: Console) -> None:
    """As a table, the worst last."""
    table = Table(show_header=True)
    for column in ("", "what", "state", "what to do"):
        table.add_column(column, overflow="fold")
    signs = {"ok": "[green]ok[/green]", "note": "[yellow]–[/yellow]", "error": "[red]missing[/red]"}
    for finding in sorted(findings, key=lambda f: ("ok", "note", "error").index(f.level)):
        table.add_row(signs[finding.level], finding.subject, finding.state, finding.advice)
    console.print(table)


def _environment(root: Path) -> Iterator[Finding]:
    version = platform.python_version()
    right = sys.version_info[:2] == (3, 11)
    yield Finding("ok" if right else "error", "Python", version, "" if right else "use CPython 3.11")
    inside = Path(sys.prefix).resolve() == (root / ".venv").resolve()
    advice = "" if inside else "run `make install`, then use .venv/bin/dinar or activate .venv"
    yield Finding("ok" if inside else "note", "active environment", sys.prefix, advice)
    for tool in ("git", "make"):
        found = shutil.which(tool)
        yield Finding(
            "ok" if found else "error", tool, found or "not on PATH", "" if found else f"install {tool}"
        )


def _resources(root: Path) -> Iterator[Finding]:
    import psutil

    free = shutil.disk_usage(root).free / 2**30
    enough = free >= NEEDED_DISK_GIB
    advice = "" if enough else f"a demo run writes about {NEEDED_DISK_GIB} GiB: free some space"
    yield Finding("ok" if enough else "error", "disk", f"{free:.0f} GiB free", advice)
    memory = psutil.virtual_memory().total / 2**30
    enough = memory >= NEEDED_MEMORY_GIB
    advice = "" if enough else "use the profile tiny, or DINAR_WORKERS=1"
    yield Finding("ok" if enough else "note", "memory", f"{memory:.0f} GiB", advice)
    yield Finding("ok", "cores", str(os.cpu_count()))
    import torch

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: everything runs on the CPU"
    yield Finding("ok", "GPU", cuda)


def _packages(root: Path) -> Iterator[Finding]:
    lines = (root / "constraints.txt").read_text().splitlines()
    tested = dict(line.split("==", 1) for line in lines if "==" in line)
    for name in PINNED:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("error", name, "not installed", "run `make install`")
            continue
        same = found.split("+")[0] == tested.get(name)
        advice = "" if same else f"tested with {tested.get(name)}: run `make install`"
        yield Finding("ok" if same else "note", name, found, advice)


def _params() -> Iterator[Finding]:
    if not PARAMS.exists():
        yield Finding("note", "params.yaml", "absent", "`dinar repro` writes it from the profile demo")
        return
    text = PARAMS.read_text()
    name = next((n for n in profile_names() if render_profile(n) == text), None)
    yield Finding("ok", "params.yaml", f"profile {name}" if name else "edited by hand")


def _bodies(root: Path) -> Iterator[Finding]:
    licensed = root / "data/raw/body_models/SMPLX_NEUTRAL.npz"
    if licensed.is_file():
        yield Finding("ok", "body model", "licensed SMPL-X")
    else:
        yield Finding(
            "note", "body model", "the open body", "data/raw/body_models/README.md says how to use SMPL-X"
        )
    released = root / "data/released"
    there = released.is_dir() and any(released.glob("*/*.safetensors"))
    advice = "" if there else "`dinar avatar` works after `dinar repro`"
    yield Finding("ok" if there else "note", "released weights", "there" if there else "none", advice)


def _weights() -> Iterator[Finding]:
    for entry in listing().values():
        there = (FOLDER / entry.file).is_file()
        advice = "" if there else f"enables {entry.enables}: `dinar weights fetch {entry.name}` or `add`"
        yield Finding(
            "ok" if there else "note", f"weights {entry.name}", "there" if there else "absent", advice
        )
