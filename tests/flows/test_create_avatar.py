"""From a photo to an avatar folder and on to a video, by the command line and small untrained weights."""

import io
import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dinar_models.fitting.start import rotation_matrix
from dinar_models.reconstruction import ReconstructionRules
from flows.avatar_folder import OWN_FILES, PER_PHOTO, AvatarError, check_target, read_avatar
from flows.champion import WEIGHTS
from flows.cli import app
from flows.create_avatar import FittedPerson, create_avatar, fit_people, rules_of
from flows.model_folders import ModelFolder, find_models
from flows.steps import show_steps
from stages._core.params import ParamsError
from stages._core.weights import WeightsError
from tests.flows.untrained import IMAGE_SIZE, write_models
from tests.stages.painted_person import render_painted

FRAMES = 9


def dinar(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def models(tiny_body: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("data") / "models", tiny_body)


@pytest.fixture(scope="module")
def person(tiny_body: Path) -> np.ndarray:
    return render_painted(tiny_body)


@pytest.fixture(scope="module")
def alice(models: Path, person: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar folder."""
    root = tmp_path_factory.mktemp("avatar")
    Image.fromarray(person).save(root / "photo.png")
    done = dinar("avatar", root / "photo.png", "--out", root / "alice", "--weights", models)
    assert done.exit_code == 0, done.output
    assert f"weights: {models}" in done.output
    return root / "alice"


def test_the_folder_holds_the_avatar_and_how_it_came_about(alice: Path, models: Path) -> None:
    assert {p.name for p in alice.iterdir()} == OWN_FILES - {"walk.webp"}
    assert [p.name for p in alice.parent.iterdir() if p.name.startswith(".")] == []
    card = json.loads((alice / "avatar.json").read_text())
    assert card["weights"] == str(models)
    assert card["digests"] == find_models(str(models), models).digests()
    avatar = read_avatar(alice)
    assert avatar.texture.data.shape == (1, 21, 64, 64)
    mask = np.asarray(Image.open(alice / "mask.png"))
    photo = np.asarray(Image.open(alice / "photo.png"))
    assert (photo[mask == 0] > 250).mean() > 0.99  # what is not the person is the white background
    render = np.asarray(Image.open(alice / "render.png"))
    small = np.asarray(Image.fromarray(mask).resize(render.shape[1::-1]))
    shown = (render < 200).any(axis=2)
    assert (shown & (small > 64)).sum() / (shown | (small > 64)).sum() > 0.5  # untrained, where the person is
    fit = np.asarray(Image.open(alice / "fit.png"))
    covered = (fit != photo).any(axis=2)
    overlap = (covered & (mask > 64)).sum() / (covered | (mask > 64)).sum()
    assert overlap > 0.7


@dataclass(frozen=True)
class Several:
    """An avatar made from a photo from behind and one from the front, and what was found in both."""

    folder: Path
    people: list[FittedPerson]


@pytest.fixture(scope="module")
def several(
    models: Path, person: np.ndarray, tiny_body: Path, tmp_path_factory: pytest.TempPathFactory
) -> Several:
    root = tmp_path_factory.mktemp("several")
    Image.fromarray(render_painted(tiny_body, back=True)).save(root / "back.png")
    Image.fromarray(person).save(root / "front.png")
    found: list[FittedPerson] = []

    def remembered(*arguments: Any) -> list[FittedPerson]:
        found.extend(fit_people(*arguments))
        return found

    photos = [root / "back.png", root / "front.png"]
    rules = ReconstructionRules(steps=2, tune_steps=2, blending="pyramid")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("flows.create_avatar.fit_people", remembered)
        quiet = Console(quiet=True)
        create_avatar(photos, root / "bob", weights=str(models), seed=0, console=quiet, rules=rules)
    return Several(root / "bob", found)


def test_several_photos_make_one_avatar_that_shows_each_of_them(several: Several) -> None:
    names = {p.name for p in several.folder.iterdir()}
    assert names == OWN_FILES - {"walk.webp"} | {f"{name}-2.png" for name in PER_PHOTO}
    for suffix in ("", "-2"):
        photo, mask, fit = (
            np.asarray(Image.open(several.folder / f"{name}{suffix}.png"))
            for name in ("photo", "mask", "fit")
        )
        covered = (fit != photo).any(axis=2)
        assert (covered & (mask > 64)).sum() / (covered | (mask > 64)).sum() > 0.7
    check_target(several.folder)  # may be made anew


def test_bodies_of_several_photos_have_one_shape_and_face_as_they_did(several: Several) -> None:
    """From behind the person looks along +z, as cameras do; the avatar stands as in the first photo."""
    back, front = (person.body for person in several.people)
    assert torch.equal(back.betas, front.betas)
    toward = rotation_matrix(torch.cat([back.global_orient, front.global_orient]))[:, 2, 2]
    assert toward[0] > 0.9
    assert toward[1] < -0.9
    assert torch.equal(read_avatar(several.folder).body.global_orient, back.global_orient)


def test_several_photos_are_refused_where_one_is_not_as_it_should_be(
    person: np.ndarray, models: Path, tmp_path: Path
) -> None:
    Image.fromarray(person).save(tmp_path / "a.png")
    Image.fromarray(blank(person)).save(tmp_path / "b.png")
    photo, empty, out = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "out"
    refused(dinar("avatar", photo, empty, "--out", out), "2 photos were given; say --photos")
    done = dinar("avatar", "--photos", photo, empty, "--out", out, "--weights", models)
    refused(done, r"b\.png: no person was found")
    done = dinar("avatar", "--photos", *[photo] * 9, "--out", out, "--weights", models)
    refused(done, "9 photos were given, at most 8")
    assert not out.exists()


def test_the_turntable_shows_the_back_too(alice: Path) -> None:
    frames = read_webp(alice / "turntable.webp")
    assert len(frames) == 48
    middle = IMAGE_SIZE // 2
    columns = [np.flatnonzero((f < 200).any(axis=(0, 2))) for f in frames]
    widths = [c[-1] - c[0] for c in columns]
    assert widths[0] > 1.3 * widths[12]  # narrower from the side
    assert abs(columns[0].mean() - middle) < 4
    for name, frame in (("front", 0), ("back", 24)):
        still = np.asarray(Image.open(alice / f"{name}.png")).astype(int)
        assert np.abs(still - frames[frame]).mean() < 4  # the video is compressed


def test_a_walk_moves_and_is_not_blank(alice: Path) -> None:
    done = dinar("animate", alice, "--frames", FRAMES)
    assert done.exit_code == 0, done.output
    frames = read_webp(alice / "walk.webp")
    assert len(frames) == FRAMES
    for one, other in itertools.pairwise(frames):
        assert (np.abs(one.astype(int) - other).max(axis=2) > 50).sum() > 20
    assert all(0.05 < (f < 200).any(axis=2).mean() < 0.6 for f in frames)
    check_target(alice)  # may be made anew: the walk belongs to it


def test_a_motion_file_becomes_an_mp4(alice: Path, tmp_path: Path) -> None:
    """A fifth of a second, recorded at 120 frames a second: five frames at 25."""
    poses = np.zeros((24, 165))
    poses[:, 0] = np.pi / 2
    np.savez(tmp_path / "dance.npz", poses=poses, mocap_frame_rate=120)
    video = tmp_path / "videos" / "dance.mp4"
    done = dinar("animate", alice, "--motion", tmp_path / "dance.npz", "--out", video)
    assert done.exit_code == 0, done.output
    frames = read_mp4(video)
    assert [f.shape for f in frames] == [(IMAGE_SIZE, IMAGE_SIZE, 3)] * 5
    assert all(0.02 < (f < 200).any(axis=2).mean() < 0.6 for f in frames)
    assert [p.name for p in video.parent.iterdir()] == ["dance.mp4"]


def read_webp(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        return [np.asarray(image.convert("RGB")) for k in range(image.n_frames) if image.seek(k) is None]


def read_mp4(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    return frames


def blank(person: np.ndarray) -> np.ndarray:
    return np.full_like(person, 255)


def upper_half(person: np.ndarray) -> np.ndarray:
    return person[: len(person) * 2 // 5]


def twice(person: np.ndarray) -> np.ndarray:
    return np.concatenate([person[:, 40:-40], person[:, 40:-40]], axis=1)


def far_away(person: np.ndarray) -> np.ndarray:
    image = np.full((1024, 1024, 3), 255, np.uint8)
    image[400:520, 400:520] = np.asarray(Image.fromarray(person).resize((120, 120)))
    return image


def test_weights_are_sampled_as_they_were_measured_and_else_by_params(tmp_path: Path) -> None:
    """Once `dinar avatar` sampled all weights by this project's params: some from noise five times as strong."""
    path, weights = tmp_path / "params.yaml", ModelFolder("repro", tmp_path)
    path.write_text("seed: 1\nreconstruct: {datasets: [a], steps: 7, temperature: 0.3, dtype: float32}\n")
    rules = rules_of(weights, path)
    assert (rules.steps, rules.temperature, rules.dtype) == (7, 0.3, torch.float32)
    section = {"seed": 2, "datasets": ["b"], "steps": 9, "temperature": 0.6, "dtype": "float32"}
    (tmp_path / "card.json").write_text(json.dumps({"reconstruct": section}))
    rules = rules_of(weights, path)
    assert (rules.steps, rules.temperature) == (9, 0.6)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(WeightsError, match="does not say how to sample"):
        rules_of(weights, path)
    (tmp_path / "card.json").unlink()
    path.write_text("seed: 1\nreconstruct: {datasets: [a], temprature: 0.3}\n")
    with pytest.raises(ParamsError, match="did you mean temperature"):
        rules_of(weights, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (blank, "no person was found"),
        (upper_half, "the legs are not in the picture|not all visible"),
        (twice, "several people"),
        (far_away, "too small|no person was found"),
    ],
)
def test_a_photo_without_one_whole_person_is_refused_in_one_sentence(
    change: Callable[[np.ndarray], np.ndarray], words: str, person: np.ndarray, models: Path, tmp_path: Path
) -> None:
    Image.fromarray(change(person)).save(tmp_path / "photo.png")
    refused(dinar("avatar", tmp_path / "photo.png", "--out", tmp_path / "out", "--weights", models), words)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_a_damaged_photo_is_refused(person: np.ndarray, models: Path, tmp_path: Path) -> None:
    Image.fromarray(person).save(tmp_path / "photo.png")
    data = (tmp_path / "photo.png").read_bytes()
    (tmp_path / "photo.png").write_bytes(data[: len(data) // 2])
    refused(
        dinar("avatar", tmp_path / "photo.png", "--out", tmp_path / "out", "--weights", models), "damaged"
    )
    done = dinar("avatar", tmp_path / "a[/red].png", "--out", tmp_path / "out", "--weights", models)
    refused(done, re.escape("a[/red].png is no file"))
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def refused(done: Result, words: str, code: int = 2) -> None:
    """One sentence on stderr, no traceback."""
    assert done.exit_code == code, done.output
    assert re.search(words, done.stderr)
    assert done.stderr.count("\n") == 1
    assert isinstance(done.exception, SystemExit)


def test_a_folder_that_holds_anything_else_is_refused(person: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(person).save(tmp_path / "photo.png")
    refused(dinar("avatar", tmp_path / "photo.png", "--out", tmp_path), "holds 'photo.png'")
    refused(dinar("avatar", tmp_path / "photo.png", "--out", tmp_path / "photo.png"), "is a file")
    (tmp_path / "avatar.json").write_text("{}")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(AvatarError, match=r"letter\.txt"):
        check_target(tmp_path)
    (tmp_path / "new").mkdir()
    check_target(tmp_path / "new")


def test_missing_weights_are_code_1_and_name_the_command(person: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(person).save(tmp_path / "photo.png")
    photo, out = tmp_path / "photo.png", tmp_path / "out"
    done = dinar("avatar", photo, "--out", out, "--weights", tmp_path / "nowhere")
    refused(done, "lack body, parser.*`dinar repro`", code=1)
    with pytest.raises(WeightsError, match="run `dinar repro`"):
        find_models("auto", tmp_path)


def test_auto_takes_the_champion_then_the_last_run_then_the_released(tmp_path: Path) -> None:
    for place, name in (("released", "released"), ("models", "repro"), ("models/champion", "champion")):
        for folder in WEIGHTS:
            (tmp_path / place / folder).mkdir(parents=True)
        assert find_models("auto", tmp_path).name == name
    (tmp_path / "models/champion/vqgan").rmdir()
    assert find_models("auto", tmp_path).name == "repro"
    assert find_models("released", tmp_path).root == tmp_path / "released"


def test_an_avatar_is_refused_with_other_weights(alice: Path, models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(alice, tmp_path / "copy")
    edit_card(folder, lambda card: card["digests"].update(body="0" * 16))
    refused(dinar("animate", folder), "was made for the body 0000.*make the avatar again")
    edit_card(folder, lambda card: card.update(weights=str(tmp_path / "gone")))
    refused(dinar("animate", folder), "lack body", code=1)
    shutil.copytree(models, folder / "mine")
    edit_card(folder, lambda card: card.update(weights=str(folder / "mine")))
    refused(dinar("animate", folder), "brings its own weights")
    edit_card(folder, lambda card: card.update(weights="mine"))
    refused(dinar("animate", folder), "weights: String should match")


def test_damaged_weights_are_code_1(alice: Path, models: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(models, tmp_path / "mine")
    photo = alice.parent / "photo.png"
    for name in ("parser.safetensors", "parser.json"):
        (mine / "parser" / name).write_text("{")
        done = dinar("avatar", photo, "--out", tmp_path / "out", "--weights", mine)
        refused(done, "cannot be read .*run `dinar repro`", code=1)
    assert not (tmp_path / "out").exists()


def edit_card(folder: Path, change: Callable[[dict], None]) -> None:
    card = json.loads((folder / "avatar.json").read_text())
    change(card)
    (folder / "avatar.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card.update(version=2), "version 2 found, 1 is read"),
        (lambda card: card.pop("seed"), "seed: Field required"),
        (lambda card: card.update(extra=1), "extra: Extra inputs"),
    ],
)
def test_a_strange_card_is_refused(
    change: Callable[[dict], None], words: str, alice: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(alice, tmp_path / "copy")
    edit_card(folder, change)
    with pytest.raises(AvatarError, match=words):
        read_avatar(folder)


def test_damaged_tensors_are_refused(alice: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(alice, tmp_path / "copy")
    whole = load_file(folder / "texture.safetensors")
    for change, words in (
        ({"texture": whole["texture"] * torch.nan}, "texture is torch.float32"),
        ({"texture": whole["texture"][:20].clone()}, r"\(20, 64, 64\), finite float32 \(21, 64, 64\)"),
        ({"more": torch.zeros(1)}, "holds betas"),
    ):
        save_file(whole | change, folder / "texture.safetensors")
        with pytest.raises(AvatarError, match=words):
            read_avatar(folder)
    (folder / "texture.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(AvatarError, match="cannot be read"):
        read_avatar(folder)
    with pytest.raises(AvatarError, match="is no avatar"):
        read_avatar(tmp_path)


def test_a_video_needs_a_name_that_says_what_it_is(alice: Path, tmp_path: Path) -> None:
    refused(dinar("animate", alice, "--out", tmp_path / "walk.gif"), r"\.webp or \.mp4")


def test_all_steps_are_shown_from_the_start_on_a_terminal_and_as_they_begin_elsewhere() -> None:
    for terminal, expected in ((True, ["looking", "fitting"]), (False, ["looking"])):
        out = io.StringIO()
        with show_steps(Console(file=out, force_terminal=terminal, width=80), ["looking", "fitting"]) as step:
            step("looking", 1, 4)
            step("looking", 2, 4)
        assert [name for name in ("looking", "fitting") if name in out.getvalue()] == expected
        assert ("2/4" in out.getvalue()) == terminal
