"""Labelled people → the human parser, trained before backgrounds that are made up or cut out of photographs.

Data sets join at the level of their labels: CIHP's classes, groups of them, or masks alone (dinar_models/labels.py).
"""

import json
import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dinar_models import ranks
from dinar_models.backbones import efficientnet_lite0_state
from dinar_models.labels import LEVELS, at_level
from dinar_models.metrics import parsing_scores
from dinar_models.parser import (
    Parser,
    build_parser,
    load_encoder,
    start_at_prior,
    train_mode,
)
from dinar_models.parsing import parse_closely
from dinar_models.parsing_loss import cross_entropies, level_log_probabilities, soft_dice
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.precision import DtypeChoice, autocast, channels_last, resolve_dtype
from stages._core.publish import publish, write_file
from stages._core.runtime import Runtime
from stages._core.seeds import derive_seed, generator_for
from stages._core.stage import Paths, Stage, Summary
from stages._core.train_loop import TrainLoop
from stages._core.weights import save_weights
from stages._data.labelled import BatchRules, LabelledPeople, before_photographs, step_batches

log = logging.getLogger(__name__)


class TrainParserParams(StageParams):
    """Size of the net's images and of the training."""

    seed: int
    image_size: int
    datasets: list[str] = Field(
        description="data sets whose train people are learnt from, at any level of labels"
    )
    architecture: Literal["unet", "deeplabv3plus"] = Field("unet", description="decoder")
    size: int = Field(
        192, ge=64, le=1024, multiple_of=32, description="pixels per side, in training and parsing"
    )
    images: int = Field(2000, ge=1, description="images held in memory, drawn from all train people")
    val_images: int = Field(128, ge=1, description="images of val people, before photographs of their own")
    steps: int = Field(900, ge=1)
    batch: int = Field(8, ge=2)
    learning_rate: float = Field(2e-3, gt=0, description="of the decoder, at its highest; AdamW, cosine")
    encoder_rate: float = Field(0.25, ge=0, le=1, description="the encoder's share of the learning rate")
    coarse_weight: float = Field(
        0.5, ge=0, description="weight of the cross entropies of groups and person, each"
    )
    dice_weight: float = Field(0.5, ge=0, description="weight of the Dice losses of classes and groups, each")
    dtype: DtypeChoice = "auto"
    checkpoint_every: int = Field(100, ge=1)


def run(params: TrainParserParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Train, validate on val people before unseen photographs, publish the weights."""
    share = ranks.share(params.batch)
    paths = chosen(inputs.group("views"), params.datasets)
    people = LabelledPeople(paths, "train", params.images, params.image_size, params.seed)
    config = {"architecture": params.architecture, "size": params.size}
    # Layers draw from the global generator.
    torch.manual_seed(derive_seed(params.seed, "train_parser", "weights"))
    parser = channels_last(build_parser(config).to(runtime.device))
    load_encoder(parser, efficientnet_lite0_state())
    start_at_prior(parser)
    rules = BatchRules(params.seed, params.batch, params.size, params.size // parser.stride, share.rows)
    loop = train(parser, people, rules, params, runtime, work_key(params, inputs.values()))
    scores = validate(parser.eval(), paths, params, runtime)
    if ranks.rank() == 0:
        with publish(outputs["parser"]) as folder:
            save_weights(folder, "parser", parser, config)
            loop.save_history(folder)
            write_file(folder / "validation.json", json.dumps(scores, indent=1, sort_keys=True) + "\n")
    loop.clean()
    return {"images": len(people), **scores}


def chosen(views: dict[str, Path], names: list[str]) -> dict[str, Path]:
    """The stores of the data sets that the params name. Raises ValueError for a name that is no input."""
    for name in names:
        if name not in views:
            raise ValueError(f"datasets: {name!r} is no input; the inputs are {', '.join(views)}")
    return {name: views[name] for name in names}


def train(
    parser: Parser,
    people: LabelledPeople,
    rules: BatchRules,
    params: TrainParserParams,
    runtime: Runtime,
    key: str,
) -> TrainLoop:
    """AdamW with a short warm-up and a cosine; resumes after a kill."""
    dtype = resolve_dtype(params.dtype, runtime.device)
    ranks.share_layers(parser)
    optimizer = torch.optim.AdamW(_rates(parser, params), weight_decay=1e-4)
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
    batches = step_batches(people, rules, range(loop.start, params.steps), runtime)
    train_mode(parser)
    for _, (images, labels) in zip(loop, batches, strict=True):
        x = images.to(runtime.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with autocast(runtime.device, dtype):
            logits = parser(x.contiguous(memory_format=torch.channels_last))
        terms = losses(logits.float(), labels.to(runtime.device))
        optimizer.zero_grad(set_to_none=True)
        total(terms, params).backward()
        ranks.average_gradients(parser.parameters())
        optimizer.step()
        schedule.step()
        loop.log(**terms)
    return loop


def losses(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The terms of the loss, each a mean: cross entropy per level over all pixels, Dice over the classes shown."""
    shares = level_log_probabilities(logits)
    terms: dict[str, Tensor] = {k: v.mean() for k, v in cross_entropies(shares, labels).items()}
    for level in LEVELS[:2]:
        terms[f"dice_{level}"] = soft_dice(shares[level], at_level(labels, level)).nanmean().nan_to_num(0.0)
    return terms


def total(terms: dict[str, Tensor], params: TrainParserParams) -> Tensor:
    """The weighted sum that is minimised."""
    coarse = terms["groups"] + terms["person"]
    dice = terms["dice_classes"] + terms["dice_groups"]
    return terms["classes"] + params.coarse_weight * coarse + params.dice_weight * dice


def validate(
    parser: Parser, paths: dict[str, Path], params: TrainParserParams, runtime: Runtime
) -> dict[str, float]:
    """{miou, miou_coarse, foreground_iou} on val people before photographs that training never uses."""
    people = LabelledPeople(paths, "val", params.val_images, params.image_size, params.seed)
    rgb, labels = before_photographs(people, generator_for(params.seed, "train_parser", "val backgrounds"))
    scores = parsing_scores(parse_closely(parser, rgb, device=runtime.device), labels)
    log.info("train_parser: %s", ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
    return scores


def _rates(parser: Parser, params: TrainParserParams) -> list[dict[str, object]]:
    """Groups of trained tensors with their learning rates."""
    encoder = [p for p in parser.net.encoder.parameters() if p.requires_grad]
    rest = [p for name, p in parser.named_parameters() if not name.startswith("net.encoder.")]
    rate = params.learning_rate
    return [{"params": encoder, "lr": rate * params.encoder_rate}, {"params": rest, "lr": rate}]


def _rate(step: int, steps: int, warm_up: float = 0.05) -> float:
    """Linear warm-up, then half a cosine."""
    share = (step + 1) / steps
    if share < warm_up:
        return share / warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (share - warm_up) / (1 - warm_up))))


STAGE = Stage(
    "train_parser", TrainParserParams, inputs=("views.*",), outputs=("parser",), run=run, trains=True
)

if __name__ == "__main__":
    main(STAGE)
