"""Photo to avatar at the paper's size, and what the published code's steps take here: `python -m benchmarks.photo`.

Ours is `dinar avatar` from the file to the turntable: finding the person, fitting the body, loading the networks,
completing the texture with DPM-Solver++, tuning it, rendering. The networks have the paper's sizes and random
weights, which cost as much as trained ones. The photo is a render of a test person. Where a part has many steps,
`…_one_step_s` is the mean of them, without what was loaded before the first.

Textures are completed and tuned as the profile `demo` says: colours matched by least squares, 96 steps of tuning with
the perceptual distance that needs no other weights. `--tuning paper` takes the profile's own section instead: colours
matched in 64 more steps through the renderer, LPIPS on VGG, and the discriminator, which learns along.

The published code's steps are 200 of DDIM and 64 + 64 of tuning, each of these on four copies of the image, with the
whole image rendered, LPIPS on VGG, and a step of the discriminator. Its networks are ours in plain float32
(benchmarks/plain.py). One step of each kind is timed, and figures that are multiplied from it are called
`…_s_extrapolated`. Finding and fitting the person, which it leaves to other programs, does not count.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import lpips
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from benchmarks.plain import plain_operators, whole_images
from benchmarks.untrained import write_vgg
from dinar_models.adversary import Adversary, AdversaryRules
from dinar_models.avatar import AvatarNets, over_white
from dinar_models.diffusion import LATENT_CHANNELS, LatentDiffusion
from dinar_models.discriminator import Discriminator
from dinar_models.reconstruction import ReconstructionRules
from dinar_models.types import CHANNELS
from dinar_models.vqgan import VQGAN
from flows import create_avatar
from flows.model_folders import ModelFolder, find_models
from flows.profiles import BASE, profile_names, render_profile
from stages import reconstruct, render_views, train_avatar, train_diffusion, train_vqgan
from stages._core.params import parse_section
from stages._core.precision import resolve_dtype
from stages._core.scan_store import open_scans, read_scan
from stages._core.weights import read_body_digests, save_weights

STORES, MODELS = Path("data/stores/synthetic"), Path("data/models")
PHOTO_SIZE = 768
STEPS = 25
"""Of DPM-Solver++."""

SEVERAL = 2
"""A part that reports more often than at its start and its end has steps."""

DDIM_STEPS, TUNING_STEPS, TUNING_BATCH, PENALTY_EVERY = 200, 128, 4, 16
"""The published code's."""


def measure(
    stores: Path = STORES,
    models: Path = MODELS,
    *,
    profile: str = "paper",
    tuning: str = BASE,
    photo: Path | None = None,
) -> dict[str, float]:
    """Seconds of each part, of all, of the published steps, and the ratio.

    Args:
        stores: of the embedded people, of whom one is photographed.
        models: with `body` and `parser`.
        profile: sizes of the networks.
        tuning: profile that says how avatars are completed and tuned.
        photo: an image file instead.

    Raises:
        SystemExit: saying what to run when something is missing.
    """
    needed = [models / "body", models / "parser", *([] if photo else [stores / "scans"])]
    missing = [path for path in needed if not path.is_dir()]
    if missing:
        raise SystemExit(f"{missing[0]} is missing: run `dvc repro train_parser` first")
    values = yaml.safe_load(render_profile(profile))
    with tempfile.TemporaryDirectory() as folder:
        published = published_steps(values)
        where = untrained_models(values, models, Path(folder) / "models")
        weights = write_vgg(Path(folder) / "weights")
        rules = _rules(tuning)
        figures = _ours(photo or _photograph(stores, Path(folder)), where, rules, weights)
    speedup = published["all_s_extrapolated"] / figures["all_s"]
    return {**figures, **{f"published_{name}": s for name, s in published.items()}, "speedup": speedup}


def untrained_models(values: Mapping[str, Any], models: Path, root: Path) -> ModelFolder:
    """A complete folder of weights: networks of a profile's sizes as they start, body and parser as they are."""
    root.mkdir()
    digests = read_body_digests(models / "body")
    for name in ("body", "parser"):
        (root / name).symlink_to((models / name).resolve())
    nets, vqgan, diffusion = _networks(values)
    save_weights(root / "avatar_finetuned", "avatar", nets, nets.config_dict(), digests)
    judge = _untrained_judge(values)
    save_weights(root / "avatar_finetuned", "discriminator", judge, judge.config_dict(), digests)
    save_weights(root / "vqgan", "vqgan", vqgan, vqgan.config_dict(), digests)
    save_weights(root / "diffusion", "diffusion", diffusion, diffusion.config_dict(), digests)
    return find_models(str(root), root)


def _networks(values: Mapping[str, Any]) -> tuple[AvatarNets, VQGAN, LatentDiffusion]:
    torch.manual_seed(0)
    sections = dict(values)
    nets = train_avatar.build(parse_section(train_avatar.TrainAvatarParams, "train_avatar", sections))
    vqgan = train_vqgan.build(parse_section(train_vqgan.TrainVqganParams, "train_vqgan", sections))
    params = parse_section(train_diffusion.TrainDiffusionParams, "train_diffusion", sections)
    config = train_diffusion.configure(params, vqgan.config.latent_size, sections["encode_latents"]["guess"])
    return nets, vqgan, LatentDiffusion(config)


