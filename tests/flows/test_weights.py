"""Optional weights: only listed files with the listed checksum are taken, and nothing is left behind otherwise."""

import hashlib
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from flows.graph import read_graph
from flows.weights import FOLDER, ROOT, WeightsFileError, add_file, fetch_file, listing
from stages._data.loss_weights import LPIPS_BACKBONE

CONTENT = b"weights"
ENTRIES = {
    "known": {
        "file": "known.pth",
        "url": "https://localhost:1/known.pth",  # no server listens there
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "licence": "CC0-1.0",
        "enables": "a test",
    },
    "unchecked": {"file": "u.pth", "url": "https://localhost:1/u.pth", "licence": "?", "enables": "nothing"},
    "unencrypted": {"file": "p.pth", "url": "http://localhost:1/p.pth", "licence": "?", "enables": "nothing"},
    "private": {"file": "q.pth", "url": None, "licence": "ask its owner", "enables": "nothing"},
}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "weights.yaml"
    path.write_text(yaml.safe_dump(ENTRIES))
    return path


def written(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "mine.bin").write_bytes(content)
    return tmp_path / "mine.bin"


def test_the_right_file_is_kept_under_its_listed_name(tmp_path: Path, listed: Path):
    kept = add_file("known", written(tmp_path, CONTENT), listed, tmp_path / "kept")
    assert kept == tmp_path / "kept/known.pth"
    assert kept.read_bytes() == CONTENT


def test_a_file_may_have_a_folder_of_its_own(tmp_path: Path, listed: Path):
    entry = {**ENTRIES["known"], "file": "mine/known.pth"}
    listed.write_text(yaml.safe_dump({"known": entry}))
    kept = add_file("known", written(tmp_path, CONTENT), listed, tmp_path / "kept")
    assert kept == tmp_path / "kept/mine/known.pth"
    assert kept.read_bytes() == CONTENT


def test_the_loss_finds_its_backbone_where_the_listing_puts_it():
    backbone = FOLDER / listing()["lpips_vgg"].file
    for stage in ("check_params", "train_avatar", "train_vqgan", "finetune_avatar", "reconstruct"):
        (entry,) = [e for e in read_graph()[1] if e.name == stage]
        assert ROOT / entry.paths("input")["weights"] / LPIPS_BACKBONE == backbone


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("known", b"other", "sha256 .* is listed for known"),
        ("unknown", CONTENT, "no weights named 'unknown'; listed: known, private"),
    ],
)
def test_another_file_or_name_is_refused_and_nothing_is_kept(
    tmp_path: Path, listed: Path, name, content, words
):
    with pytest.raises(WeightsFileError, match=words):
        add_file(name, written(tmp_path, content), listed, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_missing_file_is_named(tmp_path: Path, listed: Path):
    with pytest.raises(WeightsFileError, match=r"gone.pth is no file"):
        add_file("known", tmp_path / "gone.pth", listed, tmp_path / "kept")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("private", "no address; get it from its owner, then `dinar weights add private FILE`"),
        ("unencrypted", "no address"),
        ("unchecked", "no checksum in weights.yaml"),
    ],
)
def test_nothing_is_fetched_without_an_https_address_and_a_checksum(
    tmp_path: Path, listed: Path, name, words
):
    with pytest.raises(WeightsFileError, match=words):
        fetch_file(name, Console(quiet=True), listed, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_failing_download_says_the_address_and_leaves_nothing(tmp_path: Path, listed: Path):
    with pytest.raises(WeightsFileError, match=r"https://localhost:1/known\.pth: "):
        fetch_file("known", Console(quiet=True), listed, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_the_committed_listing_says_what_each_file_is_for():
    for entry in listing().values():
        assert entry.file
        assert entry.licence
        assert entry.enables
        assert entry.sha256 is None or len(entry.sha256) == 64
