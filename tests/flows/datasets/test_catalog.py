"""Cards, the list of what runs, and the edits of params.yaml."""

import json
from pathlib import Path

import pytest
import yaml

from flows import engine
from flows.datasets import catalog
from flows.datasets.catalog import DatasetError, Places
from flows.profiles import use_profile
from stages.sources.card import read_card

CATALOG = engine.ROOT / "data/catalog"
FIELDS = {"adapter": "scans", "path": "data/raw/mh", "licence": "CC0: see #3"}


def test_the_schema_of_cards_is_current() -> None:
    """`dinar dataset schema` writes it."""
    assert (CATALOG / catalog.SCHEMA).read_text() == catalog.schema_text()
    assert set(json.loads(catalog.schema_text())["required"]) == {"adapter", "path", "licence"}


def test_a_card_says_every_field_and_reads_back(tmp_path: Path) -> None:
    card = catalog.make_card({**FIELDS, "units": "cm"})
    (tmp_path / "mh.yaml").write_text(catalog.card_text(card))
    assert read_card(tmp_path / "mh.yaml") == card
    lines = (tmp_path / "mh.yaml").read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=card.schema.json"
    assert [line for line in lines if line.startswith("units: cm  # ")]
    assert [line for line in lines if line.startswith("# subject: auto  # ")]


def test_a_wrong_field_names_value_and_choices() -> None:
    with pytest.raises(DatasetError, match=r"units: Input should be .*'mm', got 'inch'"):
        catalog.make_card({**FIELDS, "units": "inch"})


@pytest.mark.parametrize(
    "name", ["MH", "../mh", "mh/1", "", ".mh", "mh.yaml", "a" * 41, "mh-000", "avatars", "mh "]
)
def test_names_that_are_no_folder_of_ours_are_refused(name: str) -> None:
    with pytest.raises(DatasetError):
        catalog.check_name(name)
    catalog.check_name("mh_2-b")


def test_writing_what_was_read_changes_no_byte(tmp_path: Path) -> None:
    before = (CATALOG / "enabled.yaml").read_text()
    catalog.save_enabled(tmp_path / "enabled.yaml", catalog.load_enabled(CATALOG / "enabled.yaml"))
    assert (tmp_path / "enabled.yaml").read_text() == before


def test_parts_are_listed_with_the_data_set_that_they_belong_to(tmp_path: Path) -> None:
    path = tmp_path / "enabled.yaml"
    enabled = catalog.load_enabled(CATALOG / "enabled.yaml")
    catalog.save_enabled(path, enabled.with_parts("images", "mine", ["mine-000", "mine-001"]))
    read = catalog.load_enabled(path)
    assert read.parts("mine") == ["mine-000", "mine-001"]
    assert yaml.safe_load(path.read_text())["datasets"] == ["synthetic", "mine-000", "mine-001"]
    assert read.with_parts("images", "mine", ["mine"]).parts("mine") == ["mine"]
    assert read.without("mine") == enabled


@pytest.mark.parametrize("kind", ["scans", "images"])
def test_a_name_comes_and_goes_in_params_without_any_other_change(kind: catalog.Kind, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    use_profile("demo", path)
    before = path.read_text()
    changed = catalog.add_to_training(path, "mh", kind)
    assert changed == list(catalog.TRAINING[kind])
    named = {section for section, names in catalog.datasets_in_params(path).items() if "mh" in names}
    assert named == set(changed)
    lines = zip(before.splitlines(), path.read_text().splitlines(), strict=True)
    assert sum(old != new for old, new in lines) == (2 if kind == "scans" else 1)  # three share one list
    assert catalog.add_to_training(path, "mh", kind) == []
    catalog.drop_from_params(path, "mh")
    assert path.read_text() == before


def test_raw_parts_are_found_on_disk(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert places.raw_parts("mh") == []
    for part in ("mh-001", "mh-000", "mh_2"):
        places.raw(part).mkdir(parents=True)
    assert places.raw_parts("mh") == ["mh-000", "mh-001"]
    assert places.raw_parts("mh_2") == ["mh_2"]
