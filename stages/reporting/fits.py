"""Fitted bodies drawn over the images that they were fitted to."""

import numpy as np
import torch

from dinar_models.body import BodyModel
from dinar_models.rasterize.base import make_rasterizer
from stages._core.store import Store
from stages._data.images import read_bodies, read_cameras
from stages.reporting.pictures import body_overlay


def fit_overlay(rgb: np.ndarray, row: int, views: Store, bodies: Store, body: BodyModel) -> np.ndarray:
    """The body of one row over its image (H, W, 3) uint8."""
    camera = read_cameras(views, [row])
    with torch.no_grad():
        vertices = body(read_bodies(bodies, [row])).vertices
        hit = make_rasterizer("auto", "cpu").rasterize(vertices, body.faces, camera)
    return body_overlay(rgb, hit.depth[0].numpy(), hit.face_id[0].numpy())
