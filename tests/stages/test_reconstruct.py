"""Which photo makes a person's avatar, and what completing may and may not change."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_dilation

from dinar_models.photos import PhotoInputs, read_photos
from dinar_models.types import CHANNELS
from dinar_models.uv_atlas import Atlas
from stages import reconstruct as stage
from stages._core.runtime import Runtime
from stages._core.schemas import BODY_ARRAYS
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from tests.stages.tiny_world import TEXTURE, VIEWS, World, save_store

PARAMS = stage.ReconstructParams(seed=2, datasets=["tiny"], steps=2, tune_steps=2, dtype="float32")


def single_store(path: Path, lines: list[tuple]) -> Paths:
    """A `bodies_single` store of (subject, scan, split, yaw, variant, ok)."""
    index = pd.DataFrame(lines, columns=["subject", "scan", "split", "yaw", "variant", "ok"])
    index = index.assign(view=0, source="scans", reason=np.where(index["ok"], "", "diverged"), verdict="")
    index = index.assign(view_row=10 + np.arange(len(index)), crop_x=0.0, crop_y=0.0, crop_side=8.0)
    arrays = {
        name: np.full((len(index), *spec.shape({})), 1, np.float32) for name, spec in BODY_ARRAYS.items()
    }
    arrays["residuals"] = np.zeros((len(index), 4), np.float32)
    save_store(path, "bodies", index, arrays)
    return Paths({"bodies_single.tiny": path})


def test_the_front_view_of_the_first_scan_that_was_fitted(tmp_path: Path) -> None:
    inputs = single_store(
        tmp_path / "single",
        [
            ("e", "e1", "test", 0.0, 0, True),
            ("e", "e0", "test", 0.0, 0, False),  # the first scan, but its front was not fitted
            ("e", "e0", "test", 45.0, 0, True),
            ("c", "c1", "gate", 360.0, 0, True),  # the same as 0
            ("c", "c0", "gate", -0.5, 0, True),
            ("d", "d0", "test", 0.0, 0, False),  # no front view at all: a line that is not ok
            ("d", "d0", "test", 180.0, 0, True),
            ("b", "b0", "val", 0.0, 0, True),  # no held-out person
            ("f", "f0", "test", 0.0, 1, True),  # jittered: never a photo
            ("g", "photo", "test", float("nan"), 0, True),  # of a photo nobody knows the angle
        ],
    )
    people = stage.front_views("tiny", inputs, PARAMS)
    assert people["subject"].tolist() == ["c", "d", "e", "g"]
    assert people["scan"].tolist() == ["c0", "d0", "e1", "photo"]
    assert people["view_row"].tolist() == [14, 15, 10, 19]
    assert people["ok"].tolist() == [True, False, True, True]


@pytest.fixture(scope="module")
def store(avatars: Path) -> Store:
    return open_store(avatars, "avatars")


def test_every_held_out_person_is_a_row_with_the_body_that_the_photo_gave(store: Store, world: World) -> None:
    assert store.index[["subject", "split", "view"]].to_numpy().tolist() == [
        ["c", "gate", 0],
        ["d", "test", 0],
    ]
    assert store.index["view_row"].tolist() == [3 * VIEWS, 4 * VIEWS]
    for name, values in world.bodies.as_dict().items():
        np.testing.assert_array_equal(store[name][:], values[[3, 4]].numpy())


def channel(store: Store, array: str, name: str) -> np.ndarray:
    return store[array][:, list(CHANNELS).index(name)].astype(np.float32)


def test_what_the_photo_shows_is_kept_and_the_rest_is_completed(store: Store, world: World) -> None:
    island = Atlas.load(world.paths["body"] / "atlas.npz").tables(TEXTURE).island_mask
    colours, known = (store[name][:, 16:19].astype(np.float32) for name in ("texture", "partial"))
    coverage = store["coverage"][:] / 255
    seen = (channel(store, "partial", "filled") > 0.5) & island
    assert 0.15 < seen[:, island].mean() < 0.6  # a front view
    shown = (coverage > 0.999) & island
    assert shown.any()
    assert (seen | ~shown).all()
    moved = np.abs(colours - known).max(axis=1)
    assert moved[shown].max() < 0.02  # by the tuning: two steps of 0.004
    hidden = ~seen & island
    assert np.abs(known).max(axis=1)[hidden].max() == 0
    assert (colours.max(axis=1)[hidden] > 0).mean() > 0.5
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_baselines_differ_in_colours_and_masks_of_hidden_texels_only(store: Store, world: World) -> None:
    island = Atlas.load(world.paths["body"] / "atlas.npz").tables(TEXTURE).island_mask
    """And in the texel beyond the islands that carries them on."""
    hidden = (channel(store, "partial", "filled") < 0.5) & island
    border = binary_dilation(island, np.ones((3, 3))) & ~island
    for name in ("mirror", "mean_fill"):
        np.testing.assert_array_equal(store[name][:, :16], store["texture"][:, :16])
        changed = (store[name][:] != store["texture"][:]).any(axis=1)
        assert not changed[~hidden & ~border].any()
        assert changed[hidden].mean() > 0.9


PRIOR = ("vqgan", "diffusion")


def run(
    world: World, root: Path, params: stage.ReconstructParams, prior: tuple[str, ...] = PRIOR, **inputs: Path
) -> Store:
    names = [f"{name}.tiny" for name in ("views", "parsing", "bodies_single") if f"{name}.tiny" not in inputs]
    chosen = world.inputs(*names, "body", "avatar", *prior, **inputs)
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    stage.run(params, chosen, Paths({"avatars": root / "avatars"}), runtime)
    return open_store(root / "avatars", "avatars")


def test_the_same_bytes_every_time_and_another_completion_for_another_seed(
    store: Store, world: World, tmp_path: Path
) -> None:
    assert run(world, tmp_path / "again", PARAMS).digest == store.digest
    other = run(world, tmp_path / "other", PARAMS.model_copy(update={"seed": 3}))
    hidden = channel(store, "partial", "filled") < 0.5
    difference = np.abs(other["texture"][:, 16:19].astype(np.float32) - store["texture"][:, 16:19])
    assert difference.max(axis=1)[hidden].max() > 0.01


def test_without_a_prior_nothing_is_completed(store: Store, world: World, tmp_path: Path) -> None:
    made = run(world, tmp_path, PARAMS.model_copy(update={"tune_steps": 0}), prior=())
    np.testing.assert_array_equal(made["texture"][:], made["partial"][:])
    np.testing.assert_array_equal(made["partial"][:], store["partial"][:])


def test_half_a_prior_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give both, or neither"):
        run(world, tmp_path, PARAMS, prior=("vqgan",))


@pytest.mark.parametrize("asked", [True, False])
def test_the_occlusion_detector_can_be_left_out(
    asked: bool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[bool] = []

    def read(*values: Any, occlusion: bool, **options: Any) -> PhotoInputs:
        used.append(occlusion)
        return read_photos(*values, occlusion=occlusion, **options)

    monkeypatch.setattr(stage, "read_photos", read)
    params = PARAMS.model_copy(update={"tune_steps": 0, "occlusion_contours": asked, "splits": ("test",)})
    run(world, tmp_path, params, prior=())
    assert used == [asked]


def test_a_person_without_a_fit_keeps_the_row_and_the_reason(
    store: Store, world: World, tmp_path: Path
) -> None:
    single = open_store(world.paths["bodies_single"], "bodies")
    index = single.index.copy()
    index.loc[0, "ok"], index.loc[0, "reason"] = False, "the fit diverged"
    arrays = {name: single[name][:] for name in single.schema.arrays}
    save_store(tmp_path / "single", "bodies", index, arrays)
    made = run(world, tmp_path, PARAMS, **{"bodies_single.tiny": tmp_path / "single"})
    assert made.index["ok"].tolist() == [False, True]
    assert made.index["reason"].tolist() == ["the fit diverged", ""]
    assert not made["texture"][0].any()


def test_no_held_out_person_at_all_is_said(world: World, tmp_path: Path) -> None:
    single = single_store(tmp_path / "single", [("b", "b0", "val", 0.0, 0, True)])
    with pytest.raises(ValueError, match="no front view of splits gate, test in tiny"):
        run(world, tmp_path, PARAMS, **single)
