"""Train the texture autoencoder on partial and merged textures, the avatar's nets frozen (paper section 3.3)."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dinar_models.avatar import AvatarNets
from dinar_models.perceptual import PerceptualDistance
from dinar_models.texture import merge_textures
from dinar_models.types import NeuralTexture
from dinar_models.vqgan import VQGAN, VQGANConfig, texture_error
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.precision import DtypeChoice, resolve_dtype
from stages._core.publish import publish
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for, rng_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.train_loop import TrainLoop
from stages._core.weights import load_weights, read_body_digests, save_weights
from stages._data.avatar_step import ImageLosses, ImageLossParams, generate, render
from stages._data.frames import Frames, Inputs, Targets, prefetched

RESTART_EVERY = 20
"""Steps between restarts of dead codes."""

START_BATCHES = 8
"""Batches of textures whose latents start the codebook."""


class TrainVqganParams(ImageLossParams):
    """Sizes of the autoencoder, losses, and how long."""

    seed: int
    image_size: int
    texture_size: int
    datasets: list[str] = Field(description="data sets whose train people are learnt from")
    steps: int = Field(ge=1, description="optimiser steps")
    batch: int = Field(4, ge=1, description="textures per step")
    rate: float = Field(1e-3, gt=0, le=1, description="Adam's step size, falling to a tenth")
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights, which are what is kept")
    widths: list[int] = Field([32, 64, 96], description="channels per level (paper: 64, 128, 256)")
    layers: int = Field(1, ge=1, description="residual blocks per level (paper: 2)")
    groups: int = Field(8, ge=1, description="of the group norms (paper: 16)")
    codes: int = Field(1024, ge=2, description="entries of the codebook (paper: 8192)")
    continuous_share: float = Field(0.5, ge=0, lt=1, description="share of steps before quantising starts")
    merged_share: float = Field(0.6, ge=0, le=1, description="share of textures merged from several views")
    merged_views: int = Field(4, ge=2, description="views that such a texture is merged from")
    generated_weight: float = Field(0.5, ge=0, description="of the generated channels' squared error (ours)")
    rgb_weight: float = Field(16.0, ge=0, description="of the colours' squared error (ours)")
    masks_weight: float = Field(2.0, ge=0, description="of the masks' squared error (ours)")
    image_weight: float = Field(0.5, ge=0, description="of eq. 4 through the frozen renderer (ours)")
    codebook_weight: float = Field(1.0, ge=0, description="of the codebook's loss (ours)")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    dtype: DtypeChoice = "auto"


@dataclass
class TextureBatch:
    """Frames whose textures are compressed: `owner[i]` is the sample that frame i belongs to."""

    inputs: Inputs
    owner: np.ndarray
    targets: Targets


class TextureSampler:
    """Textures of one view, or merged from several of one scan, as a pure function of (seed, step)."""

    def __init__(self, frames: Frames, params: TrainVqganParams) -> None:
        self.frames, self.params = frames, params
        self.scans = frames.groups(["scan", "variant"])

    def __call__(self, step: int) -> TextureBatch:
        """The textures of one step, each with a view in which it is rendered."""
        p = self.params
        rng = rng_for(p.seed, "train_vqgan", step)
        places, owner, shown = [], [], []
        for sample in range(p.batch):
            scan = self.scans[int(rng.integers(len(self.scans)))]
            count = min(p.merged_views, len(scan)) if rng.random() < p.merged_share else 1
            views = rng.choice(scan, count, replace=False)
            places += views.tolist()
            owner += [sample] * count
            # A texture of one view is rendered there; a merged one in any of its views.
            shown.append(int(rng.choice(views)))
        inputs = self.frames.inputs(np.array(places))
        return TextureBatch(inputs, np.array(owner), self.frames.targets(np.array(shown), rng))


def run(params: TrainVqganParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Continuous at first, then quantised from a k-means start, dead codes restarting."""
    torch.manual_seed(params.seed)
    names = ("texture_size", "layers", "groups", "codes")
    config = VQGANConfig(widths=tuple(params.widths), **{n: getattr(params, n) for n in names})
    vqgan = VQGAN(config).to(runtime.device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(vqgan.parameters(), lr=params.rate, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(falling, steps=params.steps))
    averaged = AveragedModel(vqgan, multi_avg_fn=get_ema_multi_avg_fn(params.ema), use_buffers=True)
    loop = TrainLoop(
        name="train_vqgan",
        work=runtime.work_dir("train_vqgan", work_key(params, inputs.values())),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={"vqgan": vqgan, "optimiser": optimiser, "schedule": schedule, "averaged": averaged},
    )
    digests = read_body_digests(inputs["body"])
    nets = load_weights(inputs["avatar"], "avatar", AvatarNets.from_config, digests).to(runtime.device)
    nets.requires_grad_(False)
    frames = Frames(inputs, params.datasets, "train", params.image_size, params.texture_size)
    losses = ImageLosses(params, PerceptualDistance().to(runtime.device))
    dtype = resolve_dtype(params.dtype, runtime.device)
    switch = round(params.continuous_share * params.steps)
    textures = TextureSampler(frames, params)
    island = torch.from_numpy(frames.surface.atlas.tables(params.texture_size).island_mask)
    for step, batch in prefetched(textures, iter(loop)):
        generator = generator_for(params.seed, "train_vqgan noise", step)
        with torch.autocast(runtime.device, dtype, enabled=dtype != torch.float32):
            texture = neural_textures(nets, batch, generator)
            if step == switch:
                start_quantising(vqgan, nets, textures, averaged, params.seed)
            total, logs = objective(
                vqgan.train(), nets, texture, batch.targets, losses, params, island, step >= switch
            )
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(vqgan.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step > switch and step % RESTART_EVERY == 0:
            with torch.no_grad():
                vqgan.codebook.restart_dead(vqgan.encode(texture.data).float(), generator)
        averaged.update_parameters(vqgan)
        loop.log(**logs)
    # Codes that restarted jump: their running mean would lie between old and new place.
    averaged.module.codebook.load_state_dict(vqgan.codebook.state_dict())
    with publish(outputs["vqgan"]) as folder:
        save_weights(folder, "vqgan", averaged.module.float(), vqgan.config_dict(), digests)
        loop.save_history(folder)
    loop.clean()
    last = loop.history[-1]
    return {"frames": len(frames), "steps": params.steps, "perplexity": round(last.get("perplexity", 0.0), 1)}


@torch.no_grad()
def neural_textures(nets: AvatarNets, batch: TextureBatch, generator: torch.Generator) -> NeuralTexture:
    """The 21 channels of each sample, merged (eq. 5) where it has several frames."""
    single = generate(nets, batch.inputs, generator).data
    merged = []
    for sample in range(batch.owner.max() + 1):
        own = torch.from_numpy(np.flatnonzero(batch.owner == sample))
        frontality, seen = batch.inputs.frontality[own], batch.inputs.filled[own, 0] > 0.5
        merged.append(merge_textures(single[own], frontality, seen)[0] if len(own) > 1 else single[own[0]])
    return NeuralTexture(torch.stack(merged))


def objective(
    vqgan: VQGAN,
    nets: AvatarNets,
    texture: NeuralTexture,
    targets: Targets,
    losses: ImageLosses,
    params: TrainVqganParams,
    island: Tensor,
    quantise: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Texture error, eq. 4 through the frozen renderer, and the codebook's loss."""
    z = vqgan.encode(texture.data).float()
    logs: dict[str, Tensor] = {}
    total = z.new_zeros(())
    if quantise:
        snapped = vqgan.codebook(z)
        logs = {"codebook": snapped.loss.mean(), "perplexity": vqgan.codebook.perplexity}
        total = params.codebook_weight * logs["codebook"]
        z = snapped.z
    decoded = vqgan.decode_codes(z)
    errors = texture_error(decoded.float(), texture.data, island)
    image_loss, image_logs = losses(*render(nets, NeuralTexture(decoded), targets), targets)
    weights = {"generated": params.generated_weight, "rgb": params.rgb_weight, "masks": params.masks_weight}
    texture_loss = sum(weights[name] * error.mean() for name, error in errors.items())
    logs |= {f"texture_{name}": error.mean() for name, error in errors.items()} | image_logs
    return total + texture_loss + params.image_weight * image_loss, logs


@torch.no_grad()
def start_quantising(
    vqgan: VQGAN, nets: AvatarNets, textures: TextureSampler, averaged: AveragedModel, seed: int
) -> None:
    """Start the codebook at the k-means of many textures' latents; the averaged weights start again there."""
    latents = []
    vqgan.eval()
    for i in range(START_BATCHES):
        generator = generator_for(seed, "train_vqgan start", i)
        latents.append(vqgan.encode(neural_textures(nets, textures(-1 - i), generator).data).float())
    vqgan.start_codebook(torch.cat(latents), generator_for(seed, "train_vqgan k-means"))
    averaged.module.load_state_dict(vqgan.state_dict())


def falling(step: int, steps: int) -> float:
    """A cosine from 1 to a tenth."""
    return 0.1 + 0.45 * (1 + float(np.cos(np.pi * min(step / steps, 1.0))))


STAGE = Stage(
    "train_vqgan",
    TrainVqganParams,
    inputs=("views.*", "parsing.*", "bodies.*", "textures.*", "body", "avatar"),
    outputs=("vqgan",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
