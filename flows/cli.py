"""The `dinar` command line. Heavy imports wait until a command needs them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.datasets.cli import app as dataset_app
from flows.profiles import PARAMS, ROOT, ProfileError, profile_names, render_profile, use_profile

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
profile_app = typer.Typer(no_args_is_help=True, help="Sizes of everything: params.yaml from a profile.")
graph_app = typer.Typer(no_args_is_help=True, help="dvc.yaml against the code.")
flow_app = typer.Typer(no_args_is_help=True, help="The graph as Prefect flows.")
weights_app = typer.Typer(
    no_args_is_help=True,
    help="Optional weights of others, of which nothing is fetched silently; and the release of our own.",
)
fits_app = typer.Typer(no_args_is_help=True, help="Body fits as SMPL-X/AMASS files.")
app.add_typer(fits_app, name="fits")
app.add_typer(profile_app, name="profile")
app.add_typer(graph_app, name="graph")
app.add_typer(flow_app, name="flow")
app.add_typer(weights_app, name="weights")
app.add_typer(dataset_app, name="dataset")

INSTALLED = ("avatar", "animate")
"""Commands that need no checkout: a wheel brings the released weights along."""

MODELS, RELEASED = ROOT / "data/models", ROOT / "data/released"

console = Console()
errors = Console(stderr=True)


class FitFormat(StrEnum):
    """Formats of exported fits."""

    npz = "npz"
    json = "json"


Force = Annotated[bool, typer.Option("--force", help="also where it would be refused")]


@app.callback()
def about(context: typer.Context) -> None:
    """DINAR: from one photo to a rigged, animated avatar, and the pipeline that trains it."""
    command = context.invoked_subcommand
    if command not in INSTALLED and not (ROOT / "dvc.yaml").is_file():
        _stop(
            f"`dinar {command}` works in a checkout of the project; installed, there are {' and '.join(INSTALLED)}"
        )


@app.command()
def repro(targets: Annotated[list[str] | None, typer.Argument(help="stages; none = all")] = None) -> None:
    """Rebuild what is out of date (`dvc repro`), then show the metrics and where the report is."""
    from flows import engine
    from flows.tables import metrics_table, times_table

    if not PARAMS.exists():
        use_profile("demo")
        console.print("params.yaml written from the profile demo")
    code = engine.repro(targets)
    if code != 0:
        errors.print("[red]The pipeline stopped; run `dinar repro` again to go on where it was.[/red]")
        raise typer.Exit(code)
    console.print(times_table(engine.ROOT / "data/.runs"))
    metrics = engine.ROOT / "data/reports/metrics.json"
    if metrics.exists():
        console.print(metrics_table(metrics))
    console.print(f"Report: {engine.ROOT / 'data/reports/index.html'}")


@app.command()
def avatar(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO", help="a photo of one person, the whole body in view")
    ],
    out: Annotated[Path, typer.Option("--out", help="folder for the avatar; must not hold anything else")],
    several: Annotated[
        bool, typer.Option("--photos", help="several photos of that person in the same clothes follow")
    ] = False,
    weights: Annotated[
        str,
        typer.Option(help="champion, repro, released or a folder of weights; auto: the first that is there"),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="of every random draw")] = 0,
) -> None:
    """Photos of a person → masks, keypoints, body fits, one completed neural texture, stills, turntable.

    One photo is enough; with --photos all that follow are merged: dinar avatar --photos FRONT BACK --out DIR.

    Exit code 2: the photo or the folder cannot be used. 1: weights are missing. Nothing is written then.
    """
    from flows.create_avatar import create_avatar

    if len(photos) > 1 and not several:
        _stop(f"{len(photos)} photos were given; say --photos if all show the same person", code=2)
    with _one_sentence():
        create_avatar(photos, out, weights=weights, seed=seed, console=console)


@app.command()
def animate(
    folder: Annotated[Path, typer.Argument(help="an avatar folder that `dinar avatar` made")],
    motion: Annotated[str, typer.Option(help="walk, turntable, or an SMPL-X/AMASS .npz")] = "walk",
    out: Annotated[
        Path | None, typer.Option("--out", help="a .webp or .mp4; default: a .webp in the folder")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=2, max=2000, help="so many, at most so many of an .npz; default: one round, all"),
    ] = None,
) -> None:
    """Render an avatar in new poses at 25 frames a second, with the weights that made it.

    Exit code 2: the folder, the motion or the output cannot be used. 1: weights are missing.
    """
    from flows.create_avatar import animate_avatar

    with _one_sentence():
        path = animate_avatar(folder, motion, out, frames=frames, console=console)
        console.print(f"written: {path}", soft_wrap=True, markup=False)


@app.command()
def doctor() -> None:
    """Disk, packages, environment, optional weights: what is missing and how to get it."""
    from flows.doctor import examine, print_findings

    findings = examine()
    print_findings(findings, console)
    raise typer.Exit(1 if any(f.level == "error" for f in findings) else 0)


@profile_app.command("list")
def profile_list() -> None:
    """All profiles; * marks the one in params.yaml."""
    current = PARAMS.read_text() if PARAMS.exists() else ""
    for name in profile_names():
        console.print(f"{'*' if current == render_profile(name) else ' '} {name}")


@profile_app.command("use")
def profile_use(name: str, force: Force = False) -> None:
    """Write params.yaml from a profile, unless that would lose local edits."""
    try:
        use_profile(name, force=force)
    except ProfileError as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from None
    console.print(f"params.yaml is now the profile {name}")


@graph_app.command("check")
def graph_check() -> None:
    """Fail when a stage's dependencies, params or outputs in any dvc.yaml are not those of its code."""
    from flows.graph import GRAPHS, mistakes

    found = [line for path, names in GRAPHS.items() for line in mistakes(path, names)]
    for line in found:
        errors.print(line, soft_wrap=True)
    if found:
        errors.print("run `dinar graph sync` to write deps and params anew")
        raise typer.Exit(1)
    console.print("dvc.yaml and pipelines/ agree with the code")


