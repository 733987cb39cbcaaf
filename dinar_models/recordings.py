"""Recorded motions: brought to another frame rate, upright, to face the camera, and onto another person."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from dinar_models.body import BodyParams

Vertical = Literal["y", "z"]

ROTATIONS = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose")

FOLLOWED = 0.6
"""Seconds (σ) over which a camera that follows somebody smooths their path."""


@dataclass(frozen=True)
class Recording:
    """Poses over time, in the world of their file.

    Attributes:
        global_orient, body_pose, left_hand_pose, right_hand_pose: as in BodyParams; None: not recorded.
        path: where the body's root goes, m; None: not recorded.
        rate: frames a second; 0 where it is not known.
        vertical: z, which points up in AMASS; or y, which points up in SMPL-X's own world and down in a camera's: it
            is taken to point so that the person is mostly upright.
    """

    global_orient: Float[np.ndarray, "f 3"]
    body_pose: Float[np.ndarray, "f 63"]
    left_hand_pose: Float[np.ndarray, "f 45"] | None = None
    right_hand_pose: Float[np.ndarray, "f 45"] | None = None
    path: Float[np.ndarray, "f 3"] | None = None
    rate: float = 0.0
    vertical: Vertical = "z"

    def __len__(self) -> int:
        return len(self.global_orient)

    @property
    def rotations(self) -> dict[str, Any]:
        """What was recorded of the pose, by name."""
        found = {name: getattr(self, name) for name in ROTATIONS}
        return {name: values for name, values in found.items() if values is not None}

    def first(self, frames: int) -> "Recording":
        """At most so many frames of the beginning."""
        path = None if self.path is None else self.path[:frames]
        return replace(self, path=path, **{name: values[:frames] for name, values in self.rotations.items()})


def resample(recording: Recording, rate: float) -> Recording:
    """The same motion at `rate` frames a second: rotations between two frames along the shortest way.

    A recording that does not tell its rate is taken frame by frame.
    """
    if not recording.rate:
        return replace(recording, rate=rate)
    step = recording.rate / rate
    place = np.arange(math.floor((len(recording) - 1) / step + 1e-6) + 1) * step
    before = np.minimum(place.astype(np.int64), max(len(recording) - 2, 0))
    after = np.minimum(before + 1, len(recording) - 1)
    share, path = (place - before)[:, None], recording.path
    rotations: dict[str, Any] = {
        name: _between(values[before], values[after], share) for name, values in recording.rotations.items()
    }
    places = None if path is None else path[before] + share * (path[after] - path[before])
    return replace(recording, path=places, rate=rate, **rotations)


def _between(
    before: Float[np.ndarray, "f n"], after: Float[np.ndarray, "f n"], share: Float[np.ndarray, "f 1"]
) -> Float[np.ndarray, "f n"]:
    """Axis-angles of n / 3 joints, `share` of the way (spherical linear interpolation)."""
    start = Rotation.from_rotvec(before.reshape(-1, 3))
    change = (start.inv() * Rotation.from_rotvec(after.reshape(-1, 3))).as_rotvec()
    part = change * np.repeat(share, before.shape[1] // 3, axis=0)
    return (start * Rotation.from_rotvec(part)).as_rotvec().reshape(before.shape)


def perform(person: BodyParams, recording: Recording) -> BodyParams:
    """The motion by the person of `person` (one row): own shape, face and, where none were recorded, hands; y up.

    The motion as a whole is turned to face +z. The origin follows the person over the ground, smoothly, as a camera
    would; heights stay as they are.
    """
    root, path = _facing_z(*_upright(recording))
    followed = gaussian_filter1d(path, FOLLOWED * (recording.rate or 25), axis=0, mode="nearest")
    followed[:, 1] = path[:, 1].mean()
    values = {k: v.expand(len(recording), -1) for k, v in person.as_dict().items()}
    values |= {k: torch.from_numpy(v.astype(np.float32)) for k, v in recording.rotations.items()}
    values["global_orient"] = torch.from_numpy(root.as_rotvec().astype(np.float32))
    values["transl"] = person.scale * torch.from_numpy((path - followed).astype(np.float32))
    return BodyParams.from_dict({k: v.clone() for k, v in values.items()})


def _upright(recording: Recording) -> tuple[Rotation, np.ndarray]:
    """Orientations and path with y up."""
    root = Rotation.from_rotvec(recording.global_orient)
    path = np.zeros((len(recording), 3)) if recording.path is None else recording.path
    y_down = root.apply([0.0, 1, 0])[:, 1].mean() < 0
    angle = -90 if recording.vertical == "z" else 180 * y_down
    turn = Rotation.from_euler("x", angle, degrees=True)
    return turn * root, turn.apply(path)


def _facing_z(root: Rotation, path: np.ndarray) -> tuple[Rotation, np.ndarray]:
    """Turned about the vertical so that the person, taken over the whole motion, faces +z."""
    ahead = root.apply([0.0, 0, 1]).sum(axis=0)
    turn = Rotation.from_euler("y", -math.atan2(ahead[0], ahead[2]))
    return turn * root, turn.apply(path)
