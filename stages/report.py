"""One self-contained page: the graph with times, samples of every store, test people, animations, metrics."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import Field

from dinar_models.animation import render_frames, standing, turntable
from dinar_models.avatar import AvatarNets
from dinar_models.body import BodyModel
from dinar_models.gait import STRIDE_SECONDS, walk_cycle
from dinar_models.rasterize.base import make_rasterizer
from dinar_models.types import NeuralTexture
from dinar_models.uv_atlas import Atlas
from stages._core.cli import main
from stages._core.params import StageParams
from stages._core.precision import resolve_dtype
from stages._core.publish import write_file
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import Store, open_store
from stages._core.train_loop import HISTORY
from stages._core.weights import load_weights, read_body_digests
from stages._data.images import read_bodies
from stages.reporting import pictures
from stages.reporting.fits import fit_overlay
from stages.reporting.graph_picture import graph_svg
from stages.reporting.page import Section, render_page
from stages.reporting.renders import fronts_and_backs

TURN_SECONDS = 2.0
"""Of a turntable's round."""


class ReportParams(StageParams):
    """What the page shows."""

    image_size: int
    samples: int = Field(4, ge=1, le=32, description="rows shown of every store")
    animated_people: int = Field(3, ge=0, le=16, description="test people with a turntable and a walk")
    frames: int = Field(24, ge=2, le=240, description="frames of each animation")


