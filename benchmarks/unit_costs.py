"""What data preparation costs at the paper's size, from what a finished run cost: `python -m benchmarks.unit_costs`.

A stage's unit cost is the time of its last run (data/.runs) × its workers / the units that it did, start of the
workers included; its bytes are those of its store / units. Both are then multiplied by what the larger images
and textures cost: by running the stages on a few scans at both sizes, one worker, and comparing processor time
and bytes. docs/scale.md holds the table and says what is assumed.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from benchmarks.scaling import PARAMS, STORES, take_rows, take_scans
from stages import detect_keypoints, render_views, sample_textures, segment
from stages._core.params import parse_section, read_params
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import open_store

PEOPLE, VIEWS, VARIANTS = 13_000, 8, 9
"""The paper's data: a scan a person, 72 images a scan."""

CORES = (2, 256)
SIZES = {"image_size": (256, 512), "texture_size": (128, 256)}
"""What `demo` has, and the paper."""

TEXELS = (SIZES["texture_size"][1] / SIZES["texture_size"][0]) ** 2

Unit = Literal["scan", "image", "front image", "shot"]
UNITS: dict[Unit, int] = {
    "scan": PEOPLE,
    "image": PEOPLE * VIEWS * VARIANTS,
    "front image": PEOPLE * VIEWS,
    "shot": PEOPLE * VARIANTS,
}
"""Units in the paper's data. Front images are those of variant 0; a shot is the 8 views of a scan and variant."""


@dataclass(frozen=True)
class Step:
    """A stage, the unit that it works on, and the unit that its store has rows of."""

    stage: str
    store: str
    unit: Unit
    stored: Unit


STEPS = (
    Step("ingest", "scans", "scan", "scan"),
    Step("render_views", "views", "image", "image"),
    Step("segment", "parsing", "image", "image"),
    Step("detect_keypoints", "keypoints", "front image", "front image"),
    Step("fit_body", "bodies", "scan", "image"),
    Step("sample_textures", "textures", "image", "image"),
    Step("merge_textures", "merged", "shot", "shot"),
    Step("encode_latents", "latents", "image", "image"),
)


@dataclass(frozen=True)
class Cost:
    """Seconds of a core and bytes."""

    seconds: float
    bytes: float

    def times(self, other: "Cost") -> "Cost":
        """Both figures multiplied by the other's."""
        return Cost(self.seconds * other.seconds, self.bytes * other.bytes)


def measured(step: Step, runs: Path, stores: Path) -> tuple[Cost, int]:
    """Cost of one unit in the last run, and that run's peak memory in MiB.

    Raises:
        SystemExit: the stage has not run, or on other machines whose cores are not known here.
    """
    record_file = runs / f"{step.stage}@{stores.name}.json"
    if not record_file.is_file():
        raise SystemExit(f"{record_file} is missing: run `dvc repro {step.stage}` first")
    record = json.loads(record_file.read_text())
    if record.get("scheduler"):
        raise SystemExit(f"{record_file} tells of workers of {record['scheduler']}: run the stage here first")
    index = pd.read_parquet(stores / step.store / "index.parquet")
    seconds = record["seconds"] * record["workers"] / count_units(index, step.unit)
    size = folder_bytes(stores / step.store) / count_units(index, step.stored)
    return Cost(seconds, size), int(record["peak_mib"])


def count_units(index: pd.DataFrame, unit: Unit) -> int:
    """Units of a store's rows; rows that a stage was not asked to work on do not count."""
    index = index[~index["reason"].str.contains("not looked at|held out")]
    if unit == "front image":
        return int((index["variant"] == 0).sum())
    return int(index["scan"].nunique()) if unit == "scan" else len(index)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_factors(stores: Path, body: Path, parser: Path, params: Path, scans: int) -> dict[str, Cost]:
    """What the paper's sizes multiply a unit's cost by, for the stages that run without networks of that size."""
    with tempfile.TemporaryDirectory() as folder:
        some = take_scans(stores, Path(folder) / "some", scans, ("views",))
        rows = open_store(stores / "views", "views").index
        rows = rows[
            rows["scan"].isin(open_store(some / "views", "views").index["scan"]) & (rows["variant"] == 0)
        ]
        take_rows(stores / "bodies", "bodies", rows.index.to_numpy(), some / "bodies")
        inputs = {"scans": some / "scans", "bodies": some / "bodies", "body": body, "parser": parser}
        # The first of three runs pays for loading the models and does not count.
        runs = [costs_at(place, inputs, params, Path(folder) / str(n)) for n, place in enumerate((0, 0, 1))]
    _, small, large = runs
    return {
        name: Cost(large[name].seconds / small[name].seconds, large[name].bytes / small[name].bytes)
        for name in large
    }


