"""Train encoder, texture generator and renderer end to end on pairs of frames (paper sections 3.1 and 4.1)."""

from collections.abc import Sequence

import torch
from pydantic import Field

from dinar_models import ranks
from dinar_models.avatar import AvatarConfig, AvatarNets, Texture
from dinar_models.draws import Share
from dinar_models.ema import Averaged
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.precision import DtypeChoice, autocast, channels_last, resolve_dtype
from stages._core.publish import publish
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.train_loop import TrainLoop
from stages._core.weights import read_body_digests, save_weights
from stages._data.objective import Objective, ObjectiveParams, neural_texture, render, validation_psnr
from stages._data.pairs import PairRules, Pairs, PairSource, pair_batches

FIXED_BATCHES = 4
"""Batches of val pairs that are looked at."""


class TrainAvatarParams(ObjectiveParams):
    """Sizes of the nets, losses, and how long."""

    seed: int
    image_size: int
    texture_size: int
    datasets: list[str] = Field(description="data sets whose train people are learnt from")
    steps: int = Field(ge=1, description="optimiser steps")
    batch: int = Field(4, ge=1, description="pairs per step")
    turnover: float = Field(0.35, gt=0, description="people that come into the window of pairs per step")
    rate: float = Field(2e-3, gt=0, le=1, description="Adam's step size (recalled)")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights, which are what is kept")
    encoder_base: int = Field(32, ge=8, description="channels at 64 px and below (paper: 256)")
    generator_base: int = Field(32, ge=8, description="channels at 64 px and below (paper: 256)")
    renderer_base: int = Field(16, ge=4, description="channels after the first convolution (paper: 64)")
    renderer_blocks: int = Field(2, ge=1, description="residual blocks (paper: 3)")
    renderer_kernel: int = Field(3, ge=3, le=7, description="of the first and last convolution (paper: 7)")
    rgb_blocks: int = Field(2, ge=0, description="3 × 3 blocks in the head for colours")
    mask_blocks: int = Field(4, ge=0, description="3 × 3 blocks in the head for masks")
    style: int = Field(256, ge=16, description="length of the style vector (paper: 512)")
    colour_skip: bool = Field(True, description="render colours as a correction of the texture's (not paper)")
    texture: Texture = Field("both", description="what textures hold (paper: both; its table 2 ablates them)")
    margin: float = Field(
        0.1, gt=0, le=1, description="rendered around the body's box, of the image's side (paper: 1, all)"
    )
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    validate_every: int = Field(200, ge=1, description="steps between looks at the val split")
    dtype: DtypeChoice = "auto"


def run(params: TrainAvatarParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Train; the averaged weights are kept, with batch norm's averaged statistics."""
    share = ranks.share(params.batch)
    torch.manual_seed(params.seed)
    nets = channels_last(build(params).to(runtime.device))
    ranks.share_layers(nets)
    optimiser = torch.optim.Adam(nets.parameters(), lr=params.rate, betas=(0.0, 0.99))
    average = Averaged(nets, params.ema)
    dtype = resolve_dtype(params.dtype, runtime.device)
    objective = Objective(params, params.image_size, dtype, runtime.device, inputs.get("weights"))
    loop = TrainLoop(
        name="train_avatar",
        work=runtime.work_dir("train_avatar", work_key(params, inputs.values())),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={"nets": nets, "optimiser": optimiser, "average": average, **objective.state},
    )
    source, fixed = pair_sources(params, inputs, share, runtime.device)
    for step, pairs in zip(loop, pair_batches(source, range(loop.start, params.steps), runtime), strict=True):
        generator = generator_for(params.seed, "train_avatar noise", step, device=runtime.device)
        nets.train()
        with autocast(runtime.device, dtype):
            made = render(nets, neural_texture(nets, pairs, share.draws(generator)), pairs)
        loss, logs = objective.loss(made, pairs)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(nets.parameters())
        optimiser.step()
        average.update_parameters(nets)
        loop.log(**logs, **objective.update_discriminator(made, pairs, step))
        if (step + 1) % params.validate_every == 0:
            loop.log(val_psnr=validate(average, fixed, params, dtype, runtime.device))
    final = validate(average, fixed, params, dtype, runtime.device)
    if ranks.rank() == 0:
        with publish(outputs["avatar"]) as folder:
            digests = read_body_digests(inputs["body"])
            save_weights(folder, "avatar", average.net.float(), nets.config_dict(), digests)
            if objective.adversary:
                net = objective.adversary.net
                save_weights(folder, "discriminator", net, net.config_dict(), digests)
            loop.save_history(folder)
    loop.clean()
    return {"people": len(source), "steps": params.steps, "val_psnr": round(final, 2)}


def build(params: TrainAvatarParams) -> AvatarNets:
    """Untrained nets of the sizes asked for."""
    names = (
        "image_size", "texture_size", "encoder_base", "generator_base", "renderer_base", "renderer_blocks",
        "renderer_kernel", "rgb_blocks", "mask_blocks", "style", "colour_skip", "margin",
        "texture",
    )  # fmt: skip
    return AvatarNets(AvatarConfig(**{name: getattr(params, name) for name in names}))


def pair_sources(
    params: TrainAvatarParams, inputs: Paths, share: Share, device: str
) -> tuple[PairSource, list[Pairs]]:
    """This process's share of train people, and a few fixed batches of val people, which all ranks look at."""
    rules = PairRules(params.seed, params.image_size, params.batch, turnover=params.turnover, rows=share.rows)
    val = PairSource(inputs, params.datasets, "val", rules)
    packed = val.fixed(FIXED_BATCHES * params.batch)
    batches = [
        Pairs.unpack({k: v[i::FIXED_BATCHES] for k, v in packed.items()}, device)
        for i in range(FIXED_BATCHES)
    ]
    return PairSource(inputs, params.datasets, "train", rules), batches


@torch.no_grad()
def validate(
    average: Averaged[AvatarNets],
    batches: Sequence[Pairs],
    params: TrainAvatarParams,
    dtype: torch.dtype,
    device: str,
) -> float:
    """Mean PSNR in dB of the averaged nets on fixed pairs of val people."""
    nets = average.net.eval()
    values = []
    for pairs in batches:
        generator = generator_for(params.seed, "train_avatar val", device=device)
        with autocast(device, dtype):
            made = render(nets, neural_texture(nets, pairs, generator), pairs)
        values.append(validation_psnr(made, pairs))
    return sum(values) / len(values)


STAGE = Stage(
    "train_avatar",
    TrainAvatarParams,
    inputs=("data", "body", "weights?"),
    outputs=("avatar",),
    run=run,
    trains=True,
)

if __name__ == "__main__":
    main(STAGE)
