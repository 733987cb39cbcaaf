"""train_avatar → train_vqgan → finetune_avatar on the small world: what each may change, and exact resumes."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages import finetune_avatar, train_avatar, train_vqgan
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._core.train_loop import TrainLoop
from stages._core.weights import WeightsError, read_body_digests
from stages._data.models import load_vqgan
from stages._data.offers import offer_of, write_offer
from tests.stages.tiny_world import IMAGE, TEXTURE, World, save_store

STORES = ("data", "body")
STEPS = 4
COMMON = {
    "seed": 3,
    "image_size": IMAGE,
    "datasets": ["tiny"],
    "steps": STEPS,
    "batch": 2,
    "discriminator_base": 8,
    "r1_every": 2,
    "checkpoint_every": 2,
    "dtype": "float32",
}
NETS = {"encoder_base": 8, "generator_base": 8, "renderer_base": 4, "renderer_blocks": 1, "style": 16}
CODES = {"widths": [8, 16], "layers": 1, "groups": 4, "codes": 8}


@dataclass(frozen=True)
class Training:
    """A stage, its parameters, the folders of weights that it reads, and the name of its output."""

    stage: ModuleType
    params: StageParams
    reads: tuple[str, ...]
    output: str

    def run(self, inputs: Paths, out: Path, work: Path) -> dict:
        runtime = Runtime(work_root=work / "work", runs_root=work / "runs")
        return self.stage.run(self.params, inputs, Paths({self.output: out}), runtime)


AVATAR = train_avatar.TrainAvatarParams(texture_size=TEXTURE, validate_every=2, **NETS, **COMMON)
VQGAN = train_vqgan.TrainVqganParams(texture_size=TEXTURE, **CODES, **COMMON)
FINETUNE = finetune_avatar.FinetuneAvatarParams(**{**COMMON, "discriminator_base": 16})  # weights know theirs
CHAIN = {
    "avatar": Training(train_avatar, AVATAR, (), "avatar"),
    "vqgan": Training(train_vqgan, VQGAN, ("avatar",), "vqgan"),
    "finetuned": Training(finetune_avatar, FINETUNE, ("avatar", "vqgan"), "avatar"),
}


def inputs_of(name: str, world: World, trained: Path) -> Paths:
    return world.inputs(*STORES, **{read: trained / read for read in CHAIN[name].reads})


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders avatar, vqgan and finetuned, made one after the other by runs that nothing stopped."""
    root = tmp_path_factory.mktemp("trained")
    for name, training in CHAIN.items():
        summary = training.run(inputs_of(name, world, root), root / name, root)
        assert summary["people"] == 1
        assert summary["steps"] == STEPS
    return root


def same_files(first: Path, second: Path) -> bool:
    names = sorted(p.name for p in first.iterdir())
    assert names == sorted(p.name for p in second.iterdir())
    return all((first / n).read_bytes() == (second / n).read_bytes() for n in names)


