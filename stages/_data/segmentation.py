"""Images → the class of every pixel and one mask of the person.

Where classes come from: label maps of others that the data set brought (`trust_source_parts`), where they say; the
parser everywhere else. In photos the mask decides what is background: it knows more than the parser.

Where the mask comes from, in this order:

1. the source's own (coverage of a render, alpha of a cut-out photo), if `trust_source_mask` and it has one;
2. the brought label map's: everything in it that is not background;
3. otherwise two opinions on every pixel, the parser's and that of MediaPipe's pose model (if `person_prior`):
   a. MediaPipe looks four times: at the image, at the square around whom it found there (or else the parser), and at
      both mirrored. Its masks are 256 pixels wide and differ mostly at hands, feet and hair, so their mean is better
      than any of them. Looks that found nobody do not count.
   b. The parser's probability counts with PARSER_WEIGHT, MediaPipe's mean with the rest. The parser has seen too few
      backgrounds to be sure of new ones; MediaPipe knows real ones, and where it finds nobody there is no usable
      person: the parser alone stays below one half.
   c. The mean follows the edges of the image (guided filter, reach 1/60 of the person).
   d. What is ¼ or less becomes transparent, ¾ or more opaque; the largest connected person is kept, with soft edges.

In photos the parser looks closely (dinar_models/parsing.py), and a second time at the square around a person who
fills little of the image. Images whose mask is known are parsed quickly, many at once.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dinar_models.cameras import Crop, crop_image, mask_box, square_crop
from dinar_models.labels import UNKNOWN
from dinar_models.masks import firm, follow_edges, largest_person
from dinar_models.parser import Parser, build_parser
from dinar_models.parsing import closer_crop, crop_grid, look_closely, parse_images
from stages._core.precision import autocast, channels_last
from stages._core.weights import load_weights

PARSER_WEIGHT = 0.1
"""Share of the parser's opinion in masks of photos: it decides where MediaPipe is undecided. Over nine cut-outs
before five photographs the IoU was 0.972 with a tenth, 0.965 with three tenths and 0.930 with one half."""

LOOK_MARGIN = 1.2
"""Side of the square that MediaPipe looks at a second time, relative to the person in it."""

SMALLEST_PERSON = 0.003
"""Share of the image's pixels below which there is no usable person."""

INDISTINCT = "no person could be told from the background"

PersonPrior = Callable[[np.ndarray], np.ndarray]
"""RGB (H, W, 3) uint8 → probability (H, W) float32 that a pixel belongs to a person."""