@graph_app.command("sync")
def graph_sync() -> None:
    """Write every stage's code dependencies and params in every dvc.yaml anew."""
    from flows.graph import GRAPHS, ROOT, sync

    for path in GRAPHS:
        console.print(f"{sync(path)} stages changed in {path.relative_to(ROOT)}")


@flow_app.command("rebuild")
def flow_rebuild() -> None:
    """Run the graph as a Prefect flow, one task per stage."""
    from flows.engine import EngineError
    from flows.rebuild import rebuild

    try:
        outcome = rebuild()
    except EngineError as error:
        _stop(str(error))
    for name, state in outcome.items():
        console.print(f"{state:9} {name}")


@flow_app.command("retrain")
def flow_retrain(margin: float = 0.01, tolerance: float = 0.3) -> None:
    """Rebuild, compare with the champion on the gate split, promote or keep."""
    from flows.engine import EngineError
    from flows.retrain import retrain

    try:
        decision = retrain(margin=margin, tolerance=tolerance)
    except EngineError as error:
        _stop(f"{error}\nthe champion stays as it is")
    console.print(f"{'promoted' if decision.promote else 'kept the champion'}: {decision.reason}")


@flow_app.command("serve")
def flow_serve(
    cron: Annotated[str, typer.Option(help="when to retrain")] = "0 2 * * *",
) -> None:
    """Serve both flows from this machine, retraining on a schedule, until interrupted."""
    from prefect import serve

    from flows.rebuild import rebuild
    from flows.retrain import retrain

    deployments = [rebuild.to_deployment("on-demand"), retrain.to_deployment("scheduled", cron=cron)]
    serve(*deployments)  # type: ignore[arg-type]  # typed for async callers too


@fits_app.command("export")
def fits_export(
    dataset: Annotated[str, typer.Argument(help="a data set that has been fitted")],
    out: Annotated[Path, typer.Option("--out", help="folder for the files; must not hold anything else")],
    file_format: Annotated[FitFormat, typer.Option("--format", help="of the files")] = FitFormat.npz,
) -> None:
    """Write the fit of every scan, photo or video of a data set, in SMPL-X and AMASS's names."""
    from flows.engine import ROOT
    from stages._core.store import StoreError
    from stages._data.exported_fits import Fits, export_fits

    stores = ROOT / "data" / "stores" / dataset
    fits = Fits(stores / "views", stores / "bodies", ROOT / "data" / "raw" / dataset)
    try:
        done = export_fits(fits, out, file_format.value)
    except (StoreError, OSError) as error:
        _stop(str(error))
    console.print(f"{done.written} fits written to {out}; {done.without_fit} without a fit", soft_wrap=True)


@weights_app.command("list")
def weights_list() -> None:
    """Each optional file: there or not, licence, what it enables."""
    from flows.weights import weights_table

    console.print(weights_table())


@weights_app.command("add")
def weights_add(name: str, file: Path) -> None:
    """Take a file that you fetched yourself, if its checksum is the listed one."""
    from flows.weights import WeightsFileError, add_file

    try:
        console.print(f"kept as {add_file(name, file)}")
    except WeightsFileError as error:
        _stop(str(error))


@weights_app.command("fetch")
def weights_fetch(name: str) -> None:
    """Download one listed file, showing address, size and licence first."""
    from flows.weights import WeightsFileError, fetch_file

    try:
        console.print(f"kept as {fetch_file(name, console)}")
    except WeightsFileError as error:
        _stop(str(error))


@weights_app.command("release")
def weights_release(
    models: Annotated[Path, typer.Option("--from", help="a folder of trained and measured weights")] = MODELS,
    name: Annotated[str | None, typer.Option(help="of the release; default: the profile")] = None,
    limit: Annotated[list[str] | None, typer.Option(help="a sentence for the card; may be repeated")] = None,
) -> None:
    """Write data/released: the weights in half precision, body and atlas, checked, with a model card.

    Exit code 1: something is missing or not as it should be. data/released then stays as it was.
    """
    from flows.release import release

    with _one_sentence():
        card = release(models, RELEASED, name=name, limits=limit or [], console=console)
    total = sum(entry["bytes"] for entry in card["files"].values())
    console.print(f"written: {RELEASED} ({total / 1e6:.1f} MB, {card['rounding']['least_psnr']:.1f} dB)")


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Errors in one sentence: code 2 for the photo or avatar that was given, 1 for what is missing here."""
    from flows.avatar_folder import AvatarError
    from stages._core.params import ParamsError
    from stages._core.store import StoreError
    from stages._core.weights import WeightsError
    from stages.sources.card import CardError
    from stages.sources.photos import PhotoError

    try:
        yield
    except (PhotoError, AvatarError) as error:
        _stop(str(error), code=2)
    except (WeightsError, ParamsError, StoreError, CardError, OSError) as error:
        _stop(str(error))


def _stop(message: str, code: int = 1) -> None:
    errors.print(message, style="red", soft_wrap=True, markup=False)  # file names may look like markup
    sys.exit(code)


if __name__ == "__main__":
    app()
