"""Train the latent diffusion prior on pairs of partial and merged latents (paper section 3.3)."""

from functools import partial

import torch
from diffusers.training_utils import EMAModel
from pydantic import Field

from dinar_models import ranks
from dinar_models.diffusion import DiffusionConfig, LatentDiffusion, Prediction
from dinar_models.fills import Guess
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.precision import DtypeChoice, autocast, channels_last, resolve_dtype
from stages._core.publish import publish
from stages._core.runtime import Runtime
from stages._core.seeds import generator_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import Store, open_store
from stages._core.train_loop import TrainLoop, cosine_rate
from stages._core.weights import save_weights
from stages._data.latent_pairs import LatentPairSource
from stages._data.offers import offered_stores


class TrainDiffusionParams(StageParams):
    """Net, schedule, and how long."""

    seed: int
    datasets: list[str] = Field(description="data sets of scans whose latents are learnt from")
    steps: int = Field(ge=1, description="optimiser steps")
    batch: int = Field(16, ge=1, description="pairs per step")
    rate: float = Field(3e-4, gt=0, le=1, description="peak learning rate of AdamW")
    warmup: int = Field(
        100, ge=0, description="steps of linear warm-up, then half a cosine (published: 1000)"
    )
    final_rate: float = Field(
        0.1, ge=0, le=1, description="share of the peak rate at which it ends (published: 0.001)"
    )
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    ema: float = Field(
        0.999,
        gt=0,
        lt=1,
        description="decay of the averaged weights, which are what is kept (published: 0.9999)",
    )
    standardise: bool = Field(
        True, description="bring latents to mean 0 and deviation 1 per channel (published: as they are)"
    )
    widths: list[int] = Field([64, 128, 192], description="channels per level, the first at full size")
    attention: list[bool] = Field([False, True, True], description="whether a level has attention")
    layers: int = Field(2, ge=1, description="residual blocks per level")
    groups: int = Field(8, ge=1, description="of the group norms")
    head_width: int = Field(32, ge=1, description="channels per attention head")
    heads: int = Field(0, ge=0, description="attention heads of every level (published: 8); 0: by head_width")
    dropout: float = Field(0.0, ge=0, lt=1, description="in residual blocks")
    prediction: Prediction = Field("v_prediction", description="what the net predicts (paper: epsilon)")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    validate_every: int = Field(200, ge=1, description="steps between looks at the val split")
    dtype: DtypeChoice = "auto"


def run(params: TrainDiffusionParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Train, keep the averaged weights, and record the last validation loss."""
    share = ranks.share(params.batch)
    offered = offered_stores(inputs["data"], params.datasets)
    stores = [open_store(part["latents"], "latents") for part in offered]
    train, val = (
        LatentPairSource(stores, split, seed=params.seed, batch=params.batch, rows=share.rows)
        for split in ("train", "val")
    )
    if len(train) == 0:
        raise ValueError("no pair of the train split: see the reasons in the latents' rejects.parquet")
    net = channels_last(build(params, train, read_guess(stores)).to(runtime.device))
    ranks.share_layers(net)
    optimiser = torch.optim.AdamW(net.unet.parameters(), lr=params.rate, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, partial(cosine_rate, steps=params.steps, warmup=params.warmup, end=params.final_rate)
    )
    ema = EMAModel(net.unet.parameters(), decay=params.ema)  # min(decay, (1 + n) / (10 + n)), as published
    key = work_key(params, inputs.values())
    loop = TrainLoop(
        name="train_diffusion",
        work=runtime.work_dir("train_diffusion", key),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={"net": net, "optimiser": optimiser, "schedule": schedule, "ema": ema},
    )
    dtype = resolve_dtype(params.dtype, runtime.device)
    for step in loop:
        generator = generator_for(params.seed, "train_diffusion noise", step, device=runtime.device)
        batch = train.step(step).to(runtime.device)
        with autocast(runtime.device, dtype):
            loss = net.train().loss(*batch, generator=share.draws(generator)).mean()
        optimiser.zero_grad()
        loss.backward()
        ranks.average_gradients(net.unet.parameters())
        torch.nn.utils.clip_grad_norm_(net.unet.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        ema.step(net.unet.parameters())
        loop.log(loss=loss)
        if len(val) and (step + 1) % params.validate_every == 0:
            loop.log(val=validation_loss(net, ema, val, params, runtime.device))
    ema.copy_to(net.unet.parameters())
    if ranks.rank() == 0:
        with publish(outputs["diffusion"]) as folder:
            save_weights(folder, "diffusion", net.float(), net.config_dict(), digests(stores))
            loop.save_history(folder)
    loop.clean()
    return {"pairs": len(train), "steps": params.steps, "loss": round(loop.history[-1]["loss"], 4)}


def build(params: TrainDiffusionParams, train: LatentPairSource, guess: Guess) -> LatentDiffusion:
    """The net with the training latents' statistics, taken from a few thousand of them."""
    torch.manual_seed(params.seed)
    some = train.first_window()
    net = LatentDiffusion(configure(params, some.mask.shape[-1], guess))
    if params.standardise:
        net.set_statistics(some.z_merged, some.z_partial)
    return net


def configure(params: TrainDiffusionParams, latent_size: int, guess: Guess) -> DiffusionConfig:
    """The net's sizes."""
    names = ("layers", "groups", "head_width", "heads", "dropout", "prediction")
    return DiffusionConfig(
        latent_size=latent_size,
        widths=tuple(params.widths),
        attention=tuple(params.attention),
        guess=guess,
        **{name: getattr(params, name) for name in names},
    )


@torch.no_grad()
def validation_loss(
    net: LatentDiffusion, ema: EMAModel, val: LatentPairSource, params: TrainDiffusionParams, device: str
) -> float:
    """Loss of the averaged weights on fixed pairs, timesteps and noise."""
    ema.store(net.unet.parameters())
    ema.copy_to(net.unet.parameters())
    generator = generator_for(params.seed, "train_diffusion val noise", device=device)
    loss = net.eval().loss(*val.fixed(64).to(device), generator=generator).mean()
    ema.restore(net.unet.parameters())
    return float(loss)


def read_guess(stores: list[Store]) -> Guess:
    """How the partial latents were guessed, in all data sets alike."""
    guesses = {str(store.attrs["guess"]) for store in stores}
    if len(guesses) > 1:
        raise ValueError(f"latents with different guesses cannot be mixed: {', '.join(sorted(guesses))}")
    return "mirror" if guesses == {"mirror"} else "none"


def digests(stores: list[Store]) -> dict[str, str]:
    """Body and atlas that the latents belong to."""
    return {name: str(stores[0].attrs[name]) for name in ("body", "atlas")}


STAGE = Stage(
    "train_diffusion", TrainDiffusionParams, inputs=("data",), outputs=("diffusion",), run=run, trains=True
)

if __name__ == "__main__":
    main(STAGE)