def segment_images(
    parser: Parser,
    rgb: np.ndarray,
    known: np.ndarray | None = None,
    prior: PersonPrior | None = None,
    *,
    labels: np.ndarray | None = None,
    batch: int = 8,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Classes and masks of images by the rule above.

    Args:
        rgb: (N, H, W, 3) uint8.
        known: (N, H, W) uint8 masks of the source, all zero where it has none; None: no image has one.
        prior: a second opinion on where the person is, for images without a known mask.
        labels: (N, H, W) uint8 label maps of others (dinar_models/labels.py), UNKNOWN where they do not say.

    Returns:
        parts (N, H, W) uint8, CIHP; mask (N, H, W) uint8, 0–255. Where the mask was made here, classes are background
        outside it and nowhere else.
    """
    mask = np.zeros(rgb.shape[:3], np.uint8) if known is None else known.copy()
    said = np.full(rgb.shape[:3], UNKNOWN, np.uint8) if labels is None else labels
    unmasked = ~mask.any(axis=(1, 2))
    mask[unmasked] = np.where((said[unmasked] != 0) & (said[unmasked] != UNKNOWN), 255, 0).astype(np.uint8)
    parts = np.zeros(rgb.shape[:3], np.uint8)
    known_rows = mask.any(axis=(1, 2)).nonzero()[0]
    with autocast(device, dtype):
        if len(known_rows):
            agreed = None if labels is None else torch.from_numpy(labels[known_rows])
            quick = parse_images(parser, torch.from_numpy(rgb[known_rows]), batch, device, agreed)
            parts[known_rows] = quick.parts.numpy()
        for i, image in enumerate(rgb):
            if not mask[i].any():
                parts[i], mask[i] = _segment_photo(parser, image, prior, device)
            elif (said[i] == UNKNOWN).all():
                parts[i] = _parse_masked(parser, image, parts[i], mask[i], device)
    return parts, mask


@functools.lru_cache(maxsize=2)
def load_parser(folder: Path, device: str) -> Parser:
    """The trained parser, once per process."""
    return channels_last(load_weights(folder, "parser", build_parser).to(device))


def pose_prior(rgb: np.ndarray) -> np.ndarray:
    """MediaPipe's mask of the one person whose pose it finds; zero where it finds nobody.

    Its selfie model was tried too: on full bodies before busy backgrounds it takes much else for the person.
    """
    mask = _pose().process(rgb).segmentation_mask
    return np.zeros(rgb.shape[:2], np.float32) if mask is None else np.asarray(mask, np.float32)


def second_look(rgb: np.ndarray, prior: PersonPrior, parser: np.ndarray | None = None) -> np.ndarray:
    """The mean of a prior's answers for the image, the square around its person, and both mirrored.

    Looks that found nobody do not count: people seen from behind, or small, are found in some of them only. Where
    the whole image shows the prior nobody, the square is the one around the parser's person.

    Args:
        parser: (H, W) its probability that a pixel belongs to a person.
    """
    looks = _both_ways(rgb, prior)
    person = np.mean(looks, axis=0) if looks else parser
    if person is not None and (person > 0.5).any():
        crop = square_crop(mask_box(torch.from_numpy(largest_person(person))[None]), margin=LOOK_MARGIN)
        looks += [_put_back(look, crop, rgb.shape[:2]) for look in _both_ways(_cut(rgb, crop), prior)]
    return np.mean(looks, axis=0, dtype=np.float32) if looks else np.zeros(rgb.shape[:2], np.float32)


def _both_ways(rgb: np.ndarray, prior: PersonPrior) -> list[np.ndarray]:
    """What the prior finds in an image and in its mirror image."""
    mirrored = prior(np.ascontiguousarray(rgb[:, ::-1]))[:, ::-1]
    return [look for look in (prior(rgb), mirrored) if (look > 0.5).any()]


def _cut(rgb: np.ndarray, crop: Crop) -> np.ndarray:
    """The square, as large as the image."""
    planar = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    square = crop_image(planar, crop, max(rgb.shape[:2]), fill=255.0).round().clamp(0, 255)[0]
    return square.permute(1, 2, 0).to(torch.uint8).contiguous().numpy()


def _put_back(look: np.ndarray, crop: Crop, shape: tuple[int, ...]) -> np.ndarray:
    """What was found in the square, in the image; nobody beside it."""
    grid = crop_grid(crop, shape[0], shape[1])
    back = F.grid_sample(torch.from_numpy(look.copy())[None, None], grid, align_corners=False)
    inside = (grid.abs() <= 1).all(dim=-1)[0].numpy()
    return np.where(inside, back[0, 0].numpy(), 0).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _pose() -> Any:
    from mediapipe.python.solutions.pose import Pose

    # Static: every image on its own, or the result would depend on the order of the images.
    return Pose(static_image_mode=True, model_complexity=1, enable_segmentation=True)


def _segment_photo(
    parser: Parser, image: np.ndarray, prior: PersonPrior | None, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Classes and mask of a photo of which nothing is known. The mask decides where the classes are background."""
    seen = look_closely(parser, torch.from_numpy(image), None, device)
    opinion = None if prior is None else second_look(image, prior, seen.foreground.numpy())
    person = join_opinions(seen.foreground.numpy(), opinion, image)
    crop = closer_crop(torch.from_numpy(person))
    if crop is not None:
        seen = look_closely(parser, torch.from_numpy(image), crop, device)
        person = join_opinions(seen.foreground.numpy(), opinion, image)
    mask = (person * 255 + 0.5).astype(np.uint8)
    return np.where(mask >= 128, seen.kinds.numpy(), 0).astype(np.uint8), mask


def join_opinions(parser: np.ndarray, prior: np.ndarray | None, rgb: np.ndarray) -> np.ndarray:
    """Steps b to d of the rule: (H, W) probabilities of the parser and, if asked, of MediaPipe → one person's."""
    mean = parser if prior is None else PARSER_WEIGHT * parser + (1 - PARSER_WEIGHT) * prior
    return largest_person(firm(follow_edges(largest_person(mean.astype(np.float32)), rgb)))


def _parse_masked(
    parser: Parser, image: np.ndarray, parts: np.ndarray, mask: np.ndarray, device: str
) -> np.ndarray:
    """Classes of a person whose mask is known."""
    crop = closer_crop(torch.from_numpy(mask).float() / 255)
    if crop is None:
        return parts
    return look_closely(parser, torch.from_numpy(image), crop, device).parts.numpy()
