"""Content digests: of files, folders, parameters and code."""

import functools
import hashlib
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
    """Digest of plain values, independent of key order."""
    return digest_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def digest_path(path: Path) -> str:
    """Digest of a file, or of a folder; a store answers with its own recorded digest."""
    recorded = path / "digest.json"
    if recorded.is_file():
        return str(json.loads(recorded.read_text())["digest"])
    if path.is_file():
        return digest_bytes(path.read_bytes())
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist; run the stage that makes it (`dvc repro`)")
    files = sorted(p for p in path.rglob("*") if p.is_file())
    # Raw folders hold gigabytes: name, size and time are enough to notice what must not be resumed.
    return digest_json([(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files])


def work_key(params: BaseModel, inputs: Iterable[Path]) -> str:
    """Key of unfinished work: params, input digests and the project's code.

    Work found under the same key may be continued; any other is stale.
    """
    digests = [digest_path(p) for p in inputs if p.exists()]
    return digest_json([params.model_dump(mode="json"), digests, code_digest()])


@functools.cache
def code_digest() -> str:
    """Digest of every module below `stages` and `dinar_models`: coarse, because only resuming rests on it."""
    root = Path(__file__).parents[2]
    modules = sorted(p for folder in ("stages", "dinar_models") for p in (root / folder).rglob("*.py"))
    return digest_bytes(*(p.read_bytes() for p in modules))
