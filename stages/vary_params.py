"""One params file for each seed and case of an ablation, complete and checked as params.yaml is.

A case says what it changes, section by section; all else is common. So a run differs from another in what the
case names and in nothing else, and a mistake in any of them stops the ablation before anything is trained.
"""

from typing import Any

import yaml
from pydantic import Field, field_validator

from stages._core.cli import main
from stages._core.params import ParamsError, StageParams, check_all, read_params
from stages._core.publish import publish
from stages._core.registry import ABLATION_NAMES, load_stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary

BASE = "base"
"""Name of the file without a case, for what all runs share."""

Changes = dict[str, dict[str, Any]]
"""Section → key → value."""


class VaryParamsParams(StageParams):
    """The runs."""

    seeds: list[int] = Field(min_length=1, description="each case runs once with each")
    cases: dict[str, Changes] = Field(description="name of a case → what it changes in which section")

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    @field_validator("cases")
    @classmethod
    def _no_base(cls, cases: dict[str, Changes]) -> dict[str, Changes]:
        if BASE in cases:
            raise ValueError(f"{BASE!r} is the name of what all cases share")
        return cases


def run(params: VaryParamsParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Write base.yaml and SEED-VARIANT.yaml into the output folder."""
    common = read_params(inputs["params"])
    common.pop(STAGE.name, None)
    texts = {BASE: checked(common, params.seeds[0], BASE, {})}
    for seed in params.seeds:
        for name, changes in params.cases.items():
            texts[f"{seed}-{name}"] = checked(common, seed, name, changes)
    with publish(outputs["runs"]) as folder:
        for name, text in texts.items():
            (folder / f"{name}.yaml").write_text(text)
    return {"seeds": len(params.seeds), "cases": len(params.cases)}


def checked(common: dict[str, Any], seed: int, name: str, changes: Changes) -> str:
    """The params of one run as YAML.

    Raises:
        ParamsError: naming the case and each wrong section, key, type or range.
    """
    values = {**common, "seed": seed}
    for section, content in changes.items():
        values[section] = {**(values.get(section) or {}), **content}
    sections = {stage: load_stage(stage).params for stage in ABLATION_NAMES if stage != STAGE.name}
    try:
        check_all(values, sections)
    except ParamsError as error:
        raise ParamsError(f"case {name}:\n{error}") from None
    return str(yaml.safe_dump(values, sort_keys=False))


STAGE = Stage("vary_params", VaryParamsParams, inputs=("params",), outputs=("runs",), run=run)

if __name__ == "__main__":
    main(STAGE)
