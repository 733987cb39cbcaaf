"""`dinar dataset list`: every card with its state and sizes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from flows.datasets.catalog import EMBEDDED, Enabled, Places, datasets_in_params, load_enabled
from stages._core.store import INDEX
from stages.sources.card import CardError, read_card


@dataclass(frozen=True)
class State:
    """One line of the list.

    Attributes:
        images, rejected: without jitter, and those of them that have no fit, as the graph made them, else as
            the check found; None: neither ran.
        raw_bytes, store_bytes: on disk.
    """

    name: str
    adapter: str
    licence: str
    parts: int
    state: str
    images: int | None
    rejected: int | None
    raw_bytes: int
    store_bytes: int


def states(places: Places) -> list[State]:
    """Every data set of the catalog, in the order of names."""
    enabled = load_enabled(places.enabled)
    trained = {name for names in datasets_in_params(places.params).values() for name in names}
    return [_state(places, name, enabled, name in trained) for name in places.names()]


def states_table(lines: list[State]) -> Table:
    """For the terminal, of 80 columns too: only the state is wrapped."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("data set", overflow="fold")
    for column in ("parts", "images", "rejected", "raw", "stores"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold", ratio=1)
    for s in lines:
        counts = ("–" if n is None else str(n) for n in (s.images, s.rejected))
        sizes = (size_text(n) for n in (s.raw_bytes, s.store_bytes))
        name = Text.assemble(s.name, (f"\n{s.adapter}, {s.licence}", "dim"))
        table.add_row(name, str(s.parts), *counts, *sizes, s.state)
    return table


def size_text(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.1f} MiB"


def _state(places: Places, name: str, enabled: Enabled, trained: bool) -> State:
    try:
        card = read_card(places.card(name))
    except CardError as error:
        return State(name, "?", "?", 0, f"the card is wrong: {error}", None, None, 0, 0)
    parts = enabled.parts(name) or places.raw_parts(name) or [name]
    images, rejected = _counts([places.stores(part) for part in parts])
    if images is None:
        images, rejected = _checked_counts(places.report(name))
    return State(
        name=name,
        adapter=card.adapter,
        licence=card.licence,
        parts=len(parts),
        state=_words(places, name, parts, name in enabled.names, trained),
        images=images,
        rejected=rejected,
        raw_bytes=sum(map(folder_size, map(places.raw, parts))),
        store_bytes=sum(map(folder_size, map(places.stores, parts))),
    )


def _words(places: Places, name: str, parts: list[str], enabled: bool, trained: bool) -> str:
    """enabled, not enabled with why, failing with why, or raw missing."""
    found = json.loads(places.report(name).read_text()) if places.report(name).is_file() else None
    missing = [part for part in parts if not places.raw(part).exists()]
    if missing and name != EMBEDDED:
        return f"raw missing: {', '.join(missing)}"
    failing = "" if found is None or found["passed"] else "; ".join(found["why"])
    if enabled:
        words = "enabled, learnt from" if trained else "enabled"
        return f"{words}, but the last check failed: {failing}" if failing else words
    if found is None:
        return "not enabled: not checked"
    return f"not enabled: {failing}" if failing else "not enabled: checked, go on with `add`"


def _counts(stores: list[Path]) -> tuple[int | None, int | None]:
    """Images without jitter, and those without a fit, of what the graph made."""
    images = [_unjittered(folder / "views") for folder in stores]
    fits = [_unjittered(folder / "bodies") for folder in stores]
    made = [index for index in images if index is not None]
    fitted = [index for index in fits if index is not None]
    total = sum(map(len, made)) if len(made) == len(stores) else None
    return total, sum(int((~index["ok"]).sum()) for index in fitted) if len(fitted) == len(stores) else None


def _checked_counts(report: Path) -> tuple[int | None, int | None]:
    if not report.is_file():
        return None, None
    samples = json.loads(report.read_text())["samples"]
    return sum(s["rows"] for s in samples), sum(s["rows"] - s["fitted"] for s in samples)


def _unjittered(store: Path) -> pd.DataFrame | None:
    path = store / INDEX
    if not path.is_file():
        return None
    index = pd.read_parquet(path, columns=["variant", "ok"])
    return index[index["variant"] == 0]


def folder_size(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(p.stat().st_size for p in _files(path))


def _files(path: Path) -> Iterator[Path]:
    return (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else iter(())
