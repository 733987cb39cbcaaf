"""Parameters, multiplications and activations of every network: `python -m benchmarks.model_size --profile paper`.

Networks are built on torch's meta device: nothing is computed, and the paper's sizes cost no memory. For one sample,

* `parameters` are the trained numbers;
* `macs` are the multiply–adds of convolutions, linear layers and attention in a forward pass (the search for the
  nearest code is not counted);
* `activation_bytes` is what autograd keeps of a forward pass in float32 for the backward one, parameters not counted.
"""

import argparse
import json
from collections.abc import Callable
from io import StringIO
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dinar_models.diffusion import LatentDiffusion
from dinar_models.discriminator import Discriminator
from dinar_models.types import CHANNELS
from dinar_models.vqgan import LATENT_CHANNELS
from flows.profiles import profile_names, render_profile
from stages import train_avatar, train_diffusion, train_vqgan
from stages._core.params import parse_section

Size = dict[str, int]


class Case(NamedTuple):
    """A network and a forward pass of one sample through it."""

    net: nn.Module
    forward: Callable[[], Any]


def measure(profile: str = "paper") -> dict[str, Size]:
    """Sizes of all networks of a profile."""
    return {name: size_of(case) for name, case in build_cases(profile).items()}


def build_cases(profile: str) -> dict[str, Case]:
    """Every network that the profile trains, on the meta device."""
    values = yaml.safe_load(StringIO(render_profile(profile)))
    avatar = parse_section(train_avatar.TrainAvatarParams, "train_avatar", values)
    autoencoder = parse_section(train_vqgan.TrainVqganParams, "train_vqgan", values)
    diffusion = parse_section(train_diffusion.TrainDiffusionParams, "train_diffusion", values)
    image, texture = avatar.image_size, avatar.texture_size
    with torch.device("meta"):
        nets = train_avatar.build(avatar)
        vqgan = train_vqgan.build(autoencoder)
        latent = vqgan.config.latent_size
        guess = values["encode_latents"]["guess"]
        unet = LatentDiffusion(train_diffusion.configure(diffusion, latent, guess)).unet
        judged = avatar.judged_size(image)
        judge = Discriminator(judged, avatar.discriminator_base)
        rgb, mask = torch.zeros(1, 3, image, image), torch.zeros(1, 1, image, image)
        raster, uv = torch.zeros(1, len(CHANNELS), image, image), torch.zeros(1, image, image, 2)
        whole = torch.zeros(1, len(CHANNELS), texture, texture)
        noisy = torch.zeros(1, 2 * LATENT_CHANNELS + 1, latent, latent)
        style, t = torch.zeros(1, avatar.style), torch.zeros(1)
        crop = torch.zeros(1, 3, judged, judged)
    return {
        "encoder": Case(nets.encoder, lambda: nets.encoder(rgb, mask)),
        "generator": Case(nets.generator, lambda: nets.generator(style)),
        "renderer": Case(nets.renderer, lambda: nets.renderer(raster, uv)),
        "discriminator": Case(judge, lambda: judge(crop)),
        "vqgan": Case(vqgan, lambda: vqgan.decode_codes(vqgan.encode(whole))),
        "unet": Case(unet, lambda: unet(noisy, t).sample),
    }


def size_of(case: Case) -> Size:
    """Count what a forward pass does and keeps."""
    counter = FlopCounterMode(display=False)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        case.forward()
    own = {t.untyped_storage()._cdata for t in (*case.net.parameters(), *case.net.buffers())}
    return {
        "parameters": sum(p.numel() for p in case.net.parameters()),
        "macs": counter.get_total_flops() // 2,
        "activation_bytes": sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own),
    }


def main() -> None:
    """Print the sizes as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=profile_names(), default="paper")
    print(json.dumps(measure(parser.parse_args().profile), indent=1))


if __name__ == "__main__":
    main()