def run(params: ReportParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Collect what the other stages made; nothing is computed here but pictures."""
    sections = [
        metrics_section(inputs["metrics"]),
        *people_sections(inputs["renders"]),
        *animation_sections(params, inputs, runtime),
        *(
            section
            for name in inputs.group("views")
            for section in store_sections(name, inputs, params.samples)
        ),
        avatar_section(inputs["avatars"], params.samples),
        curves_section(inputs),
        graph_section(inputs["graph"], runtime.runs_root),
    ]
    page = render_page("DINAR: from raw scans to animated avatars", sections)
    write_file(outputs["page"], page)
    return {"sections": len(sections), "mib": round(len(page) / 2**20, 1)}


def metrics_section(path: Path) -> Section:
    """All metrics; the novel view beside its baselines."""
    metrics = json.loads(path.read_text())
    same, novel, baselines = (metrics.get(key) or {} for key in ("same_view", "novel_view", "baselines"))
    columns = (same, novel, baselines.get("mirror") or {}, baselines.get("mean_fill") or {})
    table: list[list[Any]] = [["metric", "DINAR, same view", "DINAR, novel view", "mirror", "mean fill"]]
    table += [[key, *(column.get(key) for column in columns)] for key in dict.fromkeys([*same, *novel])]
    intervals = {"kid_effnet_interval": metrics.get("kid_effnet_interval") or {}}
    for group, values in _flat(metrics.get("fit", {}), metrics.get("parsing", {}), intervals):
        table.append([group, values, None, None, None])
    text = "People whom no stage trained, tuned or chose by. A dash: not defined there, or weights missing."
    return Section("Metrics of the test people", text, table)


def people_sections(path: Path) -> Iterator[Section]:
    """Every test person: input view and back view, ground truth beside the avatar and the baselines."""
    store = open_store(path, "renders")
    images = []
    for subject, (front, back) in fronts_and_backs(store).items():
        cells = [_row(store, name, front) for name in ("target", "avatar")]
        cells += [_row(store, name, back) for name in ("target", "avatar", "mirror", "mean_fill")]
        images.append((subject, pictures.png_uri(pictures.sheet(cells, columns=6))))
    text = "Left to right: photo, avatar; back view: truth, avatar, mirror baseline, mean-fill baseline."
    yield Section("Front and back of every test person", text, images=images)


def animation_sections(params: ReportParams, inputs: Paths, runtime: Runtime) -> Iterator[Section]:
    """Turntable and walk of the first test people."""
    store = open_store(inputs["avatars"], "avatars")
    rows = store.ok_rows("test")[: params.animated_people]
    if not len(rows):
        return
    digests = read_body_digests(inputs["body"])
    nets = load_weights(inputs["avatar"], "avatar", AvatarNets.from_config, digests)
    scene: dict[str, Any] = {
        "body": BodyModel.load(inputs["body"]),
        "atlas": Atlas.load(inputs["body"] / "atlas.npz"),
        "rasterizer": make_rasterizer("auto", runtime.device),
        "size": params.image_size,
        "dtype": resolve_dtype("auto", runtime.device),
    }
    images = []
    for row in rows:
        texture = torch.from_numpy(store.read("texture", [row])).float()
        person, subject = read_bodies(store, [row]), str(store.index.at[row, "subject"])
        for name, motion, yaw, seconds in (
            ("turns", turntable(standing(person), params.frames), 0.0, TURN_SECONDS),
            ("walks", walk_cycle(person, params.frames), math.radians(35), STRIDE_SECONDS),
        ):
            frames = list(render_frames(nets, texture, motion, yaw=yaw, **scene))
            uri = pictures.animation_uri(frames, round(1000 * seconds / params.frames))
            images.append((f"{subject} {name}", uri))
    yield Section("People that the model never saw, turning and walking", images=images)


def store_sections(dataset: str, inputs: Paths, samples: int) -> Iterator[Section]:
    """Sample rows of one data set's stores: views, parsing, keypoints, fits, textures, merged textures."""
    views = open_store(inputs[f"views.{dataset}"], "views")
    parsing = open_store(inputs[f"parsing.{dataset}"], "parsing")
    keypoints = open_store(inputs[f"keypoints.{dataset}"], "keypoints")
    bodies = open_store(inputs[f"bodies.{dataset}"], "bodies")
    textures = open_store(inputs[f"textures.{dataset}"], "textures")
    rows = _spread(bodies.ok_rows(), samples * 2)
    rgb = {r: _row(views, "rgb", r) for r in rows}
    body = BodyModel.load(inputs["body"])
    images = [
        ("views", _sheet([rgb[r] for r in rows])),
        ("parsing", _sheet([pictures.parts_overlay(rgb[r], _row(parsing, "parts", r)) for r in rows])),
        ("keypoints", _sheet([pictures.keypoints_overlay(rgb[r], _row(keypoints, "xyc", r)) for r in rows])),
        ("fitted body", _sheet([fit_overlay(rgb[r], r, views, bodies, body) for r in rows])),
        ("partial textures", _sheet([pictures.texture_image(_row(textures, "rgb", r)) for r in rows])),
    ]
    merged_path = inputs.get(f"merged.{dataset}")
    if merged_path is not None:
        merged = open_store(merged_path, "merged")
        shown = [_neural_rgb(merged, "texture", r) for r in _spread(merged.ok_rows(), samples * 2)]
        images.append(("merged textures", _sheet(shown)))
    rejected = int((~views.index["ok"]).sum())
    unfit = int((~bodies.index["ok"]).sum()) - rejected
    counts = f"{len(views)} images of {views.index['subject'].nunique()} subjects"
    text = f"{counts}; {rejected} rejected, {unfit} without a fit."
    yield Section(f"Data set {dataset}", text, images=images)


def avatar_section(path: Path, samples: int) -> Section:
    """Partial and completed RGB textures of test people."""
    store = open_store(path, "avatars")
    images = []
    for row in store.ok_rows("test")[:samples]:
        pair = [_neural_rgb(store, name, row) for name in ("partial", "texture")]
        images.append((str(store.index.at[row, "subject"]), _sheet(pair)))
    return Section("Partial and completed textures of test people", images=images)


def curves_section(inputs: Paths) -> Section:
    """Loss curves of every training stage that kept its history."""
    histories = {}
    for name in ("parser", "avatar", "vqgan", "diffusion"):
        path = inputs[name] / HISTORY
        if path.is_file():
            histories[name] = [json.loads(line) for line in path.read_text().splitlines() if line]
    return Section("Loss curves", svg=pictures.curves_svg(histories) if histories else "")


def graph_section(graph: Path, runs: Path) -> Section:
    """The graph with the seconds of each stage's last run, data sets added up."""
    seconds: dict[str, float] = {}
    for path in sorted(runs.glob("*.json")):
        record = json.loads(path.read_text())
        seconds[record["stage"]] = seconds.get(record["stage"], 0.0) + float(record["seconds"])
    text = f"{sum(seconds.values()) / 60:.0f} minutes in all, this report not counted."
    return Section("The graph", text, svg=graph_svg(yaml.safe_load(graph.read_text()), seconds))


def _row(store: Store, name: str, row: int) -> np.ndarray:
    return store.read(name, [row])[0]


def _neural_rgb(store: Store, name: str, row: int) -> np.ndarray:
    """The colours of a stored neural texture, as a picture."""
    texture = NeuralTexture(torch.from_numpy(store.read(name, [row])).float())
    return pictures.texture_image(texture.rgb[0].numpy())


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` rows evenly over all."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]


def _sheet(images: list[np.ndarray]) -> str:
    return pictures.png_uri(pictures.sheet(images, columns=max(1, -(-len(images) // 2))))


def _flat(*tables: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for table in tables:
        for key, value in table.items():
            if isinstance(value, dict):
                yield from ((f"{key}.{inner}", v) for inner, v in _flat(value))
            else:
                yield key, value


STAGE = Stage(
    "report",
    ReportParams,
    inputs=(
        "graph", "metrics", "renders", "avatars", "body", "avatar", "vqgan", "diffusion", "parser",
        "views.*", "parsing.*", "keypoints.*", "bodies.*", "textures.*", "merged.*",
    ),
    outputs=("page",),
    run=run,
)  # fmt: skip

if __name__ == "__main__":
    main(STAGE)
