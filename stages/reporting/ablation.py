"""The ablation's tables: means and spreads over seeds, and each step of the paper's table 2 beside ours."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Table = dict[str, Any]

METRICS = ("ms_ssim", "psnr", "perceptual")
"""Columns of table 2; the paper's third is LPIPS, whose place `perceptual` takes here."""


@dataclass(frozen=True)
class Row:
    """One row of table 2.

    Attributes:
        case: its name among the runs.
        title: what the paper calls it.
        paper: the paper's MS-SSIM, PSNR and LPIPS.
        before: the rows that it is compared with: what it adds to.
    """

    case: str
    title: str
    paper: tuple[float, float, float]
    before: tuple[str, ...] = ()


ROWS = (
    Row("rgb", "RGB texture", (0.8825, 22.80, 0.1204)),
    Row("neural", "Neural texture", (0.8632, 23.09, 0.1285)),
    Row("both", "Both textures", (0.9126, 24.10, 0.1005), ("rgb", "neural")),
    Row("inpainting", "Both + inpainting", (0.9199, 24.85, 0.0904), ("both",)),
    Row("occlusion", "Both + inpainting + occlusion detector", (0.9201, 24.86, 0.0905), ("inpainting",)),
    Row("tuning", "Both + inpainting + occl. + RGB tuning", (0.9203, 24.98, 0.0901), ("occlusion",)),
)


@dataclass(frozen=True)
class Prior:
    """One way to complete a texture.

    Attributes:
        case: the run that measured it.
        method: where in that run's metrics it stands.
        draws: whether it draws samples at all.
    """

    title: str
    case: str
    method: str = "avatar"
    draws: bool = True


PRIORS = (
    Prior("diffusion, as in the pipeline", "tuning"),
    Prior("diffusion from full noise", "full_noise"),
    Prior("deterministic U-Net, same pairs", "regression"),
    Prior("mirror", "tuning", "mirror", draws=False),
    Prior("mean fill", "tuning", "mean_fill", draws=False),
)

PRIOR_METRICS = ("perceptual", "psnr", "ms_ssim", "kid_effnet")


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and the sample deviation; None where one seed has none, or nothing was measured."""

    value: float | None
    spread: float | None = None

    @staticmethod
    def of(values: Sequence[float | None]) -> "Mean":
        """Of one value per seed; None if any is missing."""
        known = [v for v in values if v is not None]
        if not known or len(known) < len(values):
            return Mean(None)
        return Mean(statistics.mean(known), statistics.stdev(known) if len(known) > 1 else None)

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.4g}" + ("" if self.spread is None else f" ± {self.spread:.1g}")


def view_means(measured: Sequence[Table], view: str, metrics: Sequence[str]) -> dict[str, Mean]:
    """One case's metrics over its seeds: `same_view`, `novel_view`, or a baseline's name."""
    tables = [table_of(m, view) for m in measured]
    return {name: Mean.of([t.get(name) for t in tables]) for name in metrics}


def table_of(metrics: Table, view: str) -> Table:
    """Part of one run's metrics.json."""
    where = metrics if view in ("same_view", "novel_view") else metrics.get("baselines") or {}
    return where.get(view) or {}


def steps(measured: Mapping[str, Sequence[Table]]) -> list[list[Any]]:
    """What each ingredient changes in the same view, seed by seed, beside what it changed in the paper."""
    lines: list[list[Any]] = [["step"]]
    for name in METRICS:
        lines[0] += [f"Δ {name}", "paper", "direction"]
    by_name = {row.case: row for row in ROWS}
    for row in ROWS:
        for before in row.before:
            line: list[Any] = [f"{by_name[before].title} → {row.title}"]
            for name, new, old in zip(METRICS, row.paper, by_name[before].paper, strict=True):
                mine = difference(measured[row.case], measured[before], name)
                line += [str(mine), f"{new - old:+.4f}", direction(mine, new - old)]
            lines.append(line)
    return lines


def difference(after: Sequence[Table], before: Sequence[Table], metric: str) -> Mean:
    """Of the same view; the seeds are paired, so that what a seed does to both rows cancels."""
    pairs = [
        (table_of(a, "same_view").get(metric), table_of(b, "same_view").get(metric))
        for a, b in zip(after, before, strict=True)
    ]
    return Mean.of([None if a is None or b is None else a - b for a, b in pairs])


def direction(mine: Mean, paper: float) -> str:
    """Whether a change goes the paper's way; undecided where it is within the spread of the seeds."""
    if mine.value is None or (mine.spread is not None and abs(mine.value) <= mine.spread):
        return "undecided"
    return "as in the paper" if (mine.value > 0) == (paper > 0) else "the other way"
