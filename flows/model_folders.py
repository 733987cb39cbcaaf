"""Which weights make avatars: the released ones, the champion, the last `dinar repro`, or a folder."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from flows.champion import WEIGHTS
from stages._core.digests import digest_path
from stages._core.weights import WeightsError, read_body_digests

PLACES = {"released": "released", "champion": "models/champion", "repro": "models"}
"""Folders of weights below data/, in the order in which `auto` takes the first that is complete."""

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
