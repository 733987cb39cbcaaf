"""People-Snapshot: one folder a person, who turns around before a camera; masks and the camera are known.

`NAME/` holds `NAME.mp4`, `masks.hdf5` (`masks`, (frames, height, width) of 0 and 1) and `camera.pkl`, a dict of
`camera_f` and `camera_c` (px), `camera_k` (OpenCV's k1 k2 p1 p2 k3), `width` and `height`. Its other files
(keypoints, poses and meshes of the authors' own method) are not read. `camera_rt` and `camera_t` are not
needed: a frame's body is fitted in the frame of its camera.

Alldieck et al., "Video Based Reconstruction of 3D People Models", CVPR 2018.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from PIL import Image

from stages.sources.frames import PhotoFrame
from stages.sources.photos import MAX_ASPECT, MAX_PIXELS, Photo, PhotoError, inner_box, square_image
from stages.sources.unpickle import PickleRefused, load_pickle
from stages.sources.video import count_frames, decode_frames, list_videos

MAX_CAMERA_BYTES = 1 << 20
MAX_CHUNK_BYTES = 1 << 28
"""HDF5 unpacks whole chunks; those of the public files hold less than one frame."""

NO_DISTORTION = 1e-8
"""Coefficients below this move no pixel visibly."""


@dataclass(frozen=True)
class FilmCamera:
    """Intrinsics of a video's frames.

    Attributes:
        K: (3, 3) float64, px of the frames.
        distortion: (5,) float64, OpenCV's order.
        width, height: of the frames, px.
    """

    K: np.ndarray
    distortion: np.ndarray
    width: int
    height: int

    def undistort(self, image: np.ndarray) -> np.ndarray:
        """The image (H, W[, 3]) uint8 that a lens without distortion would have made."""
        if np.abs(self.distortion).max() < NO_DISTORTION:
            return image
        K = self.K.copy()
        K[:2, 2] -= 0.5  # OpenCV keeps pixel centres at whole numbers
        return np.asarray(cv2.undistort(image, K, self.distortion))

    def in_square(self, size: int) -> np.ndarray:
        """(3, 3) float32 intrinsics after `square_image`."""
        left, top, right, bottom = inner_box((self.width, self.height), size)
        fit = np.array(
            [
                [(right - left) / self.width, 0, left],
                [0, (bottom - top) / self.height, top],
                [0, 0, 1],
            ]
        )
        return (fit @ self.K).astype(np.float32)


def list_people(root: Path) -> list[Path]:
    """The folders of people, by name."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def count_people_frames(folder: Path, stride: int, limit: int) -> int:
    """How many frames `read_people_frames` will give: those that have a mask.

    Raises:
        PhotoError: one sentence on which file is missing or does not fit the others.
    """
    camera = read_camera(folder / "camera.pkl")
    frames = count_frames(find_video(folder), stride, limit, size=(camera.width, camera.height))
    with _open_masks(folder / "masks.hdf5", camera) as file:
        return min(frames, -(-len(file["masks"]) // stride))


def read_people_frames(folder: Path, numbers: range, stride: int, size: int) -> Iterator[Photo]:
    """Kept frames `numbers` (frame k of these is frame k × stride of the video), undistorted, with masks."""
    camera = read_camera(folder / "camera.pkl")
    sides = (camera.width, camera.height)
    K, frame = camera.in_square(size), PhotoFrame(inner_box(sides, size), size / max(sides))
    with _open_masks(folder / "masks.hdf5", camera) as file:
        for number, rgb in decode_frames(find_video(folder), numbers, stride):
            mask = (np.asarray(file["masks"][number * stride]) > 0).astype(np.uint8) * 255
            image, alpha = (Image.fromarray(camera.undistort(plane)) for plane in (rgb, mask))
            yield Photo(
                np.array(square_image(image, size, 255)),
                np.array(square_image(alpha, size, 0)),
                K,
                frame,
            )


def find_video(folder: Path) -> Path:
    """`NAME/NAME.mp4`, or the only video of the folder."""
    named = folder / f"{folder.name}.mp4"
    if named.is_file():
        return named
    found = list_videos(folder)
    if len(found) != 1:
        raise PhotoError(f"{named.name} is missing, and {len(found)} other videos are there; one is expected")
    return found[0]


def read_camera(path: Path) -> FilmCamera:
    """The intrinsics in camera.pkl, which is read without running anything in it.

    Raises:
        PhotoError: one sentence on what is missing or no camera.
    """
    if not path.is_file():
        raise PhotoError(f"{path.name} is missing, so the camera is not known")
    try:
        values = load_pickle(path, MAX_CAMERA_BYTES)
    except PickleRefused as refusal:
        raise PhotoError(str(refusal).replace(str(path), path.name)) from None
    if not isinstance(values, dict):
        raise PhotoError(f"{path.name} holds a {type(values).__name__}; a dict of the camera is expected")
    focal, centre = (_numbers(path, values, name, 2) for name in ("camera_f", "camera_c"))
    distortion = _numbers(path, values, "camera_k", 5)
    width, height = (int(_numbers(path, values, name, 1)[0]) for name in ("width", "height"))
    short, long = sorted((width, height))
    if short < 1 or short * long > MAX_PIXELS or long > MAX_ASPECT * short:
        raise PhotoError(f"{path.name} is of a camera with {width} × {height} pixels; no video has these")
    if focal.min() < 0.1 * long or focal.max() > 100 * long:
        raise PhotoError(f"{path.name} gives a focal length of {focal.tolist()} px, no camera's")
    K = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
    return FilmCamera(K, distortion, width, height)


def _numbers(path: Path, values: dict[Any, Any], name: str, count: int) -> np.ndarray:
    """`count` finite numbers under a key; Python 2's keys may be bytes."""
    value = values.get(name, values.get(name.encode()))
    if value is None:
        raise PhotoError(f"{path.name} has no {name!r}")
    try:
        numbers = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if len(numbers) != count or not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e6:
        raise PhotoError(f"{path.name}: {name!r} is not made of {count} finite numbers")
    return numbers


def _open_masks(path: Path, camera: FilmCamera) -> h5py.File:
    """The file of masks, if they are plain, of the frames' size and cheap to unpack.

    Raises:
        PhotoError: one sentence on what they are instead.
    """
    if not path.is_file():
        raise PhotoError(f"{path.name} is missing, so no frame has a mask")
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise PhotoError(f"{path.name} is damaged or no HDF5 file") from None
    if reason := _unusable_masks(file, (camera.height, camera.width)):
        file.close()
        raise PhotoError(f"{path.name}: {reason}")
    return file


def _unusable_masks(file: h5py.File, sides: tuple[int, int]) -> str:
    link = file.get("masks", getlink=True)
    masks = file["masks"] if isinstance(link, h5py.HardLink) else None
    if not isinstance(masks, h5py.Dataset) or masks.is_virtual or masks.external:
        return "a data set `masks` in the file itself is expected"  # others lead out of the folder
    if masks.ndim != 3 or masks.dtype.kind not in "bu" or masks.shape[1:] != sides:
        return f"masks of {masks.dtype} {masks.shape} found, whole numbers (frames, {sides[0]}, {sides[1]}) expected"
    if len(masks) == 0:
        return "there is no mask in it"
    if masks.chunks and int(np.prod(masks.chunks)) * masks.dtype.itemsize > MAX_CHUNK_BYTES:
        return f"chunks of {masks.chunks} masks are too large to unpack"
    return ""
