"""How much samples differ: nothing for a net that gives the mean, something for the diffusion, known by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinar_models.diffusion import LatentDiffusion
from dinar_models.perceptual import PerceptualDistance
from dinar_models.types import NeuralTexture
from dinar_models.uv_atlas import Atlas
from stages import measure_diversity as stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._core.weights import load_weights, read_body_digests, save_weights
from tests.stages.tiny_world import IMAGE, TEXTURE, World

PARAMS = stage.MeasureDiversityParams(seed=1, image_size=IMAGE, draws=3)


def measure(world: World, avatars: Path, out: Path, **inputs: Path) -> dict:
    names = [name for name in ("body", "avatar", "vqgan", "diffusion") if name not in inputs]
    chosen = world.inputs(*names, avatars=avatars, **inputs)
    stage.STAGE.check_paths(chosen, Paths({"draws": out}))
    stage.run(PARAMS, chosen, Paths({"draws": out}), Runtime())
    return json.loads((out / "diversity.json").read_text())


@pytest.fixture(scope="module")
def measured(world: World, avatars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("diversity") / "draws"
    measure(world, avatars, out)
    return out


def test_samples_of_the_diffusion_differ(measured: Path) -> None:
    table = json.loads((measured / "diversity.json").read_text())
    assert table["people"] == 1
    assert table["draws"] == 3
    assert table["perceptual"] > 1e-5
    assert table["colour"] > 1e-3


def test_the_strip_shows_the_back_of_every_sample_of_test_people(measured: Path) -> None:
    strips = sorted(measured.glob("*.png"))
    assert [p.stem for p in strips] == ["d"]
    with Image.open(strips[0]) as strip:
        backs = np.split(np.asarray(strip), 3, axis=1)
    assert backs[0].shape == (IMAGE, IMAGE, 3)
    assert (backs[0] < 255).any()
    assert (backs[0] != backs[1]).any()


def test_a_deterministic_net_gives_one_answer(world: World, avatars: Path, tmp_path: Path) -> None:
    digests = read_body_digests(world.paths["body"])
    trained = load_weights(world.paths["diffusion"], "diffusion", LatentDiffusion.from_config, digests)
    config = trained.config_dict() | {"prediction": "mean"}
    save_weights(tmp_path / "mean", "diffusion", trained, config, digests)
    table = measure(world, avatars, tmp_path / "draws", diffusion=tmp_path / "mean")
    assert table["perceptual"] == pytest.approx(0, abs=1e-7)
    assert table["colour"] == pytest.approx(0, abs=1e-4)


def test_the_same_seed_draws_the_same(world: World, avatars: Path, measured: Path, tmp_path: Path) -> None:
    measure(world, avatars, tmp_path / "again")
    for path in measured.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_photos_are_completed_by_the_rules_of_the_avatars_store(avatars: Path) -> None:
    rules = stage.rules_of(open_store(avatars, "avatars"))
    assert (rules.steps, rules.tune_steps, rules.dtype) == (2, 2, torch.float32)


def test_the_spread_of_colours_counts_hidden_texels_alone(tiny_atlas: Atlas) -> None:
    """Two samples: 0.2 apart where hidden, 1 apart where seen and off the islands."""
    tables = tiny_atlas.tables(TEXTURE)
    seen = torch.zeros(TEXTURE, TEXTURE)
    seen[: TEXTURE // 2] = 1
    hidden = torch.from_numpy(tables.island_mask) & (seen == 0)
    drawn = torch.zeros(2, 21, TEXTURE, TEXTURE)
    drawn[1, 16:19] = torch.where(hidden, 0.2, 1.0)
    partial = torch.zeros(1, 21, TEXTURE, TEXTURE)
    partial[:, 20] = seen
    spread = stage.colour_spread(NeuralTexture(drawn), NeuralTexture(partial), tables)
    assert spread == pytest.approx(0.2 / 2**0.5, rel=1e-4)


def test_pairs_are_compared_view_by_view() -> None:
    """Three samples, two views; the last sample differs in the second view: two pairs of three, in one of two."""
    frames = np.full((3, 2, 64, 64, 3), 255, np.uint8)
    frames[2, 1, 16:48, 16:48] = (200, 30, 30)
    distance = PerceptualDistance()
    once = stage.mean_distance(frames[1:, 1:], distance)
    assert once > 0.01
    assert stage.mean_distance(frames, distance) == pytest.approx(once / 3, rel=1e-4)


def test_without_a_prior_nothing_can_be_drawn(world: World, avatars: Path, tmp_path: Path) -> None:
    copy = tmp_path / "avatars"
    shutil.copytree(avatars, copy)
    inputs = world.inputs("body", "avatar", avatars=copy)
    with pytest.raises(ValueError, match="needs vqgan and diffusion"):
        stage.run(PARAMS, inputs, Paths({"draws": tmp_path / "draws"}), Runtime())
    assert not (tmp_path / "draws").exists()
