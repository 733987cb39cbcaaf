"""Every dvc.yaml against the code: deps are a stage's transitive imports, params its own section."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages._core.params import SharedParams
from stages._core.registry import ABLATION_NAMES, STAGE_NAMES, load_stage
from stages._core.stage import Paths

ROOT = Path(__file__).parents[1]
DVC_YAML = ROOT / "dvc.yaml"
ABLATION_YAML = ROOT / "pipelines/ablation/dvc.yaml"
GRAPHS: dict[Path, tuple[str, ...]] = {DVC_YAML: STAGE_NAMES, ABLATION_YAML: ABLATION_NAMES}
"""Every graph, and the modules that it runs. Paths in all of them start at the root."""

CHECKED = "data/stores/check_params.txt"
PARAMS = "params.yaml"

_PATH_OPTION = re.compile(r"--(input|output) (\S+?)=(\S+)")
_PARAMS_OPTION = re.compile(r"--params (\S+)")
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

    @property
    def params_file(self) -> str:
        """The file whose section the command reads."""
        found = _PARAMS_OPTION.search(self.body["cmd"])
        return found[1] if found else PARAMS

    def paths(self, kind: str) -> dict[str, str]:
        """The --input or --output paths of the command, by name."""
        return {name: path for k, name, path in _PATH_OPTION.findall(self.body["cmd"]) if k == kind}


def read_graph(path: Path = DVC_YAML) -> tuple[Any, list[Entry]]:
    """The round-trip document and its stages."""
    document = _yaml().load(path.read_text())
    return document, [Entry(name, item.get("do", item)) for name, item in document["stages"].items()]


def expected_deps(entry: Entry, imports: Any) -> list[str]:
    """Data first, in the order of the command, then code, sorted. DVC refuses its own file as a dependency.

    What reads params.yaml waits for check_params; other params files were checked when they were made.
    """
    data = [path for path in entry.paths("input").values() if path != DVC_YAML.name]
    if entry.params_file == PARAMS and entry.name != "check_params":
        data.append(CHECKED)
    return data + sorted(code_files(f"stages.{entry.module}", imports))


def expected_params(entry: Entry) -> list[Any]:
    """The stage's own section and the shared keys that its class declares, below the file if it is not params.yaml.

    None where the whole file is an input.
    """
    if entry.params_file in entry.paths("input").values():
        return []
    fields = load_stage(entry.module).params.model_fields
    shared = [key for key in SharedParams.model_fields if key in fields]
    keys = [entry.module, *shared] if set(fields) - set(shared) else shared
    return [{entry.params_file: keys}] if keys and entry.params_file != PARAMS else keys


def code_files(module: str, imports: Any) -> Iterator[str]:
    """Files of a module and of everything of ours that it imports, however far away."""
    for name in {module, *imports.find_upstream_modules(module)}:
        path = Path(*name.split("."))
        file = path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
        if (ROOT / file).is_file() and (ROOT / file).read_text().strip():
            yield str(file)


def mistakes(path: Path = DVC_YAML, names: tuple[str, ...] = STAGE_NAMES) -> list[str]:
    """One sentence for each place where a graph that should run the stages `names` and the code disagree."""
    imports = import_graph()
    run = _modules(path)
    found = [f"no stage {name} in {path.name}" for name in names if name not in run]
    found += [f"{path.name} runs {name}, which is not listed for it" for name in sorted({*run} - {*names})]
    for entry in read_graph(path)[1]:
        for key, wanted in (("deps", expected_deps(entry, imports)), ("params", expected_params(entry))):
            listed = _plain(entry.body.get(key, []))
            if listed != wanted:
                missing, extra = (
                    [x for x in a if x not in b] for a, b in ((wanted, listed), (listed, wanted))
                )
                found.append(f"{entry.name}.{key}: missing {missing}, too many {extra}")
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
        before = (_plain(entry.body.get("deps", [])), _plain(entry.body.get("params", [])))
        after = (expected_deps(entry, imports), expected_params(entry))
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


def _plain(listed: Any) -> list[Any]:
    """A list of the document without its comments; entries may be `file: keys`."""
    return [{k: list(v) for k, v in x.items()} if isinstance(x, dict) else x for x in listed]


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
