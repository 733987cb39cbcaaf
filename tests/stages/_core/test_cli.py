"""`python -m stages.NAME`: nothing runs on wrong paths or parameters; one sentence and code 1; provenance."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import Field

from stages._core.cli import main
from stages._core.params import StageParams
from stages._core.publish import write_file
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary


class CountParams(StageParams):
    seed: int
    least: int = Field(1, ge=0, description="fewest lines")


ran: list[CountParams] = []


def count(params: CountParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Count the lines of all texts."""
    ran.append(params)
    lines = sum(len(path.read_text().splitlines()) for path in inputs.group("texts").values())
    if lines < params.least:
        raise ValueError(f"{lines} lines, {params.least} are needed")
    write_file(outputs["count"], str(lines))
    return {"lines": lines}


STAGE = Stage("count", CountParams, inputs=("texts.*", "extra?"), outputs=("count",), run=count)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "params.yaml").write_text("seed: 3\ncount: {least: 1}\n")
    monkeypatch.setenv("DINAR_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DINAR_WORK", str(tmp_path / "work"))
    ran.clear()
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]  # `main` sets up logging for a whole process
    yield tmp_path
    root.setLevel(level)
    root.handlers[:] = handlers


def run(folder: Path, *options: str) -> int:
    """The exit code of the command on a.txt, with more options."""
    paths = ["--input", f"texts.a={folder / 'a.txt'}", "--output", f"count={folder / 'count'}"]
    try:
        main(STAGE, ["--params", str(folder / "params.yaml"), *paths, *options])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_run_writes_its_output_and_its_provenance(folder: Path) -> None:
    assert run(folder) == 0
    assert (folder / "count").read_text() == "2"
    record = json.loads((folder / "runs/count.json").read_text())
    assert record["summary"] == {"lines": 2}
    assert record["inputs"] == {"texts.a": str(folder / "a.txt")}
    assert record["peak_mib"] > 0


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("count: {leats: 2}", "count.leats: unknown key; did you mean least?"),
        ("count: {least: few}", "count.least: got 'few'"),
        ("count: {least: -1}", "count.least: got -1; Input should be greater than or equal to 0"),
        ("count: [", "is not valid YAML"),
    ],
)
def test_wrong_parameters_are_refused_before_the_stage_runs(
    folder: Path, section: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "params.yaml").write_text(f"seed: 3\n{section}\n")
    assert run(folder) == 1
    assert ran == []
    assert words in capsys.readouterr().err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--input", "textes.b=x"], "unknown input 'textes.b'; declared: texts.*, extra?"),
        (["--output", "total=x"], "unknown output 'total'"),
        (["--input", "texts.b"], "'texts.b': NAME=PATH is expected"),
    ],
)
def test_wrong_paths_are_refused_before_the_stage_runs(
    folder: Path, option: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, *option) == 1
    assert ran == []
    assert words in capsys.readouterr().err


def test_a_group_needs_at_least_one_member() -> None:
    with pytest.raises(ValueError, match=r"count: input 'texts\.\*' is missing; give --input texts\.\*=PATH"):
        STAGE.check_paths(Paths({"extra": "x"}), Paths({"count": "y"}))


def test_an_error_is_one_sentence_and_debug_shows_where(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "params.yaml").write_text("seed: 3\ncount: {least: 9}\n")
    assert run(folder) == 1
    assert "count failed: ValueError: 2 lines, 9 are needed (--debug shows where)" in capsys.readouterr().err
    with pytest.raises(ValueError, match="2 lines, 9 are needed"):
        run(folder, "--debug")


@pytest.mark.parametrize(("name", "value"), [("DINAR_WORKERS", "0"), ("DINAR_DEVICE", "tpu")])
def test_a_wrong_environment_names_the_variable(
    folder: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert run(folder) == 1
    assert f"{name}='{value}'" in capsys.readouterr().err
