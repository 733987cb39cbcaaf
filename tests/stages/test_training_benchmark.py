"""The benchmark of training steps trains the stages themselves, in three ways that do the same."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks import training
from benchmarks.plain import whole_images
from benchmarks.training import Case, short_cases
from dinar_models import avatar
from tests.stages.tiny_world import IMAGE, TEXTURE, World

STEPS = 4
COMMON = {"datasets": ["any"], "steps": 1, "batch": 2}
IMAGES = {**COMMON, "discriminator_base": 8, "dtype": "float32"}
VALUES = {
    "seed": 1,
    "image_size": IMAGE,
    "texture_size": TEXTURE,
    "train_avatar": {
        **IMAGES,
        "encoder_base": 8,
        "generator_base": 8,
        "renderer_base": 4,
        "renderer_blocks": 1,
        "style": 16,
        "ema": 0.5,
    },
    "train_vqgan": {**IMAGES, "widths": [8, 16], "layers": 1, "groups": 4, "codes": 8, "image_every": 2},
    "train_diffusion": {
        **COMMON,
        "widths": [8, 16],
        "attention": [False, True],
        "layers": 1,
        "groups": 4,
        "head_width": 8,
        "dtype": "float32",
    },
}


@pytest.fixture(scope="module")
def cases(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Of the small world; `ours` in float32 too."""
    folder = tmp_path_factory.mktemp("cases")
    made = short_cases(VALUES, world.paths["views"].parent, world.paths["body"], folder, STEPS)
    return {case.stage: case for case in made}


@pytest.mark.parametrize("stage", training.RECONSTRUCTION)
def test_plain_operators_give_the_losses_of_ours(stage: str, cases: dict[str, Case], tmp_path: Path) -> None:
    """In float32 the two differ in rounding only, which four steps hardly raise."""
    ours, plain = (cases[stage].run(mode, tmp_path / mode) for mode in ("ours", "plain"))
    assert len(ours.seconds) == len(plain.seconds) == STEPS
    assert ours.step > 0
    assert [line["step"] for line in ours.history] == [STEPS]
    for term in training.RECONSTRUCTION[stage]:
        assert ours.history[0][term] == pytest.approx(plain.history[0][term], rel=2e-3)


def test_whole_images_are_rendered_whole(cases: dict[str, Case], tmp_path: Path) -> None:
    """Beyond the window an image is white at no cost; an untrained net paints it."""
    with whole_images():
        assert avatar.body_windows(torch.zeros(2, 64, 48, dtype=torch.bool), 3) == [(0, 64, 0, 48)] * 2
    near, whole = (
        cases["train_avatar"].run(mode, tmp_path / mode).history[0]["l2"] for mode in ("plain", "whole")
    )
    assert whole > 1.02 * near


class Inline:
    """In a process pool's place."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def submit(self, function: Any, *args: Any) -> Future:
        done: Future = Future()
        done.set_result(function(*args))
        return done


def test_figures_are_ratios_of_the_least_times(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([3.0, 6.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 8.0, 9.0, 1.0, 1.0, 1.0, 1.0, 4.0])
    monkeypatch.setattr(training, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(training, "_timed", lambda *_: next(seconds))
    body = world.paths["body"]
    figures = training.measure(world.paths["views"].parent, body, values=VALUES, steps=2, rounds=2)
    assert figures["train_avatar_speedup"] == 6 / 2
    assert figures["train_avatar_speedup_whole"] == 9 / 2
    assert figures["train_diffusion_plain_s"] == 1
    assert "train_diffusion_speedup_whole" not in figures
    with pytest.raises(SystemExit, match="dvc repro sample_textures"):
        training.measure(tmp_path, body)


def test_losses_are_compared_on_the_same_batches(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first stage, in float32 both ways, read as a training reads."""
    every = training.long_cases
    monkeypatch.setattr(training, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(training, "long_cases", lambda *args: every(*args)[:1])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(VALUES))
    for folder, names in (("stores", training.IMAGE_STORES), ("models", ("body", "avatar"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).symlink_to(world.paths[name])
    training.write_noise(tmp_path / "stores" / "latents", 16)
    figures = training.compare_losses(
        tmp_path / "stores", tmp_path / "models", tmp_path / "params.yaml", steps=2
    )
    assert set(figures) == {f"train_avatar_{t}_ratio" for t in training.RECONSTRUCTION["train_avatar"]}
    assert all(0.99 < ratio < 1.01 for ratio in figures.values())
