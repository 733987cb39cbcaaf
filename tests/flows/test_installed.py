"""What a wheel holds: the released weights, and commands that need no checkout."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.champion import WEIGHTS
from flows.engine import ROOT

BUILD = "from setuptools import setup; setup()"
FIND = "from flows.model_folders import DATA, find_models; print(find_models('auto', DATA))"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages as a wheel installs them, built from a checkout with small files in place of weights."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "README.md").touch()
    for package in ("flows", "stages", "dinar_models"):
        shutil.copytree(
            ROOT / package, root / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in WEIGHTS:
        (root / "data/released" / name).mkdir(parents=True)
        (root / "data/released" / name / "net.safetensors").write_text(name)
    (root / "data/released/card.json").write_text('{"reconstruct": {}}')
    command = [sys.executable, "-W", "ignore", "-c", BUILD, "-q", "build_py", "--build-lib", "site"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root / "site"


def run(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin"}
    return subprocess.run(
        [sys.executable, *command], cwd=site.parent.parent, env=environment, capture_output=True, text=True
    )


def test_the_released_weights_come_along_and_are_found(site: Path) -> None:
    assert not (site / "flows/released").is_symlink()
    files = {
        str(p.relative_to(site / "flows/released"))
        for p in (site / "flows/released").rglob("*")
        if p.is_file()
    }
    assert files == {"card.json", *(f"{name}/net.safetensors" for name in WEIGHTS)}
    found = run(site, "-c", FIND)
    assert found.stdout == f"released ({site}/flows/released)\n", found.stderr


def test_what_needs_a_checkout_says_so(site: Path) -> None:
    done = run(site, "-m", "flows.cli", "repro")
    assert done.returncode == 1
    assert (
        done.stderr
        == "`dinar repro` works in a checkout of the project; installed, there are avatar and animate\n"
    )
