"""The networks that make an avatar from a photo, and the body they were trained for, loaded together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dinar_models.avatar import AvatarNets
from dinar_models.body import BodyModel
from dinar_models.diffusion import LatentDiffusion
from dinar_models.rasterize.base import make_rasterizer
from dinar_models.surface import Surface
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN
from stages._core.precision import channels_last
from stages._core.weights import load_weights, read_body_digests


@dataclass(frozen=True)
class AvatarModels:
    """All for the same body and atlas.

    Attributes:
        nets: the fine-tuned ones.
        vqgan, diffusion: what completes their textures; None where the folders hold no such weights.
        surface: the body that wears them.
    """

    nets: AvatarNets
    vqgan: VQGAN | None
    diffusion: LatentDiffusion | None
    surface: Surface


def load_models(folders: Mapping[str, Path], device: str) -> AvatarModels:
    """Load everything from the folders `body`, `avatar`, and `vqgan` and `diffusion` where they are named.

    Raises:
        WeightsError: naming what is missing or was trained for another body.
    """
    digests = read_body_digests(folders["body"])
    nets = load_nets(folders["avatar"], folders["body"], device)
    vqgan, diffusion = None, None
    if "vqgan" in folders:
        vqgan = load_weights(folders["vqgan"], "vqgan", VQGAN.from_config, digests).to(device)
    if "diffusion" in folders:
        diffusion = load_weights(folders["diffusion"], "diffusion", LatentDiffusion.from_config, digests)
        diffusion.to(device)
    return AvatarModels(nets, vqgan, diffusion, load_surface(folders["body"], device))


def load_nets(avatar: Path, body: Path, device: str) -> AvatarNets:
    """Encoder, generator and renderer."""
    nets = load_weights(avatar, "avatar", AvatarNets.from_config, read_body_digests(body))
    return channels_last(nets.to(device))


def load_surface(body: Path, device: str) -> Surface:
    """The body with its atlas and the rasteriser that suits the device."""
    return Surface(BodyModel.load(body), Atlas.load(body / "atlas.npz"), make_rasterizer("auto", device))
