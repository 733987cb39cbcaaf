"""Views, masks and keypoints → bodies: one fit per scan over all its views, and fits to single images.

Views of a scan show one still person, so they share a body; its other variants (same person, other cameras)
share it too, because bodies live in the world. Photos are fitted each alone, the frames of a video with one
shape and without jerks. For held-out people some images are fitted alone as well (`bodies_single`): what a
one-shot avatar starts from.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, Crop, mask_box, points_box, square_crop
from dinar_models.fitting.fitter import BodyFitter
from dinar_models.fitting.observations import Fit, Observations
from dinar_models.fitting.schedule import Schedule, multi_view_schedule, single_view_schedule
from dinar_models.keypoints import LAYOUTS
from dinar_models.rasterize.base import make_rasterizer
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._data.fit_rows import (
    fitted_alone,
    needing_both,
    scan_length,
    selected_alone,
    windows,
    with_columns,
)
from stages._data.imported_fits import FitFiles, KnownFits, fit_known, known_fits, load_tables

SCANS_PER_SHARD = 16
IMAGES_PER_SHARD = 32
FRAMES_PER_SHARD = 128
PLAUSIBLE = "plausible"


class FitBodyParams(StageParams):
    """Effort of the fits, what is fitted alone, and what counts as implausible."""

    multi_view_effort: float = Field(1.0, gt=0, le=10, description="factor on the steps of joint fits")
    single_view_effort: float = Field(1.0, gt=0, le=10, description="factor on the steps of single-view fits")
    single_splits: tuple[Literal["train", "val", "gate", "test"], ...] = Field(
        ("gate", "test"), description="splits whose images are fitted alone too"
    )
    single_scans: int = Field(1, ge=1, description="scans of each such subject that are fitted alone")
    min_iou: float = Field(0.6, ge=0, le=1, description="least overlap of the body's and the person's mask")
    max_reprojection: float = Field(
        0.05, gt=0, description="largest mean distance of body keypoints, of the person's length"
    )
    max_excess: float = Field(0.6, gt=0, description="farthest beyond a joint's limits, rad")
    max_depth: float = Field(0.06, gt=0, description="how far limbs may be inside each other or the torso, m")
    max_reject_ratio: float = Field(0.2, ge=0, le=1, description="share of images that may be rejected")


@dataclass(frozen=True)
class Sources:
    """Paths of the inputs; small, so that it travels to workers."""

    views: Path
    parsing: Path
    keypoints: Path
    body: Path
    fits: FitFiles | None = None


def run(params: FitBodyParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Fit everything, then what is fitted alone."""
    views = open_store(inputs["views"], "views")
    fits = FitFiles.find(inputs.get("raw"), inputs.get("card"), inputs["body"], views.index)
    sources = Sources(inputs["views"], inputs["parsing"], inputs["keypoints"], inputs["body"], fits)
    build = partial(
        build_store,
        schema="bodies",
        sizes={},
        attrs={
            **params.model_dump(mode="json"),
            "body_digest": load_body(sources.body).digest,
            "gender": load_tables(sources.body).gender,
        },
        runtime=runtime,
        key=work_key(params, inputs.values()),
        max_reject_ratio=params.max_reject_ratio,
    )
    alone = fitted_alone(views.index)
    index = with_columns(views.index)
    usable = needing_both(index, sources.keypoints, sources.parsing)
    selected = selected_alone(usable, params.single_splits, params.single_scans)
    view_rows = selected["view_row"].to_numpy()
    if alone:
        index = usable
        rows = FRAMES_PER_SHARD if (index["source"] == "video").any() else IMAGES_PER_SHARD
        fit_all = partial(fit_images, sources=sources, params=params)
        fit_selected = partial(copy_rows, bodies=outputs["bodies"], view_rows=view_rows)
    else:
        length = scan_length(index)
        rows = length * SCANS_PER_SHARD
        fit_all = partial(fit_scans, sources=sources, params=params, length=length)
        fit_selected = partial(fit_images, sources=sources, params=params, view_rows=view_rows)
    joint = build(out=outputs["bodies"], index=index, shard_rows=rows, work=fit_all)
    single = build(
        out=outputs["bodies_single"], index=selected, shard_rows=IMAGES_PER_SHARD, work=fit_selected
    )
    counts = {
        name: f"{s['rows'] - s['not_ok']} of {s['rows']}"
        for name, s in (("joint", joint), ("single", single))
    }
    return {**counts, "bodies": joint, "bodies_single": single}


