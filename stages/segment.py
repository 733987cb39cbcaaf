"""Views → parsing: the class of every pixel and the one mask that every later stage uses.

Where the mask comes from, in this order:

1. the source's own (coverage of a render, alpha of a cut-out photo), if `trust_source_mask` and it has one;
2. otherwise the mean of two person probabilities: the parser's, and the one of MediaPipe's pose model if
   `person_prior`. The parser is sharp but has only seen made-up backgrounds; MediaPipe knows real backgrounds
   but blurs hands and feet, and where it finds nobody there is no usable person. Of the mean, the largest
   connected person is kept, with soft edges.

A person who fills little of the image is parsed a second time in a crop, at the scale that the parser knows.
"""

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from dinar_models.cameras import Crop, crop_image, mask_box, square_crop
from dinar_models.parser import Parser, build_parser, parse_images
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.precision import DtypeChoice, channels_last, resolve_dtype
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._core.weights import load_weights

SHARD_IMAGES = 128
LINK_SHARE = 0.02
"""Pieces nearer than this share of the image belong to one person: a foot behind a pole, a hand."""

CROP_BELOW = 0.75
"""A crop that is smaller than this share of the image is parsed on its own."""

SMALLEST_PERSON = 0.003
"""Share of the image's pixels below which there is no usable person."""

INDISTINCT = "no person could be told from the background"

PersonPrior = Callable[[np.ndarray], np.ndarray]
"""RGB (H, W, 3) uint8 → probability (H, W) float32 that a pixel belongs to a person."""


class SegmentParams(StageParams):
    """Where masks come from."""

    trust_source_mask: bool = Field(True, description="use the source's mask where it has one")
    person_prior: bool = Field(
        True, description="average MediaPipe's person mask with the parser's, in photos"
    )
    batch: int = Field(8, ge=1, description="images parsed at once")
    dtype: DtypeChoice = "auto"
    max_reject_ratio: float = Field(0.5, ge=0, le=1, description="share of images that may be rejected")


def run(params: SegmentParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Parse every image of one data set."""
    views = open_store(inputs["views"], "views")
    dtype = resolve_dtype(params.dtype, runtime.device)
    _, height, width = views["mask"].shape
    attrs = {**params.model_dump(), "dtype": str(dtype).removeprefix("torch.")}
    return build_store(
        out=outputs["parsing"],
        schema="parsing",
        index=views.index,
        sizes={"H": height, "W": width},
        attrs=attrs,
        shard_rows=SHARD_IMAGES,
        work=partial(
            segment_shard,
            views=inputs["views"],
            parser=inputs["parser"],
            params=params,
            dtype=dtype,
            device=runtime.device,
        ),
        runtime=runtime,
        key=work_key(params, inputs.values()),
        max_reject_ratio=params.max_reject_ratio,
    )


def segment_shard(
    rows: range, *, views: Path, parser: Path, params: SegmentParams, dtype: torch.dtype, device: str
) -> ShardResult:
    """Parse some rows; those without a person are rejected."""
    store = open_store(views, "views")
    rgb = np.asarray(store["rgb"][rows.start : rows.stop])
    known = np.asarray(store["mask"][rows.start : rows.stop]) if params.trust_source_mask else None
    prior = pose_prior if params.person_prior else None
    net = load_parser(parser, device)
    parts, mask = segment_images(net, rgb, known, prior, batch=params.batch, dtype=dtype, device=device)
    share = (mask >= 128).mean(axis=(1, 2))
    rejects = {row: INDISTINCT for row, part in zip(rows, share, strict=True) if part < SMALLEST_PERSON}
    return ShardResult({"parts": parts, "mask": mask}, rejects)


def segment_images(
    parser: Parser,
    rgb: np.ndarray,
    known: np.ndarray | None = None,
    prior: PersonPrior | None = None,
    *,
    batch: int = 8,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Classes and masks of images by the rule above.

    Args:
        rgb: (N, H, W, 3) uint8.
        known: (N, H, W) uint8 masks of the source, all zero where it has none; None: no image has one.
        prior: a second opinion on where the person is, for images without a known mask.

    Returns:
        parts (N, H, W) uint8, CIHP; mask (N, H, W) uint8, 0–255. Where the mask is the parser's own, parts
        outside it are background.
    """
    mask = np.zeros(rgb.shape[:3], np.uint8) if known is None else known.copy()
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        parse = partial(parse_images, parser, batch=batch, device=device)
        parts, foreground = parse(torch.from_numpy(rgb))
        for i, image in enumerate(rgb):
            given = torch.from_numpy(mask[i]).float() / 255 if mask[i].any() else None
            person = _person(foreground[i], image, prior) if given is None else given
            crop = square_crop(mask_box(person[None]))
            if float(person.max()) > 0.5 and float(crop.side) < CROP_BELOW * max(person.shape):
                parts[i], nearer = _parse_crop(parse, torch.from_numpy(image)[None], crop, parser.size)
                person = _person(nearer, image, prior) if given is None else given
            if given is None:
                mask[i] = (person * 255 + 0.5).to(torch.uint8).numpy()
                parts[i][person == 0] = 0
    return parts.numpy(), mask


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


def largest_person(probability: np.ndarray) -> np.ndarray:
    """The probability inside the largest connected person, 0 elsewhere.

    Args:
        probability: (H, W) float32. Pieces above ½ that are closer than LINK_SHARE of the image are one.
    """
    reach = max(round(LINK_SHARE * max(probability.shape) / 2), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    linked = cv2.dilate((probability > 0.5).astype(np.uint8), disc)
    count, label = cv2.connectedComponents(linked)
    if count < 2:
        return np.zeros_like(probability)
    sizes = np.bincount(label[probability > 0.5], minlength=count)
    sizes[0] = 0
    return np.where(label == sizes.argmax(), probability, 0).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _pose() -> Any:
    from mediapipe.python.solutions.pose import Pose

    # Static: every image on its own, or the result would depend on the order of the images.
    return Pose(static_image_mode=True, model_complexity=1, enable_segmentation=True)


def _person(foreground: Tensor, rgb: np.ndarray, prior: PersonPrior | None) -> Tensor:
    """The mean of both opinions, restricted to one person."""
    probability = foreground.numpy()
    if prior is not None:
        probability = (probability + prior(rgb)) / 2
    return torch.from_numpy(largest_person(probability.astype(np.float32)))


def _parse_crop(parse: Callable, image: Tensor, crop: Crop, size: int) -> tuple[Tensor, Tensor]:
    """Parse a square crop at the parser's own scale and put the answer back; background outside."""
    planar = image.permute(0, 3, 1, 2).float()
    small = crop_image(planar, crop, size, fill=255.0).round().clamp(0, 255).to(torch.uint8)
    parts, foreground = parse(small.permute(0, 2, 3, 1).contiguous())
    height, width = image.shape[1:3]
    x = 2 * (torch.arange(width) + 0.5 - crop.x) / crop.side - 1
    y = 2 * (torch.arange(height) + 0.5 - crop.y) / crop.side - 1
    grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)[None]
    labels = F.grid_sample(parts[None].float(), grid, mode="nearest", align_corners=False)[0, 0]
    probability = F.grid_sample(foreground[None], grid, align_corners=False)[0, 0]
    return labels.to(torch.uint8), probability


STAGE = Stage("segment", SegmentParams, inputs=("views", "parser"), outputs=("parsing",), run=run)

if __name__ == "__main__":
    main(STAGE)
