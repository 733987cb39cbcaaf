"""Every seed and case gets a whole, valid params file that differs in what the case names alone."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.graph import ABLATION_YAML
from stages import vary_params as stage
from stages._core.params import ParamsError, parse_section, read_params
from stages._core.runtime import Runtime
from stages._core.stage import Paths

COMMITTED = ABLATION_YAML.parent / "params.yaml"


def run(tmp_path: Path, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The files that a params file leads to, by name."""
    source = tmp_path / "params.yaml"
    source.write_text(yaml.safe_dump(values))
    params = parse_section(stage.VaryParamsParams, "vary_params", read_params(source))
    stage.run(params, Paths({"params": source}), Paths({"runs": tmp_path / "runs"}), Runtime())
    return {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "runs").iterdir()}


def with_cases(seeds: list[int], cases: dict[str, Any]) -> dict[str, Any]:
    return read_params(COMMITTED) | {"vary_params": {"seeds": seeds, "cases": cases}}


def test_a_run_differs_in_its_seed_and_in_what_the_case_names(tmp_path: Path) -> None:
    changes = {"reconstruct": {"tune_steps": 3}, "train_avatar": {"texture": "rgb"}}
    files = run(tmp_path, with_cases([4, 5], {"plain": {}, "mine": changes}))
    assert set(files) == {"base", "4-plain", "5-plain", "4-mine", "5-mine"}
    assert files["base"] == files["4-plain"]
    assert files["5-mine"].pop("seed") == 5
    assert files["4-plain"].pop("seed") == 4
    mine, plain = files["5-mine"], files["4-plain"]
    assert {name for name in mine if mine[name] != plain[name]} == set(changes)
    assert mine["reconstruct"] == {**plain["reconstruct"], "tune_steps": 3}
    assert mine["train_avatar"] == {**plain["train_avatar"], "texture": "rgb"}


def test_the_committed_file_is_valid(tmp_path: Path) -> None:
    values = read_params(COMMITTED)
    files = run(tmp_path, values)
    own = values["vary_params"]
    assert len(files) == 1 + len(own["seeds"]) * len(own["cases"])
    assert values["report_ablation"]["seeds"] == own["seeds"]


def test_three_seeds_and_the_rows_of_table_2_at_equal_steps(tmp_path: Path) -> None:
    files = run(tmp_path, read_params(COMMITTED))
    assert len({name.split("-")[0] for name in files} - {"base"}) == 3
    for section in ("train_avatar", "finetune_avatar", "train_diffusion"):
        sizes = {(f[section]["steps"], f[section]["batch"]) for f in files.values()}
        assert len(sizes) == 1
    assert all(f["reconstruct"]["splits"] == ["test"] for f in files.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_avatar": {"textur": "rgb"}}, "train_avatar.textur: unknown key; did you mean texture?"),
        ({"train_avatr": {"texture": "rgb"}}, "train_avatr: unknown section or key"),
        ({"reconstruct": {"temperature": 3}}, "reconstruct.temperature: got 3"),
    ],
)
def test_a_mistake_names_the_case_and_the_key(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(ParamsError) as error:
        run(tmp_path, with_cases([1], {"plain": {}, "mine": changes}))
    assert "case mine" in str(error.value)
    assert words in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("seeds", "cases", "words"),
    [
        ([1, 1], {}, "a seed is named twice"),
        ([], {}, "at least 1 item"),
        ([1], {"base": {}}, "'base' is the name"),
    ],
)
def test_lists_that_make_no_sense_are_refused(
    tmp_path: Path, seeds: list[int], cases: dict, words: str
) -> None:
    with pytest.raises(ParamsError, match=words):
        run(tmp_path, with_cases(seeds, cases))
