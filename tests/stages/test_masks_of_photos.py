"""Masks of real people before photographs, where the folder DINAR_TEST_INPUTS (by default `../shared`) has them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dinar_models.augment import paste_people
from dinar_models.backgrounds import UNSEEN_PHOTOGRAPHS, photograph
from dinar_models.cameras import Crop, crop_image
from dinar_models.labels import CLASSES
from stages._data.labelled import OPAQUE
from stages._data.segmentation import pose_prior, segment_images
from stages.sources.photos import Photo, load_photo
from tests.dinar_models.test_parser import RedIsHair

SIZE = 512
INPUTS = Path(os.environ.get("DINAR_TEST_INPUTS", Path(__file__).parents[3] / "shared")) / "photos"

pytestmark = pytest.mark.skipif(not INPUTS.is_dir(), reason=f"there are no photos in {INPUTS}")


class Undecided(RedIsHair):
    """A parser without an opinion: half a person everywhere. No trained one comes with the tests."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(image), len(CLASSES), *image.shape[2:]), -100.0)
        logits[:, [0, CLASSES.index("hair")]] = 0
        return logits


def before(photo: Photo, name: str) -> np.ndarray:
    """The photo's person before a scikit-image photograph, (SIZE, SIZE, 3)."""
    background = photograph(name)[None].float() / 255
    side = min(background.shape[2:])
    square = Crop(torch.zeros(1), torch.zeros(1), torch.tensor([float(side)]))
    behind = crop_image(background, square, SIZE, fill=0.0)
    assert photo.alpha is not None
    return paste_people(*(torch.from_numpy(a)[None] for a in (photo.rgb, photo.alpha)), behind)[0].numpy()


def test_masks_of_cut_outs_overlap_their_alpha() -> None:
    photos = {path.stem: load_photo(path, SIZE) for path in sorted(INPUTS.glob("*.png"))}
    cut_outs = {name: photo for name, photo in photos.items() if photo.alpha is not None}
    if not cut_outs:
        pytest.skip(f"no photo in {INPUTS} has an alpha")
    ious = {}
    for i, (name, photo) in enumerate(cut_outs.items()):
        rgb = before(photo, UNSEEN_PHOTOGRAPHS[i % len(UNSEEN_PHOTOGRAPHS)])
        _, mask = segment_images(Undecided(64), rgb[None], None, pose_prior)
        true, found = photo.alpha >= OPAQUE, mask[0] >= OPAQUE
        ious[name] = (true & found).sum() / (true | found).sum()
    assert np.mean(list(ious.values())) >= 0.95, ious
    assert min(ious.values()) >= 0.85, ious  # a dark leg before a dark motorcycle
