"""Metrics of fits against what is true of the embedded people. Only `evaluate` reads the truth."""

from collections.abc import Sequence

import numpy as np
import torch

from dinar_models.body import BodyModel
from dinar_models.metrics import mask_iou, pa_mpjpe, vertex_error
from dinar_models.rasterize.base import Rasterizer
from stages._core.store import Store
from stages._data.images import read_bodies, read_cameras
from stages.people.truth import TruthTable

Table = dict[str, float | None]

BODY_JOINTS = 22
"""Pelvis to wrists: the joints of pa_mpjpe."""


@torch.no_grad()
def fit_table(
    bodies: Store,
    rows: Sequence[int],
    view_rows: Sequence[int],
    views: Store,
    parsing: Store,
    truth: TruthTable,
    *,
    body: BodyModel,
    rasterizer: Rasterizer,
) -> Table:
    """Means over fits: joint error after Procrustes, surface error after translation, silhouette overlap.

    The truth is the open body's; with another body model, whose vertices differ, `pve_mm` is null.
    """
    errors: dict[str, list[float]] = {"pa_mpjpe_mm": [], "pve_mm": [], "iou": [], "reprojection_px": []}
    for row, view_row in zip(rows, view_rows, strict=True):
        out = body(read_bodies(bodies, [row]))
        true = truth.body(str(bodies.index.at[row, "scan"]))
        joints = out.joints[0, :BODY_JOINTS].numpy()
        errors["pa_mpjpe_mm"].append(1e3 * pa_mpjpe(joints, true.joints[:BODY_JOINTS]))
        if out.vertices.shape[1] == len(true.vertices):
            errors["pve_mm"].append(1e3 * vertex_error(out.vertices[0].numpy(), true.vertices))
        seen = rasterizer.cover(out.vertices, body.faces, read_cameras(views, [view_row]))[0]
        mask = parsing.read("mask", [view_row])[0] > 127
        errors["iou"].append(mask_iou(seen.numpy(), mask))
        errors["reprojection_px"].append(float(bodies.read("residuals", [row])[0, 0]))
    return {name: float(np.mean(values)) if values else None for name, values in errors.items()}
