"""What is found on a generated person, and why rows have no keypoints."""

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
    assert reasons[2] == "no person was found in the image"
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
