"""What the doctor finds wrong comes with what to do about it."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from flows import doctor
from flows.doctor import Finding, examine, print_findings


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project's folder with the tested versions, and nothing made yet."""
    shutil.copy(doctor.ROOT / "constraints.txt", tmp_path)
    return tmp_path


def test_a_fresh_project_lacks_nothing_that_it_needs(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "NEEDED_DISK_GIB", 0)
    found = by_subject(examine(root))
    assert [f.subject for f in found.values() if f.level == "error"] == []
    assert found["torch"].level == "ok"
    assert found["body model"].state == "the open body"
    assert "data/raw/body_models/README.md" in found["body model"].advice
    assert found["released weights"].advice == "`dinar avatar` works after `dinar repro`"
    assert "dinar weights fetch lpips_alex" in found["weights lpips_alex"].advice


def test_licensed_bodies_and_released_weights_are_seen(root: Path):
    for name in ("data/raw/body_models/SMPLX_NEUTRAL.npz", "data/released/avatar/avatar.safetensors"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    found = by_subject(examine(root))
    assert found["body model"] == Finding("ok", "body model", "licensed SMPL-X")
    assert found["released weights"].level == "ok"


def test_other_versions_and_missing_packages_name_the_way_out(root: Path, monkeypatch: pytest.MonkeyPatch):
    (root / "constraints.txt").write_text("zarr==0.1\n")
    monkeypatch.setattr(doctor, "PINNED", ("zarr", "no-such-package"))
    found = by_subject(examine(root))
    assert (found["zarr"].level, found["zarr"].advice) == ("note", "tested with 0.1: run `make install`")
    assert (found["no-such-package"].level, found["no-such-package"].state) == ("error", "not installed")


def test_a_full_disk_and_missing_tools_are_errors(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "NEEDED_DISK_GIB", 10**9)
    monkeypatch.setenv("PATH", str(root))
    found = by_subject(examine(root))
    assert found["disk"].level == "error"
    assert "free some space" in found["disk"].advice
    assert found["git"] == Finding("error", "git", "not on PATH", "install git")


def test_the_worst_is_printed_last():
    printed = io.StringIO()
    findings = [Finding("error", "disk", "full", "free some"), Finding("ok", "cores", "2")]
    print_findings(findings, Console(file=printed, width=120))
    text = printed.getvalue()
    assert text.index("cores") < text.index("disk")
    assert "free some" in text
