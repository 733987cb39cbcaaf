"""Train the texture autoencoder on partial and merged textures, the avatar's nets frozen (paper section 3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from dinar_models import ranks
from dinar_models.avatar import AvatarNets
from dinar_models.draws import Draws, draw
from dinar_models.ema import Averaged
from dinar_models.folding import for_inference
from dinar_models.types import NeuralTexture
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN, VQGANConfig, texture_error
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.precision import DtypeChoice, autocast, channels_last, resolve_dtype
from stages._core.publish import publish
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.train_loop import TrainLoop, cosine_rate
from stages._core.weights import load_weights, read_body_digests, save_weights
from stages._data.objective import Objective, ObjectiveParams, merged_texture, neural_texture, render
from stages._data.pairs import PairRules, Pairs, PairSource, pair_batches

START_TEXTURES = 32
"""Textures whose latents start the codebook."""


class TrainVqganParams(ObjectiveParams):
    """Sizes of the autoencoder, losses, and how long."""

    seed: int
    image_size: int
    texture_size: int
    datasets: list[str] = Field(description="data sets whose train people are learnt from")
    steps: int = Field(ge=1, description="optimiser steps")
    batch: int = Field(4, ge=1, description="textures per step")
    turnover: float = Field(0.35, gt=0, description="people that come into the window of textures per step")
    rate: float = Field(1e-3, gt=0, le=1, description="Adam's step size, falling to a tenth")
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights, which are what is kept")
    widths: list[int] = Field([32, 64, 96], description="channels per level (paper: 64, 128, 256)")
    layers: int = Field(1, ge=1, description="residual blocks per level (paper: 2)")
    groups: int = Field(8, ge=1, description="of the group norms (paper: 16)")
    codes: int = Field(1024, ge=2, description="entries of the codebook (paper: 8192)")
    skip: bool = Field(True, description="carry mean colours beside the nets (not paper)")
    snap: bool = Field(
        True, description="later stages decode from codes (paper), or from latents as they are"
    )
    continuous_share: float = Field(
        0.5, ge=0, lt=1, description="share of steps before quantising starts (published: 0)"
    )
    restart_every: int = Field(
        20, ge=0, description="steps between restarts of codes that are hardly used (published: 0, never)"
    )
    merged_share: float = Field(0.6, ge=0, le=1, description="share of textures merged over their shot")
    generated_weight: float = Field(0.5, ge=0, description="of the generated channels' squared error (ours)")
    rgb_weight: float = Field(16.0, ge=0, description="of the colours' squared error (ours)")
    masks_weight: float = Field(2.0, ge=0, description="of the masks' squared error (ours)")
    image_weight: float = Field(0.5, ge=0, description="of eq. 4 through the frozen renderer (ours)")
    image_every: int = Field(1, ge=1, description="steps between image losses, each so many times as heavy")
    codebook_weight: float = Field(1.0, ge=0, description="of the codebook's loss (ours)")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    dtype: DtypeChoice = "auto"

    def texture_loss(self, errors: Mapping[str, Float[Tensor, " b"]]) -> Float[Tensor, ""]:
        """The weighted mean of the errors by name."""
        return torch.stack([getattr(self, f"{name}_weight") * e.mean() for name, e in errors.items()]).sum()


def run(params: TrainVqganParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Continuous at first, then quantised from a k-means start, dead codes restarting."""
    share = ranks.share(params.batch)
    torch.manual_seed(params.seed)
    digests = read_body_digests(inputs["body"])
    dtype = resolve_dtype(params.dtype, runtime.device)
    nets = load_weights(inputs["avatar"], "avatar", AvatarNets.from_config, digests)
    nets = for_inference(nets.to(runtime.device), dtype)
    vqgan = channels_last(build(params).to(runtime.device))
    ranks.share_layers(vqgan)
    optimiser = torch.optim.Adam(vqgan.parameters(), lr=params.rate, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(cosine_rate, steps=params.steps))
    average = Averaged(vqgan, params.ema)
    objective = Objective(params, params.image_size, dtype, runtime.device, inputs.get("weights"))
    loop = TrainLoop(
        name="train_vqgan",
        work=runtime.work_dir("train_vqgan", work_key(params, inputs.values())),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={
            "vqgan": vqgan, "optimiser": optimiser, "schedule": schedule, "average": average,
            **objective.state,
        },
    )  # fmt: skip
    rules = PairRules(
        params.seed, params.image_size, params.batch,
        turnover=params.turnover, merged=True, same=True, rows=share.rows,
    )  # fmt: skip
    source = PairSource(inputs, params.datasets, "train", rules)
    tables = Atlas.load(inputs["body"] / "atlas.npz").tables(params.texture_size)
    island = torch.from_numpy(tables.island_mask).to(runtime.device)
    switch = round(params.continuous_share * params.steps)
    for step, pairs in zip(loop, pair_batches(source, range(loop.start, params.steps), runtime), strict=True):
        generator = generator_for(params.seed, "train_vqgan", step, device=runtime.device)
        if step == switch:
            first = Pairs.unpack(source.fixed(START_TEXTURES), runtime.device)
            with autocast(runtime.device, dtype):
                many = [
                    textures(nets, part, params.merged_share, generator).data
                    for part in first.split(params.batch)
                ]
            start_quantising(vqgan, many, generator)
            ranks.copy_from_first(vqgan)  # GPUs add up in any order
            average.net.load_state_dict(vqgan.state_dict())
        with autocast(runtime.device, dtype):
            texture = textures(nets, pairs, params.merged_share, share.draws(generator))
            made = compress(vqgan.train(), texture, quantise=step >= switch)
        errors = texture_error(made.texture.data, texture.data, island) | {"codebook": made.codebook}
        loss = params.texture_loss(errors)
        if step % params.image_every == 0:
            with autocast(runtime.device, dtype):
                shown = render(nets, made.texture, pairs)
            image_loss, logs = objective.loss(shown, pairs)
            loss = loss + params.image_every * params.image_weight * image_loss
            loop.log(**logs)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(vqgan.parameters())
        torch.nn.utils.clip_grad_norm_(vqgan.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if params.restart_every and step > switch and step % params.restart_every == 0:
            vqgan.codebook.restart_dead(ranks.whole_batch(made.z), generator)
        average.update_parameters(vqgan)
        if step % params.image_every == 0:
            loop.log(**objective.update_discriminator(shown, pairs, step))
        loop.log(**{f"texture_{name}": error.mean() for name, error in errors.items()})
        loop.log(perplexity=vqgan.codebook.perplexity)
    # Codes that restarted jump: their running mean would lie between old and new place.
    average.net.codebook.load_state_dict(vqgan.codebook.state_dict())
    if ranks.rank() == 0:
        with publish(outputs["vqgan"]) as folder:
            save_weights(folder, "vqgan", average.net.float(), vqgan.config_dict(), digests)
            loop.save_history(folder)
    loop.clean()
    perplexity = float(vqgan.codebook.perplexity)
    return {"people": len(source), "steps": params.steps, "perplexity": round(perplexity, 1)}


@dataclass
class Compressed:
    """Textures that went through the autoencoder.

    Attributes:
        z: latents before quantising, without gradient.
        texture: decoded, float32.
        codebook: its loss per sample, 0 while nothing is quantised.
    """

    z: Float[Tensor, "b 6 h w"]
    texture: NeuralTexture
    codebook: Float[Tensor, " b"]


def build(params: TrainVqganParams) -> VQGAN:
    """An untrained autoencoder of the size asked for."""
    names = ("texture_size", "layers", "groups", "codes", "skip", "snap")
    return VQGAN(VQGANConfig(widths=tuple(params.widths), **{n: getattr(params, n) for n in names}))


@torch.no_grad()
def textures(nets: AvatarNets, pairs: Pairs, merged_share: float, generator: Draws) -> NeuralTexture:
    """Neural textures of the inputs, a share of them with what their whole shot shows."""
    partial = neural_texture(nets, pairs, generator)
    chance = draw(torch.rand, (len(partial.data),), generator, device=partial.data.device)
    merged = merged_texture(partial, pairs)
    chosen = (chance < merged_share)[:, None, None, None]
    return NeuralTexture(torch.where(chosen, merged.data, partial.data))


def compress(vqgan: VQGAN, texture: NeuralTexture, *, quantise: bool) -> Compressed:
    """Encode, quantise if it is time, decode."""
    z = vqgan.encode(texture.data).float()
    if not quantise:
        decoded = vqgan.decode_codes(z)
        return Compressed(z.detach(), NeuralTexture(decoded.float()), z.new_zeros(len(z)))
    snapped = vqgan.codebook(z)
    decoded = vqgan.decode_codes(snapped.z)
    return Compressed(z.detach(), NeuralTexture(decoded.float()), snapped.loss)


@torch.no_grad()
def start_quantising(vqgan: VQGAN, many: Sequence[Tensor], generator: torch.Generator) -> None:
    """Start the codebook at the k-means of many textures' latents, in single precision.

    Args:
        many: textures (B, C, T, T), as many at a time as there is memory for.
    """
    latents = [vqgan.eval().encode(part) for part in many]
    vqgan.start_codebook(torch.cat(latents), generator)


STAGE = Stage(
    "train_vqgan",
    TrainVqganParams,
    inputs=("data", "body", "avatar", "weights?"),
    outputs=("vqgan",),
    run=run,
    trains=True,
)

if __name__ == "__main__":
    main(STAGE)
