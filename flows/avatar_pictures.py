"""Pictures of how an avatar came about: what the detector saw, what the photo gave, what was made of it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from dinar_models.keypoints import GROUPS, KeypointLayout
from dinar_models.types import NeuralTexture
from stages.reporting.pictures import sheet, texture_image

LEAST_CONFIDENCE = 0.3
"""Of a keypoint that is drawn."""

SIDE_COLOURS = {"left": (235, 120, 30), "right": (40, 110, 220)}
MIDDLE_COLOUR = (60, 170, 80)
"""Of points and bones: the person's left is orange, their right is blue, what joins them is green."""

FINE = ("hands", "face")
"""Groups of keypoints that lie so close that their dots are small."""

SMOOTH = 4
"""Lines are drawn so many times as large."""

GENERATED_COLUMNS = 4


def skeleton_overlay(rgb: np.ndarray, xyc: np.ndarray, layout: KeypointLayout) -> np.ndarray:
    """Keypoints and the bones between them over an image, the surer the more opaque.

    Args:
        rgb: (h, w, 3) uint8.
        xyc: (J, 3), pixels of `rgb` and confidence.
    """
    height, width = rgb.shape[:2]
    layer = Image.new("RGBA", (width * SMOOTH, height * SMOOTH))
    draw = ImageDraw.Draw(layer)
    line = max(height // 170, 1) * SMOOTH
    for ends in layout.bones:
        if (sure := float(xyc[list(ends), 2].min())) >= LEAST_CONFIDENCE:
            colour = _colour([layout.points[end] for end in ends], sure)
            draw.line([tuple(xyc[end, :2] * SMOOTH) for end in ends], colour, line)
    for name, group, (x, y, sure) in zip(layout.points, layout.group, xyc.tolist(), strict=True):
        if sure >= LEAST_CONFIDENCE:
            radius = line * (0.4 if GROUPS[group] in FINE else 0.8)
            draw.circle((x * SMOOTH, y * SMOOTH), radius, _colour([name], sure))
    layer = layer.resize((width, height), Image.Resampling.BOX)
    image = Image.alpha_composite(Image.fromarray(rgb).convert("RGBA"), layer)
    return np.asarray(image.convert("RGB"))


def _colour(names: Sequence[str], sure: float) -> tuple[int, int, int, int]:
    sides = {name.partition("_")[0] for name in names}
    colour = SIDE_COLOURS.get(sides.pop(), MIDDLE_COLOUR) if len(sides) == 1 else MIDDLE_COLOUR
    return (*colour, round(255 * min(sure, 1.0)))


def texture_pictures(texture: NeuralTexture, partial: NeuralTexture) -> dict[str, np.ndarray]:
    """Every channel of an avatar's texture and what the photo gave of it, of one person.

    Returns:
        texture, texture_photo: colours (T, T, 3), complete and as the photo gave them; texture_masks: B_smp and
        B_fill of the photo side by side; texture_generated: the 16 generated channels in rows of four, each stretched
        from its 1st to its 99th percentile.
    """
    masks = [partial.sampled[0, 0].numpy(), partial.filled[0, 0].numpy()]
    generated = [_stretched(channel) for channel in texture.generated[0].numpy()]
    return {
        "texture": texture_image(texture.rgb[0].numpy()),
        "texture_photo": texture_image(partial.rgb[0].numpy()),
        "texture_masks": sheet([_grey(mask) for mask in masks], 2),
        "texture_generated": sheet([_grey(channel) for channel in generated], GENERATED_COLUMNS),
    }


def _stretched(channel: np.ndarray) -> np.ndarray:
    low, high = np.percentile(channel, [1, 99])
    return (channel - low) / max(float(high - low), 1e-6)


def _grey(values: np.ndarray) -> np.ndarray:
    """(T, T) in [0, 1] as (T, T, 3) uint8."""
    grey = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
