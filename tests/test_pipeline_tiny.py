"""The whole graph at its tiny size, by DVC, in a clean copy: from raw scans to the report and to an avatar.

`dvc repro` is killed twice on its way, once in a data stage and once in a training stage, and run again: what
comes out is compared with runs that nothing stopped.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows import engine
from flows.graph import read_graph
from flows.profiles import use_profile
from stages._core.registry import STAGE_NAMES
from stages._core.scan_store import open_scans
from stages._core.store import open_store
from stages.render_views import RenderViewsParams, render_scan

COPIED = (
    *("dinar_models", "stages", "flows", "profiles", "data/catalog", "pipelines"),
    *("dvc.yaml", "constraints.txt", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore"),
    *("data/weights.yaml", "data/raw/body_models/README.md", "data/raw/weights/lpips_vgg/README.md"),
)
VIEWS, DIFFUSION = "data/stores/synthetic/views", "data/models/diffusion"
FINISHED_SHARDS = "data/.work/synthetic.views/*/done/*.json"
CHECKPOINT = "data/.work/train_diffusion/*/checkpoint.pt"

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Project:
    """A copy of the project after `dvc repro`.

    Attributes:
        shards: how many shards of the views were finished when the first run was killed.
        first, second: what the runs that were killed in render_views and in train_diffusion printed.
        third: what the run after them printed.
    """

    root: Path
    shards: int
    first: str
    second: str
    third: str


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    for name in COPIED:
        source, target = engine.ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "released"))
        else:
            shutil.copy(source, target)
    use_profile("tiny", root / "params.yaml")
    _commit(root)
    first = _killed_repro(root, FINISHED_SHARDS)
    shards = len(list(root.glob(FINISHED_SHARDS)))
    assert not (root / VIEWS).exists()
    second = _killed_repro(root, CHECKPOINT)
    assert not (root / DIFFUSION).exists()
    done = _dvc(root, "repro")
    assert done.returncode == 0, done.stdout[-6000:]
    return Project(root, shards, first, second, done.stdout)


def _commit(root: Path) -> None:
    """The copy becomes a fresh clone: everything committed, nothing made yet."""
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    for command in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "clone")):
        subprocess.run(("git", *command), cwd=root, check=True)


def _killed_repro(root: Path, reached: str) -> str:
    """Start `dvc repro` and kill it, with all its children, once a file like `reached` is there."""
    log = root / "killed.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=root,
            env=engine.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while not any(root.glob(reached)) and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None, f"ended before {reached} was there:\n{log.read_text()[-6000:]}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return log.read_text()


def _run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env=engine.environment() | {"COLUMNS": "200"},  # tables do not wrap
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(root, "-m", "dvc", *arguments)


def _dinar(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line of the copy, not of the checkout."""
    return _run(root, "-c", "from flows.cli import app; app()", *arguments)


def _ran(output: str) -> list[str]:
    """The stages that DVC ran, in order."""
    return re.findall(r"^Running stage '(.+)':", output, re.MULTILINE)


def _unbroken(root: Path, stage: str) -> None:
    """Run one stage again from nothing."""
    done = _dvc(root, "repro", "--single-item", "--force", stage)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "earlier run" not in done.stdout
    assert "resumes" not in done.stdout


def test_a_killed_data_stage_went_on_at_the_first_missing_shard(project: Project) -> None:
    found = re.search(r"synthetic/views: (\d+) of (\d+) were done by an earlier run", project.second)
    assert found is not None
    assert int(found[1]) == project.shards
    assert 0 < project.shards < int(found[2])
    *finished, killed = _ran(project.first)
    assert killed == "render_views@synthetic"
    assert finished
    assert not set(finished) & set(_ran(project.second))
    digest = (project.root / VIEWS / "digest.json").read_text()
    _unbroken(project.root, "render_views@synthetic")
    assert (project.root / VIEWS / "digest.json").read_text() == digest


def test_a_killed_training_stage_went_on_at_its_last_checkpoint(project: Project) -> None:
    found = re.search(r"train_diffusion: resumes at step (\d+) of (\d+)", project.third)
    assert found is not None
    assert 0 < int(found[1]) < int(found[2])
    assert _ran(project.third)[0] == "train_diffusion"
    files = ("diffusion.safetensors", "history.jsonl")
    resumed = [(project.root / DIFFUSION / name).read_bytes() for name in files]
    _unbroken(project.root, "train_diffusion")
    assert [(project.root / DIFFUSION / name).read_bytes() for name in files] == resumed


def test_every_stage_ran_and_left_its_provenance(project: Project) -> None:
    recorded = {p.stem.split("@")[0] for p in (project.root / "data/.runs").glob("*.json")}
    assert recorded == set(STAGE_NAMES) - {"ingest_images"}  # no data set of photos is enabled
    modules = {entry.name: entry.module for entry in read_graph(project.root / "dvc.yaml")[1]}
    named = {modules[name.split("@")[0]] for name, _ in engine.stage_order(project.root)}
    assert named == recorded
    assert not (project.root / "data/ablation").exists()


def test_git_sees_nothing_new_but_dvcs_lock(project: Project) -> None:
    status = ("git", "status", "--porcelain")
    changed = subprocess.run(status, cwd=project.root, capture_output=True, text=True, check=True).stdout
    assert changed.split() == ["??", "dvc.lock"]


