"""Measure the avatars, fits and parsing of held-out people: data/reports/metrics.json and gate.json.

Protocol: an avatar is made from the single-view fit of its input view. The same view is the input; novel views are
the others of that scan, each with the body and camera of its own single-view fit. Images are the square crops
on white. A view without a fit is left out and counted. Parsing is measured on the same people before photographs.
Fits are measured where the truth is given, parsing where the parser is.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from dinar_models.avatar import AvatarNets, over_white
from dinar_models.body import BodyModel
from dinar_models.cameras import crop_camera, crop_image
from dinar_models.folding import for_inference
from dinar_models.rasterize.base import make_rasterizer
from dinar_models.surface import Surface
from dinar_models.types import to_store_range
from dinar_models.uv_atlas import Atlas
from stages._core.cli import main
from stages._core.digests import digest_path, work_key
from stages._core.params import StageParams
from stages._core.publish import write_file
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import Store, open_store
from stages._core.weights import load_weights, read_body_digests
from stages._data.images import read_bodies, read_cameras, read_crops
from stages._data.labelled import LabelledPeople
from stages._data.segmentation import load_parser
from stages.evaluation.fits import fit_table
from stages.evaluation.images import features, image_table, kernel_estimate, reference_features
from stages.evaluation.parsing import parsing_table
from stages.people.truth import open_truth

VIEWS_PER_SHARD = 16
METHODS = ("avatar", "mirror", "mean_fill")


class EvaluateParams(StageParams):
    """What is measured; the list of data sets is fixed, so that a new one never moves the yardstick."""

    seed: int
    image_size: int
    datasets: list[str] = Field(description="data sets whose held-out people are measured")
    kid_subset: int = Field(100, ge=2, description="samples of each side per estimate of kid_effnet")
    kid_draws: int = Field(40, ge=1, description="estimates averaged, and halves for the interval")
    kid_reference: int = Field(512, ge=2, description="views of train people that renders are compared with")
    parsing_images: int = Field(128, ge=1, description="images of each split that are put before photographs")
    max_reject_ratio: float = Field(0.3, ge=0, le=1, description="share of views that may be rejected")


def run(params: EvaluateParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Render every held-out view, then measure test for the report and gate for promotions."""
    index = pd.concat([render_index(name, inputs) for name in params.datasets], ignore_index=True)
    summary = build_store(
        out=outputs["renders"],
        schema="renders",
        index=index,
        sizes={"H": params.image_size, "W": params.image_size},
        attrs={
            "image_size": params.image_size,
            "avatars": digest_path(inputs["avatars"]),
            **parser_digest(inputs),
            **read_body_digests(inputs["body"]),
        },
        shard_rows=VIEWS_PER_SHARD,
        work=partial(render_shard, index=index, inputs=dict(inputs), size=params.image_size),
        runtime=runtime,
        key=work_key(params, inputs.values()),
        max_reject_ratio=params.max_reject_ratio,
    )
    renders = open_store(outputs["renders"], "renders")
    views = open_store(inputs[f"views.{params.datasets[0]}"], "views")
    real = reference_features(views, params.kid_reference, params.seed, params.image_size)
    for split, name in (("test", "metrics"), ("gate", "gate")):
        table = measure_images(renders, split, params, real)
        if inputs.group("truth"):
            table |= measure_fits(split, params, inputs)
        if "parser" in inputs:
            table["parsing"] = measure_parsing(split, params, inputs, runtime)
        write_file(outputs[name], json.dumps(rounded(table), indent=1) + "\n")
    return {"views": summary["rows"], "without_fit": summary["not_ok"]}


def parser_digest(inputs: Paths) -> dict[str, str]:
    """Whose parsing is measured, if any is."""
    if "parser" not in inputs:
        return {}
    return {"parser": digest_path(inputs["parser"] / "parser.safetensors")}


def render_index(dataset: str, inputs: Paths) -> pd.DataFrame:
    """One line per view of the scans from which avatars were made."""
    avatars = open_store(inputs["avatars"], "avatars").index.reset_index(names="avatar_row")
    avatars = avatars[avatars["ok"] & (avatars["dataset"] == dataset)]
    single = open_store(inputs[f"bodies_single.{dataset}"], "bodies").index.reset_index(names="single_row")
    single = single[single["scan"].isin(avatars["scan"]) & (single["variant"] == 0)]
    wanted = avatars[["scan", "avatar_row", "view_row"]].rename(columns={"view_row": "input_row"})
    index = single.merge(wanted, on="scan")
    index["kind"] = np.where(index["view_row"] == index["input_row"], "same", "novel")
    return index.assign(dataset=dataset)


@torch.no_grad()
def render_shard(rows: range, *, index: pd.DataFrame, inputs: dict[str, Path], size: int) -> ShardResult:
    """Targets and renders of some views by every method."""
    arrays = {name: np.full((len(rows), size, size, 3), 255, np.uint8) for name in (*METHODS, "target")} | {
        name: np.zeros((len(rows), size, size), np.uint8) for name in ("avatar_mask", "target_mask")
    }
    digests = read_body_digests(inputs["body"])
    nets = load_weights(inputs["avatar"], "avatar", AvatarNets.from_config, digests)
    nets = for_inference(nets, torch.float32)
    body = BodyModel.load(inputs["body"])
    surface = Surface(body, Atlas.load(inputs["body"] / "atlas.npz"), make_rasterizer("embree"))
    avatars = open_store(inputs["avatars"], "avatars")
    lines = index.iloc[rows.start : rows.stop]
    line: Any  # its columns are known only at run time
    for place, line in enumerate(lines.itertuples()):
        if not line.ok:
            continue
        target, mask, uv = _target(line, inputs, surface, size)
        arrays["target"][place], arrays["target_mask"][place] = target, mask
        for method in METHODS:
            source = "texture" if method == "avatar" else method
            texture = torch.from_numpy(avatars.read(source, [line.avatar_row])).float()
            rgb, alpha = nets.render(texture, uv)
            arrays[method][place] = _store_image(over_white(rgb.clamp(-1, 1), alpha))
            if method == "avatar":
                arrays["avatar_mask"][place] = (alpha[0, 0] * 255 + 0.5).to(torch.uint8).numpy()
    return ShardResult(arrays)


