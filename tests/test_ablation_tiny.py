"""The ablation's graph by DVC at the smallest size, on four people whose stores are already there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows import engine
from flows.graph import ABLATION_YAML
from stages.reporting.ablation import PRIORS, ROWS
from tests.stages.tiny_world import IMAGE, TEXTURE, make_world

COPIED = ("dinar_models", "stages", "pipelines", ".dvcignore")
PARAMS = "pipelines/ablation/params.yaml"
SMALL = {
    "train_avatar": {
        "steps": 2, "batch": 2, "encoder_base": 8, "generator_base": 8, "renderer_base": 4, "style": 16,
        "renderer_blocks": 1, "adversarial": 0,
    },
    "finetune_avatar": {"steps": 2, "batch": 2, "adversarial": 0},
    "train_vqgan": {"steps": 4, "batch": 2, "widths": [8, 16], "groups": 4, "codes": 8},
    "train_diffusion": {
        "steps": 20, "batch": 4, "widths": [8, 16], "attention": [False, True], "groups": 4, "head_width": 8
    },
    "reconstruct": {"steps": 2},
    "evaluate": {"kid_subset": 4, "kid_draws": 2, "kid_reference": 8},
    "measure_diversity": {"draws": 2},
}  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def project(tiny_body: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without the main graph: its stores are plain dependencies here."""
    root = tmp_path_factory.mktemp("ablation")
    for name in COPIED:
        source, target = engine.ROOT / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (root / "data/models").mkdir(parents=True)
    shutil.copytree(tiny_body, root / "data/models/body")
    (root / "data/stores").mkdir()
    make_world(root / "data/stores/synthetic", root / "data/models/body")
    write_params(root, tune_steps=2)
    _dvc(root, "init", "--no-scm", "-q")
    return root


def write_params(root: Path, tune_steps: int) -> None:
    values = yaml.safe_load((engine.ROOT / PARAMS).read_text())
    values |= {"image_size": IMAGE, "texture_size": TEXTURE}
    for section, changes in SMALL.items():
        values[section] |= changes
    values["vary_params"]["seeds"] = values["report_ablation"]["seeds"] = [3]
    for case in ("tuning", "full_noise", "regression"):
        values["vary_params"]["cases"][case]["reconstruct"]["tune_steps"] = tune_steps
    (root / PARAMS).write_text(yaml.safe_dump(values, sort_keys=False))


def _dvc(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=root, env=engine.environment(), text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def repro(root: Path) -> list[str]:
    """The stages that ran."""
    output = _dvc(root, "repro", str(ABLATION_YAML.relative_to(engine.ROOT)))
    return re.findall(r"^Running stage '(?:.*:)?(.+)':", output, re.MULTILINE)


def test_from_stores_to_the_page_and_only_what_changed_again(project: Path) -> None:
    ran = repro(project)
    assert len(ran) == len(set(ran)) > 30
    table = json.loads((project / "data/reports/ablation.json").read_text())
    for row in ROWS:
        assert table["rows"][row.case]["same_view"]["psnr"]["mean"] > 0
    assert len(table["priors"]) == len(PRIORS)
    assert table["priors"]["regression.avatar"]["diversity"]["perceptual"]["mean"] < 1e-6
    assert table["priors"]["full_noise.avatar"]["diversity"]["perceptual"]["mean"] > 1e-6
    assert "Step by step" in (project / "data/reports/ablation.html").read_text()
    assert repro(project) == []
    write_params(project, tune_steps=3)
    tuned = {"tuning", "full_noise", "regression"}
    again = repro(project)
    assert {name.split("@")[0] for name in again} == {
        "vary_params", "reconstruct_completed", "reconstruct_regressed", "evaluate_completed",
        "measure_diversity", "measure_regression", "report_ablation",
    }  # fmt: skip
    assert {name.split("-", 1)[1] for name in again if "-" in name} <= tuned
