"""What every ingredient brings: the paper's table 2 and the priors, with means and spreads over seeds, as a page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from stages._core.cli import main
from stages._core.params import StageParams
from stages._core.publish import write_file
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import Store, open_store
from stages.reporting import pictures
from stages.reporting.ablation import (
    METRICS,
    PRIOR_METRICS,
    PRIORS,
    ROWS,
    Mean,
    Prior,
    Table,
    steps,
    view_means,
)
from stages.reporting.page import Section, render_page
from stages.reporting.renders import fronts_and_backs

TITLE = "DINAR: what every ingredient brings"

TABLE_TEXT = """Test people, whom no run learnt from. The rows share data, steps, batch and seeds: every renderer is
trained for the same number of steps, the last ones on raw textures (first three rows) or on completed ones. Ours:
mean ± deviation over {seeds} seeds. The paper's numbers are of 15 photos at 512², and its third column is LPIPS,
which `perceptual` is not: compare directions, not values."""

STEPS_TEXT = (
    """Differences of the same view, paired by seed. Undecided: no larger than their deviation over seeds."""
)

PRIORS_TEXT = """What completes the hidden texels, all else equal (last row of the table above). Diversity: mean
`perceptual` between views of {draws} completions of the same photo; colour spread: deviation of the hidden texels'
colours over them, of a range of 1. Fillings draw nothing."""


class ReportAblationParams(StageParams):
    """What the page shows."""

    seeds: list[int] = Field(min_length=1, description="the seeds that were run; the first one is shown")
    people: int = Field(6, ge=1, description="test people shown")


def run(params: ReportAblationParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Read what was measured of every seed and case; write the page, and the tables as JSON."""
    cases = dict.fromkeys([row.case for row in ROWS] + [prior.case for prior in PRIORS])
    measured = {
        name: [read_json(inputs["measured"] / f"{seed}-{name}" / "metrics.json") for seed in params.seeds]
        for name in cases
    }
    drawn = {
        name: [read_json(inputs["draws"] / f"{seed}-{name}" / "diversity.json") for seed in params.seeds]
        for name in dict.fromkeys(prior.case for prior in PRIORS if prior.draws)
    }
    shown = {
        name: open_store(inputs["measured"] / f"{params.seeds[0]}-{name}" / "renders", "renders")
        for name in cases
    }
    sections = [
        rows_section(measured, len(params.seeds)),
        Section("Step by step", STEPS_TEXT, steps(measured)),
        rows_pictures(shown, params.people),
        priors_section(measured, drawn),
        priors_pictures(shown, params.people),
        draws_pictures(inputs["draws"], params),
    ]
    write_file(outputs["page"], render_page(TITLE, sections))
    table = summary_table(measured, drawn)
    write_file(outputs["table"], json.dumps(table, indent=1) + "\n")
    return {"seeds": len(params.seeds), "cases": len(cases)}


def rows_section(measured: dict[str, list[Table]], seeds: int) -> Section:
    """Table 2: ours and the paper's."""
    heads = [f"same view, {name}" for name in METRICS] + ["paper MS-SSIM", "paper PSNR", "paper LPIPS"]
    table: list[list[Any]] = [["texture and steps", *heads, *(f"novel view, {name}" for name in METRICS)]]
    for row in ROWS:
        same, novel = (view_means(measured[row.case], v, METRICS) for v in ("same_view", "novel_view"))
        table.append([row.title, *map(str, same.values()), *row.paper, *map(str, novel.values())])
    return Section("The paper's table 2", TABLE_TEXT.format(seeds=seeds), table)


def priors_section(measured: dict[str, list[Table]], drawn: dict[str, list[Table]]) -> Section:
    """The diffusion against its alternatives."""
    heads = [f"novel view, {name}" for name in PRIOR_METRICS]
    table: list[list[Any]] = [["prior", *heads, "diversity", "colour spread"]]
    for prior in PRIORS:
        novel = prior_means(prior, measured)
        spread = diversity(prior, drawn)
        table.append([prior.title, *map(str, novel.values()), *map(str, spread.values())])
    draws = next(iter(drawn.values()))[0]["draws"]
    return Section("The prior and its alternatives", PRIORS_TEXT.format(draws=draws), table)


