"""Rendered people with labels → the human parser, trained on made-up backgrounds."""

import json
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor

from dinar_models.augment import augment_batch
from dinar_models.backbones import efficientnet_lite0_state
from dinar_models.parser import (
    UNKNOWN,
    Parser,
    build_parser,
    load_encoder,
    parse_images,
    parsing_scores,
    start_at_prior,
)
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.precision import DtypeChoice, channels_last, resolve_dtype
from stages._core.publish import publish, write_file
from stages._core.runtime import Runtime
from stages._core.seeds import derive_seed, generator_for, rng_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import Store, open_store
from stages._core.train_loop import TrainLoop
from stages._core.weights import save_weights

log = logging.getLogger(__name__)


class TrainParserParams(StageParams):
    """Size of the net's images and of the training."""

    seed: int
    architecture: Literal["unet", "deeplabv3plus"] = Field("unet", description="decoder")
    size: int = Field(256, ge=64, le=1024, multiple_of=32, description="pixels per side when parsing")
    train_size: int = Field(192, ge=64, le=1024, multiple_of=32, description="pixels per side in training")
    images: int = Field(1500, ge=1, description="renders held in memory, drawn from all train people")
    val_images: int = Field(64, ge=1, description="renders of val people, on backgrounds of their own")
    steps: int = Field(420, ge=1)
    batch: int = Field(8, ge=2)
    learning_rate: float = Field(1e-3, gt=0, description="of the decoder, at its highest; AdamW, cosine")
    encoder_rate: float = Field(0.3, ge=0, le=1, description="the encoder's share of the learning rate")
    dice_weight: float = Field(0.5, ge=0, description="weight of the Dice loss beside cross entropy")
    dtype: DtypeChoice = "auto"
    checkpoint_every: int = Field(100, ge=1)


class People:
    """Renders in memory: uint8 tensors rgb (N, H, W, 3), mask and parts (N, H, W)."""

    def __init__(self, stores: list[Store], split: str, count: int, rng: np.random.Generator) -> None:
        rows = [(store, row) for store in stores for row in store.ok_rows(split=split)]
        if not rows:
            raise ValueError(f"no labelled renders of {split} people; train_parser needs some")
        chosen = sorted(rng.permutation(len(rows))[:count])
        arrays: dict[str, list[np.ndarray]] = {"rgb": [], "mask": [], "parts": []}
        for store in stores:
            own = [rows[i][1] for i in chosen if rows[i][0] is store]
            if own:
                for name, values in arrays.items():
                    values.append(store.read(name, own))
        self.rgb, self.mask, self.parts = (torch.from_numpy(np.concatenate(arrays[n])) for n in arrays)

    def __len__(self) -> int:
        return len(self.rgb)

    def batch(self, rows: np.ndarray, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augmented images in [−1, 1] and labels."""
        chosen = torch.from_numpy(rows)
        return augment_batch(
            self.rgb[chosen], self.mask[chosen], self.parts[chosen], size, generator=generator
        )


def run(params: TrainParserParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Train, validate on val people before unseen backgrounds, publish the weights."""
    stores = labelled_stores(inputs.group("views"))
    people = People(stores, "train", params.images, rng_for(params.seed, "train_parser", "rows"))
    config = {"architecture": params.architecture, "size": params.size}
    torch.manual_seed(
        derive_seed(params.seed, "train_parser", "weights")
    )  # layers draw from the global generator
    parser = channels_last(build_parser(config).to(runtime.device))
    load_encoder(parser, efficientnet_lite0_state())
    start_at_prior(parser)
    loop = train(parser, people, params, runtime, work_key(params, inputs.values()))
    scores = validate(parser, stores, params, runtime)
    with publish(outputs["parser"]) as folder:
        save_weights(folder, "parser", parser, config)
        loop.save_history(folder)
        write_file(folder / "validation.json", json.dumps(scores, indent=1, sort_keys=True) + "\n")
    loop.clean()
    return {"images": len(people), **scores}


def labelled_stores(paths: dict[str, Path]) -> list[Store]:
    """The stores of renders whose source labels its textures.

    Raises:
        ValueError: when there is none.
    """
    stores = [open_store(path, "views") for path in paths.values()]
    labelled = [store for store in stores if store.attrs.get("has_parts")]
    if not labelled:
        raise ValueError(
            f"none of {', '.join(paths)} has part labels; train_parser needs a labelled data set"
        )
    return labelled


def train(parser: Parser, people: People, params: TrainParserParams, runtime: Runtime, key: str) -> TrainLoop:
    """Cross entropy and Dice over the 20 classes; AdamW with a cosine rate; resumes after a kill."""
    dtype = resolve_dtype(params.dtype, runtime.device)
    optimizer = torch.optim.AdamW(
        [
            {"params": parser.net.encoder.parameters(), "lr": params.learning_rate * params.encoder_rate},
            {"params": _not_encoder(parser), "lr": params.learning_rate},
        ],
        weight_decay=1e-4,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, params.steps))
    loop = TrainLoop(
        name="train_parser",
        work=runtime.work_dir("train_parser", key),
        steps=params.steps,
        seed=params.seed,
        checkpoint_every=params.checkpoint_every,
        runtime=runtime,
        state={"parser": parser, "optimizer": optimizer, "schedule": schedule},
    )
    dice = DiceLoss("multiclass", from_logits=True, ignore_index=UNKNOWN)
    parser.train()
    for step in loop:
        rng = rng_for(params.seed, "train_parser", "batch", step)
        generator = generator_for(params.seed, "train_parser", "augment", step)
        images, labels = people.batch(
            rng.integers(0, len(people), params.batch), params.train_size, generator
        )
        images = images.to(runtime.device, memory_format=torch.channels_last)
        target = labels.long().to(runtime.device)
        with torch.autocast(runtime.device, dtype=dtype, enabled=dtype != torch.float32):
            logits = parser(images)
        entropy = F.cross_entropy(logits.float(), target, ignore_index=UNKNOWN)
        overlap = dice(
            logits[..., ::2, ::2].float(), target[:, ::2, ::2]
        )  # the same mean at a quarter the cost
        optimizer.zero_grad(set_to_none=True)
        (entropy + params.dice_weight * overlap).backward()
        optimizer.step()
        schedule.step()
        loop.log(cross_entropy=entropy, dice=overlap)
    return loop


def validate(
    parser: Parser, stores: list[Store], params: TrainParserParams, runtime: Runtime
) -> dict[str, float]:
    """{miou, miou_coarse, foreground_iou} on val people, moved and put before backgrounds of their own."""
    people = People(stores, "val", params.val_images, rng_for(params.seed, "train_parser", "val rows"))
    generator = generator_for(params.seed, "train_parser", "val backgrounds")
    images, labels = people.batch(np.arange(len(people)), params.size, generator)
    rgb = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    parts, _ = parse_images(parser.eval(), rgb, device=runtime.device)
    scores = parsing_scores(parts, labels)
    log.info("train_parser: %s", ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
    return scores


def _not_encoder(parser: Parser) -> list[Any]:
    return [p for name, p in parser.named_parameters() if not name.startswith("net.encoder.")]


def _rate(step: int, steps: int, warm_up: float = 0.05) -> float:
    """Linear warm-up, then half a cosine."""
    share = (step + 1) / steps
    if share < warm_up:
        return share / warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (share - warm_up) / (1 - warm_up))))


STAGE = Stage("train_parser", TrainParserParams, inputs=("views.*",), outputs=("parser",), run=run)

if __name__ == "__main__":
    main(STAGE)
