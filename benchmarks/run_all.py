"""`make bench`: every benchmark, one table, data/reports/bench.json. Ratios within one run count."""

import importlib
import json
import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stages._core.publish import write_file

BENCHMARKS = ("rasterizers", "rendering", "training", "loading", "sampling", "photo", "fitting", "scaling")
"""Modules of this package, each with `measure() -> dict[str, float]`: figures by name, units in the name."""

RESULT = Path("data/reports/bench.json")


def main() -> None:
    """Run all, print as it goes, write the JSON."""
    console = Console()
    results: dict[str, dict[str, float]] = {}
    for name in BENCHMARKS:
        console.print(f"{name} …")
        results[name] = importlib.import_module(f"benchmarks.{name}").measure()
    table = Table(title=f"{platform.machine()}, {torch.get_num_threads()} torch threads")
    for column in ("benchmark", "figure", "value"):
        table.add_column(column)
    for name, figures in results.items():
        for figure, value in figures.items():
            table.add_row(name, figure, f"{value:.4g}")
    console.print(table)
    write_file(RESULT, json.dumps(results, indent=1, sort_keys=True) + "\n")
    console.print(f"written: {RESULT}")


if __name__ == "__main__":
    main()
