"""Merging the views of a scan: which rows there are, and what the store then holds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dinar_models.avatar import AvatarConfig, AvatarNets
from dinar_models.blending import blend_textures
from dinar_models.texture import merge_textures
from dinar_models.types import NeuralTexture
from stages import merge_textures as stage
from stages._core.publish import write_file
from stages._core.runtime import Runtime
from stages._core.schemas import SCHEMAS
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths
from stages._core.store import Store, open_store
from stages._core.weights import save_weights
from tests.dinar_models.flat_atlas import flat_atlas

VIEWS, TEXTURE, IMAGE = 4, 32, 32


def texture_index() -> pd.DataFrame:
    """Two train scans of two variants and one test scan; the second scan's variant 1 has two bad views."""
    lines = [
        {"subject": scan[0], "scan": scan, "split": split, "view": view, "variant": variant, "source": "made",
         "ok": not (scan == "b0" and variant == 1 and view < 2), "reason": ""}
        for scan, split in (("a0", "train"), ("t0", "test"), ("b0", "train"))
        for variant in (0, 1)
        for view in range(VIEWS)
    ]  # fmt: skip
    index = pd.DataFrame(lines)
    index.loc[~index["ok"], "reason"] = "blurred"
    return index


PARAMS = stage.MergeTexturesParams(
    seed=3, texture_size=TEXTURE, min_views=3, max_reject_ratio=0.5, dtype="float32"
)


def test_rows_are_scans_and_variants_of_the_chosen_splits() -> None:
    index, views = stage.merged_index(texture_index(), PARAMS)
    assert index[["scan", "variant"]].to_numpy().tolist() == [["a0", 0], ["a0", 1], ["b0", 0], ["b0", 1]]
    assert index["ok"].tolist() == [True, True, True, False]
    assert index["reason"].iloc[3] == "2 valid views, 3 needed"
    assert views == [[0, 1, 2, 3], [4, 5, 6, 7], [16, 17, 18, 19], []]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Stores with random images and textures, and a small untrained avatar."""
    root = tmp_path_factory.mktemp("merge")
    rng = np.random.default_rng(0)
    index = texture_index()
    for part in ("x", "y"):
        index[f"crop_{part}"] = 0.0
    index["crop_side"], index["verdict"] = float(IMAGE), "good"
    sizes = {"H": IMAGE, "W": IMAGE, "T": TEXTURE}
    for name in ("views", "parsing", "bodies", "textures"):
        arrays = {}
        for key, spec in SCHEMAS[name].arrays.items():
            shape = (len(index), *spec.shape(sizes))
            values = rng.integers(0, 20, shape) if spec.dtype == "uint8" else np.ones(shape)
            arrays[key] = values.astype(spec.dtype)
        if name == "textures":
            arrays["filled"] = (rng.random(arrays["filled"].shape) < 0.4).astype(np.uint8) * 255
            arrays["frontality"] = rng.integers(1, 255, arrays["filled"].shape, dtype=np.uint8)
        save(root, name, index, sizes, arrays)
    (root / "body").mkdir()
    write_file(root / "body" / "body.json", '{"body_digest": "b", "atlas_digest": "a"}')
    flat_atlas({"head": (0, 0, 1, 0.5), "torso": (0, 0.5, 1, 1)}, {}).save(root / "body" / "atlas.npz")
    torch.manual_seed(0)
    small = {"encoder_base": 8, "generator_base": 8, "renderer_base": 4, "renderer_blocks": 1, "style": 16}
    nets = AvatarNets(AvatarConfig(image_size=IMAGE, texture_size=TEXTURE, **small))
    save_weights(root / "avatar", "avatar", nets, nets.config_dict(), {"body": "b", "atlas": "a"})
    return Paths({name: root / name for name in stage.STAGE.inputs})


def save(root: Path, name: str, index: pd.DataFrame, sizes: dict[str, int], arrays: dict) -> None:
    build_store(
        out=root / name,
        schema=name,
        index=index,
        sizes=sizes,
        attrs={},
        shard_rows=len(index),
        work=lambda rows: ShardResult(arrays),
        runtime=Runtime(work_root=root / ".work"),
        key="test",
    )


def merged_store(
    inputs: Paths, out: Path, tmp_path: Path, params: stage.MergeTexturesParams = PARAMS
) -> Store:
    stage.run(params, inputs, Paths({"merged": out}), Runtime(work_root=tmp_path / "work"))
    return open_store(out, "merged")


def test_the_store_holds_eq_5_of_the_views(inputs: Paths, tmp_path: Path) -> None:
    merged = merged_store(inputs, tmp_path / "merged", tmp_path)
    textures = open_store(inputs["textures"], "textures")
    rows = [16, 17, 18, 19]
    colour, filled, frontality = (
        torch.from_numpy(textures.read(name, rows)).float() / 255 for name in ("rgb", "filled", "frontality")
    )
    expected, covered = merge_textures(colour, frontality, filled > 0)
    np.testing.assert_allclose(merged["texture"][2][16:19], expected.numpy(), atol=1e-3)
    np.testing.assert_array_equal(merged["coverage"][2] > 0, covered.numpy())
    assert 0 < (merged["coverage"][2] > 0).mean() < 1
    assert np.abs(merged["texture"][2][:16]).max() > 0
    assert (merged["texture"][3] == 0).all()
    assert not merged.index["ok"].iloc[3]


@pytest.mark.parametrize("blending", ["pyramid", "poisson"])
def test_other_schemes_blend_island_by_island(blending: str, inputs: Paths, tmp_path: Path) -> None:
    """The colours are those of `blend_textures` with the atlas' islands; masks and coverage are those of eq. 5."""
    plain = merged_store(inputs, tmp_path / "plain", tmp_path)
    params = PARAMS.model_copy(update={"blending": blending})
    merged = merged_store(inputs, tmp_path / "merged", tmp_path, params)
    assert merged.attrs["blending"] == blending
    textures = open_store(inputs["textures"], "textures")
    rows = [16, 17, 18, 19]
    colour, sampled, filled, frontality = (
        torch.from_numpy(textures.read(name, rows)).float() / 255
        for name in ("rgb", "sampled", "filled", "frontality")
    )
    views = NeuralTexture.assemble(
        torch.zeros(4, 16, TEXTURE, TEXTURE), colour, sampled[:, None], filled[:, None]
    ).data
    island = torch.arange(TEXTURE)[:, None].expand(-1, TEXTURE) // (TEXTURE // 2)
    expected, _ = blend_textures(views, frontality, filled > 0, island, blending=blending)
    np.testing.assert_allclose(merged["texture"][2][16:], expected[16:].numpy(), atol=1e-3)
    np.testing.assert_array_equal(merged["texture"][2][19:], plain["texture"][2][19:])
    np.testing.assert_array_equal(merged["coverage"][:], plain["coverage"][:])
    assert np.abs(merged["texture"][2][:19] - plain["texture"][2][:19]).max() > 1e-3


def test_the_same_bytes_every_time_and_others_for_another_seed(inputs: Paths, tmp_path: Path) -> None:
    first, second = (merged_store(inputs, tmp_path / name, tmp_path) for name in ("one", "two"))
    assert first.digest == second.digest
    other = merged_store(inputs, tmp_path / "three", tmp_path, PARAMS.model_copy(update={"seed": 4}))
    assert other.digest != first.digest
