"""Progress of one command: a bar for each of its steps on a terminal, a line as each begins elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Step = Callable[[str, int, int], None]
"""What is being done, how much of it is done, of how many."""


@contextmanager
def show_steps(console: Console, names: Sequence[str]) -> Iterator[Step]:
    """Show all steps from the start, so that one sees what is left.

    Args:
        names: what the steps will report as, in order.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks = {name: bars.add_task(name, start=False, total=1) for name in names}

        def update(what: str, done: int, total: int) -> None:
            bars.start_task(tasks[what])
            bars.update(tasks[what], completed=done, total=total)

        yield update


def _lines(console: Console) -> Step:
    seen: set[str] = set()

    def update(what: str, done: int, total: int) -> None:
        if what not in seen:
            seen.add(what)
            console.print(f"{what} …")

    return update