def costs_at(place: int, inputs: Mapping[str, Path], params: Path, folder: Path) -> dict[str, Cost]:
    """Processor time and bytes of each stage on the same scans, at the smaller (0) or larger (1) sizes."""
    values = read_params(params)
    sizes = {name: pair[place] for name, pair in SIZES.items()}
    runtime = Runtime(work_root=folder / "work", runs_root=folder / "runs")
    paths, costs = dict(inputs), {}
    for stage in (render_views.STAGE, segment.STAGE, detect_keypoints.STAGE, sample_textures.STAGE):
        given = parse_section(stage.params, stage.name, values)
        changed = {"variants": 1, **sizes}
        given = given.model_copy(update={k: v for k, v in changed.items() if k in stage.params.model_fields})
        (output,) = stage.outputs
        paths[output] = folder / "some" / output
        start = time.process_time()
        stage.run(given, Paths({n: paths[n] for n in stage.inputs}), Paths({output: paths[output]}), runtime)
        costs[stage.name] = Cost(time.process_time() - start, folder_bytes(paths[output]))
    return costs


def factor_of(step: Step, factors: Mapping[str, Cost]) -> Cost:
    """Measured where it could be; a network's store grows with its texels; scans, keypoints and bodies do not."""
    if step.stage in ("merge_textures", "encode_latents"):
        return Cost(TEXELS, TEXELS)
    return factors.get(step.stage, Cost(1, 1))


def table(runs: Path, stores: Path, factors: Mapping[str, Cost]) -> str:
    """The markdown table of docs/scale.md."""
    head = ["stage", "unit", "units", "core s a unit", "× size", "core hours"]
    head += [*(f"hours on {n} cores" for n in CORES), "kB a row", "× size", "GB", "peak MiB"]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    total_hours = total_bytes = 0.0
    for step in STEPS:
        unit, peak = measured(step, runs, stores)
        factor = factor_of(step, factors)
        paper = unit.times(factor)
        hours = paper.seconds * UNITS[step.unit] / 3600
        size = paper.bytes * UNITS[step.stored]
        total_hours, total_bytes = total_hours + hours, total_bytes + size
        line = [
            step.stage,
            step.unit,
            f"{UNITS[step.unit]:,}",
            f"{unit.seconds:.3f}",
            f"{factor.seconds:.1f}",
        ]
        line += [f"{hours:,.0f}", *(f"{hours / n:,.1f}" for n in CORES)]
        line += [f"{unit.bytes / 1e3:.1f}", f"{factor.bytes:.1f}", f"{size / 1e9:,.1f}", str(peak)]
        lines.append(line)
    total = ["all", "", "", "", "", f"{total_hours:,.0f}", *(f"{total_hours / n:,.1f}" for n in CORES)]
    lines.append([*total, "", "", f"{total_bytes / 1e9:,.1f}", ""])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=STORES.parents[1], help="folder of a finished run")
    parser.add_argument("--dataset", default=STORES.name)
    parser.add_argument("--params", type=Path, default=PARAMS)
    parser.add_argument("--scans", type=int, default=4, help="scans on which the two sizes are compared")
    args = parser.parse_args()
    stores, models = args.data / "stores" / args.dataset, args.data / "models"
    factors = size_factors(stores, models / "body", models / "parser", args.params, args.scans)
    print(table(args.data / ".runs", stores, factors))


if __name__ == "__main__":
    main()
