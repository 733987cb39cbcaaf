import numpy as np
import pytest

from dinar_models.keypoints import (
    COCO_WHOLEBODY,
    GROUPS,
    LAYOUTS,
    MEDIAPIPE,
    MEDIAPIPE_FACE_MESH,
    OPENPOSE,
    SMPLX_NAMES,
    KeypointLayout,
    parse_openpose,
)

SIZES = {"mediapipe": 126, "openpose": 137, "coco_wholebody": 133}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_have_their_public_sizes_and_no_point_twice(layout: KeypointLayout) -> None:
    assert len(layout) == SIZES[layout.name]
    assert len(set(layout.points)) == len(layout)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_mirroring_twice_returns_and_changes_every_sided_point(layout: KeypointLayout) -> None:
    mirrored = layout.mirrored
    assert np.array_equal(mirrored[mirrored], np.arange(len(layout)))
    for place, name in enumerate(layout.points):
        sided = name.startswith(("left_", "right_"))
        assert (mirrored[place] != place) == sided, name
        assert layout.group[place] == layout.group[mirrored[place]]


@pytest.mark.parametrize(
    ("layout", "place", "joint"),
    [
        (MEDIAPIPE, 11, "left_shoulder"),
        (MEDIAPIPE, 14, "right_elbow"),
        (MEDIAPIPE, 31, "left_big_toe"),
        (MEDIAPIPE, 33 + 8, "left_index"),
        (MEDIAPIPE, 54 + 1, "right_thumb1"),
        (MEDIAPIPE, 75 + 51 - 1, "right_lip_3"),
        (OPENPOSE, 4, "right_wrist"),
        (OPENPOSE, 8, "pelvis"),
        (OPENPOSE, 25 + 4, "left_thumb"),
        (OPENPOSE, 67 + 17, "right_eye_brow1"),
        (COCO_WHOLEBODY, 1, "left_eye"),
        (COCO_WHOLEBODY, 22, "right_heel"),
        (COCO_WHOLEBODY, 23 + 30, "nose4"),
        (COCO_WHOLEBODY, 112 + 20, "right_pinky"),
    ],
)
def test_published_positions_are_the_right_joints(layout: KeypointLayout, place: int, joint: str) -> None:
    assert SMPLX_NAMES[layout.smplx_index[place]] == joint


def test_coarse_points_of_the_pose_share_the_hands_joints() -> None:
    place = MEDIAPIPE.find("left_index_knuckle")
    assert SMPLX_NAMES[MEDIAPIPE.smplx_index[place[0]]] == "left_index1"
    assert GROUPS[MEDIAPIPE.group[place[0]]] == "hands"


def test_all_51_landmarks_are_in_every_layout_and_the_mesh() -> None:
    for layout in LAYOUTS.values():
        assert set(range(76, 127)) <= set(layout.smplx_index.tolist())
    assert len(MEDIAPIPE_FACE_MESH) == len(set(MEDIAPIPE_FACE_MESH)) == 51


def test_find_names_what_is_missing() -> None:
    with pytest.raises(KeyError, match="tail"):
        MEDIAPIPE.find("nose", "tail")


def _person() -> dict[str, list[float]]:
    return {
        "pose_keypoints_2d": [v for i in range(25) for v in (10.0 * i, 5.0, 0.9)],
        "hand_left_keypoints_2d": [0.0] * 63,
        "hand_right_keypoints_2d": [1.0] * 63,
        "face_keypoints_2d": [2.0] * 210,
    }


def test_openpose_is_read_in_layout_order_and_shifted_to_pixel_centres() -> None:
    (xyc,) = parse_openpose({"people": [_person()]})
    assert xyc.shape == (len(OPENPOSE), 3)
    assert xyc[4].tolist() == pytest.approx([40.5, 5.5, 0.9])
    assert not xyc[25:46].any()  # not found: no half-pixel shift either
    assert xyc[46].tolist() == [1.5, 1.5, 1.0]
    assert xyc[67].tolist() == [2.5, 2.5, 2.0]


def test_openpose_without_hands_or_people_is_read_too() -> None:
    person = _person()
    del person["hand_left_keypoints_2d"], person["face_keypoints_2d"]
    (xyc,) = parse_openpose({"people": [person]})
    assert not xyc[67:, 2].any()
    assert parse_openpose({"people": []}) == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "'people'"),
        ({"people": [{}]}, "pose_keypoints_2d is missing"),
        ({"people": [{**_person(), "face_keypoints_2d": [0.0] * 6}]}, "face_keypoints_2d holds 6 numbers"),
    ],
)
def test_openpose_says_what_is_wrong(document: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_openpose(document)
