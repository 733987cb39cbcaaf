"""Videos as cameras write them, made by ffmpeg itself."""

import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from stages.sources.photos import PhotoError
from stages.sources.video import count_frames, decode_frames, list_videos, read_frames

WIDTH, HEIGHT = 64, 48


def write_video(path: Path, frames: int) -> None:
    """Frame k has the grey level 10 k."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for k in range(frames):
        writer.write(np.full((HEIGHT, WIDTH, 3), 10 * k, np.uint8))
    writer.release()


def ffmpeg(*arguments: object, pixels: bytes = b"") -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, input=pixels, check=True)


def encode(path: Path, frames: list[np.ndarray], *options: str) -> Path:
    """A video of RGB frames, 10 a second."""
    height, width = frames[0].shape[:2]
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "10", "-i", "-")
    ffmpeg(*raw, *options, "-pix_fmt", "yuv420p", path, pixels=b"".join(f.tobytes() for f in frames))
    return path


def growing_brighter(count: int) -> list[np.ndarray]:
    """Frame k has the grey level 10 k, and red in its upper left quarter."""
    frames = [np.full((HEIGHT, WIDTH, 3), 10 * k, np.uint8) for k in range(count)]
    for frame in frames:
        frame[: HEIGHT // 2, : WIDTH // 2] = (250, 0, 0)
    return frames


def test_every_third_frame_of_a_video_in_order(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 11)
    assert list_videos(tmp_path) == [tmp_path / "clip.avi"]
    assert count_frames(tmp_path / "clip.avi", stride=3, limit=100) == 4
    assert count_frames(tmp_path / "clip.avi", stride=3, limit=2) == 2
    taken = list(read_frames(tmp_path / "clip.avi", range(1, 4), stride=3, size=64))
    np.testing.assert_allclose([p.rgb[32, 32, 0] for p in taken], [30, 60, 90], atol=2)
    assert (taken[0].rgb[0] == 255).all()
    assert taken[0].frame.box == (0, 8, 64, 56)


def test_a_video_that_was_filmed_sideways_is_turned_upright(tmp_path: Path) -> None:
    """The file says: to be shown turned 90° clockwise, which takes the upper left to the upper right."""
    plain = encode(tmp_path / "plain.mp4", growing_brighter(3))
    ffmpeg("-display_rotation", "-90", "-i", plain, "-c", "copy", tmp_path / "turned.mp4")
    ((_, rgb),) = decode_frames(tmp_path / "turned.mp4", range(1), 1)
    assert rgb.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_allclose(rgb[5, -5], (250, 0, 0), atol=6)
    np.testing.assert_allclose(rgb[5, 5], (0, 0, 0), atol=6)


def test_frames_are_counted_whatever_their_times(tmp_path: Path) -> None:
    slower = ("-vf", "setpts='if(gt(N,5),N*3,N)/(10*TB)'", "-fps_mode", "vfr")
    path = encode(tmp_path / "a.mp4", growing_brighter(12), *slower)
    assert count_frames(path, 4, 100) == 3
    levels = [rgb[-3, -3, 0] for _, rgb in decode_frames(path, range(3), 4)]
    np.testing.assert_allclose(levels, [0, 40, 80], atol=3)


def test_a_cut_off_video_gives_the_frames_before_the_cut(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", growing_brighter(12), "-g", "1")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    count = count_frames(path, 1, 100)
    assert 0 < count < 12
    assert len(list(read_frames(path, range(count), 1, 64))) == count


def test_files_that_are_no_video_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(PhotoError, match="no video"):
        count_frames(tmp_path / "clip.mp4", 1, 10)
    path = encode(tmp_path / "a.mp4", growing_brighter(12))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])  # the table of frames is at the end
    with pytest.raises(PhotoError, match="damaged"):
        count_frames(path, 1, 10)
    strip = [np.zeros((32, 512, 3), np.uint8)]
    with pytest.raises(PhotoError, match="512 × 32 pixels are too large or too narrow"):
        count_frames(encode(tmp_path / "strip.mp4", strip), 1, 10)
