"""A person's folder in the public layout, small: a camera of Python's second protocol, a video, masks."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.sources.people_snapshot import count_people_frames, list_people, read_people_frames
from stages.sources.photos import PhotoError
from tests.stages.sources.test_video import encode

SIDE, FOCAL, FRAMES = 96, 200.0, 7


def write_person(root: Path, name: str = "female-1-casual", **camera: Any) -> Path:
    """A dark figure that moves one pixel to the right a frame before a grey wall, and its masks."""
    folder = root / name
    folder.mkdir(parents=True)
    masks = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
    for k in range(FRAMES):
        masks[k, 20:80, 30 + k : 50 + k] = 1
    frames = [np.where(mask[..., None] > 0, np.uint8([[[30, 60, 90]]]), np.uint8(160)) for mask in masks]
    encode(folder / f"{name}.mp4", frames, "-crf", "5")
    with h5py.File(folder / "masks.hdf5", "w") as file:
        file.create_dataset("masks", data=masks, chunks=(1, SIDE, SIDE), compression="gzip")
    values = {
        "camera_t": np.zeros(3),
        "camera_rt": np.zeros(3),
        "camera_f": np.array([FOCAL, FOCAL]),
        "camera_c": np.array([50.0, 46.0]),
        "camera_k": np.zeros(5),
        "width": SIDE,
        "height": SIDE,
        **camera,
    }
    (folder / "camera.pkl").write_bytes(pickle.dumps(values, protocol=2))
    (folder / "consensus.obj").write_text("v 0 0 0\n")
    return folder


def test_frames_come_with_their_camera_and_mask(tmp_path: Path) -> None:
    folder = write_person(tmp_path)
    assert list_people(tmp_path) == [folder]
    assert count_people_frames(folder, stride=3, limit=10) == 3
    assert count_people_frames(folder, stride=3, limit=2) == 2
    photos = list(read_people_frames(folder, range(1, 3), stride=3, size=2 * SIDE))
    np.testing.assert_allclose(photos[0].K, [[2 * FOCAL, 0, 100], [0, 2 * FOCAL, 92], [0, 0, 1]])
    assert photos[0].frame.box == (0, 0, 2 * SIDE, 2 * SIDE)
    for k, photo in zip((3, 6), photos, strict=True):
        assert photo.alpha is not None
        columns = np.flatnonzero(photo.alpha[100] > 127)
        assert (columns[0], columns[-1]) == (2 * (30 + k), 2 * (50 + k) - 1)
        np.testing.assert_allclose(photo.rgb[100, 2 * (40 + k)].astype(int), (30, 60, 90), atol=12)


def test_a_wide_video_is_padded_and_its_camera_with_it(tmp_path: Path) -> None:
    folder = write_person(tmp_path, width=SIDE, height=64, camera_c=np.array([48.0, 32.0]))
    encode(folder / "female-1-casual.mp4", [np.zeros((64, SIDE, 3), np.uint8)])
    with h5py.File(folder / "masks.hdf5", "w") as file:
        file["masks"] = np.ones((1, 64, SIDE), bool)
    (photo,) = read_people_frames(folder, range(1), 1, SIDE)
    np.testing.assert_allclose(photo.K[:2, 2], (48, 48))
    assert photo.frame.box == (0, 16, SIDE, 80)
    assert photo.alpha is not None
    assert photo.alpha[:16].max() == 0
    assert photo.alpha[16:80].min() == 255


def test_a_lens_that_distorts_is_corrected_in_image_and_mask(tmp_path: Path) -> None:
    """What is truly at the radius r is seen at r (1 + k1 r²): the figure's left edge, seen at 30 px, was at 27.8."""
    k1 = -8.0
    folder = write_person(tmp_path, camera_k=np.array([k1, 0, 0, 0, 0]))
    (photo,) = read_people_frames(folder, range(1), 1, SIDE)
    assert photo.alpha is not None
    row = 46  # of the principal point
    edge = np.flatnonzero(photo.alpha[row] > 127)[0]
    true = (27.8 - 50) / FOCAL
    assert true * (1 + k1 * true**2) * FOCAL + 50 == pytest.approx(30, abs=0.3)
    assert edge == 28
    dark = np.flatnonzero(photo.rgb[row, :, 0] < 95)
    assert abs(dark[0] - edge) <= 1


