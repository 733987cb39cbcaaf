"""Tables for the terminal: metrics and stage times."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table


def metrics_table(path: Path) -> Table:
    """data/reports/metrics.json as rows of dotted key and value; a null says which weights are missing."""
    table = Table(title="Metrics of the test people")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for key, value in flatten(json.loads(path.read_text())):
        table.add_row(key, "null (weights missing)" if value is None else f"{value:.4g}")
    return table


def times_table(runs: Path) -> Table:
    """Last duration and peak memory of every stage, from the kept provenance."""
    table = Table(title="Stages (last run of each)")
    for column in ("stage", "seconds", "peak MiB"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    records = [(p.stem, json.loads(p.read_text())) for p in runs.glob("*.json")]
    for name, record in sorted(records, key=lambda pair: str(pair[1]["finished"])):
        table.add_row(name, f"{record['seconds']:.0f}", str(record["peak_mib"]))
    total = sum(float(record["seconds"]) for _, record in records)
    table.add_row("sum", f"{total:.0f}", "", style="bold")
    return table


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested dicts as (dotted key, leaf)."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
