"""Renders of a body with a known texture → the `textures` store."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, orbit_camera
from dinar_models.rasterize.base import uv_raster
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.texture import merge_textures, rasterise_texture
from dinar_models.uv_atlas import Atlas
from stages import sample_textures as stage
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths
from stages._core.store import Store, open_store

IMAGE, TEXTURE, VIEWS = 128, 64, 4
PARAMS = stage.SampleTexturesParams(texture_size=TEXTURE, max_reject_ratio=0.5)


def known_texture() -> torch.Tensor:
    """Smooth at the scale of a texel, so that sampling loses little."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=TEXTURE, mode="bicubic").clamp(0, 1)


def body_rows() -> BodyParams:
    """One body, arms lowered, for every view; one elbow bent so that an arm crosses the trunk."""
    params = BodyParams.zeros(1)
    params.body_pose[0, 15 * 3 + 2], params.body_pose[0, 16 * 3 + 2] = -1.1, 1.1
    params.body_pose[0, 17 * 3 + 1] = -1.9
    return params.select([0] * (VIEWS + 2))


def cameras(middle: torch.Tensor) -> Camera:
    """Four around the body; one more for the bad row; one that looks past the body."""
    around = torch.arange(VIEWS) * (2 * math.pi / VIEWS)
    yaw = torch.cat([around, torch.zeros(2)])
    camera = orbit_camera(yaw, 0.05, 4.0, target=middle, size=IMAGE, fov=0.5)
    camera.T[-1] += torch.tensor([5.0, 0, 0])
    return camera


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, tiny_body: Path) -> Paths:
    root = tmp_path_factory.mktemp("sample")
    body, atlas, params = BodyModel.load(tiny_body), Atlas.load(tiny_body / "atlas.npz"), body_rows()
    with torch.no_grad():
        vertices = body(params.select([0])).vertices
    camera = cameras(vertices.mean(dim=(0, 1)))
    fragments = EmbreeRasterizer().rasterize(vertices, body.faces, camera)
    image = rasterise_texture(
        known_texture().expand(len(camera), -1, -1, -1),
        uv_raster(fragments, torch.from_numpy(atlas.corner_uv)),
    )
    index = pd.DataFrame({"subject": "a", "scan": "a0", "split": "train", "view": range(VIEWS + 2)})
    index["ok"] = index["view"] != VIEWS
    index["reason"] = ["" if ok else "diverged" for ok in index["ok"]]
    index["crop_x"], index["crop_y"], index["crop_side"], index["verdict"] = 0.0, 0.0, float(IMAGE), "good"
    mask = (fragments.covered.numpy() * 255).astype(np.uint8)
    rgb = (image.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    named = {"K": camera.K.contiguous(), "R": camera.R, "T": camera.T}
    fits = {name: tensor.numpy() for name, tensor in params.as_dict().items()}
    contents = {
        "views": {"rgb": rgb, "mask": mask, "parts": mask // 255, **{k: v.numpy() for k, v in named.items()}},
        "parsing": {"mask": mask, "parts": mask // 255},
        "bodies": {**fits, "residuals": np.zeros((len(index), 4), np.float32)},
    }
    for name, arrays in contents.items():
        build_store(
            out=root / name,
            schema=name,
            index=index,
            sizes={"H": IMAGE, "W": IMAGE},
            attrs={},
            shard_rows=len(index),
            work=lambda rows, arrays=arrays: ShardResult(arrays),
            runtime=Runtime(work_root=root / ".work"),
            key="test",
        )
    return Paths({**{name: root / name for name in contents}, "body": tiny_body})


def textures(inputs: Paths, tmp_path: Path, params: stage.SampleTexturesParams = PARAMS) -> Store:
    out = tmp_path / "textures"
    stage.run(params, inputs, Paths({"textures": out}), Runtime(work_root=tmp_path / "work"))
    return open_store(out, "textures")


@pytest.fixture(scope="module")
def store(inputs: Paths, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return textures(inputs, tmp_path_factory.mktemp("out"))


def test_colours_come_back_where_they_are_seen(store: Store, tiny_atlas: Atlas) -> None:
    """The four views together: most texels, with the known colours."""
    rows = list(range(VIEWS))
    rgb, sampled, filled, frontality = (
        torch.from_numpy(store.read(name, rows)).float() / 255
        for name in ("rgb", "sampled", "filled", "frontality")
    )
    island = torch.from_numpy(tiny_atlas.tables(TEXTURE).island_mask)
    seen = (sampled > 0) & island
    error = (rgb - known_texture()).square().mean(dim=1)
    assert -10 * error[seen].mean().log10() > 28
    assert ((filled > 0) >= seen).all()
    assert (frontality[seen] >= 0.1 - 1 / 255).all()
    assert (rgb.amax(dim=1)[filled == 0] == 0).all()
    merged, covered = merge_textures(rgb, frontality, filled > 0)
    assert covered[island].float().mean() > 0.75
    assert -10 * (merged - known_texture()[0]).square().mean(dim=0)[covered & island].mean().log10() > 24


def test_opposite_views_see_different_texels(store: Store) -> None:
    front, back = (store["sampled"][view] > 0 for view in (0, 2))
    assert (front & back).sum() < 0.05 * min(front.sum(), back.sum())


def test_rows_stay_and_say_why_they_are_empty(store: Store) -> None:
    assert len(store) == VIEWS + 2
    assert store.index["reason"].tolist() == [""] * VIEWS + ["diverged", stage.NOTHING_SEEN]
    assert store["filled"][VIEWS:].max() == 0


def test_occlusion_contours_leave_out_texels_around_the_arm(
    inputs: Paths, store: Store, tmp_path: Path
) -> None:
    everything = textures(inputs, tmp_path, PARAMS.model_copy(update={"occlusion_contours": False}))
    for view in range(VIEWS):
        assert (store["sampled"][view] <= everything["sampled"][view]).all()
    lost = [int((everything["sampled"][v] > store["sampled"][v]).sum()) for v in range(VIEWS)]
    assert max(lost) > 20


def test_one_worker_and_small_shards_give_the_same_texels(
    inputs: Paths, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stage, "SHARD_ROWS", 1)
    alone = textures(inputs, tmp_path)
    np.testing.assert_array_equal(alone["rgb"][:], store["rgb"][:])


def test_rows_with_the_very_same_body_go_together() -> None:
    params = BodyParams.zeros(5)
    params.transl[3] = 1.0
    groups = stage.same_bodies(params, np.array([True, True, False, True, True]))
    assert sorted(group.tolist() for group in groups) == [[0, 1, 4], [3]]
    assert stage.same_bodies(params, np.zeros(5, bool)) == []
