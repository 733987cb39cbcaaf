"""dvc.yaml against the code: deps are a stage's transitive imports, params its own section."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages._core.params import SharedParams
from stages._core.registry import STAGE_NAMES, load_stage
from stages._core.stage import Paths

ROOT = Path(__file__).parents[1]
DVC_YAML = ROOT / "dvc.yaml"
CHECKED = "data/stores/check_params.txt"

_PATH_OPTION = re.compile(r"--(input|output) (\S+?)=(\S+)")
_MODULE = re.compile(r"python -m stages\.(\w+)")


@dataclass(frozen=True)
class Entry:
    """One stage of dvc.yaml: `body` is the mapping that holds cmd, deps, params and outs."""

    name: str
    body: Any

    @property
    def module(self) -> str:
        """The module below `stages` that the command runs; several stages may share one."""
        found = _MODULE.search(self.body["cmd"])
        return found[1] if found else self.name

    def paths(self, kind: str) -> dict[str, str]:
        """The --input or --output paths of the command, by name."""
        return {name: path for k, name, path in _PATH_OPTION.findall(self.body["cmd"]) if k == kind}


def read_graph(path: Path = DVC_YAML) -> tuple[Any, list[Entry]]:
    """The round-trip document and its stages."""
    document = _yaml().load(path.read_text())
    return document, [Entry(name, item.get("do", item)) for name, item in document["stages"].items()]


def expected_deps(entry: Entry, imports: Any) -> list[str]:
    """Data first, in the order of the command, then code, sorted. DVC refuses its own file as a dependency."""
    data = [path for path in entry.paths("input").values() if path != DVC_YAML.name]
    if entry.name != "check_params":
        data.append(CHECKED)
    return data + sorted(code_files(f"stages.{entry.module}", imports))


def expected_params(name: str) -> list[str]:
    """The stage's own section and the shared keys that its class declares."""
    fields = load_stage(name).params.model_fields
    shared = [key for key in SharedParams.model_fields if key in fields]
    own = [name] if set(fields) - set(shared) else []
    return own + shared


def code_files(module: str, imports: Any) -> Iterator[str]:
    """Files of a module and of everything of ours that it imports, however far away."""
    for name in {module, *imports.find_upstream_modules(module)}:
        path = Path(*name.split("."))
        file = path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
        if (ROOT / file).is_file() and (ROOT / file).read_text().strip():
            yield str(file)


def mistakes(path: Path = DVC_YAML) -> list[str]:
    """One sentence for each place where dvc.yaml and the code disagree."""
    imports = import_graph()
    found = [f"no stage {name} in dvc.yaml" for name in STAGE_NAMES if name not in _modules(path)]
    for entry in read_graph(path)[1]:
        for key, wanted in (
            ("deps", expected_deps(entry, imports)),
            ("params", expected_params(entry.module)),
        ):
            listed = list(entry.body.get(key, []))
            if listed != wanted:
                missing, extra = set(wanted) - set(listed), set(listed) - set(wanted)
                found.append(f"{entry.name}.{key}: missing {sorted(missing)}, too many {sorted(extra)}")
        outs = [o if isinstance(o, str) else next(iter(o)) for o in entry.body["outs"]]
        if outs != list(entry.paths("output").values()):
            found.append(f"{entry.name}.outs: {outs} listed, the command writes {entry.paths('output')}")
        try:
            load_stage(entry.module).check_paths(Paths(entry.paths("input")), Paths(entry.paths("output")))
        except ValueError as error:
            found.append(str(error))
    return found


def sync(path: Path = DVC_YAML) -> int:
    """Write deps and params of every stage anew. Returns how many stages changed."""
    document, entries = read_graph(path)
    imports = import_graph()
    changed = 0
    for entry in entries:
        before = (list(entry.body.get("deps", [])), list(entry.body.get("params", [])))
        after = (expected_deps(entry, imports), expected_params(entry.module))
        if before != after:
            changed += 1
            _set(entry.body, "deps", after[0])
            _set(entry.body, "params", after[1])
    if changed:
        with path.open("w") as file:
            _yaml().dump(document, file)
    return changed


def import_graph() -> Any:
    """grimp's graph of our two lower packages."""
    import grimp

    return grimp.build_graph("dinar_models", "stages", cache_dir=None)


def _modules(path: Path) -> list[str]:
    return [entry.module for entry in read_graph(path)[1]]


def _set(body: Any, key: str, values: list[str]) -> None:
    """Set a list, keeping `outs` last; an empty list is left out."""
    if not values:
        body.pop(key, None)
    elif key in body:
        body[key] = values
    else:
        body.insert(list(body).index("outs"), key, values)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
