"""Avatars in motion: poses of a walk and of a turntable, and the frames rendered from them."""

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
from dinar_models.rasterize.base import Rasterizer, uv_raster
from dinar_models.uv_atlas import Atlas

# Rows of SMPL-X's body_pose (21 joints, the pelvis is global_orient).
LEFT_HIP, RIGHT_HIP, SPINE1, LEFT_KNEE, RIGHT_KNEE = 0, 1, 2, 3, 4
LEFT_ANKLE, RIGHT_ANKLE, SPINE3 = 6, 7, 8
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW = 15, 16, 17, 18

ARM_LOWERING = 1.15  # rad from the T-pose to arms beside the body, clear of the hips
FIELD_OF_VIEW = math.radians(30)


def standing(params: BodyParams) -> BodyParams:
    """The person of `params` (one row) upright at the origin, facing +z, arms lowered, hands as they are."""
    pose = torch.zeros(1, 21, 3)
    _set_arms(pose, 0, swing=0.0, bend=0.25)
    return _in_pose(params, pose)


def walk_cycle(params: BodyParams, frames: int) -> BodyParams:
    """One stride of walking in place, as `frames` poses of the person in `params` (one row).

    Hips swing ±0.5 rad, the knee of the leg that comes forward bends, arms swing against the legs.
    """
    pose = torch.zeros(frames, 21, 3)
    for i in range(frames):
        phase = 2 * math.pi * i / frames
        _set_leg(pose, i, LEFT_HIP, phase)
        _set_leg(pose, i, RIGHT_HIP, phase + math.pi)
        _set_arms(pose, i, swing=0.45 * math.sin(phase), bend=0.35)
        pose[i, SPINE1, 1] = 0.08 * math.sin(phase)
    walking = _in_pose(params, pose)
    bob = 0.02 * torch.cos(torch.arange(frames) * (4 * math.pi / frames))
    walking.transl[:, 1] += bob
    return walking


def turntable(params: BodyParams, frames: int) -> BodyParams:
    """The person of `params` (one row) in its own pose, upright, turning once about the vertical."""
    pose = params.body_pose.reshape(1, 21, 3).expand(frames, -1, -1).clone()
    turning = _in_pose(params, pose)
    turning.global_orient[:, 1] = torch.arange(frames) * (2 * math.pi / frames)
    return turning


def from_amass(params: BodyParams, poses: np.ndarray) -> BodyParams:
    """SMPL-X/AMASS poses (frames, 165 or 156) with the shape of `params` (one row), y up at the origin.

    AMASS is z up: its root orientation is turned by −90° about x.
    """
    frames = len(poses)
    body = torch.from_numpy(poses[:, 3:66].astype(np.float32)).reshape(frames, 21, 3)
    moved = _in_pose(params, body)
    upright = Rotation.from_euler("x", -90, degrees=True) * Rotation.from_rotvec(poses[:, :3])
    moved.global_orient[:] = torch.from_numpy(upright.as_rotvec().astype(np.float32))
    hands = torch.from_numpy(poses[:, -90:].astype(np.float32))
    moved.left_hand_pose[:], moved.right_hand_pose[:] = hands[:, :45], hands[:, 45:]
    return moved


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
    batch: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
    """Frames of an avatar on white, one per row of `params`, framed for the whole motion by default.

    The renderer runs in `dtype`.
    """
    renderer = for_inference(nets, dtype)
    vertices = torch.cat([body(params.select([i])).vertices for i in range(len(params))])
    camera = camera or framing_camera(vertices, size)
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


def _in_pose(params: BodyParams, pose: Float[Tensor, "f 21 3"]) -> BodyParams:
    """Shape, face and hands of one person with other body poses, upright at the origin."""
    frames = len(pose)
    values = {k: v.expand(frames, -1).clone() for k, v in params.as_dict().items()}
    values["body_pose"] = pose.reshape(frames, 63)
    values["global_orient"] = torch.zeros(frames, 3)
    values["transl"] = torch.zeros(frames, 3)
    return BodyParams.from_dict(values)


def _set_leg(pose: Tensor, frame: int, hip: int, phase: float) -> None:
    """Hip flexion is a negative turn about x (legs hang along −y, +z is ahead), knee flexion a positive."""
    pose[frame, hip, 0] = -0.5 * math.sin(phase) - 0.05
    swinging = max(0.0, math.cos(phase))  # the leg travels forward while sin rises
    pose[frame, hip + LEFT_KNEE - LEFT_HIP, 0] = 0.12 + 0.75 * swinging
    pose[frame, hip + LEFT_ANKLE - LEFT_HIP, 0] = -0.1 + 0.25 * math.sin(phase)


def _set_arms(pose: Tensor, frame: int, swing: float, bend: float) -> None:
    """Lower both arms from the T-pose, then swing them about x: left forward by `swing`, right back."""
    for side, shoulder, elbow in ((1, LEFT_SHOULDER, LEFT_ELBOW), (-1, RIGHT_SHOULDER, RIGHT_ELBOW)):
        # With the left leg forward the left arm is back, hence the sign.
        turned = Rotation.from_euler("x", side * swing) * Rotation.from_euler("z", -side * ARM_LOWERING)
        pose[frame, shoulder] = torch.from_numpy(turned.as_rotvec().astype(np.float32))
        pose[frame, elbow, 1] = -side * bend
