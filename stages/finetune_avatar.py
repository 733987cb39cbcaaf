"""Adapt the renderer to what the autoencoder makes of textures (paper section 3.3).

The paper finetunes everything end to end (`trains: all`); then the autoencoder that later stages use is the one that
is kept beside the nets. Where the renderer alone learns, latents keep their meaning.

Steps alternate between raw textures, as in the training before, and textures such as reconstruct makes: raw
where the photo shows the body, elsewhere through the autoencoder (eq. 6). The texture merged over the other
views stands in for what the diffusion will complete. The discriminator goes on learning.
Without an autoencoder all textures are raw: as many steps more for a model that completes nothing.
"""

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from dinar_models import ranks
from dinar_models.avatar import AvatarNets
from dinar_models.discriminator import Discriminator
from dinar_models.ema import Averaged
from dinar_models.texture import composite
from dinar_models.types import NeuralTexture
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN, texture_error
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
    trains: Literal["renderer", "all"] = Field(
        "renderer", description="what learns: the renderer, or encoder, generator and autoencoder too (paper)"
    )
    rate: float = Field(1e-3, gt=0, le=1, description="Adam's step size")
    texture_weight: float = Field(
        1.0,
        ge=0,
        description="of the squared errors and the codebook's loss of an autoencoder that learns (ours)",
    )
    ema: float = Field(0.98, ge=0, lt=1, description="decay of the averaged weights, which are what is kept")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    dtype: DtypeChoice = "auto"


def run(params: FinetuneAvatarParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Train the renderer, or everything; the averaged weights and the discriminator are kept."""
    share = ranks.share(params.batch)
    digests = read_body_digests(inputs["body"])
    nets = channels_last(load_weights(inputs["avatar"], "avatar", AvatarNets.from_config, digests))
    vqgan = load_vqgan(inputs.get("vqgan"), digests)
    everything = params.trains == "all"
    if everything and vqgan is None:
        raise ValueError("finetune_avatar.trains: all needs the input `vqgan`")
    networks = {"nets": nets} if vqgan is None else {"nets": nets, "vqgan": vqgan}
    whole = nn.ModuleDict(networks).to(runtime.device)
    ranks.share_layers(whole)
    whole.requires_grad_(everything)
    nets.renderer.requires_grad_(True)
    learning = whole if everything else nets.renderer
    optimiser = torch.optim.Adam(learning.parameters(), lr=params.rate, betas=(0.0, 0.99))
    average = Averaged(whole, params.ema)
    dtype = resolve_dtype(params.dtype, runtime.device)
    judge = None
    if params.adversarial:
        judge = load_weights(inputs["avatar"], "discriminator", Discriminator.from_config, digests)
    objective = Objective(params, params.image_size, dtype, runtime.device, inputs.get("weights"), judge)
    loop = TrainLoop(
        name="finetune_avatar",
        work=runtime.work_dir("finetune_avatar", work_key(params, inputs.values())),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={"whole": whole, "optimiser": optimiser, "average": average, **objective.state},
    )
    rules = PairRules(
        params.seed, params.image_size, params.batch,
        turnover=params.turnover, merged=vqgan is not None, rows=share.rows,
    )  # fmt: skip
    source = PairSource(inputs, params.datasets, "train", rules)
    tables = Atlas.load(inputs["body"] / "atlas.npz").tables(nets.config.texture_size)
    island = torch.from_numpy(tables.island_mask).to(runtime.device)
    for step, pairs in zip(loop, pair_batches(source, range(loop.start, params.steps), runtime), strict=True):
        generator = generator_for(params.seed, "finetune_avatar noise", step, device=runtime.device)
        kind = "raw" if step % 2 or vqgan is None else "completed"
        whole.eval()
        errors: dict[str, Tensor] = {}
        with autocast(runtime.device, dtype):
            with torch.set_grad_enabled(everything):
                texture = neural_texture(nets, pairs, share.draws(generator))
                if vqgan is not None and kind == "completed":
                    texture, errors = completed(texture, vqgan, pairs, island)
            nets.renderer.train()
            made = render(nets, texture, pairs)
        loss, logs = objective.loss(made, pairs)
        if everything and errors:
            logs |= {f"texture_{name}": error.mean().detach() for name, error in errors.items()}
            loss = loss + params.texture_weight * torch.stack([e.mean() for e in errors.values()]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(learning.parameters())
        optimiser.step()
        average.update_parameters(whole)
        loop.log(**{f"{kind}_{name}": value for name, value in logs.items()})
        loop.log(**objective.update_discriminator(made, pairs, step))
    if ranks.rank() == 0:
        with publish(outputs["avatar"]) as folder:
            averaged = average.net.float()
            save_weights(folder, "avatar", averaged["nets"], nets.config_dict(), digests)
            if everything and vqgan is not None:
                save_weights(folder, "vqgan", averaged["vqgan"], vqgan.config_dict(), digests)
            if objective.adversary:
                judge = objective.adversary.net
                save_weights(folder, "discriminator", judge, judge.config_dict(), digests)
            loop.save_history(folder)
    loop.clean()
    return {"people": len(source), "steps": params.steps}


def load_vqgan(folder: Path | None, digests: dict[str, str]) -> VQGAN | None:
    """The trained autoencoder, or None."""
    return (
        None if folder is None else channels_last(load_weights(folder, "vqgan", VQGAN.from_config, digests))
    )


def completed(
    partial: NeuralTexture, vqgan: VQGAN, pairs: Pairs, island: Bool[Tensor, "t t"]
) -> tuple[NeuralTexture, dict[str, Float[Tensor, " b"]]]:
    """Partial textures, completed through the autoencoder by what the other views of their shots show.

    Returns:
        Textures such as `reconstruct` makes, and the autoencoder's errors by name, one value per sample.
    """
    merged = merged_texture(partial, pairs)
    z, errors = vqgan.encode(merged.data).float(), {}
    if vqgan.config.snap:
        snapped = vqgan.codebook(z)
        z, errors["codebook"] = snapped.z, snapped.loss
    decoded = NeuralTexture(vqgan.decode_codes(z).float())
    errors |= texture_error(decoded.data, merged.data.detach(), island)
    joined, _ = composite(decoded.clipped().data, partial.data, partial.filled[:, 0], island)
    return NeuralTexture(joined), errors


STAGE = Stage(
    "finetune_avatar",
    FinetuneAvatarParams,
    inputs=("data", "body", "avatar", "vqgan?", "weights?"),
    outputs=("avatar",),
    run=run,
    trains=True,
)

if __name__ == "__main__":
    main(STAGE)
