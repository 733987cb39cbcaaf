"""Content digests: of files, folders, parameters and code."""

import hashlib
import importlib.util
import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def digest_bytes(*parts: bytes) -> str:
    """First 16 hex digits of sha256 over the parts."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()[:16]


def digest_json(value: Any) -> str:
    """Digest of plain values (or pydantic models), independent of key order."""
    return digest_bytes(json.dumps(value, sort_keys=True, default=_plain).encode())


def digest_path(path: Path) -> str:
    """Digest of a file, or of a folder's names and contents; a store answers with its own recorded digest."""
    recorded = path / "digest.json"
    if recorded.is_file():
        return str(json.loads(recorded.read_text())["digest"])
    if path.is_file():
        return digest_bytes(path.read_bytes())
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist; run the stage that makes it (`dvc repro`)")
    files = sorted(p for p in path.rglob("*") if p.is_file())
    # Raw folders hold gigabytes: name and size are enough to notice a change that should not resume.
    return digest_json([(str(f.relative_to(path)), f.stat().st_size) for f in files])


def work_key(params: BaseModel, inputs: Iterable[Path], *functions: Any) -> str:
    """Key of unfinished work: params, input digests and the code of the modules that define `functions`.

    Work found under the same key may be continued; any other is stale.
    """
    sources = [inspect.getsource(inspect.getmodule(f) or f) for f in functions]
    return digest_json(
        [params.model_dump(mode="json"), [digest_path(p) for p in inputs if p.exists()], sources]
    )


def module_digest(module: str) -> str:
    """Digest of a module's source file."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return digest_bytes(Path(spec.origin).read_bytes())


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)
