"""What a photo shows: keypoints and mask of its one person, or one sentence on why it cannot be used."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dinar_models.cameras import Camera
from dinar_models.fitting.observations import Observations
from dinar_models.keypoints import MEDIAPIPE
from dinar_models.parser import Parser
from stages._data.segmentation import INDISTINCT, SMALLEST_PERSON, pose_prior, segment_images
from stages.detect_keypoints import DetectKeypointsParams
from stages.detection.holistic import Detection, quiet
from stages.detection.person import SEEN, PersonFinder, seen_length
from stages.sources.photos import Photo, PhotoError, load_photo

PHOTO_SIZE = 1024
"""Pixels per side at which photos are looked at: twice what the largest profile's networks take."""

RULES = DetectKeypointsParams.model_validate({}).rules

ANKLES = MEDIAPIPE.find("left_ankle", "right_ankle")


@dataclass(frozen=True)
class SeenPerson:
    """The one person of a photo.

    Attributes:
        photo: PHOTO_SIZE pixels a side.
        found: keypoints, in pixels of that square.
        mask: (S, S) uint8, 0–255.
        warnings: sentences on what will make the avatar worse.
    """

    photo: Photo
    found: Detection
    mask: np.ndarray
    warnings: list[str] = field(default_factory=list)

    @property
    def camera(self) -> Camera:
        """At the origin of its own world, as for every photo."""
        K = torch.from_numpy(self.photo.K)[None]
        return Camera(K, torch.eye(3)[None], torch.zeros(1, 3), PHOTO_SIZE)

    @property
    def length(self) -> float:
        """Extent of the person in the file, px."""
        return seen_length(self.found.xyc) / self.photo.frame.scale


def observe(seen: Sequence[SeenPerson]) -> Observations:
    """What the bodies of the same person in several photos are fitted to."""
    return Observations(
        xyc=torch.from_numpy(np.stack([one.found.xyc for one in seen]))[:, None],
        camera=Camera.cat([one.camera for one in seen]),
        mask=torch.from_numpy(np.stack([one.mask for one in seen])).float()[:, None] / 255,
        world=torch.from_numpy(np.stack([one.found.world for one in seen]))[:, None],
        person=torch.zeros(len(seen), dtype=torch.long),
    )


def find_person(path: Path, parser: Parser, device: str = "cpu") -> SeenPerson:
    """Look at a photo.

    Raises:
        PhotoError: one sentence with the file's name, when it is no image, or shows nobody, a part of a person, a
            tiny person or several people.
    """
    if not path.is_file():
        raise PhotoError(f"{path} is no file")
    try:
        photo = load_photo(path, PHOTO_SIZE)
        with PersonFinder(RULES, photos=True) as finder:
            found, reason = finder.look(photo.rgb, photo.frame)
        if found is None or reason:
            raise PhotoError(reason)
        with quiet():
            mask = _find_mask(parser, photo, device)
    except PhotoError as error:
        raise PhotoError(f"{path.name}: {error}") from None
    warnings = []
    if (found.xyc[ANKLES, 2] < SEEN).all():
        warnings.append("the feet are not in the picture, so they will be made up")
    return SeenPerson(photo, found, mask, warnings)


def _find_mask(parser: Parser, photo: Photo, device: str) -> np.ndarray:
    known = None if photo.alpha is None else photo.alpha[None]
    mask = segment_images(parser, photo.rgb[None], known, pose_prior, device=device)[1][0]
    if (mask >= 128).mean() < SMALLEST_PERSON:
        raise PhotoError(INDISTINCT)
    return mask
