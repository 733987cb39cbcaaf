"""A release of small weights that were really measured: what it holds, what it refuses, and that it serves."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from flows.champion import Rule, consider
from flows.model_card import read_record
from flows.model_folders import ModelFolder, find_models
from flows.release import check_rounding, held_out, release
from flows.rounding import HeldOut, Rounding, compare, round_weights
from stages import evaluate, reconstruct
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.weights import WeightsError
from stages._data.models import load_models
from tests.stages.tiny_world import IMAGE, make_world

SECTION = {"seed": 2, "datasets": ["tiny"], "steps": 2, "tune_steps": 1, "temperature": 0.4}
NETS = ("parser/parser", "avatar_finetuned/avatar", "vqgan/vqgan", "diffusion/diffusion")
RUN = {"device": "cpu", "seconds": 12.5, "peak_mib": 300, "finished": "2025-01-01T00:00:00Z"}


@pytest.fixture(scope="module")
def trained(tiny_body: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after `dvc repro`: stores and untrained weights of four people, avatars, metrics, curves, times."""
    root = tmp_path_factory.mktemp("project")
    data, made = root / "data", tmp_path_factory.mktemp("world")
    world = make_world(made, tiny_body)
    for name in ("views", "parsing", "bodies", "bodies_single"):
        (data / "stores/tiny").mkdir(parents=True, exist_ok=True)
        (made / name).rename(data / "stores/tiny" / name)
    shutil.copytree(tiny_body, data / "models/body")
    for name, place in (("avatar", "avatar_finetuned"), *((n, n) for n in ("vqgan", "diffusion", "parser"))):
        (made / name).rename(data / "models" / place)
    (data / "models/avatar").mkdir()
    _measure(root, world.paths["truth"])
    for folder in ("parser", "avatar", "vqgan", "avatar_finetuned", "diffusion"):
        (data / "models" / folder / "history.jsonl").write_text(
            '{"step": 20, "loss": 2}\n{"step": 40, "loss": 1}\n'
        )
    (data / ".runs").mkdir()
    for stage in ("train_parser", "train_avatar", "train_vqgan", "finetune_avatar", "train_diffusion"):
        (data / ".runs" / f"{stage}.json").write_text(json.dumps(RUN))
    _describe(root)
    return root


def _measure(root: Path, truth: Path) -> None:
    data = root / "data"
    stores, models = data / "stores/tiny", data / "models"
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    inputs: dict[str, Path] = {
        f"{name}.tiny": stores / name for name in ("views", "parsing", "bodies_single")
    }
    weights = {"body": models / "body", "avatar": models / "avatar_finetuned"}
    chosen = {**inputs, **weights, "vqgan": models / "vqgan", "diffusion": models / "diffusion"}
    avatars = data / "stores/avatars"
    params = reconstruct.ReconstructParams.model_validate({**SECTION, "dtype": "float32"})
    reconstruct.run(params, Paths(chosen), Paths({"avatars": avatars}), runtime)
    measured = {
        **inputs,
        **weights,
        "avatars": avatars,
        "bodies.tiny": stores / "bodies",
        "truth.tiny": truth,
    }
    made = {name: data / f"reports/{name}.json" for name in ("metrics", "gate")}
    evaluate.run(
        evaluate.EvaluateParams(
            seed=2, image_size=IMAGE, datasets=["tiny"], kid_subset=4, kid_draws=2, kid_reference=8
        ),
        Paths({**measured, "parser": models / "parser"}),
        Paths({**made, "renders": data / "stores/renders"}),
        runtime,
    )


