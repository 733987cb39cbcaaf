"""Pairs of latents: which images make one, and that both halves are the encoder's own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dinar_models.diffusion import latent_mask
from dinar_models.vqgan import VQGAN
from stages import encode_latents as stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages._core.weights import WeightsError, load_weights
from tests.stages.tiny_world import TEXTURE, VIEWS, World

PARAMS = stage.EncodeLatentsParams(seed=1, dtype="float32")


def test_an_image_is_paired_with_the_merged_texture_of_its_scan_and_variant() -> None:
    rows = [("a0", "train", 0), ("a0", "train", 1), ("b0", "train", 0), ("t0", "test", 0), ("a0", "train", 0)]
    textures = pd.DataFrame(rows, columns=["scan", "split", "variant"])
    textures = textures.assign(
        subject="s", source="made", ok=[True] * 4 + [False], reason=[""] * 4 + ["blurred"]
    )
    merged = pd.DataFrame({"scan": ["b0", "a0", "a0"], "variant": [0, 1, 0], "ok": [False, True, True]})
    index = stage.pairs_index(textures, merged.assign(subject="s", source="made"), PARAMS)
    assert index["merged_row"].tolist() == [2, 1, -1, -1, 2]
    assert index["ok"].tolist() == [True, True, False, False, False]
    assert index["reason"].tolist() == ["", "", stage.NO_MERGED, stage.HELD_OUT, "blurred"]


def test_held_out_splits_make_no_pair_although_they_have_a_merged_texture() -> None:
    textures = pd.DataFrame({"scan": ["t0"], "split": ["test"], "variant": [0], "ok": [True], "reason": [""]})
    textures = textures.assign(subject="s", source="made")
    index = stage.pairs_index(textures, textures, PARAMS)
    assert index["reason"].tolist() == [stage.HELD_OUT]
    assert not index["ok"].any()


@pytest.fixture(scope="module")
def inputs(world: World, merged: Path) -> Paths:
    """The world's stores and its merged textures."""
    return world.inputs(*(n for n in stage.STAGE.inputs if n != "merged"), merged=merged)


def encode(inputs: Paths, root: Path, params: stage.EncodeLatentsParams = PARAMS) -> Store:
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    stage.run(params, inputs, Paths({"latents": root / "latents"}), runtime)
    return open_store(root / "latents", "latents")


@pytest.fixture(scope="module")
def latents(inputs: Paths, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return encode(inputs, tmp_path_factory.mktemp("latents"))


def test_rows_are_the_views_and_only_train_and_val_are_encoded(latents: Store) -> None:
    assert len(latents) == 5 * VIEWS
    assert latents.index.loc[latents.index["ok"], "split"].unique().tolist() == ["train", "val"]
    assert latents["z_partial"][3 * VIEWS :].any() == np.False_
    assert set(latents.index.loc[~latents.index["ok"], "reason"]) == {stage.HELD_OUT}


@torch.no_grad()
def test_latents_are_the_autoencoders_and_the_mask_is_b_fill(inputs: Paths, latents: Store) -> None:
    vqgan = load_weights(inputs["vqgan"], "vqgan", VQGAN.from_config)
    merged = torch.from_numpy(open_store(inputs["merged"], "merged").read("texture", [1])).float()
    expected = vqgan.encode(merged)[0].numpy()
    for row in range(VIEWS, 2 * VIEWS):
        np.testing.assert_allclose(latents["z_merged"][row], expected, atol=2e-3)
    filled = torch.from_numpy(open_store(inputs["textures"], "textures").read("filled", [5])).float() / 255
    np.testing.assert_allclose(
        latents["mask"][5], latent_mask(filled[:, None], TEXTURE // 2)[0].numpy(), atol=1e-3
    )
    partial = latents["z_partial"][VIEWS : 2 * VIEWS].astype(np.float32)
    assert all(np.abs(partial[i] - partial[j]).max() > 1e-2 for i in range(VIEWS) for j in range(i))


@torch.no_grad()
def test_a_guess_fills_hidden_texels_before_encoding(inputs: Paths, latents: Store, tmp_path: Path) -> None:
    """Masks tell the diffusion what was seen, so they stay; merged latents have nothing to be guessed."""
    guessed = encode(inputs, tmp_path, PARAMS.model_copy(update={"guess": "mirror"}))
    assert guessed.attrs["guess"] == "mirror"
    np.testing.assert_array_equal(guessed["mask"][:], latents["mask"][:])
    np.testing.assert_array_equal(guessed["z_merged"][:], latents["z_merged"][:])
    ok = latents.ok_rows()
    changed = np.abs(guessed["z_partial"][:] - latents["z_partial"][:]).astype(np.float32)[ok].max((1, 2, 3))
    assert (changed > 1e-2).all()


def test_the_same_bytes_every_time_and_others_for_another_seed(
    inputs: Paths, latents: Store, tmp_path: Path
) -> None:
    assert encode(inputs, tmp_path / "again").digest == latents.digest
    other = encode(inputs, tmp_path / "other", PARAMS.model_copy(update={"seed": 2}))
    assert np.abs(other["z_partial"][:] - latents["z_partial"][:]).max() > 0
    np.testing.assert_array_equal(other["z_merged"][:], latents["z_merged"][:])


def test_weights_for_another_body_are_refused(inputs: Paths, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.mkdir()
    (body / "body.json").write_text('{"body_digest": "other", "atlas_digest": "other"}')
    with pytest.raises(WeightsError, match=r"vqgan belongs to body .* but the body here is other"):
        encode(Paths({**inputs, "body": body}), tmp_path)
