"""Metrics against what is known: fits that are the truth, parsing that is the truth, renders compared by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dinar_models.body import BodyModel
from dinar_models.metrics import psnr
from dinar_models.perceptual import PooledFeatures
from dinar_models.rasterize.embree import EmbreeRasterizer
from stages import evaluate as stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages.evaluation.fits import fit_table
from stages.evaluation.images import features, image_table, kernel_estimate
from stages.evaluation.parsing import SCORES
from stages.people.truth import open_truth
from tests.stages.conftest import Measured
from tests.stages.tiny_world import IMAGE, VIEWS, World, save_store

SAME_KEYS = {"psnr", "psnr_person", "ms_ssim", "perceptual", "lpips", "dists"}
NOVEL_KEYS = SAME_KEYS | {"kid_effnet", "kid", "reid"}
WITHOUT_WEIGHTS = {"lpips", "dists", "kid", "reid"}


def test_six_digits_are_kept_and_nulls_and_counts_stay() -> None:
    table = {"a": 24.43219876, "b": {"c": None, "d": 1.23456789e-7}, "n": 16}
    assert stage.rounded(table) == {"a": 24.4322, "b": {"c": None, "d": 1.23457e-7}, "n": 16}


@pytest.fixture(scope="module")
def metrics(measured: Measured) -> dict:
    return json.loads(measured.outputs["metrics"].read_text())


@pytest.fixture(scope="module")
def renders(measured: Measured) -> Store:
    return open_store(measured.outputs["renders"], "renders")


def test_every_view_of_the_avatars_scans_is_rendered_and_the_photos_own_is_the_same_view(
    renders: Store,
) -> None:
    assert renders.index["scan"].tolist() == ["c0"] * VIEWS + ["d0"] * VIEWS
    assert renders.index["kind"].tolist() == (["same"] + ["novel"] * (VIEWS - 1)) * 2
    assert renders.index["view_row"].tolist() == list(range(12, 20))


def test_a_view_without_a_fit_is_left_out_and_counted(
    measured: Measured, metrics: dict, renders: Store
) -> None:
    assert measured.summary == {"views": 2 * VIEWS, "without_fit": 1}
    assert renders.index.loc[~renders.index["ok"], "reason"].to_dict() == {6: "the fit diverged"}
    assert (renders["avatar"][6] == 255).all()
    assert metrics["kid_effnet_interval"]["renders"] == VIEWS - 1


def test_targets_are_the_views_on_white(renders: Store, world: World) -> None:
    """Their crop is the whole image, so nothing is resampled."""
    views = open_store(world.paths["views"], "views")
    rows = renders.ok_rows()
    difference = np.abs(renders.read("target", rows).astype(int) - views.read("rgb", 12 + rows).astype(int))
    assert difference.max() <= 1
    np.testing.assert_array_equal(renders.read("target_mask", rows), views.read("mask", 12 + rows))


def test_the_table_has_the_designs_keys_and_null_only_where_weights_are_missing(metrics: dict) -> None:
    assert set(metrics) == {
        "same_view", "novel_view", "baselines", "kid_effnet_interval", "fit", "parsing"
    }  # fmt: skip
    assert set(metrics["same_view"]) == SAME_KEYS
    assert set(metrics["baselines"]) == {"mirror", "mean_fill"}
    for table in (metrics["novel_view"], *metrics["baselines"].values()):
        assert set(table) == NOVEL_KEYS
        assert {key for key, value in table.items() if value is None} == WITHOUT_WEIGHTS
    assert set(metrics["fit"]["single_view"]) == {"pa_mpjpe_mm", "pve_mm", "iou", "reprojection_px"}
    assert set(metrics["fit"]["multi_view"]) == {"pve_mm", "iou"}
    assert set(metrics["parsing"]) == set(SCORES)


def test_metrics_are_of_test_people_and_the_gate_of_gate_people(
    measured: Measured, metrics: dict, renders: Store
) -> None:
    gate = json.loads(measured.outputs["gate"].read_text())
    for table, rows in ((gate, [0]), (metrics, [4])):
        image, target = (
            torch.from_numpy(renders.read(name, rows)).permute(0, 3, 1, 2) / 255
            for name in ("avatar", "target")
        )
        assert table["same_view"]["psnr"] == pytest.approx(float(psnr(image, target)), rel=1e-5)
    novel = image_table(renders, [5, 7], "mirror")
    assert metrics["baselines"]["mirror"]["ms_ssim"] == pytest.approx(novel["ms_ssim"], rel=1e-5)


def test_fits_that_are_the_truth_have_no_error(metrics: dict) -> None:
    assert metrics["fit"]["single_view"] == pytest.approx(
        {"pa_mpjpe_mm": 0, "pve_mm": 0, "iou": 1, "reprojection_px": 0}, abs=1e-2
    )
    assert metrics["fit"]["multi_view"] == pytest.approx({"pve_mm": 0, "iou": 1}, abs=1e-2)


def test_what_is_not_given_is_not_measured(world: World, avatars: Path, tmp_path: Path) -> None:
    """Without truth and parser: images alone."""
    params = stage.EvaluateParams(
        seed=2, image_size=IMAGE, datasets=["tiny"], kid_subset=4, kid_draws=2, kid_reference=8
    )
    names = [f"{name}.tiny" for name in ("views", "parsing", "bodies_single")]
    inputs = world.inputs(*names, "body", "avatar", avatars=avatars)
    outputs = Paths({name: tmp_path / name for name in stage.STAGE.outputs})
    stage.STAGE.check_paths(inputs, outputs)
    stage.run(params, inputs, outputs, Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs"))
    table = json.loads(outputs["metrics"].read_text())
    assert set(table) == {"same_view", "novel_view", "baselines", "kid_effnet_interval"}
    assert table["same_view"]["psnr"] > 0


def test_references_are_as_large_as_the_renders(world: World) -> None:
    views = open_store(world.paths["views"], "views")
    small = torch.from_numpy(views.read("rgb", [0, 1])).permute(0, 3, 1, 2).float() / 255
    small = F.interpolate(small, size=(32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = PooledFeatures().eval()(2 * small - 1)
    torch.testing.assert_close(features(views, [0, 1], "rgb", 32), expected)
    assert (features(views, [0, 1], "rgb", IMAGE) == features(views, [0, 1], "rgb")).all()
    assert not torch.allclose(features(views, [0, 1], "rgb"), expected)


def test_equal_images_are_perfect_whatever_the_mask(renders: Store) -> None:
    table = image_table(renders, [0, 5], "target")
    assert table == pytest.approx(
        {"psnr": 100, "psnr_person": 100, "ms_ssim": 1, "perceptual": 0, "lpips": None, "dists": None},
        abs=1e-4,
    )


@pytest.fixture(scope="module")
def larger(world: World, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Fits of bodies a tenth too large."""
    bodies = open_store(world.paths["bodies"], "bodies")
    arrays = {name: bodies[name][:] for name in bodies.schema.arrays}
    arrays["scale"] = np.full_like(arrays["scale"], 1.1)
    path = tmp_path_factory.mktemp("larger") / "bodies"
    save_store(path, "bodies", bodies.index, arrays)
    return open_store(path, "bodies")


