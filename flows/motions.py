"""Motions by name, and foreign ones from files, which are not trusted."""

import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dinar_models.animation import from_amass, standing, turntable, walk_cycle
from dinar_models.body import BodyParams
from flows.avatar_folder import AvatarError

FRAMES_PER_SECOND = 1000 / 60
"""Of the videos; files with a rate are thinned to about it."""

MAX_FILE_MIB = 256
"""Of an array in a file, unpacked."""

MAX_ANGLE = 100.0
"""Radians: more is no joint's rotation but a broken file."""

AMASS_WIDTHS = (156, 165)
"""SMPL+H: root, body, hands. SMPL-X: root, body, jaw, eyes, hands."""

WIDTHS = {"global_orient": 3, "body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45}
RATES = ("mocap_framerate", "mocap_frame_rate", "fps")

READ_ERRORS = (
    *(OSError, ValueError, LookupError, EOFError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What NumPy raises at damaged and hostile files."""


@dataclass(frozen=True)
class Motion:
    """Poses of one person, upright at the origin, and from where to look at them.

    Attributes:
        name: short, for file names.
        params: one row per frame.
        yaw: of the camera, radians from the front.
    """

    name: str
    params: BodyParams
    yaw: float = 0.0


NAMED: dict[str, Callable[[BodyParams, int], Motion]] = {
    "walk": lambda person, frames: Motion("walk", walk_cycle(person, frames), math.radians(35)),
    "turntable": lambda person, frames: Motion("turntable", turntable(standing(person), frames)),
}


def find_motion(motion: str, person: BodyParams, frames: int) -> Motion:
    """The named motion in `frames` frames, or at most so many of a file.

    Args:
        motion: a key of NAMED, or the path of an .npz: AMASS (`poses`, z up) or SMPL-X parameters
            (`global_orient`, `body_pose`, perhaps `left_hand_pose` and `right_hand_pose`, y up).
        person: one row, who moves.

    Raises:
        AvatarError: one sentence on why it cannot be used.
    """
    if motion in NAMED:
        return NAMED[motion](person, frames)
    path = Path(motion)
    if path.suffix != ".npz":
        raise AvatarError(f"the motion {motion!r} is unknown; {', '.join(NAMED)} or an .npz is expected")
    return Motion(path.stem, read_motion(path, person, frames))


def read_motion(path: Path, person: BodyParams, frames: int) -> BodyParams:
    """The first `frames` poses of a file, thinned to about FRAMES_PER_SECOND where it tells its rate.

    Raises:
        AvatarError: see `find_motion`.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise AvatarError(f"{path} holds a single array; an .npz of AMASS or SMPL-X is expected")
            return _read(path, arrays, person, frames)
    except AvatarError:
        raise
    except READ_ERRORS as error:
        raise AvatarError(f"{path} cannot be read as a motion ({str(error) or 'damaged'})") from None


def _read(path: Path, arrays: np.lib.npyio.NpzFile, person: BodyParams, frames: int) -> BodyParams:
    rate = next((float(_array(arrays, key).reshape(-1)[0]) for key in RATES if key in arrays), 0.0)
    step = max(round(rate / FRAMES_PER_SECOND), 1) if math.isfinite(rate) else 1
    kept = slice(0, frames * step, step)
    if "poses" in arrays:
        return from_amass(person, _poses(path, "poses", _array(arrays, "poses"), AMASS_WIDTHS)[kept])
    if "global_orient" in arrays and "body_pose" in arrays:
        found = {k: _poses(path, k, _array(arrays, k), (w,)) for k, w in WIDTHS.items() if k in arrays}
        if len({len(values) for values in found.values()}) > 1:
            raise AvatarError(f"{path}: {', '.join(found)} differ in their numbers of frames")
        return _from_smplx(person, {k: values[kept] for k, values in found.items()})
    raise AvatarError(f"{path} has neither `poses` (AMASS) nor `global_orient` and `body_pose` (SMPL-X)")


def _array(arrays: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    """One array of the file, unless it unpacks to more than MAX_FILE_MIB."""
    sizes = [entry.file_size for entry in arrays.zip.infolist() if entry.filename in (key, f"{key}.npy")]
    if max(sizes) > MAX_FILE_MIB << 20:
        raise ValueError(f"`{key}` unpacks to more than {MAX_FILE_MIB} MiB")
    values = arrays[key]
    if not isinstance(values, np.ndarray):  # NumPy returns the bytes of an entry that is no array
        raise ValueError(f"`{key}` is no array")
    return values


def _poses(path: Path, key: str, values: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """(frames, width) float32 axis-angles, checked."""
    if values.dtype.kind not in "fiu":
        raise AvatarError(f"{path}: `{key}` holds {values.dtype}, numbers are expected")
    if values.ndim == 3:
        values = values.reshape(len(values), -1)
    if values.ndim != 2 or not len(values) or values.shape[1] not in widths:
        expected = " or ".join(map(str, widths))
        raise AvatarError(f"{path}: `{key}` has the shape {values.shape}, (frames, {expected}) is expected")
    if not (np.abs(values) <= MAX_ANGLE).all():  # NaN compares false
        raise AvatarError(f"{path}: `{key}` holds numbers that are no rotations in radians")
    return values.astype(np.float32)


def _from_smplx(person: BodyParams, found: dict[str, np.ndarray]) -> BodyParams:
    """The person's own shape, face and, where the file has none, hands in other poses, at the origin."""
    count = len(found["global_orient"])
    values = {k: v.expand(count, -1).clone() for k, v in person.as_dict().items()}
    values["transl"] = torch.zeros(count, 3)
    return BodyParams.from_dict(values | {k: torch.from_numpy(v) for k, v in found.items()})
