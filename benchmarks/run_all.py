"""`make bench`: every benchmark, one table, data/reports/bench.json. Ratios within one run count.

A benchmark whose data are not there says what to run, and the others go on.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import fitting, loading, photo, rasterizers, rendering, sampling, scaling, training
from stages._core.publish import write_file

DATA, DATASET = Path("data"), "synthetic"

Figures = dict[str, float]
"""By name, units in the name."""

BENCHMARKS: dict[str, Callable[[Path], Figures]] = {
    "rasterizers": lambda data: rasterizers.measure(data / "models/body"),
    "rendering": lambda data: rendering.measure(data / "models/body"),
    "training": lambda data: training.measure(data / "stores" / DATASET, data / "models/body"),
    "loading": lambda data: loading.measure(data / "stores" / DATASET, data / "models/body"),
    "sampling": lambda data: sampling.measure(data),
    "photo": lambda data: photo.measure(data / "stores" / DATASET, data / "models"),
    "fitting": lambda data: fitting.measure(data / "stores" / DATASET, data / "models/body"),
    "scaling": lambda data: scaling.measure(data / "stores" / DATASET, data / "models/body"),
}
"""Each measures on the folder of a finished run."""


def run(names: Sequence[str], data: Path, result: Path, console: Console) -> dict[str, Any]:
    """Run benchmarks, print their figures, and write them; what was measured earlier is kept in the file.

    Args:
        names: keys of BENCHMARKS.
        data: folder of a finished run.
        result: JSON of figures by benchmark; `{"missing": why}` where data are not there.

    Returns:
        The figures of this run.
    """
    figures: dict[str, Any] = {}
    for name in names:
        console.print(f"{name} …")
        start = time.monotonic()
        try:
            figures[name] = BENCHMARKS[name](data)
        except SystemExit as error:
            figures[name] = {"missing": str(error)}
            console.print(f"  left out: {error}", soft_wrap=True, markup=False)
        else:
            console.print(f"  {time.monotonic() - start:.0f} s")
        write_file(result, json.dumps(_earlier(result) | figures, indent=1, sort_keys=True) + "\n")
    console.print(table_of(figures))
    console.print(f"written: {result}", soft_wrap=True)
    return figures


def table_of(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line for each figure."""
    table = Table(title=f"{platform.machine()}, {torch.get_num_threads()} torch threads")
    for column in ("benchmark", "figure", "value"):
        table.add_column(column, overflow="fold")
    for name, values in figures.items():
        for figure, value in values.items():
            table.add_row(name, figure, value if isinstance(value, str) else f"{value:.4g}")
    return table


def _earlier(result: Path) -> dict[str, Any]:
    return dict(json.loads(result.read_text())) if result.is_file() else {}


def main() -> None:
    """Run all or some, print as it goes, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; else all")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=DATA / "reports/bench.json")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    run(args.names or list(BENCHMARKS), args.data, args.out, Console())


if __name__ == "__main__":
    main()
