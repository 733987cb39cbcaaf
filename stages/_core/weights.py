"""Weights as safetensors + JSON: the config that rebuilds the net, and the body and atlas they belong to."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import nn

M = TypeVar("M", bound=nn.Module)


class WeightsError(ValueError):
    """Weights that are missing or made for another body, atlas or architecture."""


def save_weights(
    folder: Path,
    name: str,
    module: nn.Module,
    config: Mapping[str, Any],
    digests: Mapping[str, str] | None = None,
) -> None:
    """Write NAME.safetensors and NAME.json ({config, digests}) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    save_file(tensors, folder / f"{name}.safetensors")
    card = {"config": dict(config), "digests": dict(digests or {})}
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")


def load_weights(
    folder: Path, name: str, build: Callable[[dict[str, Any]], M], digests: Mapping[str, str] | None = None
) -> M:
    """Rebuild a net from its own config and load it strictly; it comes back in eval mode.

    Args:
        build: config → module.
        digests: e.g. {"body": …, "atlas": …}; each that the weights carry must agree.

    Raises:
        WeightsError: naming what is missing or does not fit.
    """
    card_path = folder / f"{name}.json"
    if not card_path.is_file():
        raise WeightsError(f"{card_path} does not exist; run `dvc repro` for the stage that trains {name}")
    card = json.loads(card_path.read_text())
    for key, value in (digests or {}).items():
        made_for = card["digests"].get(key)
        if made_for is not None and made_for != value:
            raise WeightsError(
                f"{folder}/{name} belongs to {key} {made_for}, but the {key} here is {value}; train it again"
            )
    module = build(card["config"])
    module.load_state_dict(load_file(folder / f"{name}.safetensors"), strict=True)
    return module.eval()


def read_body_digests(body_folder: Path) -> dict[str, str]:
    """{"body": …, "atlas": …} of the built body folder."""
    path = body_folder / "body.json"
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; run `dvc repro build_body`")
    card = json.loads(path.read_text())
    return {"body": card["body_digest"], "atlas": card["atlas_digest"]}