def _describe(root: Path) -> None:
    """What people write: a card, the list of data sets, params, a commit."""
    catalog = root / "data/catalog"
    catalog.mkdir()
    (catalog / "tiny.yaml").write_text("{adapter: scans, path: raw, licence: CC0-1.0, title: Four people.}\n")
    part = "{tiny: tiny}"
    (catalog / "enabled.yaml").write_text(
        f"scans: [tiny]\nimages: []\ndatasets: [tiny]\npart_of: {{scans: {part}, datasets: {part}}}\n"
    )
    (root / "params.yaml").write_text("profile: tiny\ntrain_avatar:\n  datasets: [tiny]\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    for command in (("init", "-q"), ("add", "params.yaml"), (*identity, "commit", "-q", "-m", "one")):
        subprocess.run(("git", *command), cwd=root, check=True)


def publish(root: Path, out: Path, models: str = "data/models") -> dict:
    return release(
        root / models, out, name=None, limits=["Made for a test."], console=Console(file=StringIO())
    )


@pytest.fixture(scope="module")
def released(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "released"
    publish(trained, out)
    return out


def test_networks_are_in_half_precision_and_load_as_before(released: Path, trained: Path) -> None:
    """Kernels and matrices are halved and off by at most 2^-11 of themselves, vectors are the same."""
    for name in NETS:
        before = load_file(trained / f"data/models/{name}.safetensors")
        after = load_file(released / f"{name}.safetensors")
        assert set(after) == set(before)
        for key, tensor in before.items():
            halved = tensor.ndim > 1 and tensor.is_floating_point()
            assert after[key].dtype == (torch.float16 if halved else tensor.dtype), key
            error = (after[key].double() - tensor.double()).abs() - tensor.double().abs() * 2**-11
            assert error.max() < 2**-24, key  # the last bit of numbers near 0
        sizes = [
            (root / f"{name}.safetensors").stat().st_size for root in (trained / "data/models", released)
        ]
        assert sizes[1] < 0.7 * sizes[0]
    nets = load_models(find_models(str(released), released).folders, "cpu").nets
    assert {p.dtype for p in nets.parameters()} == {torch.float32}


def test_body_and_atlas_are_the_same_bytes_so_that_digests_agree(released: Path, trained: Path) -> None:
    models = trained / "data/models"
    for file in ("body.json", "atlas.npz", "smplx/SMPLX_NEUTRAL.npz"):
        assert (released / "body" / file).read_bytes() == (models / "body" / file).read_bytes()
    mine, theirs = (ModelFolder(str(root), root).digests() for root in (released, models))
    assert {name for name in mine if mine[name] == theirs[name]} == {"body", "atlas"}


def test_the_card_says_how_the_weights_came_about_and_how_to_use_them(released: Path, trained: Path) -> None:
    card = json.loads((released / "card.json").read_text())
    assert card["name"] == "tiny"
    assert re.fullmatch("[0-9a-f]{12}", card["revision"])
    assert card["training"]["train_diffusion"] == {"steps": 40, **RUN}
    assert card["data"][0]["people"] == {"gate": 1, "test": 1, "train": 1, "val": 1}
    assert card["data"][0]["images"] == {"gate": 4, "test": 4, "train": 8, "val": 4}
    assert card["metrics"] == json.loads((trained / "data/reports/metrics.json").read_text())
    assert {name: card["reconstruct"][name] for name in SECTION} == SECTION
    assert find_models(str(released), released).reconstruct_section() == card["reconstruct"]
    assert card["rounding"]["least_psnr"] > 40
    assert card["rounding"]["people"] == 2
    assert card["limits"][-1] == "Made for a test."
    for name, facts in card["files"].items():
        assert (released / name).stat().st_size == facts["bytes"]
    files = {str(p.relative_to(released)) for p in released.rglob("*") if p.is_file()}
    assert files == {*card["files"], "card.json", "README.md"}


def test_the_page_says_the_same_to_people(released: Path) -> None:
    page = (released / "README.md").read_text()
    for words in (
        *("# DINAR weights `tiny`", "Four people. Licence: CC0-1.0.", "train: 1 people, 8 images."),
        *(
            "| train_vqgan | 40 | cpu | 12.5 | 300 | 2025-01-01T00:00:00Z |",
            "temperature 0.4",
            "* Made for a test.",
        ),
    ):
        assert words in page
    assert "\n\n\n" not in page
    table = page.split("## Files\n\n")[1].split("\n\n")[0].splitlines()
    assert len(table) == 2 + len(json.loads((released / "card.json").read_text())["files"])


def broken(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "project")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: shutil.rmtree(root / "data/models/vqgan"), "lack vqgan"),
        (lambda root: (root / "data/reports/metrics.json").unlink(), r"no reports/metrics\.json"),
        (lambda root: shutil.rmtree(root / "data/stores/avatars"), "avatars is missing"),
        (lambda root: (root / "data/models/diffusion/history.jsonl").unlink(), r"history\.jsonl is missing"),
        (lambda root: (root / "data/.runs/train_vqgan.json").unlink(), r"train_vqgan\.json is missing"),
        (lambda root: shutil.rmtree(root / ".git"), "no Git revision"),
        (lambda root: licensed(root / "data/models/body/body.json"), "may not be passed on"),
        (
            lambda root: trained_on(root / "data/models/diffusion/diffusion.safetensors"),
            r"about others \(weights\)",
        ),
        (lambda root: trained_on(root / "data/models/parser/parser.safetensors"), r"about others \(parser\)"),
    ],
)
def test_what_is_missing_or_of_others_is_one_sentence_and_nothing_changes(
    damage: Callable[[Path], None], words: str, trained: Path, tmp_path: Path
) -> None:
    root, out = broken(trained, tmp_path), tmp_path / "released"
    out.mkdir()
    (out / "old").write_text("old")
    damage(root)
    with pytest.raises(WeightsError, match=words) as error:
        publish(root, out)
    assert "\n" not in str(error.value)
    assert [p.name for p in out.iterdir()] == ["old"]
    assert not list(tmp_path.glob(".*partial"))