def test_what_is_wrong_with_a_folder_is_one_sentence(tmp_path: Path) -> None:
    folder = write_person(tmp_path)

    def wrong(change: Callable[[Path], object], words: str) -> None:
        copy = shutil.copytree(folder, tmp_path / "copies" / folder.name)
        change(copy)
        with pytest.raises(PhotoError, match=words) as caught:
            count_people_frames(copy, 1, 10)
        assert str(tmp_path) not in str(caught.value)
        shutil.rmtree(copy)

    def camera(**values: Any) -> Callable[[Path], object]:
        def change(copy: Path) -> None:
            old = pickle.loads((copy / "camera.pkl").read_bytes())
            (copy / "camera.pkl").write_bytes(pickle.dumps({**old, **values}, protocol=2))

        return change

    def masks(**arguments: Any) -> Callable[[Path], object]:
        def change(copy: Path) -> None:
            with h5py.File(copy / "masks.hdf5", "w") as file:
                file.create_dataset("masks", **arguments)

        return change

    wrong(lambda copy: (copy / "camera.pkl").unlink(), "camera.pkl is missing")
    wrong(lambda copy: (copy / "masks.hdf5").unlink(), "masks.hdf5 is missing")
    wrong(lambda copy: (copy / f"{copy.name}.mp4").unlink(), r"female-1-casual\.mp4 is missing, and 0 other")
    wrong(lambda copy: (copy / "masks.hdf5").write_text("text"), "no HDF5 file")
    wrong(lambda copy: (copy / "camera.pkl").write_text("text"), "camera.pkl: the file is damaged")
    wrong(lambda copy: (copy / "camera.pkl").write_bytes(pickle.dumps([1], protocol=2)), "holds a list")
    wrong(lambda copy: (copy / "camera.pkl").write_bytes(pickle.dumps({}, protocol=2)), "has no 'camera_f'")
    wrong(camera(camera_f=np.array([np.nan, 1.0])), "'camera_f' is not made of 2 finite numbers")
    wrong(camera(camera_k="curved"), "'camera_k' is not made of 5 finite numbers")
    wrong(camera(camera_f=np.array([1.0, 1.0])), "a focal length of")
    wrong(camera(width=10**6), "no video has these")
    wrong(camera(width=90), "the video has 96 × 96 pixels")
    wrong(masks(data=np.zeros((7, 5, 5), np.uint8)), r"masks of uint8 \(7, 5, 5\) found")
    wrong(masks(data=np.zeros((7, SIDE, SIDE))), "masks of float64")
    wrong(masks(shape=(0, SIDE, SIDE), dtype="u1"), "there is no mask")
    wrong(masks(shape=(10**6, SIDE, SIDE), dtype="u1", chunks=(10**5, SIDE, SIDE)), "chunks of")


def test_masks_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = write_person(tmp_path)
    (folder / "masks.hdf5").rename(tmp_path / "elsewhere.hdf5")
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(FRAMES * SIDE * SIDE))
    layout = h5py.VirtualLayout((FRAMES, SIDE, SIDE), "u1")
    layout[:] = h5py.VirtualSource(str(tmp_path / "elsewhere.hdf5"), "masks", (FRAMES, SIDE, SIDE))

    def link(file: h5py.File) -> None:
        file["masks"] = h5py.ExternalLink("../elsewhere.hdf5", "masks")

    def virtual(file: h5py.File) -> None:
        file.create_virtual_dataset("masks", layout)

    def external(file: h5py.File) -> None:
        where = [(str(raw), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("masks", (FRAMES, SIDE, SIDE), "u1", external=where)

    for write in (link, virtual, external):
        with h5py.File(folder / "masks.hdf5", "w") as file:
            write(file)
        with pytest.raises(PhotoError, match="in the file itself"):
            count_people_frames(folder, 1, 10)


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_camera_that_wants_to_run_something_is_refused(tmp_path: Path) -> None:
    folder = write_person(tmp_path, camera_f=Trap(tmp_path / "sprung"))
    with pytest.raises(PhotoError, match=r"camera\.pkl"):
        count_people_frames(folder, 1, 10)
    assert not (tmp_path / "sprung").exists()