def test_a_body_a_tenth_too_large_has_the_right_joints_and_a_known_surface_error(
    larger: Store, world: World
) -> None:
    """Procrustes takes the scale out; of the surface each vertex is off by a tenth of its distance to the middle."""
    views, parsing = (open_store(world.paths[name], name) for name in ("views", "parsing"))
    truth, body = open_truth(world.paths["truth"]), BodyModel.load(world.paths["body"])
    table = fit_table(larger, [12], [12], views, parsing, truth, body=body, rasterizer=EmbreeRasterizer())
    vertices = truth.body("c0").vertices
    expected = 100 * np.linalg.norm(vertices - vertices.mean(axis=0), axis=1).mean()
    assert table["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-2)
    assert table["pve_mm"] == pytest.approx(expected, rel=1e-3)
    assert table["iou"] is not None
    assert 0.6 < table["iou"] < 0.95


def test_without_any_fit_all_is_null(larger: Store, world: World) -> None:
    views, parsing = (open_store(world.paths[name], name) for name in ("views", "parsing"))
    truth, body = open_truth(world.paths["truth"]), BodyModel.load(world.paths["body"])
    table = fit_table(larger, [], [], views, parsing, truth, body=body, rasterizer=EmbreeRasterizer())
    assert set(table.values()) == {None}


def test_kid_needs_two_samples_of_each_side_and_its_interval_holds_the_estimate() -> None:
    people = np.repeat(["p", "q", "r", "s"], 10)
    generator = torch.Generator().manual_seed(0)
    fake, real = (torch.randn(40, 4, generator=generator) for _ in range(2))
    few = kernel_estimate(fake[:1], real, people[:1], subset=8, draws=4, seed=0)
    assert (few.value, few.low, few.high) == (None, None, None)
    near = kernel_estimate(fake, real, people, subset=20, draws=20, seed=0)
    far = kernel_estimate(fake + 1, real, people, subset=20, draws=20, seed=0)
    assert near.value is not None
    assert far.low is not None
    assert abs(near.value) < 0.5 < far.low