def fit_scans(rows: range, *, sources: Sources, params: FitBodyParams, length: int) -> ShardResult:
    """Joint fits of consecutive whole scans; every row of a scan gets the scan's body."""
    index = open_store(sources.views, "views").index.iloc[rows.start : rows.stop]
    grid = np.arange(rows.start, rows.stop).reshape(-1, length)
    unjittered = (index["variant"] == 0).to_numpy().reshape(-1, length)
    view_rows = grid[unjittered].reshape(len(grid), -1)
    found = open_store(sources.keypoints, "keypoints").index["ok"].to_numpy(bool)[view_rows]
    ok = index["ok"].to_numpy(bool).reshape(-1, length).any(axis=1)
    usable = ok & (found.sum(axis=1) >= 2)
    result = _empty_result(len(rows), _image_side(sources))
    for scan in np.flatnonzero(ok & ~usable):
        result.rejects.update(dict.fromkeys(grid[scan].tolist(), "keypoints in fewer than two views"))
    if usable.any():
        views = view_rows[usable]
        observations = observe(sources, views, found[usable])
        schedule = multi_view_schedule(params.multi_view_effort)
        known = _known(sources, views[:, 0], observations)
        fit = _fit_known(fitter(sources), BodyFitter.fit_multi_view, observations, schedule, known)
        for body, scan in enumerate(np.flatnonzero(usable)):
            _enter_scan(result, fit, body, grid[scan] - rows.start, unjittered[scan], params, rows.start)
    return result


def _known(sources: Sources, view_rows: np.ndarray, observations: Observations) -> KnownFits | None:
    """What the data set's own fits say of observed bodies, of each of which a row of the views is given."""
    if sources.fits is None:
        return None
    first_views = observations.camera.select(slice(None, None, observations.views))
    lines = open_store(sources.views, "views").index.iloc[view_rows]
    return known_fits(lines, first_views, sources.fits)


def _fit_known(
    fitter: BodyFitter,
    fit: Callable[..., Fit],
    observations: Observations,
    schedule: Schedule,
    known: KnownFits | None,
) -> Fit:
    """Fit from what is known, with one of the fitter's methods."""
    return fit_known(
        known,
        observations,
        fit=lambda seen, start, rows: fit(fitter, seen, schedule, start, rows),
        judge=lambda bodies, seen: fitter.judge_given(bodies, seen, schedule),
    )


def _enter_scan(
    result: ShardResult,
    fit: Fit,
    body: int,
    places: np.ndarray,
    unjittered: np.ndarray,
    params: FitBodyParams,
    first_row: int,
) -> None:
    """Copy one scan's body to its rows; residuals of jittered views are the mean over the others."""
    for name, values in fit.params.as_dict().items():
        result.arrays[name][places] = values[body].numpy()
    per_view = torch.stack([fit.reprojection[body], fit.iou[body].nan_to_num(0.0)], dim=1).numpy()
    residuals = result.arrays["residuals"]
    residuals[places, :2] = per_view.mean(axis=0)
    residuals[places[unjittered], :2] = per_view
    residuals[places, 2] = float(fit.stance[body])
    verdict = judge(fit, params)[body]
    for place in places:
        result.columns["verdict"][place] = verdict or PLAUSIBLE
        if verdict:
            result.rejects[first_row + int(place)] = verdict