def licensed(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "licensed"}))


def trained_on(path: Path) -> None:
    """One more step after the weights were measured."""
    tensors = load_file(path)
    save_file({key: t + 0.01 if t.is_floating_point() else t for key, t in tensors.items()}, path)


def test_weights_too_large_for_git_are_not_released(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.release.LIMIT_MB", 10)
    with pytest.raises(
        WeightsError, match=r"11\.\d MB, 10 MB are allowed; the largest file is parser/parser\."
    ):
        publish(trained, tmp_path / "released")
    assert not (tmp_path / "released").exists()


def test_rounding_is_measured_before_tuning(released: Path, trained: Path) -> None:
    """Adam's whole steps would part avatars that rounding hardly changes: such weights were refused."""
    before, after = (ModelFolder(str(root), root) for root in (trained / "data/models", released))
    people = held_out(read_record(find_models("repro", trained / "data")))
    tuned = people.params.model_copy(update={"tune_steps": 6, "tune_generated": 0.5})
    assert compare(before, after, HeldOut(tuned, people.inputs)) == compare(before, after, people)


def test_weights_whose_rounding_shows_are_not_released() -> None:
    check_rounding(Rounding(people=4, views=4, least_psnr=40.0, mean_change=0.1, parser_change=0.0))
    with pytest.raises(WeightsError, match=r"changes a render to 39\.9 dB; 40 dB are the least"):
        check_rounding(Rounding(people=4, views=4, least_psnr=39.9, mean_change=0.1, parser_change=0.0))


def test_numbers_beyond_half_precision_are_named(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text("{}")
    save_file({"a": torch.full((2, 2), 7e4), "b": torch.full((2,), 7e4)}, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match="net: a holds numbers that half precision cannot"):
        round_weights(tmp_path, tmp_path / "out", "net")


def test_a_champion_keeps_how_it_was_measured(trained: Path, tmp_path: Path) -> None:
    root = broken(trained, tmp_path)
    gate = {"novel_view": {"perceptual": 0.1}, "same_view": {"psnr": 25.0}}
    assert consider(root / "data/models", gate, Rule()).promote
    section = find_models("champion", root / "data").reconstruct_section()
    assert section is not None
    assert np.isclose(section["temperature"], 0.4)
    assert "dtype" not in section
