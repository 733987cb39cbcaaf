"""The one person of an image, or one sentence on why there is none that can be used.

`detect_keypoints` and `dinar avatar` judge photos by this module alone. Renders of scans are not searched for
others: there a mesh is one person.

MediaPipe follows one person whatever the photo. Others are looked for twice: in the photo, where the detector of
people separates those whose heads are apart; and in the photo without that person, filled in from around, where
those who were partly hidden or touched are found. The second kind counts only if the pose model, too, sees
somebody there, because remains of the person (a skirt, a shadow) look like people to the detector. Where nobody is
found in the whole photo, its tiles are searched: many people are small ones.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType

import cv2
import numpy as np

from dinar_models.keypoints import MEDIAPIPE, MEDIAPIPE_POSE_POINTS, OPENPOSE, KeypointLayout
from stages.detection.holistic import Detection, HolisticDetector
from stages.detection.people import Figure, PeopleDetector
from stages.sources.frames import PhotoFrame

NOBODY = "no person was found in the image"
SEVERAL = "several people are in the photo; crop it to one of them"
SMALL = "a person was found in a part of the photo only; crop it closer"

SEEN = 0.3
"""Confidence from which a keypoint counts as seen."""

OTHERS_SIZE = 0.5
"""Someone less than this share of the person's length is a passer-by in the background."""

OTHERS_VIEW = 1.6
"""Side of the squares searched for others, of the person's length."""

OTHERS_APART = 0.06
"""Shoulders of another person are at least so far away, of the person's length; nearer ones are the person's own."""

FILL_SIDE = 256
"""Pixels per side at which the person is filled in."""

TILE = 0.6
"""Side of the tiles that are looked at where the whole photo shows nobody, of its longer side at most."""

PERSON_MARGIN = 0.02
"""What is filled in reaches this share of the image's side beyond the person's mask."""

SURE = 0.5
"""Confidence from which MediaPipe's shoulders and hips count as visible."""

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
LEGS = ("left_knee", "right_knee", "left_ankle", "right_ankle")
SHOULDERS = MEDIAPIPE.find(*TORSO[:2])
POSE_POINTS = {MEDIAPIPE.name: MEDIAPIPE_POSE_POINTS, OPENPOSE.name: 25}
"""How many of a layout's first points are the body's."""


@dataclass(frozen=True)
class PersonRules:
    """When a person is too small.

    Attributes:
        min_side: smaller images are enlarged to this side before they are looked at, px.
        min_confidence: of MediaPipe's person detector.
        min_person: least length of a person, of the image's longer side.
        min_pixels: least length of a person in the file of a photo, px.
    """

    min_side: int = 512
    min_confidence: float = 0.5
    min_person: float = 0.15
    min_pixels: float = 180


class PersonFinder:
    """Looks at images one by one; a context manager, because it holds native graphs.

    Args:
        photos: whether photos will come, which needs one graph more.
    """

    def __init__(self, rules: PersonRules, photos: bool) -> None:
        self.rules = rules
        self.photos = photos

    def __enter__(self) -> "PersonFinder":
        with ExitStack() as stack:
            holistic = HolisticDetector(self.rules.min_side, self.rules.min_confidence, masks=self.photos)
            self._holistic = stack.enter_context(holistic)
            if self.photos:
                self._people = stack.enter_context(PeopleDetector())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def look(self, rgb: np.ndarray, frame: PhotoFrame | None) -> tuple[Detection | None, str]:
        """What is seen of the person, and why that cannot be used (empty if it can).

        Args:
            rgb: (H, W, 3) uint8, R first.
            frame: of a photo; None for a render.
        """
        found = self._holistic.detect(rgb)
        if found is None:
            return None, NOBODY if frame is None else self._unseen(rgb, frame)
        if frame is not None:
            found = without_padding(found, frame.box)
        if reason := unusable(found.xyc, max(rgb.shape[:2]), self.rules.min_person):
            return found, reason
        if frame is not None:
            if reason := too_few_pixels(found.xyc, frame, self.rules):
                return found, reason
            if self._others(rgb, found):
                return found, SEVERAL
        return found, ""

    def _others(self, rgb: np.ndarray, person: Detection) -> bool:
        """Whether someone else of about the same size is in a photo."""
        squares = squares_around(person.xyc, rgb.shape)
        for view in squares[:2]:
            for figure in self._figures(rgb, view):
                if is_other(figure, person.xyc):
                    return True
        assert person.mask is not None
        without = fill_in(rgb, person.mask > SEEN)
        least = OTHERS_SIZE * seen_length(person.xyc)
        return any(
            is_other(figure, person.xyc) and self._confirmed_length(without, figure) >= least
            for view in squares
            for figure in self._figures(without, view)
        )

    def _unseen(self, rgb: np.ndarray, frame: PhotoFrame) -> str:
        """Why the pose model saw nobody in a photo: because nobody is there, or many small people are."""
        seen: list[Figure] = []
        for view in tiles(frame.box):
            for figure in self._figures(rgb, view):
                nearest = min((np.linalg.norm(figure.shoulders - f.shoulders) for f in seen), default=np.inf)
                if nearest > 0.5 * figure.reach and self._confirmed_length(rgb, figure) > 0:
                    seen.append(figure)
                if len(seen) > 1:
                    return SEVERAL
        return SMALL if seen else NOBODY

    def _figures(self, rgb: np.ndarray, view: tuple[slice, slice]) -> list[Figure]:
        """People in a part of an image, in the image's pixels."""
        rows, columns = view
        corner = np.array([columns.start, rows.start])
        found = self._people.find(np.ascontiguousarray(rgb[view]))
        return [replace(f, hips=f.hips + corner, shoulders=f.shoulders + corner) for f in found]

    def _confirmed_length(self, rgb: np.ndarray, figure: Figure) -> float:
        """Length of that figure if the pose model sees it too, with both shoulders; else 0."""
        view = square_at(figure.hips, 2.5 * figure.reach, rgb.shape)
        found = self._holistic.detect(np.ascontiguousarray(rgb[view]))
        if found is None or (found.xyc[SHOULDERS, 2] < SURE).any():
            return 0.0
        corner = np.array([view[1].start, view[0].start])
        off = np.linalg.norm(found.xyc[SHOULDERS, :2].mean(axis=0) + corner - figure.shoulders)
        return seen_length(found.xyc) if off < 0.5 * figure.reach else 0.0