def test_nothing_is_left_to_do(project: Project) -> None:
    assert engine.changed_stages(project.root) == {}
    again = _dvc(project.root, "repro")
    assert again.returncode == 0
    assert _ran(again.stdout) == []


def test_splits_do_not_share_subjects(project: Project) -> None:
    index = open_store(project.root / VIEWS, "views").index
    assert (index.groupby("subject")["split"].nunique() == 1).all()
    assert set(index["split"]) == {"train", "val", "gate", "test"}


def test_rows_stay_the_same_from_views_to_latents(project: Project) -> None:
    columns = ["subject", "scan", "split", "view", "variant"]
    stores = {name: open_store(project.root / "data/stores/synthetic" / name, name)
              for name in ("views", "parsing", "keypoints", "bodies", "textures", "latents")}  # fmt: skip
    views = stores["views"].index[columns]
    for store in stores.values():
        assert store.index[columns].equals(views)
        assert (store.index.loc[~store.index["ok"], "reason"] != "").all()


def test_metrics_and_report_are_there(project: Project) -> None:
    metrics = json.loads((project.root / "data/reports/metrics.json").read_text())
    assert {"same_view", "novel_view", "baselines", "fit", "parsing"} <= set(metrics)
    assert metrics["same_view"]["psnr"] > 15
    assert metrics["fit"]["multi_view"]["iou"] > 0.7
    assert metrics["same_view"]["lpips"] is None
    page = (project.root / "data/reports/index.html").read_text()
    assert page.count("data:image/webp;base64,") > 10
    assert all(uri.startswith(("data:", "#")) for uri in re.findall(r'(?:src|href)="([^"]*)"', page))


@pytest.fixture(scope="module")
def photo(project: Project) -> Path:
    """A picture of a test person from the front, cut out: six steps teach the parser nothing about masks."""
    scans = open_scans(project.root / "data/stores/synthetic/scans")
    row = int(np.flatnonzero(scans.index["split"] == "test")[0])
    line = scans.index.iloc[row]
    params = RenderViewsParams(seed=0, image_size=512, views=1, variants=1)
    view = render_scan(scans.read(row), line["subject"], line["scan"], params)
    path = project.root.parent / "photo.png"
    Image.fromarray(np.dstack([view["rgb"][0], view["mask"][0]])).save(path)
    return path


def test_a_photo_becomes_an_avatar_that_walks(project: Project, photo: Path) -> None:
    folder = photo.parent / "anna"
    made = _dinar(project.root, "avatar", str(photo), "--out", str(folder))
    assert made.returncode == 0, made.stdout[-6000:]
    assert json.loads((folder / "avatar.json").read_text())["weights"] == "repro"
    with Image.open(folder / "turntable.webp") as turntable:
        assert turntable.n_frames > 8
    walked = _dinar(project.root, "animate", str(folder), "--motion", "walk", "--frames", "4")
    assert walked.returncode == 0, walked.stdout[-6000:]
    with Image.open(folder / "walk.webp") as walk:
        assert walk.n_frames == 4


def test_a_data_set_comes_and_goes_without_the_others_noticing(project: Project, tmp_path: Path) -> None:
    """One scan of the embedded people, brought in as somebody else's."""
    root, files = project.root, ("params.yaml", "data/catalog/enabled.yaml")
    before = [(root / name).read_bytes() for name in files]
    scan = next(p for p in sorted((root / "data/raw/synthetic").iterdir()) if p.is_dir())
    shutil.copytree(scan, tmp_path / "mine" / scan.name)
    command = ("dataset", "add", "mine", "--adapter", "scans", "--train")
    added = _dinar(root, *command, "--path", str(tmp_path / "mine"))
    assert added.returncode == 0, added.stdout[-6000:]
    with Image.open(root / "data/reports/datasets/mine.png") as sheet:
        assert sheet.width > 8 * 160
    changed = engine.changed_stages(root)
    assert "enabled, learnt from" in _dinar(root, "dataset", "list").stdout
    training = {"train_avatar", "train_vqgan", "finetune_avatar", "train_diffusion"}
    assert {name for name in changed if not name.endswith("@mine")} - {"data/raw/mine.dvc"} == {
        "check_params",
        *training,
    }
    assert engine.run_stage("ingest@mine", root).ran
    assert "ingest@mine" in (root / "dvc.lock").read_text()
    removed = _dinar(root, "dataset", "remove", "mine", "--yes", "--force")
    assert removed.returncode == 0, removed.stdout[-6000:]
    assert [(root / name).read_bytes() for name in files] == before
    assert "@mine" not in (root / "dvc.lock").read_text()
    assert engine.changed_stages(root) == {}


def test_an_evaluation_parameter_reruns_evaluation_and_report_only(project: Project) -> None:
    """Last: it changes the project."""
    params = project.root / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("kid_subset: ", "kid_subset: 1", 1))
    assert params.read_text() != before
    done = _dvc(project.root, "repro")
    assert done.returncode == 0, done.stdout[-6000:]
    assert _ran(done.stdout) == ["check_params", "evaluate", "report"]


def test_a_wrong_parameter_stops_everything_before_anything_runs(project: Project) -> None:
    params = project.root / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("render_views:", "render_views:\n  veiws: 3", 1))
    try:
        done = _dvc(project.root, "repro")
    finally:
        params.write_text(before)
    assert done.returncode != 0
    assert _ran(done.stdout) == ["check_params"]
    assert "render_views.veiws: unknown key; did you mean views?" in done.stdout
