"""One progress line: a bar with the time left on a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger(__name__)

PLAIN_LINE_SECONDS = 15.0


class Advance(Protocol):
    """Report `n` more items done, with an optional short text."""

    def __call__(self, n: int = 1, text: str = "") -> None: ...


@contextmanager
def progress(label: str, total: int, done: int = 0, *, bar: bool) -> Iterator[Advance]:
    """Show how far a piece of work is and what is left.

    Args:
        label: what is being done.
        total: items in all.
        done: items that were finished by an earlier run.
        bar: draw a bar; else log a line every quarter of a minute.
    """
    if bar:
        with _rich_bar(label, total, done) as advance:
            yield advance
    else:
        with _plain_lines(label, total, done) as advance:
            yield advance


@contextmanager
def _rich_bar(label: str, total: int, done: int) -> Iterator[Advance]:
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(bar_width=30),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[text]}"),
    )
    from rich.console import Console

    with rich.Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total, completed=done, text="")
        yield lambda n=1, text="": bars.update(task, advance=n, text=text)


@contextmanager
def _plain_lines(label: str, total: int, done: int) -> Iterator[Advance]:
    start = last = time.monotonic()
    now_done, first = done, done

    def advance(n: int = 1, text: str = "") -> None:
        nonlocal last, now_done
        now_done += n
        now = time.monotonic()
        if now - last < PLAIN_LINE_SECONDS and now_done < total:
            return
        last = now
        left = (now - start) / max(now_done - first, 1) * (total - now_done)
        log.info("%s %d/%d, %.0f s, %.0f s left %s", label, now_done, total, now - start, left, text)

    if done:
        log.info("%s: %d of %d were done by an earlier run", label, done, total)
    yield advance
