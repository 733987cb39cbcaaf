"""The catalog: a card per data set, and the list of those that the graph runs."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from stages._core.publish import write_file
from stages.check_params import read_enabled
from stages.sources.card import Card
from stages.sources.scans import LOADERS

Kind = Literal["scans", "images"]

SCHEMA = "card.schema.json"
ENABLED = "enabled.yaml"
EMBEDDED = "synthetic"
UNKNOWN_LICENCE = "unknown"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_SECTION = re.compile(r"(\w+):")
_LIST = re.compile(r"(\s+datasets:\s*(?:&\w+\s+)?\[)([^\]]*)")
_PART = re.compile(r"-\d{3}$")
_TAKEN = ("avatars", "renders", "enabled", "card", "synthetic_truth", "body_models", "weights")
"""Names that mean something else below data/."""

_ENABLED_HEAD = """\
# The data sets that the graph runs, written by `dinar dataset add` and `remove`: only what passed `check`.
# A large data set may be cut into parts: the lists name the parts, part_of says which data set each belongs to.
"""


class DatasetError(ValueError):
    """What was asked for cannot be done; the text is one sentence that says what to do."""


@dataclass(frozen=True)
class Places:
    """Where everything of a project lies."""

    root: Path

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.root / "data"

    @property
    def params(self) -> Path:
        """The parameters of all stages."""
        return self.root / "params.yaml"

    @property
    def enabled(self) -> Path:
        """The list of what the graph runs."""
        return self.data / "catalog" / ENABLED

    def card(self, name: str) -> Path:
        """The card of a data set, or the link to it that each of its parts has."""
        return self.data / "catalog" / f"{name}.yaml"

    def raw(self, part: str) -> Path:
        """The raw data of a data set or part."""
        return self.data / "raw" / part

    def stores(self, part: str) -> Path:
        """What the graph makes of it."""
        return self.data / "stores" / part

    def work(self, what: str, name: str) -> Path:
        """Scratch space of a command, where it resumes."""
        return self.data / ".work" / what / name

    def report(self, name: str) -> Path:
        """What the last check found; the contact sheet lies beside it."""
        return self.data / "reports" / "datasets" / f"{name}.json"

    def names(self) -> list[str]:
        """Every data set that has a card; parts, whose cards are links, do not count."""
        cards = (self.data / "catalog").glob("*.yaml")
        return sorted(p.stem for p in cards if p.name != ENABLED and not p.is_symlink())

    def raw_parts(self, name: str) -> list[str]:
        """The data set's parts whose raw data are there; the data set itself if it is not split."""
        split = sorted(p.name for p in (self.data / "raw").glob(f"{name}-[0-9][0-9][0-9]") if p.is_dir())
        return split or ([name] if self.raw(name).exists() else [])


@dataclass(frozen=True)
class Enabled:
    """Part → data set, in the order in which they were enabled."""

    scans: dict[str, str]
    images: dict[str, str]

    @property
    def names(self) -> set[str]:
        """Data sets, not parts."""
        return {*self.scans.values(), *self.images.values()}

    def parts(self, name: str) -> list[str]:
        """The parts of a data set that the graph runs."""
        return [part for part, owner in {**self.scans, **self.images}.items() if owner == name]

    def with_parts(self, kind: Kind, name: str, parts: list[str]) -> "Enabled":
        """With these parts of a data set and no others of it."""
        rest = self.without(name)
        return replace(rest, **{kind: {**getattr(rest, kind), **dict.fromkeys(parts, name)}})

    def without(self, name: str) -> "Enabled":
        """Without a data set."""
        return Enabled(
            *({p: n for p, n in parts.items() if n != name} for parts in (self.scans, self.images))
        )


def load_enabled(path: Path) -> Enabled:
    """Read enabled.yaml. Raises ParamsError when its lists do not agree."""
    lists = read_enabled(path)
    owner = lists["part_of"]["datasets"]
    return Enabled(*({part: owner[part] for part in lists[kind]} for kind in ("scans", "images")))


def save_enabled(path: Path, enabled: Enabled) -> None:
    """Write enabled.yaml whole."""
    everything = {**enabled.scans, **enabled.images}
    document = {
        "scans": list(enabled.scans),
        "images": list(enabled.images),
        "datasets": list(everything),
        "part_of": {"scans": enabled.scans, "datasets": everything},
    }
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100)
    write_file(path, _ENABLED_HEAD + text)


