"""`dinar weights release`: trained weights in half precision, checked, with their card, into data/released."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dinar_models.parser import build_parser
from flows.champion import CARD
from flows.model_card import Record, make_card, read_record
from flows.model_card_page import card_page
from flows.model_folders import ModelFolder, find_models, reading
from flows.rounding import HeldOut, Rounding, compare, round_weights
from stages._core.params import parse_section
from stages._core.publish import publish, write_file
from stages._core.weights import WeightsError, load_weights
from stages._data.models import load_models
from stages.reconstruct import ReconstructParams

LIMIT_MB = 50

LEAST_PSNR = 40.0
"""dB that the view of a held-out person's avatar which half precision changes most must keep."""

NETS = {"parser": "parser", "avatar_finetuned": "avatar", "vqgan": "vqgan", "diffusion": "diffusion"}
"""Folder of weights → name of its files."""

BODY_FILES = ("body.json", "atlas.npz", "smplx/SMPLX_NEUTRAL.npz")


def release(
    models: Path, out: Path, *, name: str | None, limits: Sequence[str], console: Console
) -> dict[str, Any]:
    """Publish weights: `out` appears whole, with card.json and README.md, or stays as it was.

    Args:
        models: a folder with one folder per entry of WEIGHTS, below the data folder of a project that measured them.
        name: of the release; by default the profile's.
        limits: sentences about these weights for the card.

    Returns:
        The card.

    Raises:
        WeightsError: something is missing, too large, damaged, licensed or about other weights; one sentence.
    """
    weights = find_models(str(models), models)
    _refuse_licensed(weights)
    record = read_record(weights)
    card = make_card(name or record.profile, record, limits)
    with publish(out.resolve()) as folder:
        console.print(f"rounding {weights}", soft_wrap=True, markup=False)
        with reading(weights):
            parameters = copy_rounded(weights, folder)
        rounded = ModelFolder(str(folder), folder)
        config = check_loading(rounded)
        card |= {
            **{key: config[key] for key in ("image_size", "texture_size")},
            "parameters": parameters,
            "digests": rounded.digests(),
            "files": check_sizes(folder),
        }
        console.print("making avatars of held-out people with both")
        rounding = compare(weights, rounded, held_out(record))
        check_rounding(rounding)
        card["rounding"] = rounding.as_dict()
        write_file(folder / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")
        write_file(folder / "README.md", card_page(card))
    return card


def copy_rounded(weights: ModelFolder, folder: Path) -> dict[str, int]:
    """Body and atlas as they are, so that digests stay; networks in half precision. Returns their parameters."""
    for file in BODY_FILES:
        (folder / "body" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights.folders["body"] / file, folder / "body" / file)
    return {net: round_weights(weights.root / place, folder / place, net) for place, net in NETS.items()}


def check_loading(rounded: ModelFolder) -> dict[str, Any]:
    """Load every file again, strictly, against the body's and the atlas' own digests. Returns the avatar's config.

    Raises:
        WeightsError: a file does not load, or belongs to another body or atlas.
    """
    with reading(rounded):
        models = load_models(rounded.folders, "cpu")
        load_weights(rounded.parser, "parser", build_parser)
    named, surface = rounded.digests(), models.surface
    for what, found in (("body", surface.body.digest), ("atlas", surface.atlas.digest)):
        if named[what] != found:
            raise WeightsError(
                f"the {what} here is {found}, but body.json says {named[what]}; run `dinar repro`"
            )
    return models.nets.config_dict()


def held_out(record: Record) -> HeldOut:
    """The people whose avatars are compared."""
    section = {"reconstruct": record.reconstruct}
    return HeldOut(parse_section(ReconstructParams, "reconstruct", section), record.stores)


def check_rounding(rounding: Rounding) -> None:
    """Raise WeightsError where half precision shows."""
    if rounding.least_psnr < LEAST_PSNR:
        raise WeightsError(
            f"half precision changes a render to {rounding.least_psnr:.1f} dB; {LEAST_PSNR:.0f} dB are the least"
        )


def check_sizes(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and sha256 of every file.

    Raises:
        WeightsError: they are too large together for Git, naming the largest.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in paths}
    if (total := sum(sizes.values())) > LIMIT_MB * 10**6:
        largest = max(sizes, key=lambda name: sizes[name])
        raise WeightsError(
            f"the weights have {total / 1e6:.1f} MB, {LIMIT_MB} MB are allowed; the largest file is {largest} "
            f"with {sizes[largest] / 1e6:.1f} MB"
        )
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sizes}
    return {name: {"bytes": size, "sha256": digests[name]} for name, size in sizes.items()}


def _refuse_licensed(weights: ModelFolder) -> None:
    card = json.loads((weights.folders["body"] / "body.json").read_text())
    if card["kind"] != "open":
        raise WeightsError("these weights belong to the licensed SMPL-X body, which may not be passed on")
