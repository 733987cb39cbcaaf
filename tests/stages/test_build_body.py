"""The stage build_body: what it writes, and which foreign files it accepts."""

import json
from pathlib import Path

import numpy as np
import pytest

from dinar_models.body import BodyModel
from dinar_models.uv_atlas import Atlas
from stages.build_body import find_licensed, read_licensed
from stages.makehuman.smplx_file import build_open_body

Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays(tiny_body: Path) -> Arrays:
    with np.load(tiny_body / "smplx" / "SMPLX_NEUTRAL.npz") as file:
        return dict(file)


def test_card_names_body_and_atlas(tiny_body: Path) -> None:
    card = json.loads((tiny_body / "body.json").read_text())
    assert card == {
        "kind": "open",
        "gender": "neutral",
        "body_digest": BodyModel.load(tiny_body).digest,
        "atlas_digest": Atlas.load(tiny_body / "atlas.npz").digest,
    }


def test_same_seed_same_body() -> None:
    first, again = (build_open_body(60, seed=4).arrays for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_licensed_file_keeps_what_smplx_reads(arrays: Arrays, tmp_path: Path) -> None:
    """A full file has 300 + 100 components and objects that nobody needs."""
    full = np.zeros((*arrays["shapedirs"].shape[:2], 400), dtype=np.float32)
    full[..., :10], full[..., 300:310] = arrays["shapedirs"][..., :10], arrays["shapedirs"][..., 10:]
    foreign = {**arrays, "shapedirs": full, "joint2num": np.array({"pelvis": 0}, dtype=object)}
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", **foreign)
    taken = read_licensed(tmp_path / "SMPLX_NEUTRAL.npz")
    assert set(taken) == set(arrays)
    assert np.array_equal(taken["shapedirs"], arrays["shapedirs"])


def test_the_licensed_body_of_the_gender_asked_for_is_taken(tmp_path: Path) -> None:
    assert find_licensed(tmp_path, "male") is None
    (tmp_path / "SMPLX_MALE.npz").touch()
    assert find_licensed(tmp_path, "male") == tmp_path / "SMPLX_MALE.npz"
    with pytest.raises(
        ValueError, match=r"has SMPLX_MALE\.npz, but not SMPLX_NEUTRAL\.npz; set build_body\.gender"
    ):
        find_licensed(tmp_path, "neutral")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("weights", None, "'weights' is missing"),
        ("J_regressor", np.array([{"a": 1}], dtype=object), "pickled objects"),
        ("v_template", np.zeros((5, 3)), "at least 9930"),
        ("f", np.zeros((4, 3), dtype=np.float32) + np.nan, "finite numbers"),
        ("posedirs", np.zeros((13492, 3, 9), dtype=np.float32), "54 joints"),
    ],
)
def test_licensed_file_that_is_wrong_is_refused(
    arrays: Arrays, tmp_path: Path, name: str, value: np.ndarray | None, complaint: str
) -> None:
    foreign = {**arrays, name: value}
    if value is None:
        del foreign[name]
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", **foreign)
    with pytest.raises(ValueError, match=complaint):
        read_licensed(tmp_path / "SMPLX_NEUTRAL.npz")
