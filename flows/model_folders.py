"""Which weights make avatars: the champion, the last `dinar repro`, the released ones, or a folder."""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError

from flows.champion import CARD, WEIGHTS
from stages._core.digests import digest_path
from stages._core.weights import WeightsError, read_body_digests

ROOT = Path(__file__).parents[1]

DATA: Final = ROOT / "data" if (ROOT / "dvc.yaml").is_file() else Path(__file__).parent
"""The project's data folder. An installed package has none: its released weights lie beside this module, where the
link `flows/released` of the checkout puts them into the wheel."""

PLACES = {"champion": "models/champion", "repro": "models", "released": "released"}
"""Folders of weights below DATA, in the order in which `auto` takes the first that is complete."""

LOADING_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError, EOFError),
    *(SafetensorError, zipfile.BadZipFile),
)
"""What configs, tensors and archives raise when they are damaged or of other code."""


@dataclass(frozen=True)
class ModelFolder:
    """A complete folder of weights.

    Attributes:
        name: what finds it again: a key of PLACES or an absolute path.
        root: holds one folder per entry of WEIGHTS.
    """

    name: str
    root: Path

    def __str__(self) -> str:
        return f"{self.name} ({self.root})" if self.name in PLACES else self.name

    @property
    def parser(self) -> Path:
        """The folder of the parser's weights."""
        return self.root / "parser"

    @property
    def folders(self) -> dict[str, Path]:
        """What `load_models` takes."""
        names = {"body": "body", "avatar": "avatar_finetuned", "vqgan": "vqgan", "diffusion": "diffusion"}
        return {role: self.root / name for role, name in names.items()}

    def reconstruct_section(self) -> dict[str, Any] | None:
        """How these weights are to be sampled: what `reconstruct` was told when they were measured.

        None where they do not say: then the project's params.yaml does.

        Raises:
            WeightsError: their card is damaged.
        """
        path = self.root / CARD
        if not path.is_file():
            return None
        try:
            return dict(json.loads(path.read_text())["reconstruct"])
        except (ValueError, LookupError, TypeError) as error:
            raise WeightsError(f"{path} does not say how to sample these weights ({error!r})") from None

    def digests(self) -> dict[str, str]:
        """Of body, atlas and networks: a neural texture means nothing to any others."""
        nets = digest_path(self.folders["avatar"] / "avatar.safetensors")
        return {**read_body_digests(self.folders["body"]), "nets": nets}


def find_models(choice: str, data: Path) -> ModelFolder:
    """The weights that were asked for.

    Args:
        choice: `auto`, a key of PLACES, or the path of a folder with one folder per entry of WEIGHTS.
        data: the project's data folder.

    Raises:
        WeightsError: one sentence on what is missing and which command makes it.
    """
    if choice == "auto":
        there = [name for name, place in PLACES.items() if not _missing(data / place)]
        if not there:
            raise WeightsError("there are no weights on this machine yet; run `dinar repro` to train them")
        choice = there[0]
    root = data / PLACES[choice] if choice in PLACES else Path(choice).resolve()
    if missing := _missing(root):
        raise WeightsError(
            f"the weights {choice!r} lack {', '.join(missing)} in {root}; run `dinar repro`, "
            f"or name others: {', '.join(PLACES)} or a folder"
        )
    return ModelFolder(choice if choice in PLACES else str(root), root)


@contextmanager
def reading(models: ModelFolder) -> Iterator[None]:
    """Whatever loading raises at damaged files becomes one WeightsError."""
    try:
        yield
    except WeightsError:
        raise
    except LOADING_ERRORS as error:
        first = str(error).partition("\n")[0]
        raise WeightsError(
            f"the weights {models} cannot be read ({first}); run `dinar repro` or name others"
        ) from None


def _missing(root: Path) -> list[str]:
    return [name for name in WEIGHTS if not (root / name).is_dir()]
