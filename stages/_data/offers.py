"""What data sets offer to training: a small file per data set that names its stores and their digests.

A training stage depends on one folder with a file for each data set that its section of params.yaml names. So
DVC sees which data sets are learnt from, and a change of any other data set is none of training's business.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages._core.digests import digest_path
from stages._core.publish import write_file

Offer = dict[str, dict[str, dict[str, str]]]
"""Part → kind of store → its `path`, as the stage was given it, and its `digest`."""


def write_offer(path: Path, offer: Offer) -> None:
    """Write an offer; the bytes change when a store's content does, and only then."""
    write_file(path, json.dumps(offer, indent=1, sort_keys=True) + "\n")


def read_offer(path: Path) -> Offer:
    """Read an offer. Raises FileNotFoundError saying how it is made."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: the data set is not prepared; run `dvc repro`")
    return dict(json.loads(path.read_text()))


def offer_of(part: str, stores: Mapping[str, Path]) -> Offer:
    """The offer of one part from the paths of its finished stores."""
    return {part: {kind: {"path": str(p), "digest": digest_path(p)} for kind, p in sorted(stores.items())}}


def offered_stores(folder: Path, datasets: Sequence[str]) -> list[dict[str, Path]]:
    """The stores of every part of the named data sets, in order: kind of store → path.

    Only named files are read: the folder may still hold one of a data set that was named earlier.
    """
    return [
        {kind: Path(store["path"]) for kind, store in stores.items()}
        for name in datasets
        for _, stores in sorted(read_offer(folder / f"{name}.json").items())
    ]
