import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from stages.sources import photos
from stages.sources.photos import PhotoError, list_photos, load_photo


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
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    refused(path, "the file is damaged")
    path.write_bytes(whole[:2000] + bytes(100) + whole[2100:])
    refused(path, "the file is damaged")
    Image.fromarray(two_halves(20, 20)).save(path)
    refused(path, "20 × 20 pixels are too few")
    Image.fromarray(two_halves(1000, 40)).save(path)
    refused(path, "a strip of 1000 × 40 pixels")
    monkeypatch.setattr(photos, "MAX_PIXELS", 2000)
    Image.fromarray(two_halves()).save(path)
    refused(path, "60 × 40 pixels are too many")


def refused(path: Path, words: str) -> None:
    """One sentence that does not say where the file lies."""
    with pytest.raises(PhotoError) as caught:
        load_photo(path)
    assert words in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jpg", b"", "the file is empty"),
        ("a.jpg", b"once upon a time", "the file is no image"),
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "the file is no image"),
        ("a.jpg", b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC files are not read"),
        ("a.HEIC", b"anything", "HEIC files are not read"),
        ("a.nef", b"anything", "camera raw files are not read"),
    ],
)
def test_what_is_no_photo_has_its_own_sentence(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (path,) = list_photos(tmp_path)
    refused(path, words)


def test_a_file_that_claims_a_billion_pixels_is_not_decoded(tmp_path: Path) -> None:
    header = b"IHDR" + (40_000).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    chunk = len(header[4:]).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\x09IDAT")
    refused(tmp_path / "a.png", "too many")


def test_an_alpha_that_hides_everything_is_refused(tmp_path: Path) -> None:
    Image.fromarray(two_halves()).convert("RGBA").save(tmp_path / "a.png")
    hidden = Image.open(tmp_path / "a.png")
    hidden.putalpha(0)
    hidden.save(tmp_path / "b.png")
    refused(tmp_path / "b.png", "the alpha channel hides the whole image")


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif", "a.mpo"])
def test_the_first_of_several_frames_is_taken(name: str, tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (60, 40), colour) for colour in ("red", "blue"))
    lossless = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second], **lossless)
    (path,) = list_photos(tmp_path)
    np.testing.assert_allclose(load_photo(path, 60).rgb[30, 30], (255, 0, 0), atol=2)


def profile_of(mode: str) -> bytes:
    """A valid profile of another kind of pixels, or of Lab."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(mode)).tobytes()


def linear_light() -> bytes:
    """The sRGB profile with its tone curves replaced by straight lines: ICC's `curv` of no entries."""
    profile = bytearray(profile_of("sRGB"))
    for tag in range(int.from_bytes(profile[128:132], "big")):
        at = 132 + 12 * tag
        if profile[at : at + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            start = int.from_bytes(profile[at + 4 : at + 8], "big")
            profile[start : start + 12] = b"curv" + bytes(8)
    return bytes(profile)


def test_colours_of_a_profile_become_srgb(tmp_path: Path) -> None:
    """Half of the light is 188 of 255 in sRGB (IEC 61966-2-1)."""
    half = Image.new("RGB", (40, 40), (128, 128, 128))
    half.save(tmp_path / "a.png", icc_profile=linear_light())
    np.testing.assert_allclose(load_photo(tmp_path / "a.png", 40).rgb, 188, atol=1)
    half.putalpha(Image.fromarray(np.repeat(np.uint8([[0, 255]]), 20, axis=1).repeat(40, axis=0)))
    half.save(tmp_path / "a.png", icc_profile=linear_light())
    cut_out = load_photo(tmp_path / "a.png", 40)
    np.testing.assert_allclose(cut_out.rgb[:, 25], 188, atol=1)
    assert (cut_out.rgb[:, 5] == 255).all()


@pytest.mark.parametrize("profile", [b"no profile", profile_of("LAB"), profile_of("sRGB")])
def test_a_profile_that_does_not_fit_or_changes_nothing_is_passed_over(
    profile: bytes, tmp_path: Path
) -> None:
    Image.fromarray(two_halves()).save(tmp_path / "a.png", icc_profile=profile)
    photo = load_photo(tmp_path / "a.png", 60)
    np.testing.assert_allclose(photo.rgb[10:50].astype(int), two_halves(), atol=1)


def test_lab_and_float_and_damaged_exif(tmp_path: Path) -> None:
    lab = Image.new("LAB", (40, 40), (128, 128, 128))  # the middle grey: 119 in sRGB
    lab.save(tmp_path / "a.tif")
    np.testing.assert_allclose(load_photo(tmp_path / "a.tif", 40).rgb, 119, atol=1)
    values = np.full((40, 40), 0.5, np.float32)
    values[0] = (0.0, 1.0, *[np.nan] * 38)
    Image.fromarray(values).save(tmp_path / "b.tif")
    assert load_photo(tmp_path / "b.tif", 40).rgb[20, 20].tolist() == [128] * 3
    Image.fromarray(two_halves()).save(tmp_path / "c.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert load_photo(tmp_path / "c.jpg", 60).K[0, 0] == pytest.approx(5000 / 512 * 60)


def test_ten_thousand_pixels_are_read(tmp_path: Path) -> None:
    """As a two-colour PNG, which is small on disk; the square is that of the small one."""
    Image.new("1", (10_000, 2_000), 1).save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png", 64)
    assert photo.frame.scale == 64 / 10_000
    assert (photo.rgb == 255).all()
