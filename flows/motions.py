"""Motions by name, and foreign ones from files, which are not trusted."""

import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dinar_models.animation import standing, turntable
from dinar_models.body import BodyParams
from dinar_models.gait import STRIDE_SECONDS, walk_cycle
from dinar_models.recordings import Recording, perform, resample
from flows.avatar_folder import AvatarError

RATE = 25.0
"""Frames a second of videos of people who move."""

TURNTABLE_FRAMES, TURNTABLE_SECONDS = 48, 3.0

MAX_FRAMES = 2000

MAX_FILE_MIB = 256
"""Of an array in a file, unpacked."""

MAX_ANGLE, MAX_METRES = 100.0, 1e4
"""Larger numbers are no joint's rotation in radians and no place, but a broken file."""

AMASS_WIDTHS = (156, 165)
"""SMPL+H: root, body, hands. SMPL-X: root, body, jaw, eyes, hands."""

WIDTHS = {"global_orient": 3, "body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45}
PATHS = ("trans", "transl")
EXPORTED = "frame"
"""`dinar fits export` writes AMASS's names too, but in the worlds of scans and cameras, where y is vertical."""

RATES = ("mocap_framerate", "mocap_frame_rate", "fps")

READ_ERRORS = (
    *(OSError, ValueError, LookupError, EOFError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What NumPy raises at damaged and hostile files."""


@dataclass(frozen=True)
class Motion:
    """Poses of one person, upright near the origin, and how to look at them.

    Attributes:
        name: short, for file names.
        params: one row per frame.
        rate: frames a second.
        yaw: of the camera, radians from the front.
    """

    name: str
    params: BodyParams
    rate: float = RATE
    yaw: float = 0.0


def _walk(person: BodyParams, frames: int | None) -> Motion:
    """One stride, which goes on into the next without a seam, or so many frames of strides."""
    stride = round(STRIDE_SECONDS * RATE)
    cycle = walk_cycle(person, stride)
    return Motion("walk", cycle.select(torch.arange(frames or stride) % stride), yaw=math.radians(35))


def _turntable(person: BodyParams, frames: int | None) -> Motion:
    count = frames or TURNTABLE_FRAMES
    return Motion("turntable", turntable(standing(person), count), count / TURNTABLE_SECONDS)


NAMED: dict[str, Callable[[BodyParams, int | None], Motion]] = {"walk": _walk, "turntable": _turntable}


def find_motion(motion: str, person: BodyParams, frames: int | None = None) -> Motion:
    """A motion by its name or from a file.

    Args:
        motion: a key of NAMED, or the path of an .npz: AMASS (`poses` of SMPL+H or SMPL-X, perhaps `trans`; z up) or
            SMPL-X parameters (`global_orient`, `body_pose`, perhaps hands and `transl`; y up or down).
        person: one row, who moves.
        frames: so many of a named motion; at most so many of a file.

    Raises:
        AvatarError: one sentence on why it cannot be used.
    """
    if motion in NAMED:
        return NAMED[motion](person, frames)
    path = Path(motion)
    if path.suffix != ".npz":
        raise AvatarError(f"the motion {motion!r} is unknown; {', '.join(NAMED)} or an .npz is expected")
    recording = resample(read_recording(path), RATE).first(frames or MAX_FRAMES)
    return Motion(path.stem, perform(person, recording))


def read_recording(path: Path) -> Recording:
    """What a file holds, checked.

    Raises:
        AvatarError: see `find_motion`.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise AvatarError(f"{path} holds a single array; an .npz of AMASS or SMPL-X is expected")
            return _read(path, arrays)
    except AvatarError:
        raise
    except READ_ERRORS as error:
        raise AvatarError(f"{path} cannot be read as a motion ({str(error) or 'damaged'})") from None


def _read(path: Path, arrays: np.lib.npyio.NpzFile) -> Recording:
    """`poses` come first: AMASS's files of SMPL-X hold the same numbers under other names besides."""
    rate = next((float(_array(arrays, key).reshape(-1)[0]) for key in RATES if key in arrays), 0.0)
    found = {}
    for key in PATHS:
        if key in arrays:
            found["path"] = _numbers(path, key, arrays, (3,), MAX_METRES)
    if "poses" in arrays:
        poses = _numbers(path, "poses", arrays, AMASS_WIDTHS, MAX_ANGLE)
        parts = {"global_orient": slice(3), "body_pose": slice(3, 66), "left_hand_pose": slice(-90, -45)}
        parts["right_hand_pose"] = slice(-45, None)
        found |= {name: poses[:, part] for name, part in parts.items()}
    elif "global_orient" in arrays and "body_pose" in arrays:
        found |= {k: _numbers(path, k, arrays, (w,), MAX_ANGLE) for k, w in WIDTHS.items() if k in arrays}
    else:
        raise AvatarError(f"{path} has neither `poses` (AMASS) nor `global_orient` and `body_pose` (SMPL-X)")
    if len({len(values) for values in found.values()}) > 1:
        counts = ", ".join(f"{name} {len(values)}" for name, values in found.items())
        raise AvatarError(f"{path}: the numbers of frames differ: {counts}")
    known_rate = rate if math.isfinite(rate) and rate > 0 else 0.0
    amass = "poses" in arrays and EXPORTED not in arrays
    return Recording(**found, rate=known_rate, vertical="z" if amass else "y")


def _array(arrays: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    """One array of the file, unless it unpacks to more than MAX_FILE_MIB."""
    sizes = [entry.file_size for entry in arrays.zip.infolist() if entry.filename in (key, f"{key}.npy")]
    if max(sizes) > MAX_FILE_MIB << 20:
        raise ValueError(f"`{key}` unpacks to more than {MAX_FILE_MIB} MiB")
    values = arrays[key]
    if not isinstance(values, np.ndarray):  # NumPy returns the bytes of an entry that is no array
        raise ValueError(f"`{key}` is no array")
    return values


def _numbers(
    path: Path, key: str, arrays: np.lib.npyio.NpzFile, widths: tuple[int, ...], largest: float
) -> np.ndarray:
    """One array (frames, width), float64, checked."""
    values = _array(arrays, key)
    if values.dtype.kind not in "fiu":
        raise AvatarError(f"{path}: `{key}` holds {values.dtype}, numbers are expected")
    if values.ndim == 3:
        values = values.reshape(len(values), -1)
    if values.ndim != 2 or not len(values) or values.shape[1] not in widths:
        expected = " or ".join(map(str, widths))
        raise AvatarError(f"{path}: `{key}` has the shape {values.shape}, (frames, {expected}) is expected")
    if not (np.abs(values) <= largest).all():  # NaN compares false
        kind = "places in metres" if key in PATHS else "rotations in radians"
        raise AvatarError(f"{path}: `{key}` holds numbers that are no {kind}")
    return values.astype(np.float64)
