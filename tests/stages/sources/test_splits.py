from pathlib import Path

import pytest

from stages._core.splits import split_of
from stages.sources.card import Card, CardError, read_card
from stages.sources.splits import splits_of

SUBJECTS = ["anna", "bert", "anna"]


def card(split: object) -> Card:
    return Card.model_validate({"adapter": "scans", "path": "x", "licence": "CC0-1.0", "split": split})


def test_hash_is_the_default_and_one_split_can_hold_all(tmp_path: Path) -> None:
    plain = Card(adapter="scans", path="x", licence="CC0-1.0")
    assert splits_of(SUBJECTS, plain, tmp_path) == [split_of(s) for s in SUBJECTS]
    assert splits_of(SUBJECTS, card("gate"), tmp_path) == ["gate"] * 3


def test_a_table_says_the_split_of_each_subject(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("subject, split, age\nanna, test, 9\n007, val, 9\nbert, train, 9\n")
    chosen = splits_of([*SUBJECTS, "007"], card({"file": "splits.csv"}), tmp_path)
    assert chosen == ["test", "train", "test", "val"]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (None, "cannot be read"),
        ("subject,part\nanna,test\n", "subject and split are expected"),
        ("subject,split\nanna,test\n", "no split for 1 subjects, as 'bert'"),
        ("subject,split\nanna,test\nbert,dev\n", "'dev' is not one of train, val, gate, test"),
        ("subject,split\nanna,test\nbert,val\nanna,train\n", "'anna' into two splits"),
        ("", "no CSV table"),
    ],
)
def test_tables_that_do_not_do(tmp_path: Path, table: str | None, reason: str) -> None:
    if table is not None:
        (tmp_path / "splits.csv").write_text(table)
    with pytest.raises(CardError, match=reason):
        splits_of(SUBJECTS, card({"file": "splits.csv"}), tmp_path)


@pytest.mark.parametrize("name", ["../splits.csv", "/etc/passwd"])
def test_no_table_outside_the_raw_data(tmp_path: Path, name: str) -> None:
    with pytest.raises(CardError, match="outside"):
        splits_of(SUBJECTS, card({"file": name}), tmp_path)


def test_a_wrong_rule_in_a_card_says_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("adapter: scans\npath: x\nlicence: CC0-1.0\nsplit: half\n")
    with pytest.raises(CardError, match=r"split.*'hash', 'train'"):
        read_card(tmp_path / "card.yaml")
