"""Training pairs of videos and photos: two frames of one person, each with the body that it shows."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dinar_models.body import BodyParams
from dinar_models.cameras import orbit_camera
from stages import train_avatar
from stages._core.runtime import Runtime
from stages._core.seeds import rng_for
from stages._core.stage import Paths
from stages._data.offers import offer_of, write_offer
from stages._data.pairs import SHOT_ROWS, Pair, PairRules, Pairs, PairSource
from tests.stages.test_train_on_images import AVATAR
from tests.stages.tiny_world import IMAGE, TEXTURE, World, load_surface, make_video, save_store

RULES = PairRules(seed=1, image_size=IMAGE, batch=2)
FRAMES = 20


def textures_only(root: Path, lines: list[tuple[str, str, int]], source: str) -> Path:
    """The offers of a data set of (subject, scan, view), of which only the index of its textures is there."""
    index = pd.DataFrame(lines, columns=["subject", "scan", "view"])
    index = index.assign(split="train", yaw=np.nan, variant=0, source=source, ok=True, reason="")
    arrays = {name: np.zeros((len(index), 2, 2), np.uint8) for name in ("sampled", "filled", "frontality")}
    save_store(
        root / "textures", "textures", index, {**arrays, "rgb": np.zeros((len(index), 3, 2, 2), np.uint8)}
    )
    write_offer(root / "data" / "some.json", offer_of("some", {"textures": root / "textures"}))
    return root / "data"


def drawn(data: Path, count: int = 60) -> tuple[PairSource, list[Pair]]:
    """Pairs of a data set's train people, in turn."""
    source = PairSource(Paths({"data": data, "body": data}), ["some"], "train", RULES)
    rng = rng_for(0, "test")
    return source, [source._draw_pair(k % len(source), rng) for k in range(count)]


def test_photos_of_one_subject_make_pairs_and_people_seen_once_none(tmp_path: Path) -> None:
    """`anna` is in three photos, `bert` in two; nobody meets somebody else, no photo itself, `carl` nobody."""
    names = ["anna_1", "anna_2", "anna_3", "bert_1", "bert_2", "carl_1"]
    source, pairs = drawn(textures_only(tmp_path, [(n.split("_")[0], n, 0) for n in names], "photos"))
    assert len(source) == 2
    met = {(first.scan, second.scan) for first, second in pairs}
    anna, bert = names[:3], names[3:5]
    assert met == {(a, b) for group in (anna, bert) for a in group for b in group if a != b}


def test_frames_of_a_video_make_pairs_and_a_shot_spans_the_video(tmp_path: Path) -> None:
    """Twenty frames are three shots of every third frame: what they show together is more than a moment."""
    lines = [("dora", "dora", view) for view in range(FRAMES)] + [("emil", "emil", 0)]
    source, pairs = drawn(textures_only(tmp_path, lines, "video"))
    assert len(source) == 1
    assert all(first != second for first, second in pairs)
    assert len({(first.view, second.view) for first, second in pairs}) > 40
    assert [rows for _, rows in source.shots[:3]] == [tuple(range(k, FRAMES, 3)) for k in range(3)]
    assert all(len(rows) <= SHOT_ROWS for _, rows in source.shots)


def test_another_video_of_the_same_subject_comes_first(tmp_path: Path) -> None:
    """Two clips of one subject differ in more than one clip's frames do."""
    lines = [("fay", scan, view) for scan in ("fay_1", "fay_2") for view in range(3)]
    _, pairs = drawn(textures_only(tmp_path, lines, "video"))
    assert all({first.scan, second.scan} == {"fay_1", "fay_2"} for first, second in pairs)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, tiny_body: Path) -> tuple[Path, BodyParams]:
    """Stores of a person who turns around, and the bodies of its frames."""
    root = tmp_path_factory.mktemp("video")
    return root, make_video(root, tiny_body, FRAMES)


def test_each_frame_of_a_pair_has_its_own_body(video: tuple[Path, BodyParams], tiny_body: Path) -> None:
    """The target's raster is that of the body in the target's frame, in the frame's crop."""
    root, bodies = video
    source = PairSource(Paths({"data": root / "data", "body": tiny_body}), ["video"], "train", RULES)
    frames = {frame.view: frame for frame in source.people[0]}
    packed = source.pack([(frames[1], frames[9])], rng_for(0, "test"))
    pairs = Pairs.unpack(packed, "cpu")
    camera = orbit_camera(0.0, 0.0, 4.0, target=torch.tensor([0.0, -0.3, 0.0]), size=IMAGE, fov=0.55)
    camera.K[:, :2, 2] -= 4
    camera.K[:, :2] *= IMAGE / (IMAGE - 8)
    surface = load_surface(tiny_body)
    shown, other = (surface.uv(bodies.select([k]), camera) for k in (9, 1))
    torch.testing.assert_close(pairs.uv, shown, atol=1e-3, rtol=0)
    assert (pairs.uv - other).abs().max() > 0.5
    assert pairs.uv[shown < 0].eq(-1).all()  # as in every other raster
    inside = pairs.mask[0, 0] > 0.99
    overlap = inside & (other[0, ..., 0] >= 0)
    assert overlap.sum() > 0.95 * inside.sum()  # the input is frame 1


def test_what_a_shot_of_a_video_merges_is_more_than_a_frame_shows(
    video: tuple[Path, BodyParams], tiny_body: Path
) -> None:
    """Frames 0, 3, 6 … turn once around: front and back together."""
    root, _ = video
    rules = PairRules(seed=1, image_size=IMAGE, batch=1, merged=True)
    source = PairSource(Paths({"data": root / "data", "body": tiny_body}), ["video"], "train", rules)
    frames = {frame.view: frame for frame in source.people[0]}
    pairs = Pairs.unpack(source.pack([(frames[0], frames[4])], rng_for(0, "test")), "cpu")
    alone, together = (t[0, -1].gt(0.5).sum().item() for t in (pairs.texture, pairs.merged))
    assert pairs.texture.shape[-1] == TEXTURE
    assert together > 1.6 * alone


def test_a_video_trains_the_avatars_nets_beside_scans(
    video: tuple[Path, BodyParams], world: World, tmp_path: Path
) -> None:
    """The person of the video is learnt from as the one of the scans is."""
    root, _ = video
    shutil.copytree(world.paths["data"], tmp_path / "data")
    shutil.copy(root / "data" / "video.json", tmp_path / "data")
    weights = []
    for datasets in (["tiny", "video"], ["tiny"]):
        out = tmp_path / "_".join(datasets)
        params = AVATAR.model_copy(update={"datasets": datasets, "steps": 2, "validate_every": 2})
        runtime = Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")
        inputs = world.inputs("body", data=tmp_path / "data")
        assert train_avatar.run(params, inputs, Paths({"avatar": out}), runtime)["people"] == len(datasets)
        weights.append((out / "avatar.safetensors").read_bytes())
    assert weights[0] != weights[1]


def test_pairs_split_into_parts_in_order() -> None:
    """Five pairs in parts of two are two, two and one; every field keeps its rows together."""
    numbers = torch.arange(5.0)
    parts = Pairs(*(numbers + 10 * k for k in range(9))).split(2)
    assert [len(part.rgb) for part in parts] == [2, 2, 1]
    assert parts[1].rgb.tolist() == [2.0, 3.0]
    assert parts[2].centre.tolist() == [84.0]
