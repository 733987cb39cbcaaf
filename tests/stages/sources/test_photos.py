import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from stages.sources import photos
from stages.sources.photos import PhotoError, list_photos, load_photo
from stages.sources.video import count_frames, list_videos, read_frames


def two_halves(width: int = 60, height: int = 40) -> np.ndarray:
    """Left half dark red, right half bright green."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (100, 0, 0)
    image[:, width // 2 :] = (0, 200, 0)
    return image


def test_padding_is_white_and_even_and_the_principal_point_in_the_middle(tmp_path: Path) -> None:
    Image.fromarray(two_halves()).save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png", 60)
    np.testing.assert_array_equal(photo.rgb[10:50], two_halves())
    assert (photo.rgb[:10] == 255).all()
    assert (photo.rgb[50:] == 255).all()
    assert photo.alpha is None
    assert (photo.frame.box, photo.frame.scale) == ((0, 10, 60, 50), 1.0)
    focal = 5000 / 512 * 60
    np.testing.assert_allclose(photo.K, [[focal, 0, 30], [0, focal, 30], [0, 0, 1]])


def test_resizing_scales_the_focal_length(tmp_path: Path) -> None:
    Image.fromarray(two_halves(120, 80)).save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png", 60)
    assert photo.K[0, 0] == pytest.approx(5000 / 512 * 60)
    assert (photo.frame.box, photo.frame.scale) == ((0, 10, 60, 50), 0.5)
    np.testing.assert_array_equal(photo.rgb[30, 5], (100, 0, 0))


def test_exif_turns_the_photo_and_gives_the_focal_length(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned 90° clockwise: the left side comes up
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 50
    Image.fromarray(two_halves()).save(tmp_path / "a.png", exif=exif)
    photo = load_photo(tmp_path / "a.png", 60)
    np.testing.assert_array_equal(photo.rgb[5, 30], (100, 0, 0))
    np.testing.assert_array_equal(photo.rgb[55, 30], (0, 200, 0))
    assert (photo.rgb[:, 0] == 255).all()
    assert photo.K[0, 0] == pytest.approx(50 * math.hypot(60, 40) / math.hypot(36, 24))


def test_alpha_cuts_out_on_white_and_a_full_alpha_is_none(tmp_path: Path) -> None:
    alpha = np.zeros((40, 60, 1), np.uint8)
    alpha[:, :30] = 255
    Image.fromarray(np.concatenate([two_halves(), alpha], axis=2)).save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png", 60)
    assert photo.alpha is not None
    assert (photo.rgb[30, 40] == 255).all()
    assert photo.alpha[30, 5] == 255
    assert photo.alpha[30, 40] == 0
    assert photo.alpha[:10].max() == 0
    Image.fromarray(two_halves()).convert("RGBA").save(tmp_path / "b.png")
    assert load_photo(tmp_path / "b.png", 60).alpha is None


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "I;16", "1"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.full((40, 40), 204, np.uint8)  # a colour of the standard palette
    grey[:, :20] = 0
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
    else:
        suffix = ".tif" if mode == "CMYK" else ".png"
        Image.fromarray(grey).convert("RGB").convert(mode).save(tmp_path / f"a{suffix}")
    photo = load_photo(list_photos(tmp_path)[0], 40)
    assert photo.rgb.dtype == np.uint8
    assert photo.rgb[20, 5].max() < 5
    if mode != "1":
        np.testing.assert_allclose(photo.rgb[20, 30], (204, 204, 204), atol=3)


def test_damaged_tiny_and_giant_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(PhotoError, match="damaged"):
        load_photo(path)
    path.write_text("no image at all")
    with pytest.raises(PhotoError, match="no image"):
        load_photo(path)
    Image.fromarray(two_halves(20, 20)).save(path)
    with pytest.raises(PhotoError, match="too few"):
        load_photo(path)
    monkeypatch.setattr(photos, "MAX_PIXELS", 2000)
    Image.fromarray(two_halves()).save(path)
    with pytest.raises(PhotoError, match="too many"):
        load_photo(path)


def write_video(path: Path, frames: int) -> None:
    """Frame k has the grey level 10 k."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for k in range(frames):
        writer.write(np.full((48, 64, 3), 10 * k, np.uint8))
    writer.release()


def test_every_third_frame_of_a_video_in_order(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 11)
    assert list_videos(tmp_path) == [tmp_path / "clip.avi"]
    assert count_frames(tmp_path / "clip.avi", stride=3, limit=100) == 4
    assert count_frames(tmp_path / "clip.avi", stride=3, limit=2) == 2
    taken = list(read_frames(tmp_path / "clip.avi", range(1, 4), stride=3, size=64))
    np.testing.assert_allclose([p.rgb[32, 32, 0] for p in taken], [30, 60, 90], atol=2)
    assert (taken[0].rgb[0] == 255).all()


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(PhotoError, match="no video"):
        count_frames(tmp_path / "clip.mp4", 1, 10)