def _untrained_judge(values: Mapping[str, Any]) -> Discriminator:
    params = parse_section(train_avatar.TrainAvatarParams, "train_avatar", dict(values))
    return Discriminator(params.judged_size(params.image_size), params.discriminator_base)


def _photograph(stores: Path, folder: Path) -> Path:
    """A test person from the front, on white."""
    scans = open_scans(stores / "scans")
    row = int((scans.index["split"] == "test").to_numpy().argmax())
    subject, name = scans.index.loc[row, ["subject", "scan"]]
    params = render_views.RenderViewsParams.model_validate(
        {"seed": 0, "image_size": PHOTO_SIZE, "views": 1, "variants": 1}
    )
    scan = read_scan(stores / "scans", row)
    rgb = render_views.render_scan(scan, str(subject), str(name), params)["rgb"][0]
    Image.fromarray(rgb).save(folder / "photo.png")
    return folder / "photo.png"


def _rules(profile: str) -> ReconstructionRules:
    """Of a profile, with our sampler."""
    values = yaml.safe_load(render_profile(profile))
    params = parse_section(reconstruct.ReconstructParams, "reconstruct", values)
    return replace(params.rules(resolve_dtype("auto", "cpu")), sampler="dpm++", steps=STEPS)


def _ours(photo: Path, where: ModelFolder, rules: ReconstructionRules, weights: Path) -> dict[str, float]:
    """Seconds of the parts that `dinar avatar` reports, and of all; a part begins where the one before ends."""
    moments: dict[str, list[float]] = {}

    def step(what: str, done: int, total: int) -> None:
        moments.setdefault(what, []).append(time.perf_counter())

    with mock.patch.object(create_avatar, "LOSS_WEIGHTS", weights):
        start = time.perf_counter()
        create_avatar.make_avatar([photo], where, 0, rules, step)
        end = time.perf_counter()
    begin, figures = start, {}
    for what, times in moments.items():
        part = what.replace(" ", "_")
        figures[f"{part}_s"], begin = times[-1] - begin, times[-1]
        if len(times) > SEVERAL:
            figures[f"{part}_one_step_s"] = (times[-1] - times[0]) / (len(times) - 1)
    return figures | {"all_s": end - start}


def published_steps(values: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of a step of the sampler and of tuning, and what all of them come to."""
    with plain_operators(), whole_images():
        nets, _, diffusion = _networks(values)
        denoise = _least(lambda: _denoise(diffusion))
        del diffusion
        step, penalty = _tuning(nets.eval().requires_grad_(False), _untrained_judge(values))
    tune = TUNING_BATCH * (step + penalty / PENALTY_EVERY)
    parts = {"sampling": (denoise, DDIM_STEPS), "tuning": (tune, TUNING_STEPS)}
    figures = {f"{name}_one_step_s": one for name, (one, _) in parts.items()}
    figures |= {f"{name}_s_extrapolated": one * count for name, (one, count) in parts.items()}
    return figures | {"all_s_extrapolated": sum(one * count for one, count in parts.values())}


@torch.no_grad()
def _denoise(diffusion: LatentDiffusion) -> None:
    side = diffusion.config.latent_size
    diffusion.eval().unet(torch.zeros(1, 2 * LATENT_CHANNELS + 1, side, side), torch.zeros(1))


def _tuning(nets: AvatarNets, net: Discriminator) -> tuple[float, float]:
    """Seconds for one image: a step of the texture and of the discriminator, and what a gradient penalty adds."""
    size, texels = nets.config.image_size, nets.config.texture_size
    judge = Adversary(net, AdversaryRules(), torch.float32)
    distance = _vgg_distance()
    texture = torch.rand(1, len(CHANNELS), texels, texels).requires_grad_()
    optimiser = torch.optim.Adam([texture], lr=2e-3, betas=(0.0, 0.99))
    uv, target = _standing_raster(size), torch.zeros(1, 3, size, size)
    crop = (slice(None), slice(None), slice(0, size // 2), slice(0, size // 2))

    def step(number: int) -> None:
        image = over_white(*nets.render(texture, uv))
        loss = (image - target).square().mean() + distance(image[crop], target[crop]).mean()
        optimiser.zero_grad()
        (loss + 0.01 * judge.judge(image).mean()).backward()
        optimiser.step()
        judge.learn(target, image, number)

    plain = _least(lambda: step(1))
    return plain, max(_least(lambda: step(0)) - plain, 0.0)


def _vgg_distance() -> nn.Module:
    """LPIPS on VGG with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it calls torchvision in a way that is deprecated
        return lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval().requires_grad_(False)


def _standing_raster(size: int) -> Tensor:
    """A UV raster that covers as much of an image as a standing body."""
    uv = torch.full((1, size, size, 2), -1.0)
    rows, columns = slice(size // 10, size - size // 10), slice(size // 3, size - size // 3)
    uv[:, rows, columns] = torch.rand(uv[:, rows, columns].shape)
    return uv


def _least(call: Callable[[], None]) -> float:
    """The shorter of two runs."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", type=Path, default=STORES)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--profile", choices=profile_names(), default="paper")
    parser.add_argument("--tuning", choices=profile_names(), default=BASE, help="profile to tune by")
    parser.add_argument("--photo", type=Path, help="an image of one person; else a test person")
    args = parser.parse_args()
    figures = measure(args.stores, args.models, profile=args.profile, tuning=args.tuning, photo=args.photo)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
