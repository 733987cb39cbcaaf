"""Bodies fitted a minute, and what each term of the objective costs: `python -m benchmarks.fitting`.

Two processes of one thread each, as the stage `fit_body` works on two cores; all terms on, the schedules of the
stage. Shares are those of a step with every term in it; most steps have no silhouette and cost far less.
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from dinar_models.body import BodyModel, BodyParams
from dinar_models.fitting.energy import small_masks
from dinar_models.fitting.fitter import BodyFitter
from dinar_models.fitting.observations import Fit, Observations
from dinar_models.fitting.schedule import Schedule, multi_view_schedule, single_view_schedule
from dinar_models.keypoints import LAYOUTS
from dinar_models.rasterize.base import make_rasterizer
from stages._core.store import open_store
from stages.fit_body import Sources, observe

STORES = Path("data/stores/synthetic")
BODY = Path("data/models/body")
WORKERS = 2
VIEWS = 8
WARM_UP = 2
"""Bodies fitted before the clock starts: the body model loads, Embree starts."""


@dataclass(frozen=True)
class Work:
    """Rows of the views that one process fits, a body a line."""

    stores: Path
    body: Path
    rows: np.ndarray

    @property
    def schedule(self) -> Schedule:
        """Several views a body are fitted jointly."""
        return multi_view_schedule() if self.rows.shape[1] > 1 else single_view_schedule()

    def prepare(self) -> tuple[BodyFitter, Observations]:
        """The fitter and what it is given."""
        torch.set_num_threads(1)
        views, parsing, keypoints = (self.stores / name for name in ("views", "parsing", "keypoints"))
        sources = Sources(views, parsing, keypoints, self.body)
        layout = LAYOUTS[open_store(sources.keypoints, "keypoints").attrs["layout"]]
        fitter = BodyFitter(BodyModel.load(self.body), layout, make_rasterizer("embree"))
        return fitter, observe(sources, self.rows, np.ones(self.rows.shape, bool))


def fit(fitter: BodyFitter, observations: Observations, schedule: Schedule) -> Fit:
    """One fit of all bodies."""
    fits = fitter.fit_multi_view if observations.views > 1 else fitter.fit_single_view
    return fits(observations, schedule)


def clock(work: Work) -> tuple[float, float]:
    """When this process began and ended to fit, on the clock that all processes share."""
    fitter, observations = work.prepare()
    fit(fitter, observations.select(torch.arange(WARM_UP)), still(work.schedule))
    start = time.monotonic()
    fit(fitter, observations, work.schedule)
    return start, time.monotonic()


def bodies_a_minute(stores: Path, body: Path, bodies: int, views: int) -> float:
    """Throughput of WORKERS processes with `bodies` each."""
    rows = unjittered_rows(stores, views)[: WORKERS * bodies]
    if len(rows) < WORKERS * bodies:
        raise SystemExit(f"{len(rows)} bodies are in {stores}, {WORKERS * bodies} are needed")
    parts = [Work(stores, body, part) for part in np.split(rows, WORKERS)]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        starts, ends = zip(*pool.map(clock, parts), strict=True)
    return 60 * len(rows) / (max(ends) - min(starts))


def unjittered_rows(stores: Path, views: int) -> np.ndarray:
    """Rows (B, views) of the first variant in which keypoints were found."""
    index = open_store(stores / "views", "views").index
    found = open_store(stores / "keypoints", "keypoints").index["ok"].to_numpy(bool)
    rows = np.flatnonzero((index["variant"] == 0).to_numpy()).reshape(-1, VIEWS)
    rows = rows[found[rows].all(axis=1)]
    return rows if views > 1 else rows.reshape(-1, 1)


def shares(work: Work, repeats: int = 8) -> dict[str, float]:
    """Share of each term, forward and backward, in a step with all terms; `body` is the posing of the bodies."""
    fitter, observations = work.prepare()
    several = observations.views > 1
    if not several:
        observations.clip = torch.zeros(len(observations), dtype=torch.long)
    target = fitter.triangulated(observations)[0] if several else fitter.guessed(observations)
    start = BodyParams.zeros(len(observations))
    variables = {name: v for name, v in start.as_dict().items() if name not in ("transl", "scale")}
    variables["pelvis"] = fit(fitter, observations, still(work.schedule)).params.transl
    joints, vertices = (t.detach() for t in fitter.energy.pose(fitter.energy.surface, variables))
    leaves = [t.requires_grad_() for t in (*variables.values(), joints, vertices)]
    masks = small_masks(observations, work.schedule.silhouette_size)
    weights = work.schedule.phases[-1].weights
    terms = fitter.energy.functions(variables, joints, vertices, target, masks, work.schedule, weights)
    terms["body"] = lambda: torch.cat(fitter.energy.pose(fitter.energy.surface, variables), dim=1)
    costs = {name: seconds(term, leaves, repeats) for name, term in terms.items()}
    return {name: cost / sum(costs.values()) for name, cost in costs.items()}


def still(schedule: Schedule) -> Schedule:
    """One step a phase."""
    return replace(schedule, phases=tuple(replace(p, steps=1) for p in schedule.phases))


def seconds(value: Callable[[], torch.Tensor], leaves: list[torch.Tensor], repeats: int) -> float:
    """Shortest time of values and the gradient of their sum."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.autograd.grad(value().sum(), leaves, allow_unused=True)
        times.append(time.perf_counter() - start)
    return min(times)


def measure(
    stores: Path = STORES, body: Path = BODY, singles: int = 32, jointly: int = 16
) -> dict[str, float]:
    """Bodies a minute from one view and from eight, and the shares of the terms, on the demo's people.

    Args:
        singles, jointly: bodies that each of the two processes fits.

    Raises:
        SystemExit: saying so when the stores are not there.
    """
    if not (stores / "keypoints").is_dir():
        raise SystemExit(f"no keypoints in {stores}: run `dvc repro detect_keypoints` first")
    figures = {}
    for name, views, bodies in (("single_view", 1, singles), ("eight_view", VIEWS, jointly)):
        figures[f"{name}_bodies_per_minute"] = bodies_a_minute(stores, body, bodies, views)
        work = Work(stores, body, unjittered_rows(stores, views)[:bodies])
        figures |= {f"{name}_share_{term}": share for term, share in shares(work).items()}
    return figures


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", type=Path, default=STORES)
    parser.add_argument("--body", type=Path, default=BODY)
    parser.add_argument("--singles", type=int, default=32)
    parser.add_argument("--jointly", type=int, default=16)
    args = parser.parse_args()
    print(json.dumps(measure(args.stores, args.body, args.singles, args.jointly), indent=1))


if __name__ == "__main__":
    main()
