"""Colour textures of scans: decoded within bounds, as 8-bit RGBA, with alpha where it cuts something out."""

import re
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from stages.sources.mesh import Limits, ScanError

PARTS_SUFFIX = "_parts.png"
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tga", ".tif", ".tiff", ".webp")
OPAQUE = 128
"""Alpha from here on is surface, below it is a hole."""


class TextureReader:
    """Reads the textures of one scan: each file once, and together within the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._read: dict[object, np.ndarray] = {}

    def read(self, path: Path, mask: Path | None = None) -> np.ndarray:
        """(h, w, 4) uint8; `mask`, a picture of the opacity, takes the place of the alpha.

        Raises:
            ScanError: a damaged, too large or missing file.
        """
        key = (path, mask)
        if key not in self._read:
            image = open_image(path, path.name, self._limits)
            alpha = None if mask is None else opacity(open_image(mask, mask.name, self._limits))
            self._add(key, self._decode(image, alpha))
        return self._read[key]

    def decode(self, key: object, data: bytes, name: str) -> np.ndarray:
        """The same for an image file in memory; `key` is what tells it from others."""
        if key not in self._read:
            self._add(key, self._decode(open_image(BytesIO(data), name, self._limits), None))
        return self._read[key]

    def _decode(self, image: Image.Image, alpha: Image.Image | None) -> np.ndarray:
        rgba = to_rgba(image)
        if alpha is not None:
            rgba.putalpha(alpha.resize(rgba.size, Image.Resampling.BILINEAR))
        return reduce_rgba(rgba, self._limits.texture_side)

    def _add(self, key: object, texture: np.ndarray) -> None:
        texels = sum(t.shape[0] * t.shape[1] for t in [*self._read.values(), texture])
        if texels > self._limits.texture_pixels:
            raise ScanError(
                f"the textures hold {texels >> 20} million texels together, "
                f"at most {self._limits.texture_pixels >> 20} million are read"
            )
        self._read[key] = texture


def open_image(source: Path | BytesIO, name: str, limits: Limits) -> Image.Image:
    """Decode an image whole; a bomb or a damaged file is a ScanError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
            with Image.open(source) as image:
                if image.width * image.height > limits.texture_pixels:
                    raise ScanError(f"{name} has {image.width} × {image.height} pixels, too many to read")
                image.load()
                return image
    except Image.DecompressionBombError:
        raise ScanError(f"{name} has too many pixels to read") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(f"{name} is damaged or no image ({_reason(error)})") from None


def to_rgba(image: Image.Image) -> Image.Image:
    """8-bit RGBA of any mode: 16-bit grey is scaled, CMYK is converted, palettes keep their transparency."""
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        image = image.convert("RGB")
    return image.convert("RGBA")


def opacity(image: Image.Image) -> Image.Image:
    """What a picture used as an opacity map says: its alpha where it has one that varies, else its grey."""
    alpha = to_rgba(image).getchannel("A")
    low, high = alpha.getextrema()
    return alpha if low != high else to_rgba(image).convert("L")


def reduce_rgba(image: Image.Image, side: int) -> np.ndarray:
    """A whole-factor mean until no side is longer than `side`; colours count by their alpha."""
    factor = -(-max(image.size) // side)
    if factor == 1:
        return np.array(image)
    if image.getchannel("A").getextrema() == (255, 255):
        return np.array(image.reduce(factor))
    return np.array(image.convert("RGBa").reduce(factor).convert("RGBA"))


def load_parts(texture: Path, limits: Limits) -> np.ndarray | None:
    """The label texture beside a colour texture: a grey or palette image of class numbers."""
    path = texture.with_name(f"{texture.stem}{PARTS_SUFFIX}")
    if not path.is_file():
        return None
    image = open_image(path, path.name, limits)
    if image.mode not in ("L", "P"):
        raise ScanError(f"{path.name} holds {image.mode} pixels, 8-bit labels (grey or palette) are expected")
    labels = np.array(image)
    factor = -(-max(labels.shape) // limits.texture_side)
    return labels[factor // 2 :: factor, factor // 2 :: factor] if factor > 1 else labels


def solid(rgba: tuple[int, int, int, int]) -> np.ndarray:
    """A texture of one texel."""
    return np.array(rgba, np.uint8).reshape(1, 1, 4)


def face_palette(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A texture with one texel for each of (F, 3) uint8 colours, and the (F, 2) centres of those texels."""
    width = max(int(np.ceil(np.sqrt(len(rgb)))), 1)
    height = max(-(-len(rgb) // width), 1)
    texture = np.full((height * width, 4), 255, np.uint8)
    texture[: len(rgb), :3] = rgb
    number = np.arange(len(rgb))
    uv = np.stack([(number % width + 0.5) / width, (number // width + 0.5) / height], axis=1)
    return texture.reshape(height, width, 4), uv


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """The transfer function of IEC 61966-2-1; both ranges [0, 1]."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_to_linear(srgb: np.ndarray) -> np.ndarray:
    """Inverse of linear_to_srgb."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """[0, 1] → 0–255, rounded."""
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _reason(error: Exception) -> str:
    """An error's text without paths and addresses of objects, so that reasons are the same in every run."""
    return re.sub(r"\s*(<[^>]*>|'/[^']*')", "", str(error))
