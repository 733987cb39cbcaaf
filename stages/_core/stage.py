"""What a stage is: params, named inputs and outputs, and one function."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages._core.params import StageParams
from stages._core.runtime import Runtime

Summary = dict[str, Any]
"""What a stage says about its run: plain values, shown and kept as provenance."""


class Paths(Mapping[str, Path]):
    """Named paths of a stage. Group members are named `group.item`."""

    def __init__(self, paths: Mapping[str, Path | str]) -> None:
        self._paths = {name: Path(path) for name, path in paths.items()}

    def __getitem__(self, name: str) -> Path:
        if name not in self._paths:
            raise KeyError(f"no path named {name!r}; given: {', '.join(self._paths) or 'none'}")
        return self._paths[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def get(self, name: str, default: Any = None) -> Any:
        """The path, or `default` when this optional input was not given."""
        return self._paths.get(name, default)

    def group(self, name: str) -> dict[str, Path]:
        """All members of a group input, by item."""
        return {k.split(".", 1)[1]: p for k, p in self._paths.items() if k.startswith(f"{name}.")}


@dataclass(frozen=True)
class Stage:
    """A stage's declaration.

    Attributes:
        name: module name below `stages` and section of params.yaml.
        inputs: names; `x?` is optional, `x.*` a group with at least one member.
        outputs: names.
        trains: whether torchrun may start it in several processes, which share each batch.
    """

    name: str
    params: type[StageParams]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[Any, Paths, Paths, Runtime], Summary]
    trains: bool = False

    def check_paths(self, inputs: Paths, outputs: Paths) -> None:
        """Raise ValueError when a name is missing or unknown."""
        _check_names(self.name, "input", self.inputs, list(inputs))
        _check_names(self.name, "output", self.outputs, list(outputs))


def _check_names(stage: str, kind: str, declared: tuple[str, ...], given: list[str]) -> None:
    for name in declared:
        if name.endswith("?"):
            continue
        found = any(g.startswith(name[:-1]) for g in given) if name.endswith(".*") else name in given
        if not found:
            raise ValueError(f"{stage}: {kind} {name!r} is missing; give --{kind} {name}=PATH")
    for g in given:
        plain = {d.rstrip("?") for d in declared}
        if g not in plain and f"{g.split('.', 1)[0]}.*" not in plain:
            raise ValueError(f"{stage}: unknown {kind} {g!r}; declared: {', '.join(declared) or 'none'}")
