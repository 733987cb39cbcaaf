"""Labelled people of several data sets in memory, and batches of them before other backgrounds."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinar_models.augment import augment_batch, paste_people
from dinar_models.backgrounds import UNSEEN_PHOTOGRAPHS, photograph_pieces
from dinar_models.labels import PERSON, UNKNOWN, at_level
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for, rng_for
from stages._core.store import Store, open_store

OPAQUE = 128
"""Coverage from which on a pixel shows the person."""

READ_ROWS = 128
"""Images in memory at once at the store's size, which may be several times the size that is kept."""


@dataclass(frozen=True)
class BatchRules:
    """What a batch is made of, besides the people.

    Attributes:
        image_size, label_size: pixels per side.
        rows: which samples this process takes. All are made, because images lend each other their colours.
    """

    seed: int
    batch: int
    image_size: int
    label_size: int
    rows: slice = field(default_factory=lambda: slice(None))


class LabelledPeople:
    """Cut-outs of people, read when first asked for, so that another process can be given this object.

    Args:
        paths: views stores by data set. Each joins at the level of its labels (attribute `labels`); one with masks
            alone tells person from background.
        split: whose images.
        limit: images taken at most, by chance, as many of each data set as its share of all.
        size: pixels per side at which they are held in memory.

    Raises:
        ValueError: when no data set has such images.
    """

    def __init__(self, paths: Mapping[str, Path], split: str, limit: int, size: int, seed: int) -> None:
        self.size = size
        self.paths = dict(sorted(paths.items()))
        stores = {name: open_store(path, "views") for name, path in self.paths.items()}
        rows = [(name, int(row)) for name, store in stores.items() for row in store.ok_rows(split=split)]
        if not rows:
            names = ", ".join(self.paths)
            raise ValueError(f"no images of {split} people in {names}; name a data set that has some")
        order = rng_for(seed, "labelled people", split).permutation(len(rows))[:limit]
        self.rows = [rows[i] for i in sorted(order)]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """rgb (n, H, W, 3) on white, mask and labels (n, H, W) of these places, all uint8."""
        rgb, mask, labels = self._loaded
        chosen = torch.from_numpy(places)
        return rgb[chosen], mask[chosen], labels[chosen]

    @functools.cached_property
    def _loaded(self) -> tuple[Tensor, Tensor, Tensor]:
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for name, path in self.paths.items():
            own, store = [row for data_set, row in self.rows if data_set == name], open_store(path, "views")
            blocks = (own[k : k + READ_ROWS] for k in range(0, len(own), READ_ROWS))
            parts += [_read(store, rows, self.size) for rows in blocks]
        rgb, mask, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
        if bool((labels == UNKNOWN).all()):
            raise ValueError(
                f"{', '.join(self.paths)}: no image has labels or a mask; take these data sets off the parser's list"
            )
        return rgb, mask, labels


def before_photographs(
    people: LabelledPeople, generator: torch.Generator
) -> tuple[UInt8[Tensor, "n h w 3"], UInt8[Tensor, "n h w"]]:
    """All these people before photographs that no training uses, and their classes."""
    rgb, mask, labels = people.take(np.arange(len(people)))
    photos = photograph_pieces(UNSEEN_PHOTOGRAPHS, len(rgb), people.size, generator=generator, recolour=False)
    return paste_people(rgb, mask, photos), at_level(labels, "classes")


class StepBatches(Dataset):
    """Batch k of a training, a pure function of the rules and k."""

    def __init__(self, people: LabelledPeople, rules: BatchRules) -> None:
        self.people, self.rules = people, rules

    def __getitem__(self, step: int) -> tuple[UInt8[Tensor, "b s s 3"], UInt8[Tensor, "b l l"]]:
        rules = self.rules
        rng = rng_for(rules.seed, "train_parser", "batch", step)
        generator = generator_for(rules.seed, "train_parser", "augment", step)
        cut_outs = self.people.take(rng.integers(0, len(self.people), rules.batch))
        images, labels = augment_batch(*cut_outs, rules.image_size, rules.label_size, generator=generator)
        return to_bytes(images[rules.rows]), labels[rules.rows]


def step_batches(
    people: LabelledPeople, rules: BatchRules, steps: range, runtime: Runtime
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of some steps in order, made ahead by other processes where there are cores for them."""
    workers = min(runtime.workers - 1, 4)
    yield from DataLoader(
        StepBatches(people, rules),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        generator=torch.Generator(),  # its own, or starting it would advance the training's random state
    )


def to_bytes(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b h w 3"]:
    """[−1, 1] → 0–255, channels last."""
    return ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _read(store: Store, rows: list[int], size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, masks and labels; masks stand in for missing labels and labels for missing masks."""
    rgb, mask, labels = (store.read(name, rows) for name in ("rgb", "mask", "parts"))
    unlabelled = (labels == UNKNOWN).all(axis=(1, 2)) & mask.any(axis=(1, 2))
    labels[unlabelled] = np.where(mask[unlabelled] >= OPAQUE, PERSON, 0).astype(np.uint8)
    uncut = ~mask.any(axis=(1, 2))
    shown = (labels[uncut] != 0) & (labels[uncut] != UNKNOWN)
    mask[uncut] = np.where(shown, 255, 0).astype(np.uint8)
    if rgb.shape[1:3] != (size, size):
        rgb, mask = (_resized(images, size, cv2.INTER_AREA) for images in (rgb, mask))
        labels = _resized(labels, size, cv2.INTER_NEAREST_EXACT)
    return rgb, mask, labels


def _resized(images: np.ndarray, size: int, how: int) -> np.ndarray:
    return np.stack([cv2.resize(image, (size, size), interpolation=how) for image in images])
