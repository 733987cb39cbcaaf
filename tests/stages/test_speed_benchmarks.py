"""The benchmarks of loading, sampling and whole avatars run on tiny components and give numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import loading, photo, sampling
from benchmarks.sampling import Score, bootstrap
from tests.flows.untrained import write_models
from tests.stages.painted_person import render_painted
from tests.stages.test_training_benchmark import VALUES, Inline
from tests.stages.tiny_world import IMAGE, World

PARSER = {"datasets": ["any"], "steps": 1, "batch": 2, "size": 64, "dtype": "float32"}


def test_loaders_are_compared_with_steps(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "ProcessPoolExecutor", Inline)
    stores = world.paths["views"].parent
    figures = loading.measure(
        stores, world.paths["body"], values={**VALUES, "train_parser": PARSER}, batches=2, steps=2
    )
    stages = ("train_avatar", "train_vqgan", "train_diffusion", "train_parser")
    kinds = ("batch_s", "step_s", "delivers", "repeats")
    memory = {f"{s}_loader_mib_{n}_times" for s in ("train_avatar", "train_diffusion") for n in (1, 4)}
    assert set(figures) == {f"{s}_{kind}" for s in stages for kind in kinds} | memory
    assert all(figures[f"{s}_repeats"] == 1 for s in stages)
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    with pytest.raises(SystemExit, match="dvc repro sample_textures"):
        loading.measure(tmp_path, tmp_path)


def test_a_sampler_agrees_with_itself(world: World, tmp_path: Path) -> None:
    """Two people of the splits `gate` and `test`, of whom one is measured, in its four views."""
    inputs = world.inputs(
        "views.tiny", "parsing.tiny", "bodies_single.tiny", "body", "avatar", "vqgan", "diffusion"
    )
    values = {
        "seed": 1,
        "image_size": IMAGE,
        "texture_size": 32,
        "reconstruct": {"datasets": ["any"], "dtype": "float32"},
        "evaluate": {"datasets": ["any"], "kid_subset": 4, "kid_draws": 2, "kid_reference": 4},
    }
    figures = sampling.measure(
        tmp_path, dataset="tiny", values=values, paths=inputs, fast=("dpm++", 2), published=("dpm++", 2), batch=1,
        people=1,
    )  # fmt: skip
    assert figures["fast_perceptual"] == figures["published_perceptual"] > 0
    assert figures["perceptual_agrees"] == 1
    assert figures["fast_perceptual_low"] <= figures["fast_perceptual"] <= figures["fast_perceptual_high"]
    assert figures["speedup"] > 0
    with pytest.raises(SystemExit, match="dvc repro train_diffusion"):
        sampling.measure(tmp_path, values=values)


def test_scores_agree_when_each_lies_in_the_others_interval() -> None:
    near, wide = Score(1.0, 0.9, 1.1), Score(1.05, 0.5, 2.0)
    assert near.agrees(wide)
    assert wide.agrees(near)
    assert not Score(1.2, 0.5, 2.0).agrees(near)
    assert not near.agrees(Score(1.05, 1.01, 1.2))


def test_the_bootstrap_draws_people_not_views() -> None:
    """Two people, alike within themselves: the mean of two draws is 0, 1 or ½; of one person it is certain."""
    values, people = np.array([0.0] * 50 + [1.0] * 50), np.array(["a"] * 50 + ["b"] * 50)
    score = bootstrap(values, people, seed=1)
    assert (score.value, score.low, score.high) == (0.5, 0, 1)
    alone = bootstrap(values[:50], people[:50], seed=1)
    assert alone.low == alone.high == 0


@pytest.mark.slow
def test_a_photo_becomes_an_avatar_while_it_is_timed(tiny_body: Path, tmp_path: Path) -> None:
    Image.fromarray(render_painted(tiny_body)).save(tmp_path / "photo.png")
    models = write_models(tmp_path / "models", tiny_body)
    figures = photo.measure(tmp_path, models, profile="tiny", tuning="tiny", photo=tmp_path / "photo.png")
    parts = {"looking_for_the_person", "fitting_the_body", "completing_the_texture", "tuning_the_texture"}
    assert {f"{part}_s" for part in parts} < set(figures)
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    assert sum(figures[f"{part}_s"] for part in parts) < figures["all_s"]
    sampling_s, tuning_s, all_s = (
        figures[f"published_{what}_s_extrapolated"] for what in ("sampling", "tuning", "all")
    )
    assert all_s == sampling_s + tuning_s
    assert sampling_s == 200 * figures["published_sampling_one_step_s"]
    with pytest.raises(SystemExit, match="dvc repro train_parser"):
        photo.measure(tmp_path, tmp_path)
