"""From the detector's square back to the pixels that were given; and what it finds on a generated person."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dinar_models.cameras import Camera
from dinar_models.keypoints import MEDIAPIPE, SMPLX_NAMES
from stages import detect_keypoints as stage
from stages import synthesize_people
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages.people.truth import open_truth
from stages.render_views import RenderViewsParams, render_scan
from stages.sources.card import Card
from stages.sources.scans import Limits, load_scan
from tests.stages.tiny_world import save_store

IMAGE = 384


def test_an_image_is_padded_with_white_at_the_right_and_bottom_then_enlarged() -> None:
    rgb = np.zeros((10, 20, 3), np.uint8)
    square, scale = stage.to_square(rgb, 256)
    assert square.shape == (256, 256, 3)
    assert scale == 256 / 20
    assert square[:120].max() < 20  # the image, 128 rows of it; cubic resampling rings near its edge
    assert square[136:].min() > 235
    wide, _ = stage.to_square(np.zeros((20, 10, 3), np.uint8), 256)
    assert wide[:, :120].max() < 20
    assert wide[:, 136:].min() > 235


@pytest.mark.parametrize(
    ("side", "min_side", "expected"),
    [(300, 256, 300), (100, 512, 512), (3000, 512, stage.MAX_SIDE), (512, 512, 512)],
)
def test_sides_are_kept_within_the_detectors_range(side: int, min_side: int, expected: int) -> None:
    square, scale = stage.to_square(np.zeros((side, 8, 3), np.uint8), min_side)
    assert square.shape[0] == expected
    assert scale == expected / side


def landmarks(*points: tuple[float, float], visibility: float = 0.75) -> SimpleNamespace:
    """What MediaPipe returns: fractions of the square's side."""
    return SimpleNamespace(
        landmark=[SimpleNamespace(x=x, y=y, z=0.1, visibility=visibility) for x, y in points]
    )


class FixedGraph:
    """Stands in for the native graph: the same landmarks whatever the image."""

    def __init__(self, **found: SimpleNamespace) -> None:
        nothing = ("pose_landmarks", "pose_world_landmarks", "face_landmarks")
        nothing += ("left_hand_landmarks", "right_hand_landmarks")
        self.found = SimpleNamespace(**{**dict.fromkeys(nothing), **found})

    def process(self, rgb: np.ndarray) -> SimpleNamespace:
        return self.found


def detector(**found: SimpleNamespace) -> stage.HolisticDetector:
    made = stage.HolisticDetector(min_side=512)
    made._graph = FixedGraph(**found)
    return made


def test_fractions_of_the_square_become_pixels_of_the_image_as_given() -> None:
    """A 200 × 100 image: the square's side is 200 px of it, so (0.25, 0.4) lies at (50, 80)."""
    points = [(0.25, 0.4), (0.25, 0.6), (1.1, 0.1), (-0.01, 0.1)] + [(0.5, 0.25)] * 29
    hand = landmarks(*[(0.75, 0.1)] * 21)
    found = detector(
        pose_landmarks=landmarks(*points), pose_world_landmarks=landmarks(*points), left_hand_landmarks=hand
    ).detect(np.zeros((100, 200, 3), np.uint8))
    assert found is not None
    np.testing.assert_allclose(found.xyc[0], [50, 80, 0.75], rtol=1e-6)
    assert found.xyc[1:4, 2].tolist() == [0, 0, 0]  # below the image, in the padding; and beside it
    np.testing.assert_allclose(found.xyc[33:54], [[150, 20, 1]] * 21, rtol=1e-6)
    assert not found.xyc[54:].any()  # the right hand and the face were not found
    np.testing.assert_allclose(found.world[0], [0.25, 0.4, 0.1], rtol=1e-6)
    assert not found.world[33:].any()


def test_nobody_is_none() -> None:
    assert detector().detect(np.zeros((8, 8, 3), np.uint8)) is None


def standing(**confidence: float) -> np.ndarray:
    """A person 100 px tall of whom all points of the pose are seen but those given."""
    xyc = np.zeros((len(MEDIAPIPE), 3), np.float32)
    xyc[:33, 1] = np.linspace(50, 150, 33)
    xyc[:33, 2] = 1
    for name, value in confidence.items():
        xyc[MEDIAPIPE.find(name), 2] = value
    return xyc


