"""Pictures for the report: contact sheets, overlays, curves and animations, as data URIs."""

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")

PARTS_PALETTE = (np.random.default_rng(7).integers(40, 230, (256, 3))).astype(np.uint8)
PARTS_PALETTE[0] = 255


def sheet(images: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """Equal images (h, w, 3) uint8 in rows of `columns` on white."""
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    out = np.full((rows * (height + gap), columns * (width + gap), 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        out[y : y + height, x : x + width] = image
    return out


def parts_overlay(rgb: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Part labels over the image, each class in its own colour."""
    shown = parts > 0
    out = rgb.copy()
    out[shown] = (0.4 * rgb[shown] + 0.6 * PARTS_PALETTE[parts[shown]]).astype(np.uint8)
    return out


def keypoints_overlay(rgb: np.ndarray, xyc: np.ndarray, least: float = 0.3) -> np.ndarray:
    """Red dots at the keypoints of at least this confidence."""
    out = rgb.copy()
    for x, y, confidence in xyc:
        if confidence >= least:
            column, row = int(x), int(y)
            out[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = (230, 30, 30)
    return out


def body_overlay(rgb: np.ndarray, depth: np.ndarray, face_id: np.ndarray) -> np.ndarray:
    """The fitted body over the image, shaded by its depth gradient."""
    hit = face_id >= 0
    slope = np.where(hit, np.abs(np.gradient(np.where(hit, depth, 0.0))[1]), 0)
    shade = 1 / (1 + 150 * slope)
    colour = (shade[..., None] * np.array([90, 170, 240])).astype(np.float32)
    out = rgb.astype(np.float32)
    out[hit] = 0.35 * out[hit] + 0.65 * colour[hit]
    return out.astype(np.uint8)


def texture_image(rgb: np.ndarray) -> np.ndarray:
    """A texture (3, T, T), uint8 or [0, 1], as (T, T, 3) uint8."""
    values = rgb if rgb.dtype == np.uint8 else (np.clip(rgb.astype(np.float32), 0, 1) * 255 + 0.5)
    return np.ascontiguousarray(values.astype(np.uint8).transpose(1, 2, 0))


def png_uri(image: np.ndarray) -> str:
    """A picture as a data URI; WebP keeps the page small."""
    return _uri(_encode([image]), "image/webp")


def animation_uri(frames: Sequence[np.ndarray], milliseconds: int = 60) -> str:
    """An endless animated WebP as a data URI."""
    return _uri(_encode(frames, milliseconds), "image/webp")


def save_animation(path: str, frames: Sequence[np.ndarray], milliseconds: int = 60) -> None:
    """Write an endless animated WebP."""
    with open(path, "wb") as file:
        file.write(_encode(frames, milliseconds))


def curves_svg(histories: dict[str, list[dict[str, float]]]) -> str:
    """Loss curves, one panel per stage, as inline SVG."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(histories), figsize=(4.2 * len(histories), 3), squeeze=False)
    for axis, (name, history) in zip(axes[0], histories.items(), strict=True):
        keys = sorted({k for line in history for k in line} - {"step"})
        for key in keys:
            points = [(line["step"], line[key]) for line in history if key in line]
            axis.plot(*zip(*points, strict=True), label=key, linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.set_yscale("symlog", linthresh=1e-3)
        axis.tick_params(labelsize=7)
        if keys:
            axis.legend(fontsize=6)
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue().split("?>", 1)[-1]


def _encode(frames: Sequence[np.ndarray], milliseconds: int = 0) -> bytes:
    images = [Image.fromarray(f) for f in frames]
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:], "duration": milliseconds, "loop": 0}
    images[0].save(buffer, "WEBP", quality=85, method=2, **(more if len(images) > 1 else {}))
    return buffer.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
