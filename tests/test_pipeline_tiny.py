"""The whole graph at its tiny size, by DVC, in a clean copy: from raw scans to the report and an avatar."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import engine
from flows.profiles import use_profile
from stages._core.store import open_store

COPIED = ("dinar_models", "stages", "flows", "profiles", "dvc.yaml", ".dvcignore", "constraints.txt")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A clean copy of the project with the tiny profile, after `dvc repro`."""
    root = tmp_path_factory.mktemp("project")
    for name in COPIED:
        source = engine.ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    shutil.copytree(engine.ROOT / "data/catalog", root / "data/catalog")
    (root / "data/raw/body_models").mkdir(parents=True)
    shutil.copy(engine.ROOT / "data/raw/body_models/README.md", root / "data/raw/body_models")
    use_profile("tiny", root / "params.yaml")
    _dvc(root, "init", "--no-scm", "-q")
    done = _dvc(root, "repro")
    assert done.returncode == 0, done.stdout[-6000:]
    return root


def _dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env=engine.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.timeout(900)
def test_metrics_and_report_are_there(project):
    metrics = json.loads((project / "data/reports/metrics.json").read_text())
    assert set(metrics) == {
        "same_view", "novel_view", "baselines", "kid_effnet_interval", "fit", "parsing",
    }  # fmt: skip
    assert metrics["same_view"]["psnr"] > 5
    assert metrics["same_view"]["lpips"] is None
    page = (project / "data/reports/index.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "")
    assert page.count("data:image/webp;base64,") > 10


def test_splits_do_not_share_subjects(project):
    index = open_store(project / "data/stores/synthetic/views", "views").index
    assert (index.groupby("subject")["split"].nunique() == 1).all()
    assert set(index["split"]) == {"train", "val", "gate", "test"}


@pytest.mark.timeout(120)
def test_nothing_is_left_to_do(project):
    assert json.loads(_dvc(project, "status", "--json", "-q").stdout or "{}") == {}


@pytest.mark.timeout(300)
def test_an_evaluation_parameter_reruns_evaluation_and_report_only(project):
    params = project / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("kid_subset: ", "kid_subset: 1", 1))
    assert params.read_text() != before
    lines = _dvc(project, "repro").stdout.splitlines()
    ran = [line.split("'")[1] for line in lines if line.startswith("Running stage")]
    assert ran == ["check_params", "evaluate", "report"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("stage", "out"), [("render_views@synthetic", "data/stores/synthetic/views")])
def test_a_killed_data_stage_resumes_and_ends_with_the_same_bytes(project, stage, out):
    digest = json.loads((project / out / "digest.json").read_text())
    shutil.rmtree(project / out)
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", stage]
    process = subprocess.Popen(command, cwd=project, env=engine.environment(), start_new_session=True)
    work = project / "data/.work"
    deadline = time.monotonic() + 120
    while not list(work.glob("synthetic.views/*/done/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = len(list(work.glob("synthetic.views/*/done/*.json")))
    assert finished > 0
    assert not (project / out).exists()
    again = _dvc(project, "repro", "--single-item", "--force", stage)
    assert again.returncode == 0, again.stdout[-3000:]
    assert f"{finished} of" in again.stdout or "were done by an earlier run" in again.stdout
    assert json.loads((project / out / "digest.json").read_text()) == digest
