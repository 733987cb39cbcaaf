"""Refuse a wrong params.yaml before anything else runs.

Every stage depends on this stage's output, whose content is constant: a correct change of params.yaml reruns
only what depends on it.
"""

from pathlib import Path
from typing import Any

import yaml

from stages._core.cli import main
from stages._core.params import ParamsError, StageParams, check_all, read_params
from stages._core.publish import write_file
from stages._core.registry import STAGE_NAMES, load_stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary
from stages._data.loss_weights import LPIPS_BACKBONE


class CheckParams(StageParams):
    """This stage has no settings of its own."""


def run(params: CheckParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Check every section of the params file and the list of enabled data sets."""
    values = read_params(inputs["params"])
    check_all(values, {name: load_stage(name).params for name in STAGE_NAMES if name != "check_params"})
    enabled = read_enabled(inputs["enabled"])
    check_named_datasets(values, enabled)
    check_loss_weights(values, inputs.get("weights"))
    write_file(outputs["ok"], "params.yaml is valid\n")
    return {"sections": len(STAGE_NAMES) - 1, "datasets": len(enabled["datasets"])}


def read_enabled(path: Path) -> dict[str, Any]:
    """data/catalog/enabled.yaml: the lists scans, images, datasets = scans + images, and part_of for two of them.

    Raises:
        ParamsError: when the lists do not agree.
    """
    enabled = yaml.safe_load(path.read_text())
    for key in ("scans", "images", "datasets"):
        if not isinstance(enabled.get(key), list):
            raise ParamsError(f"{path}: {key} must be a list of data set names, got {enabled.get(key)!r}")
    if sorted(enabled["scans"] + enabled["images"]) != sorted(enabled["datasets"]):
        raise ParamsError(f"{path}: datasets must hold exactly the names under scans and images")
    part_of = enabled.get("part_of")
    for key in ("scans", "datasets"):
        if not isinstance(part_of, dict) or sorted(part_of.get(key) or {}) != sorted(enabled[key]):
            raise ParamsError(f"{path}: part_of.{key} must name the data set of each of {key}")
    return dict(enabled)


def check_named_datasets(values: dict[str, dict[str, object]], enabled: dict[str, Any]) -> None:
    """Every data set that a section names must be enabled; parts go by the name of their data set."""
    known = sorted(set(enabled["part_of"]["datasets"].values()))
    for section, content in values.items():
        names = content.get("datasets", []) if isinstance(content, dict) else []
        for name in names if isinstance(names, list) else []:
            if name not in known:
                raise ParamsError(f"{section}.datasets: {name!r} is not enabled; enabled: {', '.join(known)}")


def check_loss_weights(values: dict[str, dict[str, object]], folder: Path | None) -> None:
    """Training against LPIPS must not find out after hours that its backbone is not there."""
    if folder is not None and (folder / LPIPS_BACKBONE).is_file():
        return
    for section, content in values.items():
        if isinstance(content, dict) and content.get("distance") == "lpips":
            raise ParamsError(
                f"{section}.distance: lpips needs {LPIPS_BACKBONE}; `dinar weights add lpips_vgg FILE` puts it "
                "in its place; or say effnet"
            )


STAGE = Stage("check_params", CheckParams, inputs=("params", "enabled", "weights?"), outputs=("ok",), run=run)

if __name__ == "__main__":
    main(STAGE)
