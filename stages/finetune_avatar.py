"""Adapt the renderer to what the autoencoder makes of textures, end to end (paper section 3.3).

Steps alternate between raw textures, as in the training before, and textures such as reconstruct makes: raw
where the photo shows the body, elsewhere through the autoencoder (eq. 6). The texture merged over the other
views stands in for what the diffusion will complete. The discriminator goes on learning.
Without an autoencoder all textures are raw: as many steps more for a model that completes nothing.
"""

from pathlib import Path

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from dinar_models.avatar import AvatarNets
from dinar_models.discriminator import Discriminator
from dinar_models.ema import Averaged
from dinar_models.texture import composite
from dinar_models.types import NeuralTexture
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.precision import DtypeChoice, autocast, channels_last, resolve_dtype
from stages._core.publish import publish
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.train_loop import TrainLoop
from stages._core.weights import load_weights, read_body_digests, save_weights
from stages._data.objective import Objective, ObjectiveParams, merged_texture, neural_texture, render
from stages._data.pairs import PairRules, Pairs, PairSource, pair_batches


class FinetuneAvatarParams(ObjectiveParams):
    """Losses, and how long."""

    seed: int
    image_size: int
    datasets: list[str] = Field(description="data sets whose train people are learnt from")
    steps: int = Field(ge=1, description="optimiser steps")
    batch: int = Field(4, ge=1, description="pairs per step")
    turnover: float = Field(0.35, gt=0, description="people that come into the window of pairs per step")
    rate: float = Field(1e-3, gt=0, le=1, description="Adam's step size")
    ema: float = Field(0.98, ge=0, lt=1, description="decay of the averaged weights, which are what is kept")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    dtype: DtypeChoice = "auto"


def run(params: FinetuneAvatarParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Train the renderer; encoder, generator and autoencoder stay, so that latents keep their meaning."""
    digests = read_body_digests(inputs["body"])
    nets = channels_last(load_weights(inputs["avatar"], "avatar", AvatarNets.from_config, digests))
    vqgan = load_vqgan(inputs.get("vqgan"), digests, runtime.device)
    nets.to(runtime.device).requires_grad_(False).renderer.requires_grad_(True)
    optimiser = torch.optim.Adam(nets.renderer.parameters(), lr=params.rate, betas=(0.0, 0.99))
    average = Averaged(nets, params.ema)
    dtype = resolve_dtype(params.dtype, runtime.device)
    objective = Objective(params, params.image_size, dtype, runtime.device, inputs.get("weights"))
    if objective.adversary:
        trained = load_weights(inputs["avatar"], "discriminator", Discriminator.from_config, digests)
        objective.adversary.net.load_state_dict(trained.state_dict())
    loop = TrainLoop(
        name="finetune_avatar",
        work=runtime.work_dir("finetune_avatar", work_key(params, inputs.values())),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={"nets": nets, "optimiser": optimiser, "average": average, **objective.state},
    )
    rules = PairRules(
        params.seed, params.image_size, params.batch, turnover=params.turnover, merged=vqgan is not None
    )
    source = PairSource(inputs, params.datasets, "train", rules)
    tables = Atlas.load(inputs["body"] / "atlas.npz").tables(nets.config.texture_size)
    island = torch.from_numpy(tables.island_mask).to(runtime.device)
    for step, pairs in zip(loop, pair_batches(source, range(loop.start, params.steps), runtime), strict=True):
        generator = generator_for(params.seed, "finetune_avatar noise", step, device=runtime.device)
        kind = "raw" if step % 2 or vqgan is None else "completed"
        with autocast(runtime.device, dtype):
            with torch.no_grad():
                texture = neural_texture(nets.eval(), pairs, generator)
                if vqgan is not None and kind == "completed":
                    texture = completed(texture, vqgan, pairs, island)
            nets.renderer.train()
            made = render(nets, texture, pairs)
        loss, logs = objective.loss(made, pairs)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        average.update_parameters(nets)
        loop.log(**{f"{kind}_{name}": value for name, value in logs.items()})
        loop.log(**objective.update_discriminator(made, pairs, step))
    with publish(outputs["avatar"]) as folder:
        save_weights(folder, "avatar", average.net.float(), nets.config_dict(), digests)
        loop.save_history(folder)
    loop.clean()
    return {"people": len(source), "steps": params.steps}


def load_vqgan(folder: Path | None, digests: dict[str, str], device: str) -> VQGAN | None:
    """The trained autoencoder, not to be changed, or None."""
    if folder is None:
        return None
    vqgan = channels_last(load_weights(folder, "vqgan", VQGAN.from_config, digests))
    return vqgan.to(device).requires_grad_(False)


def completed(
    partial: NeuralTexture, vqgan: VQGAN, pairs: Pairs, island: Bool[Tensor, "t t"]
) -> NeuralTexture:
    """Partial textures, completed through the autoencoder by what the other views of their shots show."""
    merged = merged_texture(partial, pairs)
    decoded = NeuralTexture(vqgan.decode(vqgan.encode(merged.data)).float()).clipped()
    return NeuralTexture(composite(decoded.data, partial.data, partial.filled[:, 0], island)[0])


STAGE = Stage(
    "finetune_avatar",
    FinetuneAvatarParams,
    inputs=("data", "body", "avatar", "vqgan?", "weights?"),
    outputs=("avatar",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
