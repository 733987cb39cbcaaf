"""Metrics of fits and parsing against what is true of the embedded people. Only `evaluate` reads the truth."""

from collections.abc import Sequence

import numpy as np
import torch

from dinar_models.body import BodyModel
from dinar_models.labels import CLASS_TO_GROUP, GROUPS
from dinar_models.metrics import confusion, mask_iou, mean_iou, pa_mpjpe, vertex_error
from dinar_models.rasterize.base import Rasterizer
from stages._core.store import Store
from stages._data.images import read_bodies, read_cameras
from stages.people.truth import TruthTable

Table = dict[str, float | None]

CLASSES = 20
UNKNOWN = 255
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


def parsing_table(views: Store, parsing: Store, rows: Sequence[int], batch: int = 32) -> Table:
    """Overlap of the parser's classes, of the seven groups, and of person against background."""
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    for start in range(0, len(rows), batch):
        part = list(rows[start : start + batch])
        truth, predicted = views.read("parts", part).ravel(), parsing.read("parts", part).ravel()
        counts += confusion(predicted, truth, CLASSES)
    if counts.sum() == 0:
        return {"miou": None, "miou_coarse": None, "foreground_iou": None}
    to_group = np.asarray(CLASS_TO_GROUP)
    person = (to_group > 0).astype(int)
    return {
        "miou": mean_iou(counts),
        "miou_coarse": mean_iou(_grouped(counts, to_group, len(GROUPS))),
        "foreground_iou": _second_iou(_grouped(counts, person, 2)),
    }


def _grouped(counts: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """A confusion matrix of groups of classes."""
    one_hot = np.eye(groups, dtype=np.int64)[group]
    return one_hot.T @ counts @ one_hot


def _second_iou(counts: np.ndarray) -> float:
    return float(counts[1, 1] / max(counts[1].sum() + counts[:, 1].sum() - counts[1, 1], 1))
