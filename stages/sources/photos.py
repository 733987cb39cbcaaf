"""Photos of any kind: turned upright, 8-bit RGB, square, with a camera."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

PHOTO_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FOCAL_PER_SIDE = 5000 / 512  # assumed where EXIF says nothing: 5000 px in DINAR's 512 px images
FILM_DIAGONAL_MM = math.hypot(36, 24)
MAX_PIXELS = 128_000_000
MIN_SIDE = 32


class PhotoError(ValueError):
    """A photo that cannot be used; the text is one sentence saying why."""


@dataclass(frozen=True)
class Photo:
    """A square photo.

    Attributes:
        rgb: (S, S, 3) uint8; what pads the photo to a square, and what its alpha hides, is white.
        alpha: (S, S) uint8, 0 on the padding; None where the file has no alpha that cuts something out.
        K: (3, 3) float32 intrinsics in pixels, pixel centres at +0.5.
        scale: pixels of the square per pixel of the file.
        box: left, top, right and bottom of the file's image in the square, px; beyond is padding.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    K: np.ndarray
    scale: float
    box: tuple[int, int, int, int]


def load_photo(path: Path, size: int = 512) -> Photo:
    """Read any photo as a `size` × `size` square with its camera.

    EXIF rotation is applied; grey, palette, CMYK and 16-bit files become 8-bit RGB; the image is padded
    evenly to a square and resized. The focal length is the EXIF one in 35 mm terms, else
    5000/512 × the longer side.

    Raises:
        PhotoError: one sentence on why the file cannot be used.
    """
    image = decode_image(path)
    focal = focal_length(image.getexif(), image.size)
    image = ImageOps.exif_transpose(image)
    rgb, alpha = split_alpha(image)
    mask = None if alpha is None else np.array(square_image(alpha, size, 0))
    return make_photo(rgb, mask, focal, size)


def make_photo(rgb: Image.Image, alpha: np.ndarray | None, focal: float, size: int) -> Photo:
    """A square photo from an upright image with its focal length, px."""
    scale = size / max(rgb.size)
    K = intrinsics(focal * scale, size)
    return Photo(np.array(square_image(rgb, size, 255)), alpha, K, scale, inner_box(rgb.size, size))


def list_photos(root: Path) -> list[Path]:
    """The image files of a folder (not of its subfolders), by name."""
    return sorted(
        p for p in root.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith(".")
    )


def focal_length(exif: Image.Exif, size: tuple[int, int]) -> float:
    """Focal length in pixels: EXIF's 35 mm equivalent (by diagonal, as CIPA defines it), else assumed."""
    equivalent = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
    if isinstance(equivalent, int | float) and 5 <= equivalent <= 2000:
        return float(equivalent) * math.hypot(*size) / FILM_DIAGONAL_MM
    return FOCAL_PER_SIDE * max(size)


def intrinsics(focal: float, size: int) -> np.ndarray:
    """K of a square image with its principal point in the middle."""
    return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=np.float32)


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """RGB on white, and the alpha if it hides a part of the image and shows another."""
    image = _to_8_bit(image)
    if not ("A" in image.mode or "a" in image.mode or "transparency" in image.info):
        return image.convert("RGB"), None
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    cuts_out = np.asarray(alpha).min() < 128 <= np.asarray(alpha).max()
    on_white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return on_white, alpha if cuts_out else None


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
    """Decode an image whole; a bomb, a damaged file and a tiny one are PhotoErrors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
            warnings.simplefilter("ignore", UserWarning)  # damaged EXIF does not make a photo unusable
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PhotoError(f"{image.width} × {image.height} pixels are too many to read")
                if min(image.size) < MIN_SIDE:
                    raise PhotoError(f"{image.width} × {image.height} pixels are too few to show a person")
                image.load()
                return image
    except PhotoError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PhotoError(f"the file is damaged or no image ({error})") from None


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit and float greys scaled to 8 bits (Pillow's own conversion would clip them)."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    values = np.asarray(image).astype(np.float64)
    white = 255.0 if values.max() <= 255 else 65535.0
    return Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))
