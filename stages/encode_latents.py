"""Partial and merged textures → the pairs of latents that the diffusion learns from (paper section 3.3)."""

import functools
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from dinar_models.atlas.tables import AtlasTables
from dinar_models.avatar import AvatarNets
from dinar_models.diffusion import latent_mask
from dinar_models.fills import Guess, fill_guess
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.precision import DtypeChoice, autocast, channels_last, resolve_dtype
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._core.weights import read_body_digests
from stages._data.images import partial_textures
from stages._data.models import load_nets, load_vqgan

SHARD_ROWS = 64

GROUP = ["source", "subject", "scan", "variant"]
"""What an image and its merged texture share."""

HELD_OUT = "held out: the diffusion never sees this split"
NO_MERGED = "its scan has no merged texture"


class EncodeLatentsParams(StageParams):
    """Which images become pairs."""

    seed: int
    splits: tuple[Literal["train", "val", "gate", "test"], ...] = Field(
        ("train", "val"), description="splits whose images are encoded"
    )
    guess: Guess = Field(
        "none",
        description="hidden texels of partial textures: left empty (paper), or mirrored from seen ones",
    )
    dtype: DtypeChoice = "auto"
    max_reject_ratio: float = Field(0.2, ge=0, le=1, description="share of images that may be rejected")


def run(params: EncodeLatentsParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Encode every image of the chosen splits beside the merged texture of its scan and variant."""
    index = pairs_index(
        open_store(inputs["textures"], "textures").index, open_store(inputs["merged"], "merged").index, params
    )
    dtype = resolve_dtype(params.dtype, runtime.device)
    vqgan = _vqgan(inputs["avatar"], inputs["vqgan"], inputs["body"], runtime.device)
    return build_store(
        out=outputs["latents"],
        schema="latents",
        index=index.drop(columns="merged_row"),
        sizes={"t": vqgan.config.latent_size},
        attrs={**params.model_dump(mode="json"), "dtype": str(dtype), **read_body_digests(inputs["body"])},
        shard_rows=SHARD_ROWS,
        work=partial(
            encode_shard,
            merged_rows=index["merged_row"].to_numpy(),
            inputs=dict(inputs),
            params=params,
            device=runtime.device,
            dtype=dtype,
        ),
        runtime=runtime,
        key=work_key(params, inputs.values()),
        max_reject_ratio=params.max_reject_ratio,
    )


def pairs_index(textures: pd.DataFrame, merged: pd.DataFrame, params: EncodeLatentsParams) -> pd.DataFrame:
    """The images' lines with the row of their merged texture; those that make no pair are not ok."""
    complete = merged[merged["ok"]].reset_index(names="merged_row")[[*GROUP, "merged_row"]]
    index = textures.merge(complete, on=GROUP, how="left")
    index["merged_row"] = index["merged_row"].fillna(-1).astype(int)
    for wrong, reason in (
        (~index["split"].isin(params.splits), HELD_OUT),
        (index["merged_row"] < 0, NO_MERGED),
    ):
        index.loc[wrong & index["ok"], "reason"] = reason
        index.loc[wrong, "ok"] = False
    return index


@torch.no_grad()
def encode_shard(
    rows: range,
    *,
    merged_rows: np.ndarray,
    inputs: dict[str, Path],
    params: EncodeLatentsParams,
    device: str,
    dtype: torch.dtype,
) -> ShardResult:
    """Some rows; each merged texture is encoded once."""
    vqgan = _vqgan(inputs["avatar"], inputs["vqgan"], inputs["body"], device)
    side = vqgan.config.latent_size
    index = open_store(inputs["textures"], "textures").index
    arrays = {
        "z_partial": np.zeros((len(rows), 6, side, side), np.float16),
        "z_merged": np.zeros((len(rows), 6, side, side), np.float16),
        "mask": np.zeros((len(rows), 1, side, side), np.float16),
    }
    usable = [
        r for r in rows if merged_rows[r] >= 0 and index.at[r, "ok"] and index.at[r, "split"] in params.splits
    ]
    for row_of_merged in dict.fromkeys(merged_rows[usable]):
        group = [r for r in usable if merged_rows[r] == row_of_merged]
        places = [r - rows.start for r in group]
        generator = generator_for(
            params.seed, "encode_latents", *(index.at[group[0], name] for name in GROUP), device=device
        )
        nets = _nets(inputs["avatar"], inputs["body"], device)
        texture, _ = partial_textures(group, inputs, nets, generator, device, dtype)
        guess = fill_guess(texture, _tables(inputs["body"], texture.data.shape[-1]), params.guess)
        merged = open_store(inputs["merged"], "merged").read("texture", [int(row_of_merged)])
        with autocast(device, dtype):
            z = vqgan.encode(torch.cat([guess.data, torch.from_numpy(merged).float().to(device)]))
        arrays["z_partial"][places], arrays["z_merged"][places] = (
            part.half().cpu() for part in (z[:-1], z[-1:])
        )
        arrays["mask"][places] = latent_mask(texture.filled, side).half().cpu()
    return ShardResult(arrays)


@functools.lru_cache(maxsize=1)
def _nets(avatar: Path, body: Path, device: str) -> AvatarNets:
    return load_nets(avatar, body, device)


@functools.lru_cache(maxsize=1)
def _vqgan(avatar: Path, vqgan: Path, body: Path, device: str) -> VQGAN:
    return channels_last(load_vqgan(avatar, vqgan, body).to(device))


@functools.lru_cache(maxsize=1)
def _tables(body: Path, size: int) -> AtlasTables:
    return Atlas.load(body / "atlas.npz").tables(size)


STAGE = Stage(
    "encode_latents",
    EncodeLatentsParams,
    inputs=("views", "parsing", "bodies", "textures", "merged", "body", "avatar", "vqgan"),
    outputs=("latents",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
