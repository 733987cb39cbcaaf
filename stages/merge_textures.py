"""The views of a scan → one neural texture: what a complete avatar of that person would look like (Eq. 5)."""

import functools
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from dinar_models.avatar import AvatarNets
from dinar_models.blending import Blending, blend_textures
from dinar_models.types import CHANNELS, NeuralTexture
from dinar_models.uv_atlas import Atlas
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.precision import DtypeChoice, resolve_dtype
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._core.weights import read_body_digests
from stages._data.images import partial_textures
from stages._data.models import load_nets

SHARD_ROWS = 4
"""Scans whose views go through the networks at once."""

GROUP = ["source", "subject", "scan", "variant"]
"""What the views of one row share."""


class MergeTexturesParams(StageParams):
    """How views are weighted."""

    seed: int
    texture_size: int
    splits: tuple[Literal["train", "val", "gate", "test"], ...] = Field(
        ("train", "val"), description="splits whose scans are merged"
    )
    blending: Blending = Field(
        "softmax",
        description="eq. 5 (paper), or one of the schemes that it names beside it: pyramid, poisson",
    )
    temperature: float = Field(10.0, gt=0, le=100, description="T of Eq. 5, per cosine of the viewing angle")
    min_views: int = Field(4, ge=1, description="valid views that a scan must have")
    dtype: DtypeChoice = "auto"
    max_reject_ratio: float = Field(0.2, ge=0, le=1, description="share of scans that may be rejected")


def run(params: MergeTexturesParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Merge the views of every scan and variant of the chosen splits."""
    dtype = resolve_dtype(params.dtype, runtime.device)
    index, views = merged_index(open_store(inputs["textures"], "textures").index, params)
    return build_store(
        out=outputs["merged"],
        schema="merged",
        index=index,
        sizes={"T": params.texture_size},
        attrs={**params.model_dump(mode="json"), "dtype": str(dtype), **read_body_digests(inputs["body"])},
        shard_rows=SHARD_ROWS,
        work=partial(
            merge_shard, views=views, inputs=dict(inputs), params=params, device=runtime.device, dtype=dtype
        ),
        runtime=runtime,
        key=work_key(params, [inputs[name] for name in STAGE.inputs]),
        max_reject_ratio=params.max_reject_ratio,
    )


def merged_index(textures: pd.DataFrame, params: MergeTexturesParams) -> tuple[pd.DataFrame, list[list[int]]]:
    """One line per scan and variant; and the texture rows to be merged, none for scans with too few views."""
    chosen = textures[textures["split"].isin(params.splits)].reset_index(names="row")
    lines, views = [], []
    for _, group in chosen.groupby(GROUP, sort=False):
        rows = group.loc[group["ok"], "row"].tolist()
        enough = len(rows) >= params.min_views
        reason = "" if enough else f"{len(rows)} valid views, {params.min_views} needed"
        lines.append({**group.iloc[0][[*GROUP, "split"]].to_dict(), "ok": enough, "reason": reason})
        views.append(rows if enough else [])
    return pd.DataFrame(lines, columns=[*GROUP, "split", "ok", "reason"]), views


@torch.no_grad()
def merge_shard(
    rows: range,
    *,
    views: list[list[int]],
    inputs: dict[str, Path],
    params: MergeTexturesParams,
    device: str,
    dtype: torch.dtype,
) -> ShardResult:
    """The merged textures of some scans; the noise depends on which rows a shard holds, which is fixed."""
    size = params.texture_size
    texture = np.zeros((len(rows), len(CHANNELS), size, size), np.float16)
    coverage = np.zeros((len(rows), size, size), np.uint8)
    usable = [row for row in rows if views[row]]
    if usable:
        generator = generator_for(params.seed, "merge_textures", rows.start, device=device)
        nets = _nets(inputs["avatar"], inputs["body"], device)
        island = _islands(inputs["body"], size).to(device)
        everything = [view for row in usable for view in views[row]]
        partials, frontality = partial_textures(everything, inputs, nets, generator, device, dtype)
        counts = [len(views[row]) for row in usable]
        per_scan = zip(usable, partials.data.split(counts), frontality.split(counts), strict=True)
        for row, data, cosine in per_scan:
            seen = NeuralTexture(data).filled[:, 0] > 0
            merged, covered = blend_textures(
                data, cosine, seen, island, temperature=params.temperature, blending=params.blending
            )
            texture[row - rows.start] = merged.half().cpu().numpy()
            coverage[row - rows.start] = covered.cpu().numpy() * np.uint8(255)
    return ShardResult({"texture": texture, "coverage": coverage})


@functools.lru_cache(maxsize=1)
def _nets(avatar: Path, body: Path, device: str) -> AvatarNets:
    """Loaded once per worker."""
    return load_nets(avatar, body, device)


@functools.lru_cache(maxsize=1)
def _islands(body: Path, size: int) -> torch.Tensor:
    """Label of each texel's island, −1 off all islands."""
    return torch.from_numpy(Atlas.load(body / "atlas.npz").tables(size).texel_part).long()


STAGE = Stage(
    "merge_textures",
    MergeTexturesParams,
    inputs=("views", "parsing", "bodies", "textures", "body", "avatar"),
    outputs=("merged",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