@pytest.mark.parametrize("name", CHAIN)
def test_killed_after_a_checkpoint_and_resumed_it_ends_with_the_same_bytes(
    name: str, world: World, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, out = CHAIN[name], tmp_path / "out"
    kill_and_resume(training, inputs_of(name, world, trained), out, monkeypatch)
    assert same_files(out, trained / name)
    assert not list((tmp_path / "work").rglob("checkpoint.pt"))


@pytest.mark.parametrize("name", CHAIN)
def test_in_bf16_a_resumed_training_ends_with_the_same_bytes_too(
    name: str, world: World, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it trains by default where the processor can: other kernels, other layouts of gradients."""
    training, inputs = CHAIN[name], inputs_of(name, world, trained)
    training = replace(training, params=training.params.model_copy(update={"dtype": "bfloat16"}))
    training.run(inputs, tmp_path / "unbroken", tmp_path)
    kill_and_resume(training, inputs, tmp_path / "out", monkeypatch)
    assert same_files(tmp_path / "out", tmp_path / "unbroken")


def kill_and_resume(training: Training, inputs: Paths, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die in the step after the last checkpoint but one, then go on."""
    steps: list[int] = []

    class Killed(TrainLoop):
        def log(self, **values: float | torch.Tensor) -> None:
            super().log(**values)
            steps.append(self.step)
            if self.step == 3 and steps.count(0):
                raise KeyboardInterrupt

    monkeypatch.setattr(training.stage, "TrainLoop", Killed)
    with pytest.raises(KeyboardInterrupt):
        training.run(inputs, out, out.parent)
    assert not out.exists()
    steps.clear()
    training.run(inputs, out, out.parent)
    assert set(steps) == {2, 3}


@pytest.mark.parametrize(
    ("folder", "name"), [("avatar", "avatar"), ("vqgan", "vqgan"), ("finetuned", "avatar")]
)
def test_weights_say_their_sizes_and_the_body_they_belong_to(
    folder: str, name: str, world: World, trained: Path
) -> None:
    card = json.loads((trained / folder / f"{name}.json").read_text())
    assert card["digests"] == read_body_digests(world.paths["body"])
    assert card["config"]["texture_size"] == TEXTURE
    last = json.loads((trained / folder / "history.jsonl").read_text().splitlines()[-1])
    assert last.pop("step") == STEPS
    assert len(last) > 5
    assert all(np.isfinite(value) for value in last.values())


def test_finetuning_changes_the_renderer_only(trained: Path) -> None:
    """Else the latents of the autoencoder would lose their meaning."""
    before, after = (load_file(trained / name / "avatar.safetensors") for name in ("avatar", "finetuned"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"renderer"}


def test_finetuning_end_to_end_keeps_an_autoencoder_of_its_own(
    world: World, trained: Path, tmp_path: Path
) -> None:
    """As in the paper: encoder, generator, renderer and autoencoder all change; later stages take that one."""
    training = CHAIN["finetuned"]
    everything = Training(
        finetune_avatar, FINETUNE.model_copy(update={"trains": "all"}), training.reads, "avatar"
    )
    everything.run(inputs_of("finetuned", world, trained), tmp_path / "avatar", tmp_path)
    before, after = (
        load_file(folder / "avatar.safetensors") for folder in (trained / "avatar", tmp_path / "avatar")
    )
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"encoder", "generator", "renderer"}
    old, new = (
        load_file(folder / "vqgan.safetensors") for folder in (trained / "vqgan", tmp_path / "avatar")
    )
    assert {n.split(".")[0] for n in old if not torch.equal(old[n], new[n])} >= {
        "encoder",
        "decoder",
        "codebook",
    }
    body = world.paths["body"]
    for avatar, codes in ((tmp_path / "avatar", new), (trained / "avatar", old)):
        loaded = load_vqgan(avatar, trained / "vqgan", body)
        assert torch.equal(loaded.codebook.vectors, codes["codebook.vectors"])
    history = [json.loads(line) for line in (tmp_path / "avatar/history.jsonl").read_text().splitlines()]
    assert history[-1]["completed_texture_codebook"] > 0


def test_the_discriminator_goes_on_learning_and_is_kept(trained: Path) -> None:
    """Tuning an avatar starts from it."""
    before, after = (
        load_file(trained / name / "discriminator.safetensors") for name in ("avatar", "finetuned")
    )
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_without_an_autoencoder_the_renderer_is_finetuned_on_raw_textures(
    world: World, trained: Path, tmp_path: Path
) -> None:
    inputs = world.inputs(*STORES, avatar=trained / "avatar")
    CHAIN["finetuned"].run(inputs, tmp_path / "out", tmp_path)
    last = json.loads((tmp_path / "out/history.jsonl").read_text().splitlines()[-1])
    assert {"raw_l2", "raw_perceptual"} <= set(last)
    assert not [name for name in last if name.startswith("completed")]
    assert not same_files(tmp_path / "out", trained / "finetuned")


def test_textures_of_colours_alone_train_the_renderer_alone(world: World, tmp_path: Path) -> None:
    params = AVATAR.model_copy(update={"texture": "rgb", "steps": 2})
    Training(train_avatar, params, (), "avatar").run(world.inputs(*STORES), tmp_path / "out", tmp_path)
    torch.manual_seed(params.seed)
    start, made = train_avatar.build(params).state_dict(), load_file(tmp_path / "out/avatar.safetensors")
    moved = {name.split(".")[0] for name, value in start.items() if not torch.equal(value, made[name])}
    assert moved == {"renderer"}
    assert json.loads((tmp_path / "out/avatar.json").read_text())["config"]["texture"] == "rgb"


def test_the_autoencoder_ends_quantised_with_its_codes_in_use(trained: Path) -> None:
    tensors = load_file(trained / "vqgan/vqgan.safetensors")
    assert tensors["codebook.vectors"].shape == (CODES["codes"], 6)
    last = json.loads((trained / "vqgan/history.jsonl").read_text().splitlines()[-1])
    assert last["texture_codebook"] > 0
    assert 1 < last["perplexity"] <= CODES["codes"]


def test_held_out_people_are_never_looked_at(world: World, trained: Path, tmp_path: Path) -> None:
    """With noise in place of the gate and test people every byte stays, and a val person moves no weight."""
    views = open_store(world.paths["views"], "views")
    arrays = {name: views[name][:] for name in views.schema.arrays}
    noise = np.random.default_rng(0).integers(0, 255, arrays["rgb"].shape, dtype=np.uint8)
    held_out = views.index["split"].isin(["gate", "test"]).to_numpy()
    arrays["rgb"][held_out] = noise[held_out]
    save_store(tmp_path / "held_out", "views", views.index, arrays)
    not_learnt = (views.index["split"] != "train").to_numpy()
    arrays["rgb"][not_learnt] = noise[not_learnt]
    save_store(tmp_path / "not_learnt", "views", views.index, arrays)
    for name in ("held_out", "not_learnt"):
        stores = {kind: world.paths[kind] for kind in ("parsing", "bodies", "textures")}
        offer = offer_of("tiny", {**stores, "views": tmp_path / name})
        write_offer(tmp_path / f"{name}_offers" / "tiny.json", offer)
        inputs = world.inputs("body", data=tmp_path / f"{name}_offers")
        CHAIN["avatar"].run(inputs, tmp_path / f"{name}_avatar", tmp_path)
    assert same_files(tmp_path / "held_out_avatar", trained / "avatar")
    weights = [
        folder / "avatar.safetensors" for folder in (tmp_path / "not_learnt_avatar", trained / "avatar")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_weights_of_another_body_are_refused(world: World, trained: Path, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.mkdir()
    (body / "body.json").write_text('{"body_digest": "other", "atlas_digest": "other"}')
    inputs = Paths({**inputs_of("vqgan", world, trained), "body": body})
    with pytest.raises(WeightsError, match=r"avatar belongs to body .* but the body here is other"):
        CHAIN["vqgan"].run(inputs, tmp_path / "out", tmp_path)
