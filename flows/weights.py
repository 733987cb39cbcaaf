"""Optional weights of others (data/weights.yaml): list, take, fetch. Nothing is downloaded silently."""

import hashlib
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
LISTING = ROOT / "data/weights.yaml"
FOLDER = ROOT / "data/raw/weights"
MAX_BYTES = 2 * 1024**3


class WeightsFileError(ValueError):
    """A file that is not listed, not what the listing says, or not to be had."""


@dataclass(frozen=True)
class Listed:
    """One entry of data/weights.yaml, `file` below FOLDER; where `sha256` is not known, fetching is refused."""

    name: str
    file: str
    url: str | None
    sha256: str | None
    licence: str
    enables: str


def listing(path: Path = LISTING) -> dict[str, Listed]:
    """All listed files by name."""
    entries = yaml.safe_load(path.read_text())
    fields = ("file", "url", "sha256", "licence", "enables")
    return {name: Listed(name, *(entry.get(f) for f in fields)) for name, entry in entries.items()}


def weights_table() -> Table:
    """Name, whether the file is there, licence, what it enables."""
    table = Table(title="Optional weights")
    for column in ("name", "there", "enables", "licence"):
        table.add_column(column, overflow="fold")
    for entry in listing().values():
        there = (FOLDER / entry.file).is_file()
        table.add_row(entry.name, "yes" if there else "no", entry.enables, entry.licence)
    return table


def add_file(name: str, file: Path, path: Path = LISTING, folder: Path = FOLDER) -> Path:
    """Copy a file that the user has, after comparing its checksum with the listed one."""
    entry = _entry(name, path)
    if not file.is_file():
        raise WeightsFileError(f"{file} is no file")
    _check_digest(entry, file)
    target = folder / entry.file
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(file, target))


def fetch_file(name: str, console: Console, path: Path = LISTING, folder: Path = FOLDER) -> Path:
    """Say what comes from where, download it over https, keep it only if its checksum is the listed one."""
    entry = _entry(name, path)
    if entry.url is None or urlparse(entry.url).scheme != "https":
        raise WeightsFileError(
            f"{name} has no address; get it from its owner, then `dinar weights add {name} FILE`"
        )
    if entry.sha256 is None:
        raise WeightsFileError(
            f"{name} has no checksum in {path.name}; fetch it yourself and add its sha256 there"
        )
    console.print(f"{name}: {entry.url}\nlicence: {entry.licence}")
    target = folder / entry.file
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        _download(entry.url, partial)
        _check_digest(entry, partial)
        return partial.rename(target)
    except OSError as error:
        raise WeightsFileError(f"{entry.url}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _download(url: str, target: Path) -> None:
    from stages._core.progress import progress

    with urllib.request.urlopen(url, timeout=60) as response, target.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        if total > MAX_BYTES:
            raise WeightsFileError(f"{url}: {total} bytes, more than {MAX_BYTES} are refused")
        with progress("download", total, bar=True) as advance:
            while block := response.read(1 << 20):
                file.write(block)
                if file.tell() > MAX_BYTES:
                    raise WeightsFileError(f"{url}: more than {MAX_BYTES} bytes, refused")
                advance(len(block))


def _entry(name: str, path: Path) -> Listed:
    entries = listing(path)
    if name not in entries:
        raise WeightsFileError(f"no weights named {name!r}; listed: {', '.join(entries)}")
    return entries[name]


def _check_digest(entry: Listed, file: Path) -> None:
    if entry.sha256 is None:
        return
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != entry.sha256:
        raise WeightsFileError(
            f"{file.name}: sha256 {found[:16]}…, {entry.sha256[:16]}… is listed for {entry.name}"
        )