def _target(
    line: Any, inputs: dict[str, Path], surface: Surface, size: int
) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """The true view on white, its mask, and the UV raster of its own single-view fit."""
    views = open_store(inputs[f"views.{line.dataset}"], "views")
    parsing = open_store(inputs[f"parsing.{line.dataset}"], "parsing")
    single = open_store(inputs[f"bodies_single.{line.dataset}"], "bodies")
    crop = read_crops(single, [line.single_row])
    rgb = torch.from_numpy(views.read("rgb", [line.view_row])).permute(0, 3, 1, 2).float() / 127.5 - 1
    mask = torch.from_numpy(parsing.read("mask", [line.view_row])).float()[:, None] / 255
    rgb, mask = crop_image(rgb, crop, size, fill=1.0), crop_image(mask, crop, size, fill=0.0)
    camera = crop_camera(read_cameras(views, [line.view_row]), crop, size)
    uv = surface.uv(read_bodies(single, [line.single_row]), camera)
    return _store_image(over_white(rgb, mask)), (mask[0, 0] * 255 + 0.5).to(torch.uint8).numpy(), uv


def measure_images(renders: Store, split: str, params: EvaluateParams, real: torch.Tensor) -> dict[str, Any]:
    """same_view, novel_view, baselines, and the interval of kid_effnet against `real` features, of one split."""
    same = renders.ok_rows(split, kind="same")
    novel = renders.ok_rows(split, kind="novel")
    every = renders.ok_rows(split)
    if not len(same) or not len(novel):
        return {"same_view": None, "novel_view": None, "baselines": None, "kid_effnet_interval": None}
    people = renders.index["subject"].to_numpy()[every]
    tables: dict[str, dict[str, Any]] = {}
    interval: dict[str, Any] = {"subset": params.kid_subset, "renders": len(every)}
    for method in METHODS:
        kernel = kernel_estimate(
            features(renders, every.tolist(), method), real, people,
            subset=params.kid_subset, draws=params.kid_draws, seed=params.seed,
        )  # fmt: skip
        table = image_table(renders, novel.tolist(), method)
        tables[method] = {**table, "kid_effnet": kernel.value, "kid": None, "reid": None}
        interval[method] = {"low": kernel.low, "high": kernel.high}
    return {
        "same_view": image_table(renders, same.tolist(), "avatar"),
        "novel_view": tables["avatar"],
        "baselines": {"mirror": tables["mirror"], "mean_fill": tables["mean_fill"]},
        "kid_effnet_interval": interval,
    }


def measure_fits(split: str, params: EvaluateParams, inputs: Paths) -> dict[str, Any]:
    """The fits of one split, of the first data set, whose truth is known."""
    name = params.datasets[0]
    views = open_store(inputs[f"views.{name}"], "views")
    parsing = open_store(inputs[f"parsing.{name}"], "parsing")
    single = open_store(inputs[f"bodies_single.{name}"], "bodies")
    joint = open_store(inputs[f"bodies.{name}"], "bodies")
    measure = partial(
        fit_table,
        views=views,
        parsing=parsing,
        truth=open_truth(inputs[f"truth.{name}"]),
        body=BodyModel.load(inputs["body"]),
        rasterizer=make_rasterizer("embree"),
    )
    alone = single.ok_rows(split).tolist()
    view_rows = single.index.loc[alone, "view_row"].tolist()
    together = joint.ok_rows(split, variant=0, view=0).tolist()
    multi = measure(joint, together, together)
    return {
        "fit": {
            "single_view": measure(single, alone, view_rows),
            "multi_view": {key: multi[key] for key in ("pve_mm", "iou")},
        }
    }


def measure_parsing(split: str, params: EvaluateParams, inputs: Paths, runtime: Runtime) -> dict[str, Any]:
    """The parsing of one split, of the first data set."""
    name = params.datasets[0]
    views = inputs[f"views.{name}"]
    people = None
    if len(open_store(views, "views").ok_rows(split)):
        people = LabelledPeople({name: views}, split, params.parsing_images, params.image_size, params.seed)
    generator = generator_for(params.seed, "evaluate", "backgrounds", split)
    return parsing_table(load_parser(inputs["parser"], runtime.device), people, generator, runtime.device)


def rounded(table: Any) -> Any:
    """Six significant digits: the rest is noise, and git diffs of the metrics stay readable."""
    if isinstance(table, dict):
        return {key: rounded(value) for key, value in table.items()}
    return float(f"{table:.6g}") if isinstance(table, float) else table


def _store_image(image: torch.Tensor) -> np.ndarray:
    return to_store_range(image)[0].permute(1, 2, 0).numpy()


STAGE = Stage(
    "evaluate",
    EvaluateParams,
    inputs=(
        "avatars", "views.*", "parsing.*", "bodies_single.*", "body", "avatar", "bodies.*?", "truth.*?",
        "parser?",
    ),
    outputs=("metrics", "gate", "renders"),
    run=run,
)  # fmt: skip

if __name__ == "__main__":
    main(STAGE)
