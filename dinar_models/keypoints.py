"""Keypoint layouts and how their points correspond to SMPL-X joints and landmarks: the one table.

A layout lists named points. Names are SMPL-X's own (`left_elbow`, `right_index2`, `mouth_top`, …); a point
whose name is no SMPL-X joint is kept for drawing but takes no part in a fit. "left" is always the
subject's left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from smplx.joint_names import JOINT_NAMES

BODY_JOINTS = 127
"""Joints that `smplx` returns without the face contour: 55 of the skeleton, 21 vertices, 51 landmarks."""

SMPLX_NAMES: tuple[str, ...] = tuple(JOINT_NAMES[:BODY_JOINTS])
SKELETON_NAMES: tuple[str, ...] = SMPLX_NAMES[:55]

GROUPS = ("body", "feet", "hands", "face")
"""What a fit weighs apart."""

_SIDES = ("left", "right")
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_FACE = SMPLX_NAMES[76:]
_ALIASES: Mapping[str, str] = {
    f"{side}_{point}": f"{side}_{joint}"
    for side in _SIDES
    for point, joint in (
        ("pinky_knuckle", "pinky1"),
        ("index_knuckle", "index1"),
        ("thumb_knuckle", "thumb2"),
        ("mouth_corner", "mouth_1"),
    )
}
"""Points of MediaPipe's pose that say again, more coarsely, where a hand's or the face's point is."""
_FACE_FIRST_OF_68 = 17  # the 68-point markup begins with the jaw's contour, which moves with the view


@dataclass(frozen=True)
class KeypointLayout:
    """An ordered set of named keypoints.

    Attributes:
        name: recorded in the `keypoints` store.
        points: one name per keypoint.
        bones: pairs of keypoint numbers, for drawing.
    """

    name: str
    points: tuple[str, ...]
    bones: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def smplx_index(self) -> np.ndarray:
        """(J,) index into the 127 joints of the body model, −1 where a point has no counterpart."""
        known = {name: i for i, name in reversed(list(enumerate(SMPLX_NAMES)))}
        return np.array([known.get(_ALIASES.get(n, n), -1) for n in self.points], dtype=np.int64)

    @cached_property
    def group(self) -> np.ndarray:
        """(J,) index into GROUPS."""
        return np.array([GROUPS.index(_group_of(name)) for name in self.points], dtype=np.int64)

    @cached_property
    def mirrored(self) -> np.ndarray:
        """(J,) the keypoint that takes a point's place when left and right are exchanged."""
        numbers = {name: i for i, name in enumerate(self.points)}
        return np.array([numbers.get(_other_side(n), i) for i, n in enumerate(self.points)], dtype=np.int64)

    def find(self, *names: str) -> np.ndarray:
        """Numbers of the named points. Raises KeyError naming the first that the layout lacks."""
        numbers = {name: i for i, name in enumerate(self.points)}
        return np.array([numbers[name] for name in names], dtype=np.int64)


def _group_of(name: str) -> str:
    if name.endswith(("toe", "heel")):
        return "feet"
    if any(finger in name for finger in _FINGERS):
        return "hands"
    return "face" if name in _FACE or name.startswith("face_") or "mouth" in name else "body"


def _other_side(name: str) -> str:
    """`left_elbow` → `right_elbow`, and the other way round; points of the midline stay."""
    side, _, rest = name.partition("_")
    if side not in _SIDES:
        return name
    return f"{_SIDES[1 - _SIDES.index(side)]}_{rest}"


def _hand(side: str) -> tuple[str, ...]:
    """The 21 points of MediaPipe's, OpenPose's and COCO's hands: wrist, then each finger root to tip.

    SMPL-X's thumb1–3 are the CMC, MCP and IP joints, the other fingers' 1–3 MCP, PIP and DIP: the same
    joints, so they correspond one to one. The wrist repeats the body's and is left to it.
    """
    points = [f"{side}_hand_root"]
    for finger in _FINGERS:
        points += [f"{side}_{finger}{k}" for k in (1, 2, 3)] + [f"{side}_{finger}"]
    return tuple(points)


def _hand_bones(first: int) -> list[tuple[int, int]]:
    return [(first + (0 if k % 4 == 1 else k - 1), first + k) for k in range(1, 21)]


_MEDIAPIPE_POSE = (
    "nose",
    *("left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer"),
    *("left_ear", "right_ear", "left_mouth_corner", "right_mouth_corner"),
    *(f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist") for side in _SIDES),
    *("left_pinky_knuckle", "right_pinky_knuckle", "left_index_knuckle", "right_index_knuckle"),
    *("left_thumb_knuckle", "right_thumb_knuckle"),
    *(f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "heel", "big_toe") for side in _SIDES),
)
MEDIAPIPE_POSE_POINTS = len(_MEDIAPIPE_POSE)