def prior_means(prior: Prior, measured: dict[str, list[Table]]) -> dict[str, Mean]:
    """Novel views of one prior."""
    view = "novel_view" if prior.method == "avatar" else prior.method
    return view_means(measured[prior.case], view, PRIOR_METRICS)


def diversity(prior: Prior, drawn: dict[str, list[Table]]) -> dict[str, Mean]:
    """How much its samples differ; fillings are functions of the photo."""
    if not prior.draws:
        return {"perceptual": Mean(0.0), "colour": Mean(0.0)}
    return {key: Mean.of([t[key] for t in drawn[prior.case]]) for key in ("perceptual", "colour")}


def rows_pictures(shown: dict[str, Store], people: int) -> Section:
    """The photo's view and the back, by every row of table 2."""
    text = "Above: photo, then every row of the table in that view. Below: the true back, then every row's."
    stores = [shown[row.case] for row in ROWS]
    return Section(
        "Every row's avatars", text, images=list(_sheets(stores, ["avatar"] * len(stores), people))
    )


def priors_pictures(shown: dict[str, Store], people: int) -> Section:
    """The same by every prior."""
    text = (
        f"Truth, then: {'; '.join(prior.title for prior in PRIORS)}. Above the photo's view, below the back."
    )
    stores, methods = [shown[prior.case] for prior in PRIORS], [prior.method for prior in PRIORS]
    return Section("Every prior's completions", text, images=list(_sheets(stores, methods, people)))


def draws_pictures(folder: Path, params: ReportAblationParams) -> Section:
    """Several completions of the same photo, from the back."""
    images = []
    for prior in PRIORS:
        if prior.draws:
            strips = sorted((folder / f"{params.seeds[0]}-{prior.case}").glob("*.png"))[: params.people]
            backs = [np.asarray(Image.open(strip)) for strip in strips]
            images.append((prior.title, pictures.png_uri(np.concatenate(backs))))
    return Section("Samples of the same photo", "A line for each person, seen from the back.", images=images)


def summary_table(measured: dict[str, list[Table]], drawn: dict[str, list[Table]]) -> Table:
    """The means and spreads of both tables, for whoever reads them by machine."""
    rows = {
        row.case: {v: _plain(view_means(measured[row.case], v, METRICS)) for v in ("same_view", "novel_view")}
        for row in ROWS
    }
    priors = {
        f"{prior.case}.{prior.method}": {
            "novel_view": _plain(prior_means(prior, measured)),
            "diversity": _plain(diversity(prior, drawn)),
        }
        for prior in PRIORS
    }
    return {"rows": rows, "priors": priors}


def read_json(path: Path) -> Table:
    """A table that another stage wrote."""
    return dict(json.loads(path.read_text()))


def _sheets(stores: list[Store], methods: list[str], people: int) -> Iterator[tuple[str, str]]:
    """A sheet per person: front above, back below; the truth, then each store's method."""
    for subject, rows in list(fronts_and_backs(stores[0]).items())[:people]:
        cells = []
        for row in rows:
            cells.append(stores[0].read("target", [row])[0])
            cells += [store.read(name, [row])[0] for store, name in zip(stores, methods, strict=True)]
        yield subject, pictures.png_uri(pictures.sheet(cells, columns=1 + len(stores)))


def _plain(means: dict[str, Mean]) -> dict[str, dict[str, float | None]]:
    return {name: {"mean": mean.value, "spread": mean.spread} for name, mean in means.items()}


STAGE = Stage(
    "report_ablation",
    ReportAblationParams,
    inputs=("measured", "draws"),
    outputs=("page", "table"),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
