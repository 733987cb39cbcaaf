"""Train encoder, texture generator and renderer end to end on pairs of frames (paper sections 3.1 and 4.1)."""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dinar_models.avatar import AvatarConfig, AvatarNets
from dinar_models.metrics import psnr
from dinar_models.perceptual import PerceptualDistance
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.precision import DtypeChoice, resolve_dtype
from stages._core.publish import publish
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.train_loop import TrainLoop
from stages._core.weights import read_body_digests, save_weights
from stages._data.avatar_step import Adversary, ImageLosses, ImageLossParams, generate, render
from stages._data.frames import Frames, prefetched
from stages._data.pair_sampler import Pairs, PairSampler


class TrainAvatarParams(ImageLossParams):
    """Sizes of the nets, losses, and how long."""

    seed: int
    image_size: int
    texture_size: int
    datasets: list[str] = Field(description="data sets whose train people are learnt from")
    steps: int = Field(ge=1, description="optimiser steps")
    batch: int = Field(4, ge=1, description="pairs per step")
    rate: float = Field(2e-3, gt=0, le=1, description="Adam's step size (recalled)")
    discriminator_rate: float = Field(4e-4, gt=0, le=1, description="Adam's for the discriminator")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights, which are what is kept")
    encoder_base: int = Field(32, ge=8, description="channels at 64 px and below (paper: 256)")
    generator_base: int = Field(32, ge=8, description="channels at 64 px and below (paper: 256)")
    discriminator_base: int = Field(32, ge=8, description="channels at 64 px and below (paper: 256)")
    renderer_base: int = Field(16, ge=4, description="channels after the first convolution (paper: 64)")
    renderer_blocks: int = Field(2, ge=1, description="residual blocks (paper: 3)")
    renderer_kernel: int = Field(3, ge=3, le=7, description="of the first and last convolution (paper: 7)")
    style: int = Field(256, ge=16, description="length of the style vector (paper: 512)")
    colour_skip: bool = Field(True, description="render colours as a correction of the texture's (not paper)")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    validate_every: int = Field(200, ge=1, description="steps between looks at the val split")
    dtype: DtypeChoice = "auto"


def run(params: TrainAvatarParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Train; the averaged weights are kept, with batch norm's averaged statistics."""
    torch.manual_seed(params.seed)
    nets = build(params).to(runtime.device, memory_format=torch.channels_last)
    adversary = Adversary(
        params.image_size, params.discriminator_base, params, params.discriminator_rate
    ).to(runtime.device, memory_format=torch.channels_last)  # fmt: skip
    optimiser = torch.optim.Adam(nets.parameters(), lr=params.rate, betas=(0.0, 0.99))
    averaged = AveragedModel(nets, multi_avg_fn=get_ema_multi_avg_fn(params.ema), use_buffers=True)
    loop = TrainLoop(
        name="train_avatar",
        work=runtime.work_dir("train_avatar", work_key(params, inputs.values())),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={
            "nets": nets,
            "optimiser": optimiser,
            "averaged": averaged,
            "discriminator": adversary.net,
            "discriminator_optimiser": adversary.optimiser,
        },
    )
    train = sampler(params, inputs, "train")
    fixed = [sampler(params, inputs, "val")(i) for i in range(2)]
    losses = ImageLosses(params, PerceptualDistance().to(runtime.device))
    dtype = resolve_dtype(params.dtype, runtime.device)
    for step, pairs in prefetched(train, iter(loop)):
        with torch.autocast(runtime.device, dtype, enabled=dtype != torch.float32):
            image, logs = optimise(nets.train(), adversary, losses, optimiser, pairs, step, params)
            if params.adversarial_weight:
                logs["discriminator"] = adversary.learn(step, pairs.targets.rgb, image)
        averaged.update_parameters(nets)
        loop.log(**logs)
        if (step + 1) % params.validate_every == 0:
            loop.log(val_psnr=validation_psnr(averaged.module, fixed, params.seed))
    final = validation_psnr(averaged.module, fixed, params.seed)
    with publish(outputs["avatar"]) as folder:
        digests = read_body_digests(inputs["body"])
        save_weights(folder, "avatar", averaged.module.float(), nets.config_dict(), digests)
        save_weights(folder, "discriminator", adversary.net, {"size": params.image_size,
                     "base": params.discriminator_base}, digests)  # fmt: skip
        loop.save_history(folder)
    loop.clean()
    return {"frames": len(train.frames), "steps": params.steps, "val_psnr": round(final, 2)}


def build(params: TrainAvatarParams) -> AvatarNets:
    """Untrained nets of the sizes asked for."""
    names = (
        "image_size", "texture_size", "encoder_base", "generator_base", "renderer_base", "renderer_blocks",
        "renderer_kernel", "style", "colour_skip",
    )  # fmt: skip
    return AvatarNets(AvatarConfig(**{name: getattr(params, name) for name in names}))


def sampler(params: TrainAvatarParams, inputs: Paths, split: str) -> PairSampler:
    """Pairs of one split; the fixed pairs of val use the same code."""
    frames = Frames(inputs, params.datasets, split, params.image_size, params.texture_size)
    return PairSampler(frames, seed=params.seed, purpose=f"train_avatar {split}", batch=params.batch)


def optimise(
    nets: AvatarNets,
    adversary: Adversary,
    losses: ImageLosses,
    optimiser: torch.optim.Optimizer,
    pairs: Pairs,
    step: int,
    params: TrainAvatarParams,
) -> tuple[Tensor, dict[str, Tensor]]:
    """One step of the three nets. Returns the renders, for the discriminator's turn, and the loss terms."""
    generator = generator_for(params.seed, "train_avatar noise", step, device=pairs.inputs.rgb.device.type)
    texture = generate(nets, pairs.inputs, generator)
    image, mask = render(nets, texture, pairs.targets)
    total, logs = losses(image, mask, pairs.targets)
    if params.adversarial_weight:
        total = total + adversary.fool(image)
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return image, logs


@torch.no_grad()
def validation_psnr(nets: AvatarNets, batches: list[Pairs], seed: int) -> float:
    """Mean PSNR in dB on fixed pairs of val people."""
    values = []
    nets.eval()
    for pairs in batches:
        texture = generate(nets, pairs.inputs, generator_for(seed, "train_avatar val"))
        image, _ = render(nets, texture, pairs.targets)
        values.append(psnr(image.clamp(-1, 1) / 2 + 0.5, pairs.targets.rgb / 2 + 0.5).numpy())
    return float(np.concatenate(values).mean())


STAGE = Stage(
    "train_avatar",
    TrainAvatarParams,
    inputs=("views.*", "parsing.*", "bodies.*", "textures.*", "body"),
    outputs=("avatar",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
