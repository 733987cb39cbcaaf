"""`dinar dataset check`: a few samples, then all; contact sheet, table, verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dinar_models.body import BodyModel
from flows.datasets.catalog import DatasetError, Places
from flows.datasets.check import (
    DRY_SAMPLES,
    Findings,
    Sample,
    check_part,
    count_samples,
    samples_beside,
)
from flows.datasets.sheet import write_sheets
from stages._core.runtime import Runtime

SHEET_SAMPLES = 48


def check_dataset(
    places: Places,
    name: str,
    runtime: Runtime,
    console: Console,
    *,
    parts: Sequence[str] | None = None,
    raw_of: Mapping[str, Path] | None = None,
    sheet_samples: int = SHEET_SAMPLES,
) -> bool:
    """Check a data set and show what became of its samples.

    Args:
        parts: only these; all whose raw data are there by default.
        raw_of: where parts lie that are not at their place yet.
        sheet_samples: at most so many rows of the contact sheet.

    Returns:
        Whether the graph can run on it.
    """
    if name not in places.names():
        raise DatasetError(f"there is no data set {name!r}; `dinar dataset list` shows all")
    parts = list(parts or places.raw_parts(name))
    if not parts:
        raise DatasetError(f"the raw data of {name} are not here; `dvc pull` or `dinar dataset add {name} …`")
    folders = {part: (raw_of or {}).get(part, places.raw(part)) for part in parts}
    if count_samples(places, name, folders.values()) > DRY_SAMPLES:
        console.print(f"{name}: trying a few samples", markup=False)
        tried, stores = check_part(places, name, parts[0], runtime, raw=folders[parts[0]], dry=True)
        if tried.missing or not any(sample.ok for sample in tried.samples):
            _finish(
                places, name, tried, [(sample, stores) for sample in tried.samples], sheet_samples, console
            )
            console.print(f"{name}: the other samples were not tried", markup=False)
            return False
    found, rows = Findings(), []
    for part in parts:
        console.print(f"{name}: checking {part}", markup=False)
        one, stores = check_part(places, name, part, runtime, raw=folders[part])
        found.samples += one.samples
        found.missing |= one.missing
        found.problems += [f"{part}: {p}" if len(parts) > 1 else p for p in one.problems]
        rows += [(sample, stores) for sample in one.samples]
    earlier = samples_beside(places.report(name), parts) if raw_of is not None else []
    _finish(places, name, found, rows, sheet_samples, console, earlier)
    return found.passed


def _finish(
    places: Places,
    name: str,
    found: Findings,
    rows: list[tuple[Sample, Path]],
    most: int,
    console: Console,
    earlier: Sequence[Sample] = (),
) -> None:
    """Keep what was found, draw it, say it."""
    found.save(places.report(name), earlier)
    pages = _draw(places, name, rows, most)
    show_findings(name, found, console)
    for page in pages:
        console.print(f"contact sheet: {page}", soft_wrap=True, markup=False)


def show_findings(name: str, found: Findings, console: Console) -> None:
    """How many samples are fine, how many are rejected for which reason, and why it did not pass."""
    table = Table(title=f"{name}: {len(found.samples)} samples")
    table.add_column("samples", justify="right")
    table.add_column("outcome", overflow="fold")
    table.add_row(str(sum(s.ok for s in found.samples)), "ok")
    for reason, count in found.reasons().items():
        table.add_row(str(count), f"rejected: {reason}")
    console.print(table)
    for line in found.why_not():
        console.print(f"not fit for the graph: {line}", style="red", soft_wrap=True, markup=False)


def _draw(places: Places, name: str, rows: list[tuple[Sample, Path]], most: int) -> list[Path]:
    if not rows:
        return []
    body = places.data / "models/body"
    model = BodyModel.load(body) if body.is_dir() else None
    return write_sheets(places.report(name).with_suffix(".png"), rows, model, most)
