"""What several stages read from the stores of images: encoder inputs and partial neural textures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dinar_models.avatar import AvatarNets
from dinar_models.body import BodyParams
from dinar_models.cameras import Camera, Crop, crop_image
from dinar_models.types import NeuralTexture
from stages._core.precision import autocast
from stages._core.schemas import BODY_ARRAYS
from stages._core.store import Store, open_store


def encoder_input(
    rows: Sequence[int], inputs: Mapping[str, Path], size: int, device: str
) -> tuple[Tensor, Tensor]:
    """The square crops of the person on black, (B, 3, S, S) in [−1, 1], and masks (B, 1, S, S) in [0, 1]."""
    rgb = torch.from_numpy(open_store(inputs["views"], "views").read("rgb", list(rows))).to(device).float()
    parsing = open_store(inputs["parsing"], "parsing")
    mask = torch.from_numpy(parsing.read("mask", list(rows))).to(device).float()
    crop = read_crops(open_store(inputs["bodies"], "bodies"), rows, device)
    both = torch.cat([rgb.permute(0, 3, 1, 2), mask[:, None]], dim=1) / 255
    both = crop_image(both, crop, size, fill=0.0)
    return 2 * both[:, :3] * both[:, 3:] - 1, both[:, 3:]


def read_crops(bodies: Store, rows: Sequence[int], device: str = "cpu") -> Crop:
    """The square crops that the fits chose."""
    index = bodies.index.loc[list(rows)]
    parts = (index[f"crop_{part}"].to_numpy(dtype="float32") for part in ("x", "y", "side"))
    return Crop(*(torch.from_numpy(part.copy()).to(device) for part in parts))


def read_cameras(views: Store, rows: Sequence[int]) -> Camera:
    """The cameras of some images."""
    K, R, T = (torch.from_numpy(views.read(name, list(rows))) for name in ("K", "R", "T"))
    return Camera(K, R, T, int(views["rgb"].shape[1]))


def read_bodies(bodies: Store, rows: Sequence[int]) -> BodyParams:
    """The body parameters of some rows."""
    return BodyParams.from_dict({k: torch.from_numpy(bodies.read(k, list(rows))) for k in BODY_ARRAYS})


@torch.no_grad()
def partial_textures(
    rows: Sequence[int],
    inputs: Mapping[str, Path],
    nets: AvatarNets,
    generator: torch.Generator,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[NeuralTexture, Tensor]:
    """All 21 channels that single images give (eq. 2), and their frontality (B, T, T) in [0, 1].

    The networks run in `dtype`.
    """
    rgb, mask = encoder_input(rows, inputs, nets.config.image_size, device)
    with autocast(device, dtype):
        generated = nets.generate(rgb, mask, generator).float()
    store = open_store(inputs["textures"], "textures")
    colour, sampled, filled, frontality = (
        torch.from_numpy(store.read(name, list(rows))).to(device).float() / 255
        for name in ("rgb", "sampled", "filled", "frontality")
    )
    return NeuralTexture.assemble(generated, colour, sampled[:, None], filled[:, None]), frontality
