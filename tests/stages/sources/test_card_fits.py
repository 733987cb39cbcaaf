"""The card's keys for fits: a path that cannot leave the raw data."""

from pathlib import Path, PurePosixPath

import pytest
import yaml

from stages.sources.card import CardError, read_card

CARD = {"adapter": "scans", "path": "data/raw/x", "licence": "CC0-1.0"}


def write(path: Path, **more: str) -> Path:
    path.write_text(yaml.safe_dump({**CARD, **more}))
    return path


def test_fits_are_found_by_scan_and_subject(tmp_path: Path) -> None:
    card = read_card(write(tmp_path / "x.yaml", fits="fits/{subject}/{scan}.npz"))
    assert card.fits_path("anna_walk", "anna") == PurePosixPath("fits/anna/anna_walk.npz")
    assert read_card(write(tmp_path / "x.yaml")).fits == ""


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/etc/{scan}.npz", "inside the raw data"),
        ("../{scan}.npz", "inside the raw data"),
        ("a/../../{scan}.npz", "inside the raw data"),
        ("C:{scan}.npz", "inside the raw data"),
        ("{scan.__class__}.npz", "only {scan} and {subject}"),
        ("{scan!r}.npz", "only {scan} and {subject}"),
        ("{view}.npz", "only {scan} and {subject}"),
        ("{}.npz", "only {scan} and {subject}"),
        ("{scan.npz", "expected '}'"),
        ("{scan}.exe", r"ends with \.npz, \.json, \.pkl"),
    ],
)
def test_other_patterns_are_refused(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(CardError, match=f"x.yaml: fits: .*{message}"):
        read_card(write(tmp_path / "x.yaml", fits=pattern))