def unusable(
    xyc: np.ndarray,
    side: int,
    min_person: float,
    layout: KeypointLayout = MEDIAPIPE,
    sure: float = SURE,
) -> str:
    """Why the keypoints of one image do not show a whole, single-sized person; empty where they do.

    Args:
        xyc: (J, 3) in the layout.
        side: longer side of the image, px.
        min_person: least extent of the person, as a share of the side.
        sure: confidence from which shoulders and hips count as visible.
    """
    if (xyc[layout.find(*TORSO), 2] < sure).any():
        return "shoulders and hips are not all visible"
    if (xyc[layout.find(*LEGS), 2] < 0.1).all():
        return "the legs are not in the picture"
    extent = seen_length(xyc[: POSE_POINTS[layout.name]])
    if extent < min_person * side:
        return f"the person is too small: {extent:.0f} px of {side}"
    return ""


def too_few_pixels(body: np.ndarray, frame: PhotoFrame, rules: PersonRules) -> str:
    """Why a person in a photo is too small in its file, whatever the size of the square; empty where not.

    Args:
        body: (J, 3) in px of the square, of which the first 33 at most are looked at.
    """
    length = seen_length(body) / frame.scale
    if length >= rules.min_pixels:
        return ""
    return f"the person is too small: {length:.0f} px long in the file, {rules.min_pixels:.0f} are needed"


def without_padding(found: Detection, box: tuple[int, int, int, int]) -> Detection:
    """No confidence in points on the padding: there the detector guesses what the photo cuts off."""
    xyc = found.xyc.copy()
    inside = (xyc[:, :2] >= box[:2]) & (xyc[:, :2] < box[2:])
    xyc[~inside.all(axis=1), 2] = 0
    return replace(found, xyc=xyc)


def is_other(figure: Figure, xyc: np.ndarray) -> bool:
    """Whether a figure is not the person with these keypoints, and no passer-by."""
    length = seen_length(xyc)
    apart = np.linalg.norm(figure.shoulders - xyc[SHOULDERS, :2].mean(axis=0))
    return bool(apart > OTHERS_APART * length and 2 * figure.reach > OTHERS_SIZE * length)


def squares_around(xyc: np.ndarray, shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Where others are looked for: the whole image, around the person, to the left and to the right."""
    low, high = seen_box(xyc)
    length, middle = seen_length(xyc), (low + high) / 2
    centres = (middle[0], low[0] - length / 2, high[0] + length / 2)
    views = [square_at(np.array([x, middle[1]]), OTHERS_VIEW * length, shape) for x in centres]
    whole = (slice(0, shape[0]), slice(0, shape[1]))
    return [whole, *(v for v in views if all(part.start < part.stop for part in v))]


def square_at(centre: np.ndarray, side: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the part of a square (centre x, y) that lies in an image; maybe none."""
    parts = []
    for middle, length in ((centre[1], shape[0]), (centre[0], shape[1])):
        low, high = (min(max(round(float(middle + half)), 0), length) for half in (-side / 2, side / 2))
        parts.append(slice(low, high))
    return parts[0], parts[1]


def tiles(box: tuple[int, int, int, int]) -> list[tuple[slice, slice]]:
    """Rows and columns of squares that cover a photo, each overlapping the next by half or more."""
    left, top, right, bottom = box
    short, long = sorted((right - left, bottom - top))
    side = max(min(short, round(TILE * long)), 1)

    def starts(low: int, high: int) -> list[int]:
        steps = math.ceil(2 * (high - low - side) / side)
        return np.linspace(low, high - side, steps + 1).round().astype(int).tolist()

    return [
        (slice(y, y + side), slice(x, x + side)) for y in starts(top, bottom) for x in starts(left, right)
    ]


def fill_in(rgb: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The image without a person: smooth colours from around, so that no silhouette is left.

    Args:
        rgb: (H, W, 3) uint8.
        person: (H, W) bool.
    """
    height, width = rgb.shape[:2]
    reach = round(PERSON_MARGIN * max(height, width))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    hole = cv2.dilate(person.astype(np.uint8), disc)
    small = (FILL_SIDE, FILL_SIDE)
    colours = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
    missing = (cv2.resize(hole.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    filled = cv2.inpaint(colours, missing, 3, cv2.INPAINT_TELEA)
    filled = cv2.resize(filled, (width, height))
    return np.where(hole[..., None] > 0, filled, rgb)


def seen_length(xyc: np.ndarray) -> float:
    """Longer side of the box around a person's seen keypoints, px; 0 when there are none."""
    low, high = seen_box(xyc)
    return float((high - low).max())


def seen_box(xyc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper left and lower right corner of the seen points of the pose, px; zeros when there are none."""
    pose = xyc[:MEDIAPIPE_POSE_POINTS]
    seen = pose[pose[:, 2] > SEEN, :2]
    return (seen.min(axis=0), seen.max(axis=0)) if len(seen) else (np.zeros(2), np.zeros(2))