MEDIAPIPE_FACE_MESH = (
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),  # nose: bridge, then wing to wing
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)
"""Vertex of MediaPipe's face mesh for each of the 51 inner points of the 68-point markup."""

_BODY_25 = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist"),
    *("left_shoulder", "left_elbow", "left_wrist", "pelvis"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
    *("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"),
)
_OPENPOSE_FACE = (
    *(f"face_contour{i}" for i in range(_FACE_FIRST_OF_68)),
    *_FACE,
    *("face_right_pupil", "face_left_pupil"),
)
_COCO_BODY = (
    "nose",
    *(f"{side}_{joint}" for joint in ("eye", "ear") for side in _SIDES),
    *(f"{side}_{j}" for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in _SIDES),
    *(f"{side}_{joint}" for side in _SIDES for joint in ("big_toe", "small_toe", "heel")),
)


def _limbs(points: Sequence[str]) -> list[tuple[int, int]]:
    """Bones between those body points that a layout has."""
    pairs = [("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")]
    for side in _SIDES:
        chain = [("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee")]
        chain += [("knee", "ankle"), ("ankle", "heel"), ("ankle", "big_toe")]
        pairs += [(f"{side}_{a}", f"{side}_{b}") for a, b in chain]
    numbers = {name: i for i, name in enumerate(points)}
    return [(numbers[a], numbers[b]) for a, b in pairs if a in numbers and b in numbers]


def _layout(name: str, body: tuple[str, ...], face: tuple[str, ...], face_last: bool) -> KeypointLayout:
    hands = (*_hand("left"), *_hand("right"))
    points = (*body, *hands, *face) if face_last else (*body, *face, *hands)
    first = points.index("left_hand_root")
    bones = [*_limbs(body), *_hand_bones(first), *_hand_bones(first + 21)]
    return KeypointLayout(name, points, tuple(bones))


MEDIAPIPE = _layout("mediapipe", _MEDIAPIPE_POSE, _FACE, face_last=True)
"""MediaPipe Holistic: 33 of the pose, 21 of each hand, 51 of the face mesh."""
OPENPOSE = _layout("openpose", _BODY_25, _OPENPOSE_FACE, face_last=True)
"""OpenPose: BODY_25, 21 of each hand, 70 of the face."""
COCO_WHOLEBODY = _layout(
    "coco_wholebody", _COCO_BODY, (*(f"face_contour{i}" for i in range(17)), *_FACE), face_last=False
)
"""COCO-WholeBody: 17 of the body, 6 of the feet, 68 of the face, 21 of each hand."""

LAYOUTS: Mapping[str, KeypointLayout] = {k.name: k for k in (MEDIAPIPE, OPENPOSE, COCO_WHOLEBODY)}


def parse_openpose(document: Mapping[str, Any]) -> list[np.ndarray]:
    """Keypoints of every person in an OpenPose JSON document.

    Args:
        document: the parsed JSON, as OpenPose's `--write_json` writes it (BODY_25, hands, 70-point face).

    Returns:
        Per person (137, 3) float32 in the layout `openpose`: pixels and confidence, 0 where not found.

    Raises:
        ValueError: naming the field that is missing or has another length.
    """
    if not isinstance(document.get("people"), list):
        raise ValueError("OpenPose JSON: a list 'people' is expected")
    return [_openpose_person(person) for person in document["people"]]


def _openpose_person(person: Mapping[str, Any]) -> np.ndarray:
    fields = {
        "pose_keypoints_2d": 25,
        "hand_left_keypoints_2d": 21,
        "hand_right_keypoints_2d": 21,
        "face_keypoints_2d": 70,
    }
    blocks = []
    for name, points in fields.items():
        values = np.asarray(person.get(name) or np.zeros(3 * points), dtype=np.float32)
        if values.shape != (3 * points,):
            raise ValueError(f"OpenPose JSON: {name} holds {values.size} numbers, {3 * points} expected")
        blocks.append(values.reshape(points, 3))
    if not person.get("pose_keypoints_2d"):
        raise ValueError("OpenPose JSON: pose_keypoints_2d is missing")
    # OpenPose keeps pixel centres at whole numbers, this project at halves.
    xyc = np.concatenate(blocks)
    found = xyc[:, 2:] > 0
    return np.concatenate([np.where(found, xyc[:, :2] + 0.5, 0), xyc[:, 2:]], axis=1, dtype=np.float32)
