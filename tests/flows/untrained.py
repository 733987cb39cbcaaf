"""A complete folder of weights, small and untrained but real: pictures made with them are noise."""

import shutil
from pathlib import Path

import torch

from dinar_models.avatar import AvatarConfig, AvatarNets
from dinar_models.diffusion import DiffusionConfig, LatentDiffusion
from dinar_models.parser import build_parser, start_at_prior
from dinar_models.vqgan import VQGAN, VQGANConfig
from stages._core.weights import read_body_digests, save_weights

IMAGE_SIZE, TEXTURE_SIZE = 64, 64
AVATAR = AvatarConfig(
    image_size=IMAGE_SIZE,
    texture_size=TEXTURE_SIZE,
    encoder_base=8,
    generator_base=8,
    renderer_base=8,
    renderer_blocks=1,
    renderer_kernel=3,
    rgb_blocks=1,
    mask_blocks=1,
    colour_skip=True,
    style=8,
)
VQGAN_SIZES = VQGANConfig(texture_size=TEXTURE_SIZE, widths=(8, 8, 8), layers=1, groups=4, codes=16)
DIFFUSION = DiffusionConfig(
    latent_size=VQGAN_SIZES.latent_size,
    widths=(8, 8),
    attention=(False, False),
    layers=1,
    groups=4,
    head_width=8,
)


def write_models(root: Path, body: Path) -> Path:
    """All weights of `dinar avatar` below `root`, for a built body, drawn from a fixed seed."""
    digests = read_body_digests(body)
    shutil.copytree(body, root / "body")
    torch.manual_seed(0)
    parser = build_parser({"architecture": "unet", "size": 64})
    start_at_prior(parser)
    save_weights(root / "parser", "parser", parser, {"architecture": "unet", "size": 64})
    for folder, name, net in (
        ("avatar_finetuned", "avatar", AvatarNets(AVATAR)),
        ("vqgan", "vqgan", VQGAN(VQGAN_SIZES)),
        ("diffusion", "diffusion", LatentDiffusion(DIFFUSION)),
    ):
        save_weights(root / folder, name, net, net.config_dict(), digests)
    return root