LEGS = dict.fromkeys(("left_knee", "right_knee", "left_ankle", "right_ankle"), 0.05)


@pytest.mark.parametrize(
    ("xyc", "side", "reason"),
    [
        (standing(), 256, ""),
        (standing(left_wrist=0.0, nose=0.0), 256, ""),
        (standing(left_hip=0.4), 256, "shoulders and hips are not all visible"),
        (standing(**LEGS), 256, "the legs are not in the picture"),
        (standing(**{**LEGS, "left_knee": 0.2}), 256, ""),
        (standing(), 1000, "the person is too small: 100 px of 1000"),
    ],
)
def test_why_keypoints_are_unusable(xyc: np.ndarray, side: int, reason: str) -> None:
    assert stage.unusable(xyc, side, 0.15) == reason


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Front and back renders of one generated person, and its true joints (55, 3)."""
    root = tmp_path_factory.mktemp("person")
    params = synthesize_people.SynthesizePeopleParams(seed=3, train=1, val=0, gate=0, test=0, poses=1)
    outputs = Paths({"raw": root / "raw", "truth": root / "truth"})
    synthesize_people.run(params, Paths({}), outputs, Runtime(work_root=root / "work"))
    (folder,) = (p for p in outputs["raw"].iterdir() if p.is_dir())
    scan = load_scan(folder, Card(adapter="scans", path="x", licence="CC0-1.0"), Limits())
    views = RenderViewsParams(seed=0, image_size=IMAGE, views=2, variants=1)
    return render_scan(scan, "s", folder.name, views), open_truth(outputs["truth"]).body(folder.name).joints


@pytest.fixture(scope="module")
def found(
    person: tuple[dict[str, np.ndarray], np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """The store of: that person from front and back, an empty image, the front as another variant, a bad row."""
    root = tmp_path_factory.mktemp("found")
    arrays = {name: values[[0, 1, 0, 0, 0]] for name, values in person[0].items()}
    arrays["rgb"][2] = 255
    index = pd.DataFrame({"view": [0, 1, 2, 0, 3], "variant": [0, 0, 0, 1, 0], "ok": [True] * 4 + [False]})
    index = index.assign(subject="s", scan="s_a", split="train", source="scans", reason=[""] * 4 + ["torn"])
    save_store(root / "views", "views", index, arrays)
    params = stage.DetectKeypointsParams(max_reject_ratio=0.5)
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    stage.run(params, Paths({"views": root / "views"}), Paths({"keypoints": root / "keypoints"}), runtime)
    return open_store(root / "keypoints", "keypoints")


def test_rows_stay_and_say_why_they_have_no_keypoints(found: Store) -> None:
    assert found.index["ok"].tolist() == [True, True, False, False, False]
    reasons = found.index["reason"].tolist()
    assert reasons[2] == "no person found"
    assert reasons[3].startswith("not looked at")
    assert reasons[4] == "torn"
    assert not found["xyc"][2:].any()
    assert found.attrs["layout"] == "mediapipe"


def test_the_joints_of_a_generated_person_are_found_on_the_right_side(
    found: Store, person: tuple[dict[str, np.ndarray], np.ndarray]
) -> None:
    arrays, joints = person
    camera = Camera(*(torch.from_numpy(arrays[k][:2]) for k in ("K", "R", "T")), IMAGE)
    true = camera.project(torch.from_numpy(np.array(joints))[None]).numpy()
    names = [
        f"{side}_{j}" for side in ("left", "right") for j in ("shoulder", "elbow", "hip", "knee", "ankle")
    ]
    places = [SMPLX_NAMES.index(name) for name in names]
    person_px = np.ptp(true[0, :, 1])
    for view in (0, 1):
        off = np.linalg.norm(found["xyc"][view][MEDIAPIPE.find(*names), :2] - true[view, places], axis=1)
        assert off.mean() < 0.04 * person_px
        shoulders = found["world"][view][MEDIAPIPE.find("left_shoulder", "right_shoulder"), 0]
        assert (shoulders[0] > shoulders[1]) == (
            view == 0
        )  # the subject's left is on the image's right in front
