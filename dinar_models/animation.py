"""Avatars in motion: how somebody stands and turns, and the frames rendered from poses."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation
from torch import Tensor

from dinar_models.avatar import AvatarNets
from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, orbit_camera
from dinar_models.folding import for_inference
from dinar_models.keypoints import SKELETON_NAMES
from dinar_models.rasterize.base import Rasterizer, uv_raster
from dinar_models.uv_atlas import Atlas

SIDES = ("left", "right")

STANDING_ARMS, STANDING_BEND = 1.15, 0.25
"""Radians by which somebody who stands lowers the arms from the T-pose, clear of the hips, and bends the elbows."""

FIELD_OF_VIEW = math.radians(30)


def standing(params: BodyParams) -> BodyParams:
    """The person of `params` (one row) upright at the origin, facing +z, arms lowered, hands as they are."""
    pose = torch.zeros(1, 21, 3)
    for side in SIDES:
        shoulder, elbow = arm_rotations(side, STANDING_ARMS, np.zeros(1), np.full(1, STANDING_BEND))
        pose[:, body_row(f"{side}_shoulder")] = torch.from_numpy(shoulder.astype(np.float32))
        pose[:, body_row(f"{side}_elbow")] = torch.from_numpy(elbow.astype(np.float32))
    return in_pose(params, pose)


def turntable(params: BodyParams, frames: int) -> BodyParams:
    """The person of `params` (one row) in its own pose, upright, turning once about the vertical."""
    pose = params.body_pose.reshape(1, 21, 3).expand(frames, -1, -1).clone()
    turning = in_pose(params, pose)
    turning.global_orient[:, 1] = torch.arange(frames) * (2 * math.pi / frames)
    return turning


def in_pose(params: BodyParams, pose: Float[Tensor, "f 21 3"]) -> BodyParams:
    """Shape, face and hands of one person with other body poses, upright at the origin."""
    frames = len(pose)
    values = {k: v.expand(frames, -1).clone() for k, v in params.as_dict().items()}
    values["body_pose"] = pose.reshape(frames, 63)
    values["global_orient"] = torch.zeros(frames, 3)
    values["transl"] = torch.zeros(frames, 3)
    return BodyParams.from_dict(values)


def body_row(joint: str) -> int:
    """The row of `body_pose` that turns a joint: SMPL-X's order without the pelvis."""
    return SKELETON_NAMES.index(joint) - 1


def arm_rotations(
    side: str, lowered: float, swing: Float[np.ndarray, " f"], bend: Float[np.ndarray, " f"]
) -> tuple[Float[np.ndarray, "f 3"], Float[np.ndarray, "f 3"]]:
    """Axis-angles of shoulder and elbow of an arm that hangs beside the body.

    Args:
        lowered: radians from the T-pose.
        swing: radians forwards.
        bend: of the elbow, radians forwards.
    """
    sign = 1 if side == "left" else -1
    shoulder = Rotation.from_euler("x", -swing[:, None]) * Rotation.from_euler("z", -sign * lowered)
    return shoulder.as_rotvec(), -sign * bend[:, None] * np.array([0.0, 1, 0])


def framing_camera(vertices: Float[Tensor, "f v 3"], size: int, yaw: float = 0.0) -> Camera:
    """A camera at `yaw` radians that holds every frame of a motion with a small margin."""
    low, high = vertices.amin((0, 1)), vertices.amax((0, 1))
    radius = float((high - low)[[0, 2]].norm()) / 2
    half = max(float(high[1] - low[1]) / 2, radius) * 1.08
    distance = half / math.tan(FIELD_OF_VIEW / 2) + radius
    return orbit_camera(yaw, 0.0, distance, target=(low + high) / 2, size=size, fov=FIELD_OF_VIEW)


@torch.no_grad()
def render_frames(
    nets: AvatarNets,
    texture: Float[Tensor, "1 c t t"],
    params: BodyParams,
    *,
    body: BodyModel,
    atlas: Atlas,
    rasterizer: Rasterizer,
    size: int,
    camera: Camera | None = None,
    yaw: float = 0.0,
    batch: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
    """Frames of an avatar on white, one per row of `params`.

    Args:
        camera: by default one at `yaw` that holds the whole motion.
        dtype: in which the renderer runs.
    """
    renderer = for_inference(nets, dtype)
    vertices = torch.cat([body(params.select([i])).vertices for i in range(len(params))])
    camera = camera or framing_camera(vertices, size, yaw)
    corner_uv = torch.from_numpy(atlas.corner_uv)
    for start in range(0, len(vertices), batch):
        rasters = [
            uv_raster(rasterizer.rasterize(v[None], body.faces, camera, size), corner_uv)
            for v in vertices[start : start + batch]
        ]
        uv = torch.cat(rasters)
        with torch.autocast(uv.device.type, dtype, enabled=dtype != torch.float32):
            rgb, mask = renderer.render(texture.expand(len(uv), -1, -1, -1), uv)
        yield from compose_white(rgb, mask)


def compose_white(
    rgb: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "b 1 h w"]
) -> UInt8[np.ndarray, "b h w 3"]:
    """Network images in [−1, 1] over white, as uint8, channels last."""
    white = (rgb.float().clamp(-1, 1) * 0.5 + 0.5) * mask.float() + (1 - mask.float())
    return (white * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy(force=True)