def fit_images(
    rows: range, *, sources: Sources, params: FitBodyParams, view_rows: np.ndarray | None = None
) -> ShardResult:
    """Fits of images each alone.

    Args:
        view_rows: row of the views for each row of the store; the same rows by default.
    """
    places, chosen, clip = _to_fit(rows, sources, params, view_rows)
    result = _empty_result(len(rows), _image_side(sources))
    if len(places) == 0:
        return result
    observations = observe(sources, chosen[:, None], np.ones((len(chosen), 1), bool))
    observations.clip = clip
    layout = open_store(sources.keypoints, "keypoints").attrs["layout"]
    inside = np.flatnonzero((places >= 0) & (places < len(rows)))
    # Alone means from the image alone.
    known = _known(sources, chosen, observations) if view_rows is None else None
    photos = fit_photos(sources.body, layout, observations, params, known).select(torch.from_numpy(inside))
    places, fit = places[inside], photos.fit
    for name, values in fit.params.as_dict().items():
        result.arrays[name][places] = values.numpy()
    residuals = torch.cat([fit.reprojection, fit.iou.nan_to_num(0.0), fit.stance[:, None]], dim=1)
    result.arrays["residuals"][places, :3] = residuals.numpy()
    if fitted_alone(open_store(sources.views, "views").index):
        for name in ("x", "y", "side"):
            _put(result.columns[f"crop_{name}"], places, getattr(photos.crop, name).tolist())
    _put(result.columns["verdict"], places, [verdict or PLAUSIBLE for verdict in photos.verdicts])
    for place, verdict in zip(places.tolist(), photos.verdicts, strict=True):
        if verdict:
            result.rejects[rows.start + place] = verdict
    return result


def _put(column: list[Any], places: np.ndarray, values: list[Any]) -> None:
    for place, value in zip(places.tolist(), values, strict=True):
        column[place] = value


@dataclass(frozen=True)
class PhotoFits:
    """Fits of photos, each alone.

    Attributes:
        fit: bodies in the frame of the photos' cameras.
        crop: the square around each person.
        verdicts: why a fit is implausible, empty where it is plausible.
    """

    fit: Fit
    crop: Crop
    verdicts: list[str]

    def select(self, photos: torch.Tensor) -> "PhotoFits":
        """Some of them, by number."""
        crop = Crop(self.crop.x[photos], self.crop.y[photos], self.crop.side[photos])
        return PhotoFits(self.fit.select(photos), crop, [self.verdicts[i] for i in photos.tolist()])


def fit_photos(
    body: Path,
    layout: str,
    observations: Observations,
    params: FitBodyParams,
    known: KnownFits | None = None,
) -> PhotoFits:
    """Fit each photo alone and find its square: what a photo needs outside the pipeline too.

    Args:
        body: folder made by build_body.
        layout: name of the keypoint layout.
        observations: one view each, with masks.
        known: what fits of others say of the bodies.
    """
    schedule = single_view_schedule(params.single_view_effort)
    fitter = _make_fitter(body, layout)
    fit = _fit_known(fitter, BodyFitter.fit_single_view, observations, schedule, known)
    return PhotoFits(fit, person_crop(load_body(body), fit, observations), judge(fit, params))


def person_crop(body: BodyModel, fit: Fit, observations: Observations) -> Crop:
    """The square around mask and body."""
    pixels = observations.camera.project(body(fit.params).vertices)
    boxes = [points_box(pixels)]
    if observations.mask is not None:
        scale = observations.camera.size / observations.mask.shape[-1]
        boxes.append(mask_box(observations.mask[:, 0]) * scale)
    return square_crop(*boxes)


def _to_fit(
    rows: range, sources: Sources, params: FitBodyParams, view_rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, torch.Tensor | None]:
    """What is to be fitted for a shard: places in it, rows of the views, and clips.

    Frames that share a window with one of the shard's are among them, at places outside the shard.
    """
    index = with_columns(open_store(sources.views, "views").index)
    usable = needing_both(index, sources.keypoints, sources.parsing)
    if view_rows is not None:
        selected = selected_alone(usable, params.single_splits, params.single_scans)
        ok = selected["ok"].to_numpy(bool)
        chosen = rows.start + np.flatnonzero(ok[rows.start : rows.stop])
        return chosen - rows.start, view_rows[chosen], None
    ok = usable["ok"].to_numpy(bool)
    window = windows(index)
    chosen = np.flatnonzero(ok & np.isin(window, window[rows.start : rows.stop]))
    return chosen - rows.start, chosen, torch.from_numpy(window[chosen])


