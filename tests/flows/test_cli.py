"""The `dinar` command: what it prints, what it writes, its exit codes."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from flows import cli, doctor, engine, graph, weights
from flows.profiles import render_profile, use_profile
from tests.stages.tiny_fits import fit_lines, save_fits

ENTRY = """
known:
  file: known.pth
  url: null
  sha256: "{digest}"
  licence: CC0-1.0
  enables: a test
"""


def dinar(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The params.yaml that the command reads and writes instead of the project's own."""
    path = tmp_path / "params.yaml"
    monkeypatch.setattr(cli, "PARAMS", path)
    monkeypatch.setattr(cli, "use_profile", partial(use_profile, target=path))
    return path


def test_help_names_every_command():
    done = dinar("--help")
    assert done.exit_code == 0
    names = ("repro", "avatar", "animate", "doctor", "profile", "graph", "flow", "weights", "fits", "dataset")
    for name in names:
        assert name in done.stdout


def test_everything_that_is_typed_is_ascii():
    """A short option of the published code is a Cyrillic letter, which no keyboard that needs it has."""

    def words(command: Any) -> Iterator[str]:
        for parameter in command.params:
            yield from (*parameter.opts, *parameter.secondary_opts)
        for name, inner in getattr(command, "commands", {}).items():
            yield name
            yield from words(inner)

    typed = list(words(typer.main.get_command(cli.app)))
    assert len(typed) > 40
    assert [word for word in typed if not word.isascii()] == []


def test_profile_use_writes_it_and_list_marks_it(params: Path):
    assert dinar("profile", "use", "tiny").exit_code == 0
    assert params.read_text() == render_profile("tiny")
    done = dinar("profile", "list")
    assert done.exit_code == 0
    marked = [line[2:].strip() for line in done.stdout.splitlines() if line.startswith("*")]
    assert marked == ["tiny"]
    assert {line[2:].strip() for line in done.stdout.splitlines()} == {"demo", "tiny", "small", "paper"}


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [("tiny", "# mine\n", "local edits"), ("tinny", "", "no profile 'tinny'; there are demo")],
)
def test_profile_use_refuses_in_one_line_and_leaves_the_file(params: Path, name: str, edit: str, words: str):
    text = render_profile("demo") + edit
    params.write_text(text)
    done = dinar("profile", "use", name)
    assert done.exit_code == 1
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output
    assert params.read_text() == text


def test_profile_use_force_writes_over_edits(params: Path):
    params.write_text("mine: true\n")
    assert dinar("profile", "use", "tiny", "--force").exit_code == 0
    assert params.read_text() == render_profile("tiny")


def test_graph_check_fails_with_a_line_for_each_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    damaged = tmp_path / "dvc.yaml"
    damaged.write_text(graph.DVC_YAML.read_text().replace("        - stages/_core/store.py\n", "", 1))
    monkeypatch.setattr(graph, "GRAPHS", {damaged: graph.GRAPHS[graph.DVC_YAML]})
    done = dinar("graph", "check")
    assert done.exit_code == 1
    assert "missing ['stages/_core/store.py']" in done.stderr
    assert "dinar graph sync" in done.stderr


def test_repro_passes_the_exit_code_on_and_says_how_to_go_on(params: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "repro", lambda targets: 7)
    done = dinar("repro")
    assert done.exit_code == 7
    assert "run `dinar repro` again" in done.stderr
    assert params.read_text() == render_profile("demo")  # there was none: the default was written


@pytest.mark.parametrize(("needed", "code"), [(0, 0), (10**9, 1)])
def test_doctor_fails_only_when_something_needed_is_missing(
    needed: int, code: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(doctor, "NEEDED_DISK_GIB", needed)
    done = dinar("doctor")
    assert done.exit_code == code
    assert "disk" in done.stdout


def test_weights_list_shows_what_each_file_enables():
    done = dinar("weights", "list")
    assert done.exit_code == 0
    for entry in weights.listing().values():
        assert entry.name in done.stdout
    assert "metric lpips" in done.stdout


def test_weights_add_refuses_another_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    listed = tmp_path / "weights.yaml"
    listed.write_text(ENTRY.format(digest="0" * 64))
    file = tmp_path / "mine.pth"
    file.write_bytes(b"weights")
    kept = tmp_path / "kept"
    monkeypatch.setattr(weights, "add_file", partial(weights.add_file, path=listed, folder=kept))
    done = dinar("weights", "add", "known", file)
    assert done.exit_code == 1
    assert "0000000000000000… is listed for known" in done.stderr
    assert not kept.exists()


def test_weights_fetch_without_an_address_says_how_else_to_get_it():
    done = dinar("weights", "fetch", "inception")
    assert done.exit_code == 1
    assert "dinar weights add inception FILE" in done.stderr


def test_a_release_of_nothing_is_one_sentence(tmp_path: Path):
    done = dinar("weights", "release", "--from", tmp_path)
    assert done.exit_code == 1
    assert re.fullmatch(r"the weights .* lack body, parser, .*\n", done.stderr)


def test_fits_of_an_unknown_data_set_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "ROOT", tmp_path)
    done = dinar("fits", "export", "nothing", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "data/stores/nothing/views: arrays.zarr is missing" in done.stderr
    assert not (tmp_path / "out").exists()


def test_fits_are_exported_from_the_stores_of_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_fits(tmp_path / "data" / "stores" / "tiny", fit_lines(scan=["a0", "b0"], subject=["a", "b"]), "")
    monkeypatch.setattr(engine, "ROOT", tmp_path)
    done = dinar("fits", "export", "tiny", "--out", tmp_path / "out", "--format", "json")
    assert done.exit_code == 0
    assert done.stdout.startswith("2 fits written to")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a0.json", "b0.json"]
    assert dinar("fits", "export", "tiny", "--out", tmp_path / "out").exit_code == 1
