"""Adapt the renderer to what the autoencoder makes of textures, end to end (paper section 3.3).

Steps alternate between raw textures and textures that went through the autoencoder, so that the renderer serves
both: the visible part of an avatar is raw, the completed part decoded.
"""

import torch
from pydantic import Field
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dinar_models.avatar import AvatarNets
from dinar_models.perceptual import PerceptualDistance
from dinar_models.types import NeuralTexture
from dinar_models.vqgan import VQGAN
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.precision import DtypeChoice, resolve_dtype
from stages._core.publish import publish
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.train_loop import TrainLoop
from stages._core.weights import load_weights, read_body_digests, save_weights
from stages._data.avatar_step import ImageLosses, ImageLossParams, generate, render
from stages._data.frames import Frames, prefetched
from stages._data.pair_sampler import Pairs, PairSampler


class FinetuneAvatarParams(ImageLossParams):
    """Losses, and how long."""

    seed: int
    image_size: int
    texture_size: int
    datasets: list[str] = Field(description="data sets whose train people are learnt from")
    steps: int = Field(ge=1, description="optimiser steps")
    batch: int = Field(4, ge=1, description="pairs per step")
    rate: float = Field(1e-3, gt=0, le=1, description="Adam's step size")
    ema: float = Field(0.98, ge=0, lt=1, description="decay of the averaged weights, which are what is kept")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    dtype: DtypeChoice = "auto"


def run(params: FinetuneAvatarParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Train the renderer; encoder, generator and autoencoder stay, so that latents keep their meaning."""
    digests = read_body_digests(inputs["body"])
    nets = load_weights(inputs["avatar"], "avatar", AvatarNets.from_config, digests).to(runtime.device)
    vqgan = load_weights(inputs["vqgan"], "vqgan", VQGAN.from_config, digests).to(runtime.device)
    vqgan.requires_grad_(False)
    nets.requires_grad_(False).renderer.requires_grad_(True)
    optimiser = torch.optim.Adam(nets.renderer.parameters(), lr=params.rate, betas=(0.0, 0.99))
    averaged = AveragedModel(nets, multi_avg_fn=get_ema_multi_avg_fn(params.ema), use_buffers=True)
    loop = TrainLoop(
        name="finetune_avatar",
        work=runtime.work_dir("finetune_avatar", work_key(params, inputs.values())),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={"nets": nets, "optimiser": optimiser, "averaged": averaged},
    )
    frames = Frames(inputs, params.datasets, "train", params.image_size, params.texture_size)
    pairs = PairSampler(frames, seed=params.seed, purpose="finetune_avatar", batch=params.batch)
    losses = ImageLosses(params, PerceptualDistance().to(runtime.device))
    dtype = resolve_dtype(params.dtype, runtime.device)
    for step, batch in prefetched(pairs, iter(loop)):
        with torch.autocast(runtime.device, dtype, enabled=dtype != torch.float32):
            texture = avatar_texture(nets, vqgan, batch, step, params.seed)
            nets.renderer.train()
            total, logs = losses(*render(nets, texture, batch.targets), batch.targets)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        averaged.update_parameters(nets)
        loop.log(**{f"{'raw' if step % 2 else 'decoded'}_{k}": v for k, v in logs.items()})
    with publish(outputs["avatar"]) as folder:
        save_weights(folder, "avatar", averaged.module.float(), nets.config_dict(), digests)
        loop.save_history(folder)
    loop.clean()
    return {"frames": len(frames), "steps": params.steps}


@torch.no_grad()
def avatar_texture(nets: AvatarNets, vqgan: VQGAN, batch: Pairs, step: int, seed: int) -> NeuralTexture:
    """Raw on odd steps, through the autoencoder on even ones."""
    nets.eval()
    texture = generate(nets, batch.inputs, generator_for(seed, "finetune_avatar noise", step))
    if step % 2:
        return texture
    decoded = NeuralTexture(vqgan.decode(vqgan.encode(texture.data)).float())
    masks = (decoded.sampled.clamp(0, 1), decoded.filled.clamp(0, 1))
    return NeuralTexture.assemble(decoded.generated, decoded.rgb.clamp(0, 1), *masks)


STAGE = Stage(
    "finetune_avatar",
    FinetuneAvatarParams,
    inputs=("views.*", "parsing.*", "bodies.*", "textures.*", "body", "avatar", "vqgan"),
    outputs=("avatar",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
