"""`dinar dataset …`: the data engineer's commands."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

ROOT = Path(__file__).parents[2]

app = typer.Typer(no_args_is_help=True, help="Data sets: add, check, list, update, remove.")
console = Console()
errors = Console(stderr=True)

Name = Annotated[str, typer.Argument(help="lowercase letters, digits, _ and -")]
PathOption = Annotated[Path, typer.Option("--path", help="a folder, a file, a .zip or a .tar")]


@app.command("add")
def add(
    name: Name,
    adapter: Annotated[str, typer.Option(help="scans, photos, video or people_snapshot")],
    path: PathOption,
    link: Annotated[bool, typer.Option("--link", help="leave the data where they are")] = False,
    part_size: Annotated[int | None, typer.Option(help="samples in a part, at least; large sets")] = None,
    train: Annotated[bool, typer.Option("--train", help="learn from it: name it in params.yaml")] = False,
    licence: Annotated[str | None, typer.Option(help="SPDX name or a sentence")] = None,
    title: Annotated[str | None, typer.Option(help="what it shows")] = None,
    citation: Annotated[str | None, typer.Option(help="whom to cite")] = None,
    units: Annotated[str | None, typer.Option(help="of meshes: m, cm, mm or auto")] = None,
    up: Annotated[str | None, typer.Option(help="vertical axis of meshes")] = None,
    facing: Annotated[str | None, typer.Option(help="where people look in meshes")] = None,
    subject: Annotated[str | None, typer.Option(help="how a scan's name tells its subject")] = None,
    split: Annotated[str | None, typer.Option(help="a rule of the card, or a CSV in the raw data")] = None,
    more: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="any other field of the card")
    ] = None,
) -> None:
    """Copy or link raw data, check all samples, and enable the data set if the graph can run on it.

    Exit code 1: not enabled; the reasons are printed and `list` shows them. Running it again goes on.
    """
    from flows.datasets.add import Request, add_dataset
    from flows.datasets.catalog import Places

    values: dict[str, Any] = {"adapter": adapter, "licence": licence, "title": title, "citation": citation}
    values |= {"units": units, "up": up, "facing": facing, "subject": subject}
    values["split"] = {"file": split} if split is not None and split.endswith(".csv") else split
    given = {key: value for key, value in values.items() if value is not None}
    with _one_sentence():
        request = Request(name, path, {**given, **_pairs(more)}, link, part_size, train)
        _exit(add_dataset(Places(ROOT), request, _runtime(), console))


@app.command("check")
def check(
    name: Name,
    samples: Annotated[int, typer.Option(min=1, max=2000, help="rows of the contact sheet")] = 48,
) -> None:
    """Run a data set's stages in a scratch area; a contact sheet and a table say what became of each sample.

    Exit code 1: the graph cannot run on it.
    """
    from flows.datasets.catalog import Places
    from flows.datasets.checking import check_dataset

    with _one_sentence():
        _exit(check_dataset(Places(ROOT), name, _runtime(), console, sheet_samples=samples))


@app.command("update")
def update(name: Name, path: PathOption) -> None:
    """Bring new and changed samples in; only the parts that get some are checked and run again."""
    from flows.datasets.add import update_dataset
    from flows.datasets.catalog import Places

    with _one_sentence():
        _exit(update_dataset(Places(ROOT), name, path, _runtime(), console))


@app.command("list")
def list_all() -> None:
    """Every data set of the catalog: state, samples, sizes."""
    from flows.datasets.catalog import Places
    from flows.datasets.listing import states, states_table

    with _one_sentence():
        console.print(states_table(states(Places(ROOT))))


@app.command("remove")
def remove(
    name: Name,
    keep_raw: Annotated[bool, typer.Option("--keep-raw", help="raw data and card stay")] = False,
    force: Annotated[bool, typer.Option("--force", help="take it out of params.yaml, too")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="delete raw data without asking")] = False,
) -> None:
    """Take a data set out of the graph, with its stores, lock entries, reports, raw data and card."""
    from flows.datasets.catalog import Places
    from flows.datasets.listing import folder_size, size_text
    from flows.datasets.remove import raw_to_delete, remove_dataset

    places = Places(ROOT)
    with _one_sentence():
        doomed = [] if keep_raw else raw_to_delete(places, name)
        if doomed and not yes:
            size = size_text(sum(map(folder_size, doomed)))
            typer.confirm(f"delete the raw data of {name} ({size})?", abort=True)
        for path in remove_dataset(places, name, keep_raw=keep_raw, force=force):
            console.print(f"removed {path.relative_to(places.root)}", soft_wrap=True, markup=False)
    console.print("cached copies go with `dvc gc --workspace`")


@app.command("schema")
def schema() -> None:
    """Write the JSON schema of cards, which editors check cards against."""
    from flows.datasets.catalog import SCHEMA, Places, schema_text
    from stages._core.publish import write_file

    path = Places(ROOT).data / "catalog" / SCHEMA
    write_file(path, schema_text())
    console.print(f"written: {path}", soft_wrap=True, markup=False)


def _pairs(texts: list[str] | None) -> dict[str, Any]:
    """FIELD=VALUE, the value being YAML."""
    import yaml

    from flows.datasets.catalog import DatasetError

    fields = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        try:
            fields[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not name or not equals:
            raise DatasetError(f"--set {text!r}: FIELD=VALUE is expected")
    return fields


def _runtime() -> Any:
    from stages._core.logs import set_up_logging
    from stages._core.runtime import Runtime

    set_up_logging(logging.INFO)
    return Runtime.from_environment()


def _exit(passed: bool) -> None:
    if not passed:
        sys.exit(1)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """What a user can mend is said in one sentence, with exit code 1."""
    from flows.datasets.catalog import DatasetError
    from flows.engine import EngineError
    from stages._core.params import ParamsError
    from stages.sources.card import CardError

    try:
        yield
    except (DatasetError, ParamsError, CardError, EngineError, OSError) as error:
        errors.print(str(error), style="red", soft_wrap=True, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on where it was", style="red")
        sys.exit(1)
