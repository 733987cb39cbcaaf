"""Weights in half precision, and how much of it shows in what they make."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinar_models.animation import render_frames, standing, turntable
from dinar_models.parser import build_parser
from dinar_models.parsing import parse_images
from dinar_models.reconstruction import reconstruct
from flows.model_folders import ModelFolder
from stages._core.seeds import generator_for
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._core.weights import WeightsError, load_weights
from stages._data.models import load_models
from stages.reconstruct import ReconstructParams, front_views, read_people

PEOPLE, VIEWS = 4, 4
"""Held-out people whose avatars are made twice, and views of each that are compared."""


@dataclass(frozen=True)
class Rounding:
    """What halving the weights' precision changes in avatars of held-out people, made with the same seeds.

    They are compared before they are tuned: Adam makes whole steps of the smallest gradients, so that tuned channels
    differ far more than what they show (32.5 dB between renders where weights alone make 71).

    Attributes:
        people, views: how many, and of each.
        least_psnr: dB between the renders of the view that changed most, over pixels that either shows the person in.
        mean_change: of these pixels over all views, levels of 255.
        parser_change: share of the photos' pixels whose class is another.
    """

    people: int
    views: int
    least_psnr: float
    mean_change: float
    parser_change: float

    def as_dict(self) -> dict[str, float]:
        """For the card, in as many digits as mean something."""
        digits = {"least_psnr": 1, "mean_change": 3, "parser_change": 6}
        return {name: round(value, digits.get(name, 0)) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class HeldOut:
    """Held-out people of a data set, as `reconstruct` reads them.

    Attributes:
        params: with which their avatars were made and measured.
        inputs: stores by the stage's names.
    """

    params: ReconstructParams
    inputs: Paths

    @property
    def dataset(self) -> str:
        """The first that was measured."""
        return self.params.datasets[0]

    def lines(self) -> pd.DataFrame:
        """The front views of the first few people."""
        people = front_views(self.dataset, self.inputs, self.params)
        return people[people["ok"]].head(PEOPLE)


def round_weights(source: Path, target: Path, name: str) -> int:
    """Copy NAME.json and NAME.safetensors, matrices and kernels in half precision.

    Vectors stay as they are: they are hardly a hundredth of the numbers, and among them are statistics of batch
    normalisation, which half precision may not hold.

    Returns:
        How many numbers the network has.

    Raises:
        WeightsError: a number is too large for half precision, or none.
    """
    tensors = load_file(source / f"{name}.safetensors")
    rounded = {key: _half(tensor) for key, tensor in tensors.items()}
    for key, tensor in rounded.items():
        if not tensor.isfinite().all():
            raise WeightsError(f"{source}/{name}: {key} holds numbers that half precision cannot")
    target.mkdir(parents=True, exist_ok=True)
    save_file(rounded, target / f"{name}.safetensors")
    (target / f"{name}.json").write_bytes((source / f"{name}.json").read_bytes())
    return sum(tensor.numel() for tensor in tensors.values())


def _half(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor


def compare(before: ModelFolder, after: ModelFolder, people: HeldOut) -> Rounding:
    """Make the same avatars with both, in single precision so that only the weights differ."""
    lines = people.lines()
    one, other = (_renders(weights, people, lines).astype(np.float64) for weights in (before, after))
    difference = np.abs(one - other)
    shown = ((one < 255) | (other < 255)).any(axis=-1)
    errors = [np.square(d[s]).mean() for d, s in zip(difference, shown, strict=True)]
    return Rounding(
        people=len(lines),
        views=VIEWS,
        least_psnr=float(10 * np.log10(255**2 / max(*errors, 1e-6))),
        mean_change=float(difference[shown].mean()),
        parser_change=_parser_change(before, after, people, lines),
    )


def _renders(weights: ModelFolder, people: HeldOut, lines: pd.DataFrame) -> np.ndarray:
    """(people · VIEWS, S, S, 3) uint8, standing, from all around."""
    models, params = load_models(weights.folders, "cpu"), people.params.model_copy(update={"tune_steps": 0})
    photos, bodies = read_people(people.dataset, lines, people.inputs, models, params)
    made = reconstruct(
        models.nets, models.vqgan, models.diffusion, photos, models.surface.atlas, params.rules(torch.float32),
        generator=generator_for(people.params.seed, "reconstruct", *lines["subject"]),
    )  # fmt: skip
    surface, frames = models.surface, list[np.ndarray]()
    for row in range(len(bodies)):
        poses = turntable(standing(bodies.select([row])), VIEWS)
        frames += render_frames(
            models.nets, made.texture.data[[row]], poses, body=surface.body, atlas=surface.atlas,
            rasterizer=surface.rasterizer, size=models.nets.config.image_size,
        )  # fmt: skip
    return np.stack(frames)


def _parser_change(before: ModelFolder, after: ModelFolder, people: HeldOut, lines: pd.DataFrame) -> float:
    views = open_store(people.inputs[f"views.{people.dataset}"], "views")
    rgb = torch.from_numpy(views.read("rgb", lines["view_row"].tolist()))
    parts = [
        parse_images(load_weights(weights.parser, "parser", build_parser), rgb, len(rgb), "cpu").parts
        for weights in (before, after)
    ]
    return float((parts[0] != parts[1]).float().mean())
