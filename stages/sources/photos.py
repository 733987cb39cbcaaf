"""Photos of any kind: turned upright, 8-bit RGB, square, with a camera."""

import io
import math
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from stages.sources.frames import PhotoFrame

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Pillow's decoders that may be used, whatever a file's name says: others, such as EPS, run programs."""

PHOTO_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    *(".png", ".tif", ".tiff", ".webp"),
)
UNREAD_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif"), "HEIC"),
    **dict.fromkeys((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"), "camera raw"),
}
"""Photos that cannot be read; they get a row with a sentence rather than vanish."""

FOCAL_PER_SIDE = 5000 / 512  # assumed where EXIF says nothing: 5000 px in DINAR's 512 px images
FILM_DIAGONAL_MM = math.hypot(36, 24)
MAX_PIXELS = 128_000_000
MIN_SIDE = 32
MAX_ASPECT = 6
"""Longer strips have no room for a person: arms and all, one is at most about four times as tall as wide."""


class PhotoError(ValueError):
    """A photo that cannot be used; the text is one sentence saying why."""


@dataclass(frozen=True)
class Photo:
    """A square photo.

    Attributes:
        rgb: (S, S, 3) uint8; what pads the photo to a square, and what its alpha hides, is white.
        alpha: (S, S) uint8, 0 on the padding; None where the file has no alpha that cuts something out.
        K: (3, 3) float32 intrinsics in pixels, pixel centres at +0.5.
        frame: where the file's image lies in the square.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    K: np.ndarray
    frame: PhotoFrame


def load_photo(path: Path, size: int = 512) -> Photo:
    """Read any photo as a `size` × `size` square with its camera.

    EXIF rotation is applied; grey, palette, CMYK, Lab and 16-bit files become 8-bit RGB, by their ICC profile
    where they have a valid one (else as sRGB; PNG's gAMA is ignored); of several frames the first is taken;
    the image is padded evenly to a square and resized. The focal length is the EXIF one in 35 mm terms, else
    5000/512 × the longer side.

    Raises:
        PhotoError: one sentence on why the file cannot be used.
    """
    image = decode_image(path)
    focal = focal_length(image)
    rgb, alpha = split_alpha(_upright(image))
    mask = None if alpha is None else np.array(square_image(alpha, size, 0))
    return make_photo(rgb, mask, focal, size)


def make_photo(rgb: Image.Image, alpha: np.ndarray | None, focal: float, size: int) -> Photo:
    """A square photo from an upright image with its focal length, px."""
    scale = size / max(rgb.size)
    frame = PhotoFrame(inner_box(rgb.size, size), scale)
    return Photo(np.array(square_image(rgb, size, 255)), alpha, intrinsics(focal * scale, size), frame)


def list_photos(root: Path) -> list[Path]:
    """The image files of a folder (not of its subfolders), by name, those that cannot be read included."""
    suffixes = {*PHOTO_SUFFIXES, *UNREAD_SUFFIXES}
    return sorted(p for p in root.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))


def focal_length(image: Image.Image) -> float:
    """Focal length in pixels: EXIF's 35 mm equivalent (by diagonal, as CIPA defines it), else assumed."""
    try:
        equivalent = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
    except Exception:  # damaged EXIF makes Pillow raise anything, and does not make a photo unusable
        equivalent = None
    if isinstance(equivalent, int | float) and 5 <= equivalent <= 2000:
        return float(equivalent) * math.hypot(*image.size) / FILM_DIAGONAL_MM
    return FOCAL_PER_SIDE * max(image.size)


def intrinsics(focal: float, size: int) -> np.ndarray:
    """K of a square image with its principal point in the middle."""
    return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=np.float32)


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """sRGB on white, and the alpha if it hides a part of the image and shows another.

    Raises:
        PhotoError: the alpha hides everything.
    """
    if not image.has_transparency_data:
        return _to_srgb(image), None
    alpha = image.convert("RGBA").getchannel("A")
    opaque = np.asarray(alpha) >= 128
    if not opaque.any():
        raise PhotoError("the alpha channel hides the whole image")
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(_to_srgb(image), mask=alpha)
    return on_white, None if opaque.all() else alpha


def square_image(image: Image.Image, size: int, fill: int) -> Image.Image:
    """Resized so that the longer side is `size`, then padded evenly."""
    left, top, right, bottom = inner_box(image.size, size)
    small = image.resize((right - left, bottom - top), Image.Resampling.LANCZOS, reducing_gap=3.0)
    colour = (fill,) * len(image.getbands())
    square = Image.new(image.mode, (size, size), colour if len(colour) > 1 else fill)
    square.paste(small, (left, top))
    return square


def inner_box(sides: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Where an image with these sides lies in a square: left, top, right, bottom."""
    scale = size / max(sides)
    width, height = (max(round(side * scale), 1) for side in sides)
    left, top = (size - width) // 2, (size - height) // 2
    return left, top, left + width, top + height


def decode_image(path: Path) -> Image.Image:
    """Decode an image's first frame whole, as 8 bits a channel.

    Raises:
        PhotoError: on any damage, formats that are not read, and sizes that no photo of a person has.
    """
    if kind := UNREAD_SUFFIXES.get(path.suffix.lower()):
        raise PhotoError(f"{kind} files are not read; save the photo as JPEG or PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata, and Pillow's own limit: ours is checked below
            with Image.open(path, formats=FORMATS) as image:
                _check_size(*image.size)
                image.load()
                return _to_8_bit(image)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("its pixels are too many to read") from None
    except UnidentifiedImageError:  # its own text names the path, which may differ between machines
        raise PhotoError(_unknown_file(path)) from None
    except Exception as error:  # decoders fed with damaged bytes raise far more than OSError
        raise PhotoError(f"the file is damaged ({error})") from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PhotoError(f"{width} × {height} pixels are too many to read")
    if min(width, height) < MIN_SIDE:
        raise PhotoError(f"{width} × {height} pixels are too few to show a person")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PhotoError(f"a strip of {width} × {height} pixels is too narrow to show a person")


def _unknown_file(path: Path) -> str:
    """What a file without a known image format is, as far as its first bytes tell."""
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "the file is empty"
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "HEIC files are not read, whatever their name; save the photo as JPEG or PNG"
    return "the file is no image, or damaged at its start"


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; damaged EXIF says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # see focal_length
        return image


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit and float greys scaled to 8 bits (Pillow's own conversion would clip them).

    Floats up to 1 have their white there; else values up to 255 count as 8 bits, larger ones as 16.
    """
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    highest = values.max()
    white = 1.0 if image.mode == "F" and highest <= 1 else 255.0 if highest <= 255 else 65535.0
    grey = Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))
    grey.info.update({key: image.info[key] for key in ("exif", "icc_profile") if key in image.info})
    return grey


def _to_srgb(image: Image.Image) -> Image.Image:
    """The colours of any mode in sRGB, by the file's profile where that is valid; without alpha."""
    base = image if image.mode in ("CMYK", "L", "LAB", "RGB") else image.convert("RGB")
    embedded = image.info.get("icc_profile")
    with suppress(ImageCms.PyCMSError, OSError, TypeError, ValueError):  # damaged, or for other pixels
        source: Any = None
        if base.mode == "LAB":  # Pillow has no other way from Lab to RGB
            source = ImageCms.createProfile("LAB")
        elif embedded:
            source = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        if source is not None:
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(base, source, srgb, outputMode="RGB") or base
    return base.convert("RGB")
