"""Nothing appears at an output path until all of it is there and valid."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def publish(out: Path) -> Iterator[Path]:
    """Yield a work folder beside `out`; on success it takes the place of `out`, on failure it goes.

    The folder is on the same file system, so the last step is a rename: a kill leaves the old output or none.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.parent / f".{out.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    replace_folder(work, out)


def replace_folder(source: Path, out: Path) -> None:
    """Move a complete folder to `out`, whatever lies there now."""
    out.parent.mkdir(parents=True, exist_ok=True)
    old = out.parent / f".{out.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(source, out)
    shutil.rmtree(old, ignore_errors=True)


def write_file(path: Path, data: str | bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data.encode() if isinstance(data, str) else data)
    os.replace(partial, path)