def copy_rows(rows: range, *, bodies: Path, view_rows: np.ndarray) -> ShardResult:
    """Rows of images whose fit in `bodies` was made from them alone already."""
    store = open_store(bodies, "bodies")
    chosen = view_rows[rows.start : rows.stop]
    lines = store.index.iloc[chosen]
    arrays = {name: store.read(name, chosen) for name in store.schema.arrays}
    rejects = {
        row: str(reason) for row, ok, reason in zip(rows, lines["ok"], lines["reason"], strict=True) if not ok
    }
    columns = {name: lines[name].tolist() for name in store.schema.columns}
    return ShardResult(arrays, rejects, columns)


def observe(sources: Sources, view_rows: np.ndarray, found: np.ndarray) -> Observations:
    """Keypoints, masks and cameras of bodies.

    Args:
        view_rows: (B, V) rows of the views.
        found: (B, V) whether keypoints were found; the others get no confidence.
    """
    views, keypoints = open_store(sources.views, "views"), open_store(sources.keypoints, "keypoints")
    parsing = open_store(sources.parsing, "parsing")
    flat, shape = view_rows.flatten(), view_rows.shape
    xyc = keypoints.read("xyc", flat)
    xyc[~found.flatten(), :, 2] = 0
    mask = torch.from_numpy(parsing.read("mask", flat)).float() / 255
    mask[~parsing.index["ok"].to_numpy(bool)[flat]] = 0
    K, R, T = (torch.from_numpy(views.read(name, flat)) for name in ("K", "R", "T"))
    return Observations(
        xyc=torch.from_numpy(xyc).unflatten(0, shape),
        camera=Camera(K, R, T, _image_side(sources)),
        mask=mask.unflatten(0, shape),
        world=torch.from_numpy(keypoints.read("world", flat)).unflatten(0, shape),
    )


def judge(fit: Fit, params: FitBodyParams) -> list[str]:
    """Why each fit is implausible, one sentence; empty where it is plausible."""
    share = (fit.reprojection / fit.person).median(dim=1).values
    iou = fit.iou.nanmedian(dim=1).values
    verdicts = []
    for body in range(len(share)):
        if not torch.isfinite(share[body]):
            verdicts.append("the fit diverged")
        elif iou[body] < params.min_iou:
            verdicts.append(f"the body covers the person badly: IoU {iou[body]:.2f} < {params.min_iou}")
        elif share[body] > params.max_reprojection:
            verdicts.append(f"keypoints are {share[body]:.1%} of the person's length off")
        elif fit.excess[body] > params.max_excess:
            verdicts.append(f"a joint is {fit.excess[body]:.2f} rad beyond its limit")
        elif fit.depth[body] > params.max_depth:
            verdicts.append(f"a limb is {100 * fit.depth[body]:.0f} cm inside the body")
        else:
            verdicts.append("")
    return verdicts


def _empty_result(rows: int, side: int) -> ShardResult:
    arrays = {name: values.numpy() for name, values in BodyParams.zeros(rows).as_dict().items()}
    arrays["residuals"] = np.zeros((rows, 4), np.float32)
    columns: dict[str, list[Any]] = {
        "crop_x": [0.0] * rows,
        "crop_y": [0.0] * rows,
        "crop_side": [float(side)] * rows,
        "verdict": [""] * rows,
    }
    return ShardResult(arrays, {}, columns)


def _image_side(sources: Sources) -> int:
    return int(open_store(sources.views, "views")["rgb"].shape[1])


@functools.cache
def load_body(folder: Path) -> BodyModel:
    """The body model, once per process."""
    return BodyModel.load(folder)


@functools.cache
def _make_fitter(body: Path, layout: str) -> BodyFitter:
    return BodyFitter(load_body(body), LAYOUTS[layout], make_rasterizer("embree"))


def fitter(sources: Sources) -> BodyFitter:
    """The fitter for these inputs, once per process."""
    layout = open_store(sources.keypoints, "keypoints").attrs["layout"]
    return _make_fitter(sources.body, layout)


STAGE = Stage(
    "fit_body",
    FitBodyParams,
    inputs=("views", "parsing", "keypoints", "body", "raw?", "card?"),
    outputs=("bodies", "bodies_single"),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
