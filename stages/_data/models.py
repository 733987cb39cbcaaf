"""The networks that make an avatar from a photo, and the body they were trained for, loaded together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dinar_models.avatar import AvatarNets
from dinar_models.body import BodyModel
from dinar_models.diffusion import LatentDiffusion
from dinar_models.discriminator import Discriminator
from dinar_models.rasterize.base import make_rasterizer
from dinar_models.reconstruction import ReconstructionRules
from dinar_models.surface import Surface
from dinar_models.tuning import Critics
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN
from stages._core.precision import channels_last
from stages._core.weights import WeightsError, load_weights, read_body_digests
from stages._data.distances import build_distance


@dataclass(frozen=True)
class AvatarModels:
    """All for the same body and atlas.

    Attributes:
        nets: the fine-tuned ones.
        vqgan, diffusion: what completes their textures; None where the folders hold no such weights.
        surface: the body that wears them.
        discriminator: as training left it; None where it had none.
    """

    nets: AvatarNets
    vqgan: VQGAN | None
    diffusion: LatentDiffusion | None
    surface: Surface
    discriminator: Discriminator | None = None


def load_models(folders: Mapping[str, Path], device: str) -> AvatarModels:
    """Load everything from the folders `body`, `avatar`, and `vqgan` and `diffusion` where they are named.

    Raises:
        WeightsError: naming what is missing or was trained for another body.
    """
    avatar, body = folders["avatar"], folders["body"]
    digests = read_body_digests(body)
    nets = load_nets(avatar, body, device)
    vqgan, diffusion, judge = None, None, None
    if "vqgan" in folders:
        vqgan = channels_last(load_vqgan(avatar, folders["vqgan"], body).to(device))
    if "diffusion" in folders:
        diffusion = load_weights(folders["diffusion"], "diffusion", LatentDiffusion.from_config, digests)
        diffusion = channels_last(diffusion.to(device))
    if (avatar / "discriminator.json").is_file():
        judge = load_weights(avatar, "discriminator", Discriminator.from_config, digests).to(device)
    return AvatarModels(nets, vqgan, diffusion, load_surface(body, device), judge)


def build_critics(rules: ReconstructionRules, models: AvatarModels, weights: Path | None) -> Critics:
    """The networks that judge renders while an avatar is tuned.

    Args:
        weights: folder of LPIPS' backbone; not looked into if the rules do not ask for LPIPS.

    Raises:
        WeightsError: the rules ask for the discriminator and training had none.
        ValueError, FileNotFoundError: see build_distance.
    """
    if rules.adversarial and models.discriminator is None:
        raise WeightsError(
            "reconstruct.adversarial needs the discriminator of finetune_avatar, which was trained without one"
        )
    distance = build_distance(rules.distance, weights) if rules.perceptual_weight else None
    return Critics(distance, models.discriminator)


def load_vqgan(avatar: Path, vqgan: Path, body: Path) -> VQGAN:
    """The autoencoder that belongs to the nets in `avatar`: theirs, if it was finetuned with them."""
    folder = avatar if (avatar / "vqgan.json").is_file() else vqgan
    return load_weights(folder, "vqgan", VQGAN.from_config, read_body_digests(body))


def load_nets(avatar: Path, body: Path, device: str) -> AvatarNets:
    """Encoder, generator and renderer."""
    nets = load_weights(avatar, "avatar", AvatarNets.from_config, read_body_digests(body))
    return channels_last(nets.to(device))


def load_surface(body: Path, device: str) -> Surface:
    """The body with its atlas and the rasteriser that suits the device."""
    return Surface(BodyModel.load(body), Atlas.load(body / "atlas.npz"), make_rasterizer("auto", device))