def kind_of(adapter: str) -> Kind:
    """Whether raw data are meshes that are rendered, or images."""
    return "scans" if adapter in LOADERS else "images"


def check_name(name: str) -> None:
    """Raise DatasetError for a name that could not be a folder of ours."""
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"the name {name!r} cannot be used: at most 40 lowercase letters, digits, _ and - are, "
            "the first a letter or digit"
        )
    if _PART.search(name):
        raise DatasetError(f"the name {name!r} ends like a part of a data set (-000); choose another")
    if name in _TAKEN:
        raise DatasetError(f"the name {name!r} means something else below data/; choose another")


def make_card(values: dict[str, Any]) -> Card:
    """Check the fields of a new card. Raises DatasetError naming the field and what is allowed."""
    try:
        return Card.model_validate(values)
    except ValidationError as error:
        raise DatasetError("; ".join(map(_sentence, error.errors()))) from None


def _sentence(mistake: Any) -> str:
    """Field, what is allowed, and what was given where that is one value."""
    got = "" if isinstance(mistake["input"], dict) else f", got {mistake['input']!r}"
    return f"{'.'.join(map(str, mistake['loc'])) or 'card'}: {mistake['msg']}{got}"


def card_text(card: Card) -> str:
    """A card as YAML, every field with its meaning; what has its default is there as a comment."""
    lines = [f"# yaml-language-server: $schema={SCHEMA}"]
    for name, field in Card.model_fields.items():
        value = card.model_dump(mode="json")[name]
        unset = not field.is_required() and value == field.get_default(call_default_factory=True)
        shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
        shown = shown.removesuffix("...\n").strip()
        lines.append(f"{'# ' if unset else ''}{name}: {shown}  # {field.description}")
    return "\n".join(lines) + "\n"


def write_cards(places: Places, name: str, card: Card | None, parts: Sequence[str]) -> None:
    """Write a card, if given, and a link to it for every part: the graph looks for a card by the part's name."""
    if card is not None:
        write_file(places.card(name), card_text(card))
    for part in parts:
        if part != name and not places.card(part).is_symlink():
            places.card(part).symlink_to(places.card(name).name)


def schema_text() -> str:
    """The JSON schema of cards, for editors; data/catalog/card.schema.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Card.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


def datasets_in_params(path: Path) -> dict[str, list[str]]:
    """Section → the data sets that it names."""
    values = yaml.safe_load(path.read_text()) if path.exists() else {}
    sections = {k: v["datasets"] for k, v in values.items() if isinstance(v, dict) and "datasets" in v}
    return {k: list(names) for k, names in sections.items() if isinstance(names, list)}


TRAINING = {
    "scans": ("train_avatar", "train_vqgan", "finetune_avatar", "train_diffusion"),
    "images": ("train_avatar", "train_vqgan", "finetune_avatar"),
}
"""Sections whose stages can learn from a kind of data set: photos are not merged, so they have no latents."""


def add_to_training(path: Path, name: str, kind: Kind) -> list[str]:
    """Name a data set in the training sections of params.yaml. Returns the sections that name it now."""
    before = datasets_in_params(path)
    _edit_lists(path, TRAINING[kind], lambda names: names if name in names else [*names, name])
    after = datasets_in_params(path)
    for section in TRAINING[kind]:
        if name not in after.get(section, []):
            raise DatasetError(
                f"{path.name}: {section}.datasets is no list in one line ([a, b]); write {name} into it yourself"
            )
    return [section for section in TRAINING[kind] if name not in before.get(section, [])]


def drop_from_params(path: Path, name: str) -> None:
    """Take a data set out of every section."""
    _edit_lists(path, datasets_in_params(path), lambda names: [n for n in names if n != name])


def _edit_lists(path: Path, sections: Iterable[str], change: Callable[[list[str]], list[str]]) -> None:
    """Edit the lists `datasets: [a, b]` of some sections as text: nothing else of the file changes.

    Sections that share a list by a YAML anchor change together.
    """
    section, lines = "", path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if heading := _SECTION.match(line):
            section = heading[1]
        if section in sections and (found := _LIST.match(line)):
            names = [n.strip() for n in found[2].split(",") if n.strip()]
            lines[number] = f"{found[1]}{', '.join(change(names))}{line[found.end(2) :]}"
    write_file(path, "".join(lines))
