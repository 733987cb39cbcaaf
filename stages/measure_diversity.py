"""How much the completions of one photo differ: several samples of the prior for the same partial texture.

What a photo hides has many plausible answers. A prior that knows them draws different ones; a deterministic net
can only give their mean, and fillings (mirror, mean fill) one guess.
"""

import itertools
import json
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from dinar_models.animation import render_frames, standing, turntable
from dinar_models.atlas.tables import AtlasTables
from dinar_models.perceptual import PerceptualDistance
from dinar_models.reconstruction import ReconstructionRules, fill_hidden
from dinar_models.types import NeuralTexture, to_net_range
from stages._core.cli import main
from stages._core.params import StageParams
from stages._core.publish import publish, write_file
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import Store, open_store
from stages._data.images import read_bodies
from stages._data.models import AvatarModels, load_models

TURNS = 4
"""Frames of a turn: the photo's side, which all samples share, then left, back and right."""

BACK = 2
"""The frame that shows the back."""


class MeasureDiversityParams(StageParams):
    """How often the prior is asked. How it is asked stands in the avatars' store."""

    seed: int
    image_size: int
    draws: int = Field(4, ge=2, le=32, description="samples for each person")


def run(params: MeasureDiversityParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Complete each test person's partial texture several times; compare the completions with each other.

    The output folder holds `diversity.json` and for each person a strip of the samples' backs, SUBJECT.png.
    """
    avatars = open_store(inputs["avatars"], "avatars")
    models = load_models(inputs, runtime.device)
    rules = rules_of(avatars)
    tables = models.surface.atlas.tables(models.nets.config.texture_size)
    distance = PerceptualDistance().to(runtime.device)
    diversity, spread = [], []
    with publish(outputs["draws"]) as folder:
        for row in avatars.ok_rows("test"):
            subject = str(avatars.index.at[row, "subject"])
            generator = generator_for(params.seed, "measure_diversity", subject, device=runtime.device)
            partial = read_partial(avatars, row, runtime.device)
            drawn = draw(models, partial, tables, rules, params.draws, generator)
            frames = turned(models, avatars, row, drawn, params.image_size)
            diversity.append(mean_distance(frames[:, 1:], distance))
            spread.append(colour_spread(drawn, partial, tables))
            Image.fromarray(np.concatenate(list(frames[:, BACK]), axis=1)).save(folder / f"{subject}.png")
        table = {
            "people": len(diversity),
            "draws": params.draws,
            "perceptual": float(np.mean(diversity)) if diversity else None,
            "colour": float(np.mean(spread)) if spread else None,
        }
        write_file(folder / "diversity.json", json.dumps(table, indent=1) + "\n")
    return table


def rules_of(avatars: Store) -> ReconstructionRules:
    """The rules by which the avatars were made."""
    attrs: dict[str, Any] = avatars.attrs
    values = {f.name: attrs[f.name] for f in fields(ReconstructionRules) if f.name != "dtype"}
    return ReconstructionRules(dtype=getattr(torch, attrs["dtype"].removeprefix("torch.")), **values)


def read_partial(avatars: Store, row: int, device: str) -> NeuralTexture:
    """What the photo gave."""
    return NeuralTexture(torch.from_numpy(avatars.read("partial", [row])).float().to(device))


def draw(
    models: AvatarModels,
    partial: NeuralTexture,
    tables: AtlasTables,
    rules: ReconstructionRules,
    count: int,
    generator: torch.Generator,
) -> NeuralTexture:
    """Completions of one partial texture that differ in the prior's noise alone."""
    if models.vqgan is None or models.diffusion is None:
        raise ValueError("measure_diversity needs vqgan and diffusion: without a prior nothing is drawn")
    many = NeuralTexture(partial.data.expand(count, -1, -1, -1))
    return fill_hidden(models.vqgan, models.diffusion, many, tables, rules, generator)[0]


def turned(models: AvatarModels, avatars: Store, row: int, drawn: NeuralTexture, size: int) -> np.ndarray:
    """The person standing, turned by quarters, with each texture: (draws, TURNS, size, size, 3) uint8."""
    surface = models.surface
    motion = turntable(standing(read_bodies(avatars, [row])), TURNS)
    scene: dict[str, Any] = {
        "body": surface.body, "atlas": surface.atlas, "rasterizer": surface.rasterizer, "size": size
    }  # fmt: skip
    return np.stack(
        [np.stack(list(render_frames(models.nets, data[None], motion, **scene))) for data in drawn.data]
    )


@torch.no_grad()
def mean_distance(frames: np.ndarray, distance: PerceptualDistance) -> float:
    """Mean `perceptual` between all pairs of draws, view by view."""
    images = to_net_range(torch.from_numpy(frames)).permute(0, 1, 4, 2, 3)
    pairs = itertools.combinations(range(len(images)), 2)
    return float(torch.cat([distance(images[a], images[b]) for a, b in pairs]).mean())


def colour_spread(drawn: NeuralTexture, partial: NeuralTexture, tables: AtlasTables) -> float:
    """Root mean variance of the hidden texels' colours over the draws, of a range of 1."""
    hidden: Tensor = torch.from_numpy(tables.island_mask) & (partial.filled[0, 0].cpu() < 0.5)
    return float(drawn.rgb.cpu().var(dim=0)[:, hidden].mean().sqrt())


STAGE = Stage(
    "measure_diversity",
    MeasureDiversityParams,
    inputs=("avatars", "body", "avatar", "vqgan", "diffusion"),
    outputs=("draws",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
