"""What is known about trained weights: how they were trained and measured, and on what."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.champion import measured_with
from flows.datasets.catalog import Places, datasets_in_params, load_enabled
from flows.model_folders import ModelFolder
from stages._core.digests import digest_path
from stages._core.params import read_params
from stages._core.stage import Paths
from stages._core.store import open_store
from stages._core.train_loop import HISTORY
from stages._core.weights import WeightsError
from stages.reconstruct import weight_digests
from stages.sources.card import read_card

VERSION = 1

TRAINED_BY = {
    "train_parser": "parser",
    "train_avatar": "avatar",
    "train_vqgan": "vqgan",
    "finetune_avatar": "avatar_finetuned",
    "train_diffusion": "diffusion",
}
"""Stage → the folder below data/models that it makes."""

LIMITS = (
    "One person with the whole body in view, mostly from the front; what the photo does not show is made up.",
    "Loose clothes, skirts, open jackets and long hair follow the body too closely.",
    "Faces, fingers and prints are as coarse as the texture.",
)
"""What holds for every release of networks of this kind."""


@dataclass(frozen=True)
class Record:
    """What the pipeline wrote about the weights of a project.

    Attributes:
        places: where everything lies.
        metrics: of the test people.
        reconstruct: the section with which they were measured.
    """

    places: Places
    metrics: dict[str, Any]
    reconstruct: dict[str, Any]

    @property
    def profile(self) -> str:
        """The name of the sizes that everything was made with."""
        return str(read_params(self.places.params)["profile"])

    @property
    def stores(self) -> Paths:
        """The measured people's stores by the stage's names."""
        sets, names = self.reconstruct["datasets"], ("views", "parsing", "bodies_single")
        return Paths({f"{name}.{one}": self.places.stores(one) / name for one in sets for name in names})


def read_record(weights: ModelFolder) -> Record:
    """The record of the project in which these weights were trained and measured.

    Raises:
        WeightsError: there is none, or it is about other weights.
    """
    data = next((p for p in weights.root.parents if (p / "reports/metrics.json").is_file()), None)
    if data is None:
        raise WeightsError(
            f"no reports/metrics.json lies above {weights.root}: measure the weights, `dinar repro`"
        )
    avatars, renders = data / "stores/avatars", data / "stores/renders"
    reconstruct = measured_with(avatars)
    if reconstruct is None:
        raise WeightsError(f"{avatars} is missing: measure the weights, `dinar repro`")
    measured = open_store(avatars, "avatars").attrs.get("weights")
    rendered = open_store(renders, "renders").attrs
    mine = {"weights": weight_digests(weights.folders), "avatars": digest_path(avatars)}
    mine["parser"] = digest_path(weights.parser / "parser.safetensors")
    found = {"weights": measured, "avatars": rendered.get("avatars"), "parser": rendered.get("parser")}
    if mine != found:
        wrong = ", ".join(name for name in mine if mine[name] != found[name])
        raise WeightsError(
            f"{data}/reports/metrics.json is about others ({wrong}) than {weights}: run `dinar repro`"
        )
    return Record(Places(data.parent), json.loads((data / "reports/metrics.json").read_text()), reconstruct)


def make_card(name: str, record: Record, limits: Sequence[str]) -> dict[str, Any]:
    """What the card says of training and measuring; the release adds what it finds in the files.

    Args:
        limits: sentences about these weights, besides LIMITS.

    Raises:
        WeightsError: the record lacks something.
    """
    return {
        "kind": "dinar.weights",
        "version": VERSION,
        "name": name,
        "revision": _revision(record.places.root),
        "data": [_data_set(record.places, dataset) for dataset in _trained_on(record.places)],
        "training": {stage: _training(record.places, stage) for stage in TRAINED_BY},
        "reconstruct": record.reconstruct,
        "metrics": record.metrics,
        "limits": [*LIMITS, *limits],
    }


def _revision(root: Path) -> str:
    """Of the code, `-dirty` where it has changes that are not committed."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise WeightsError(f"{root} has no Git revision, which the card names: {done.stderr.strip()}")
    return done.stdout.strip()


def _trained_on(places: Places) -> list[str]:
    named = datasets_in_params(places.params)
    found = list(dict.fromkeys(name for stage in TRAINED_BY for name in named.get(stage, [])))
    if not found:
        raise WeightsError(f"{places.params} names no data set that training learns from")
    return found


def _data_set(places: Places, name: str) -> dict[str, Any]:
    """What it is, and how many people and images each split has."""
    card, people, images = read_card(places.card(name)), dict[str, int](), dict[str, int]()
    for part in load_enabled(places.enabled).parts(name) or [name]:
        index = open_store(places.stores(part) / "views", "views").index
        for split, lines in index[index["ok"]].groupby("split"):
            people[str(split)] = people.get(str(split), 0) + int(lines["subject"].nunique())
            images[str(split)] = images.get(str(split), 0) + len(lines)
    words = {"title": card.title, "licence": card.licence, "citation": card.citation}
    return {"name": name, **words, "people": people, "images": images}


def _training(places: Places, stage: str) -> dict[str, Any]:
    """Steps by the whole curve; device, time and memory (None if nobody measured it) of what ended the training."""
    history = places.data / "models" / TRAINED_BY[stage] / HISTORY
    run = places.data / ".runs" / f"{stage}.json"
    for path in (history, run):
        if not path.is_file():
            raise WeightsError(
                f"{path} is missing, which says how the weights were trained: run `dinar repro`"
            )
    last, record = json.loads(history.read_text().splitlines()[-1]), json.loads(run.read_text())
    return {
        "steps": int(last["step"]),
        **{key: record[key] for key in ("device", "seconds", "peak_mib", "finished")},
    }
