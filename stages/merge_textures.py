"""The views of a scan → one neural texture: what a complete avatar of that person would look like (Eq. 5)."""

import functools
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from dinar_models.avatar import AvatarNets
from dinar_models.cameras import Crop, crop_image
from dinar_models.texture import merge_textures
from dinar_models.types import NeuralTexture
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._core.weights import load_weights, read_body_digests

SHARD_ROWS = 8

GROUP = ["source", "subject", "scan", "variant"]
"""What the views of one row share."""


class MergeTexturesParams(StageParams):
    """How views are weighted."""

    seed: int
    texture_size: int
    splits: tuple[Literal["train", "val", "gate", "test"], ...] = Field(
        ("train", "val"), description="splits whose scans are merged"
    )
    temperature: float = Field(10, gt=0, le=100, description="T of Eq. 5, per cosine of the viewing angle")
    min_views: int = Field(4, ge=1, description="valid views that a scan must have")
    max_reject_ratio: float = Field(0.2, ge=0, le=1, description="share of scans that may be rejected")


def run(params: MergeTexturesParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Merge the views of every scan and variant of the chosen splits."""
    textures = open_store(inputs["textures"], "textures")
    index, views = merged_index(textures.index, params)
    return build_store(
        out=outputs["merged"],
        schema="merged",
        index=index,
        sizes={"T": params.texture_size},
        attrs={**params.model_dump(mode="json"), **read_body_digests(inputs["body"])},
        shard_rows=SHARD_ROWS,
        work=partial(merge_shard, views=views, inputs=dict(inputs), params=params, device=runtime.device),
        runtime=runtime,
        key=work_key(params, [inputs[name] for name in STAGE.inputs]),
        max_reject_ratio=params.max_reject_ratio,
    )


def merged_index(textures: pd.DataFrame, params: MergeTexturesParams) -> tuple[pd.DataFrame, list[list[int]]]:
    """One line per scan and variant, and the rows of its valid views."""
    chosen = textures[textures["split"].isin(params.splits)].reset_index(names="row")
    lines, views = [], []
    for _, group in chosen.groupby(GROUP, sort=False):
        rows = group.loc[group["ok"], "row"].tolist()
        enough = len(rows) >= params.min_views
        reason = "" if enough else f"{len(rows)} valid views, {params.min_views} needed"
        lines.append({**group.iloc[0][[*GROUP, "split"]].to_dict(), "ok": enough, "reason": reason})
        views.append(rows)
    return pd.DataFrame(lines, columns=[*GROUP, "split", "ok", "reason"]), views


def merge_shard(
    rows: range, *, views: list[list[int]], inputs: dict[str, Path], params: MergeTexturesParams, device: str
) -> ShardResult:
    """Some rows; a row's noise depends on its own name only."""
    index = open_store(inputs["textures"], "textures").index
    size = params.texture_size
    texture = np.zeros((len(rows), 21, size, size), np.float16)
    coverage = np.zeros((len(rows), size, size), np.uint8)
    for place, row in enumerate(rows):
        if len(views[row]) < params.min_views:
            continue
        name = index.loc[views[row][0], GROUP].tolist()
        generator = generator_for(params.seed, "merge_textures", *name, device=device)
        merged, covered = merge_views(views[row], inputs, params, device, generator)
        texture[place] = merged.half().cpu().numpy()
        coverage[place] = covered.cpu().numpy() * np.uint8(255)
    return ShardResult({"texture": texture, "coverage": coverage})


@torch.no_grad()
def merge_views(
    rows: list[int],
    inputs: dict[str, Path],
    params: MergeTexturesParams,
    device: str,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """(21, T, T) and the (T, T) mask of covered texels of views of one person in one pose."""
    nets = _nets(inputs["avatar"], inputs["body"], device)
    rgb, mask = encoder_input(rows, inputs, nets.config.image_size, device)
    generated = nets.generate(rgb, mask, generator)
    store = open_store(inputs["textures"], "textures")
    colour, sampled, filled, frontality = (
        torch.from_numpy(store.read(name, rows)).to(device).float() / 255
        for name in ("rgb", "sampled", "filled", "frontality")
    )
    texture = NeuralTexture.assemble(generated, colour, sampled[:, None], filled[:, None])
    return merge_textures(texture.data, frontality, filled > 0.5, params.temperature)


def encoder_input(rows: list[int], inputs: dict[str, Path], size: int, device: str) -> tuple[Tensor, Tensor]:
    """The square crops of the person on black, (B, 3, S, S) in [−1, 1], and masks (B, 1, S, S) in [0, 1]."""
    rgb = torch.from_numpy(open_store(inputs["views"], "views").read("rgb", rows)).to(device).float()
    mask = torch.from_numpy(open_store(inputs["parsing"], "parsing").read("mask", rows)).to(device).float()
    index = open_store(inputs["bodies"], "bodies").index.loc[rows]
    crop = Crop(
        *(
            torch.tensor(index[f"crop_{part}"].to_numpy(), dtype=torch.float32, device=device)
            for part in ("x", "y", "side")
        )
    )
    both = torch.cat([rgb.permute(0, 3, 1, 2), mask[:, None]], dim=1) / 255
    both = crop_image(both, crop, size, fill=0.0)
    return 2 * both[:, :3] * both[:, 3:] - 1, both[:, 3:]


@functools.lru_cache(maxsize=1)
def _nets(avatar: Path, body: Path, device: str) -> AvatarNets:
    """Loaded once per worker."""
    digests = read_body_digests(body)
    return load_weights(avatar, "avatar", AvatarNets.from_config, digests).to(device)


STAGE = Stage(
    "merge_textures",
    MergeTexturesParams,
    inputs=("views", "parsing", "bodies", "textures", "body", "avatar"),
    outputs=("merged",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
