"""One training step of every stage with the profile `paper`: networks, images and textures of the paper's sizes.

Sizes and arithmetic are tested, not values, so LPIPS stands on an untrained VGG-16: no package carries its weights.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from torch import nn

from benchmarks.untrained import write_vgg
from dinar_models.avatar import AvatarNets
from dinar_models.diffusion import LatentDiffusion
from dinar_models.discriminator import Discriminator
from dinar_models.vqgan import VQGAN
from flows.profiles import render_profile
from stages import (
    encode_latents,
    finetune_avatar,
    merge_textures,
    train_avatar,
    train_diffusion,
    train_parser,
    train_vqgan,
)
from stages._core.stage import Stage
from stages._core.store import open_store
from stages._core.weights import load_weights
from stages._data.offers import offer_of, write_offer
from tests.conftest import ROOT
from tests.stages.tiny_world import World, make_world
from tests.test_benchmarks import PUBLISHED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MEMORY_MIB = 12_000
"""What a step of any stage may take."""

MODULES: tuple[ModuleType, ...] = (
    train_parser, train_avatar, train_vqgan, finetune_avatar, merge_textures, encode_latents, train_diffusion,
)  # fmt: skip
STAGES: dict[str, Stage] = {module.STAGE.name: module.STAGE for module in MODULES}
"""In the order of the graph."""

LOSSES = {
    "train_parser": "classes",
    "train_avatar": "perceptual",
    "train_vqgan": "texture_codebook",
    "finetune_avatar": "completed_perceptual",
    "train_diffusion": "loss",
}
"""A term of each training's loss."""


@dataclass(frozen=True)
class PaperRun:
    """The stages on a small world, each a process of its own; a stage runs when its output is first asked for.

    Attributes:
        root: for outputs.
        values: params by section.
        world: of the paper's image and texture sizes.
        weights: folder of the backbone of LPIPS.
    """

    root: Path
    values: Mapping[str, Any]
    world: World
    weights: Path

    def __getitem__(self, stage: str) -> Path:
        """The folder that a stage wrote."""
        folder, (output,) = self.root / stage, STAGES[stage].outputs
        if not (folder / output).is_dir():
            inputs = self._inputs(stage)
            folder.mkdir()
            (folder / "params.yaml").write_text(yaml.safe_dump(self._params(stage)))
            command = [sys.executable, "-m", f"stages.{stage}", "--params", f"{folder}/params.yaml"]
            command += [word for name, path in inputs.items() for word in ("--input", f"{name}={path}")]
            command += ["--output", f"{output}={folder / output}"]
            settings = {"WORKERS": "1", "DEVICE": "cpu", "WORK": f"{folder}/work", "RUNS": f"{folder}/runs"}
            environment = {**os.environ, **{f"DINAR_{key}": value for key, value in settings.items()}}
            subprocess.run(command, check=True, cwd=ROOT, env=environment)
        return folder / output

    def peak_mib(self, stage: str) -> int:
        """Most memory that a stage had."""
        return int(json.loads((self[stage].parent / f"runs/{stage}.json").read_text())["peak_mib"])

    def _params(self, stage: str) -> dict[str, Any]:
        """The profile's, for one step on one sample; the parser's batch norms need two."""
        batch = 2 if stage == "train_parser" else 1
        short = {"datasets": ["tiny"], "steps": 1, "batch": batch, "splits": ["train"]}
        known = {key: value for key, value in short.items() if key in STAGES[stage].params.model_fields}
        return {**self.values, stage: {**self.values.get(stage, {}), **known}}

    def _inputs(self, stage: str) -> dict[str, Path]:
        """As dvc.yaml has them, and LPIPS' weights."""
        known = self.world.paths
        if stage == "train_parser":
            return {"views.tiny": known["views"]}
        if stage == "train_diffusion":
            offer = offer_of("tiny", {"latents": self["encode_latents"]})
            write_offer(self.root / "latents/tiny.json", offer)
            return {"data": self.root / "latents"}
        images = {"data": known["data"], "body": known["body"], "weights": self.weights}
        stores = {name: known[name] for name in ("views", "parsing", "bodies", "textures", "body")}
        return {
            "train_avatar": lambda: images,
            "train_vqgan": lambda: {**images, "avatar": self["train_avatar"]},
            "finetune_avatar": lambda: {
                **images, "avatar": self["train_avatar"], "vqgan": self["train_vqgan"]
            },
            "merge_textures": lambda: {**stores, "avatar": self["finetune_avatar"]},
            "encode_latents": lambda: {
                **stores,
                "avatar": self["finetune_avatar"],
                "vqgan": self["train_vqgan"],
                "merged": self["merge_textures"],
            },
        }[stage]()  # fmt: skip


@pytest.fixture(scope="module")
def paper(tiny_body: Path, tmp_path_factory: pytest.TempPathFactory) -> PaperRun:
    root = tmp_path_factory.mktemp("paper")
    values = yaml.safe_load(render_profile("paper"))
    world = make_world(root / "world", tiny_body, values["image_size"], values["texture_size"])
    return PaperRun(root, values, world, write_vgg(root / "weights"))


@pytest.mark.parametrize("stage", LOSSES)
def test_a_step_of_each_training_ends_with_a_finite_loss(stage: str, paper: PaperRun) -> None:
    lines = (paper[stage] / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1]
    last = json.loads(lines[-1])
    assert last[LOSSES[stage]] > 0
    assert all(math.isfinite(value) for value in last.values())
    assert paper.peak_mib(stage) < MEMORY_MIB


def test_the_diffusion_learns_from_latents_of_the_papers_size(paper: PaperRun) -> None:
    latents = open_store(paper["encode_latents"], "latents")
    assert latents["z_merged"].shape[1:] == latents["z_partial"].shape[1:] == (6, 64, 64)
    assert len(latents.ok_rows("train")) == 8


def test_the_weights_have_as_many_parameters_as_the_published_networks(paper: PaperRun) -> None:
    finetuned = paper["finetune_avatar"]
    nets = load_weights(finetuned, "avatar", AvatarNets.from_config)
    kept: dict[str, nn.Module] = {
        "encoder": nets.encoder,
        "generator": nets.generator,
        "renderer": nets.renderer,
        "discriminator": load_weights(finetuned, "discriminator", Discriminator.from_config),
        "vqgan": load_weights(finetuned, "vqgan", VQGAN.from_config),
        "unet": load_weights(paper["train_diffusion"], "diffusion", LatentDiffusion.from_config).unet,
    }
    counts = {name: sum(p.numel() for p in net.parameters()) for name, net in kept.items()}
    assert counts == {name: pytest.approx(count, rel=0.02) for name, count in PUBLISHED.items()}
