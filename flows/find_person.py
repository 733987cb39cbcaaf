"""What a photo shows: keypoints and mask of its one person, or one sentence on why it cannot be used."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from dinar_models.cameras import Camera
from dinar_models.fitting.observations import Observations
from dinar_models.keypoints import MEDIAPIPE, MEDIAPIPE_POSE_POINTS
from dinar_models.parser import Parser
from stages.detect_keypoints import Detection, DetectKeypointsParams, HolisticDetector, quiet, unusable
from stages.segment import SMALLEST_PERSON, pose_prior, segment_images
from stages.sources.photos import Photo, PhotoError, load_photo

PHOTO_SIZE = 1024
"""Pixels per side at which photos are looked at: twice what the largest profile's networks take."""

DETECTION = DetectKeypointsParams.model_validate({})

SEEN = 0.3
"""Confidence from which a keypoint counts as seen."""

OTHERS_SIZE = 0.5
"""Someone less than this share of the person's length is a passer-by in the background."""

OTHERS_VIEW = 1.6
"""Side of the squares searched for others, of the person's length."""

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

    def observations(self) -> Observations:
        """What the body is fitted to."""
        return Observations(
            xyc=torch.from_numpy(self.found.xyc)[None, None],
            camera=self.camera,
            mask=torch.from_numpy(self.mask).float()[None, None] / 255,
            world=torch.from_numpy(self.found.world)[None, None],
        )

    @property
    def length(self) -> float:
        """Extent of the person in the file, px."""
        return seen_length(self.found.xyc) / self.photo.scale


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
        with HolisticDetector(DETECTION.min_side, DETECTION.min_confidence) as detector:
            found = _find_keypoints(detector, photo)
        with quiet():
            mask = _find_mask(parser, photo, device)
    except PhotoError as error:
        raise PhotoError(f"{path.name}: {error}") from None
    warnings = []
    if (found.xyc[ANKLES, 2] < SEEN).all():
        warnings.append("the feet are not in the picture, so they will be made up")
    return SeenPerson(photo, found, mask, warnings)


def _find_keypoints(detector: HolisticDetector, photo: Photo) -> Detection:
    found = detector.detect(photo.rgb)
    if found is None:
        raise PhotoError("no person was found in the photo")
    found = _without_padding(found, photo.box)
    if reason := unusable(found.xyc, PHOTO_SIZE, DETECTION.min_person):
        raise PhotoError(reason)
    if others_beside(detector, photo.rgb, found.xyc):
        raise PhotoError("several people are in the photo; crop it to one of them")
    return found


def _without_padding(found: Detection, box: tuple[int, int, int, int]) -> Detection:
    """No confidence in points on the padding: there the detector guesses what the photo cuts off."""
    xyc = found.xyc.copy()
    inside = (xyc[:, :2] >= box[:2]) & (xyc[:, :2] < box[2:])
    xyc[~inside.all(axis=1), 2] = 0
    return replace(found, xyc=xyc)


def _find_mask(parser: Parser, photo: Photo, device: str) -> np.ndarray:
    known = None if photo.alpha is None else photo.alpha[None]
    mask = segment_images(parser, photo.rgb[None], known, pose_prior, device=device)[1][0]
    if (mask >= 128).mean() < SMALLEST_PERSON:
        raise PhotoError("no person could be told from the background")
    return mask


def others_beside(detector: HolisticDetector, rgb: np.ndarray, xyc: np.ndarray) -> bool:
    """Whether someone else of about the same size stands beside the person.

    MediaPipe returns one person whatever the photo. So that person is painted over with the rest's mean colour,
    and the detector looks at the squares to the left and to the right. It misses people who stand in front of or
    behind the person, touch them closely, or are less than half as long.

    Args:
        rgb: (S, S, 3) uint8.
        xyc: (J, 3) keypoints of the person, px.
    """
    with quiet():
        person = pose_prior(rgb) > SEEN
    reach = len(rgb) // 50
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    person = cv2.dilate(person.astype(np.uint8), disc) > 0
    if person.all():
        return False
    painted = rgb.copy()
    painted[person] = rgb[~person].mean(axis=0).astype(np.uint8)
    low, high = _seen_box(xyc)
    length = seen_length(xyc)
    for middle in (low[0] - length / 2, high[0] + length / 2):
        square = _square(painted, middle, (low[1] + high[1]) / 2, OTHERS_VIEW * length)
        other = detector.detect(square) if square.size else None
        if other is not None and seen_length(other.xyc) >= OTHERS_SIZE * length:
            return True
    return False


def seen_length(xyc: np.ndarray) -> float:
    """Longer side of the box around a person's seen keypoints, px; 0 when there are none."""
    low, high = _seen_box(xyc)
    return float((high - low).max())


def _seen_box(xyc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pose = xyc[:MEDIAPIPE_POSE_POINTS]
    seen = pose[pose[:, 2] > SEEN, :2]
    return (seen.min(axis=0), seen.max(axis=0)) if len(seen) else (np.zeros(2), np.zeros(2))


def _square(image: np.ndarray, x: float, y: float, side: float) -> np.ndarray:
    """The part of a square around (x, y) that lies in the image; empty when none does."""
    left, top = (max(round(v - side / 2), 0) for v in (x, y))
    right, bottom = (max(round(v + side / 2), 0) for v in (x, y))
    return np.ascontiguousarray(image[top:bottom, left:right])
