"""Bringing raw data in: from a folder, a file or an archive, into one folder or into parts, resumably."""

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from flows.datasets.catalog import DatasetError
from stages._core.progress import progress
from stages._core.publish import replace_folder
from stages.sources.photos import list_photos
from stages.sources.video import list_videos

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_FILES = 2_000_000
MAX_UNPACKED_BYTES = 1 << 40
KEPT_FREE = 1 << 30
"""Bytes that stay free on the disk."""

_CHUNK = 1 << 22

MESHES = (".obj", ".glb", ".gltf", ".ply")

LISTERS: dict[str, Callable[[Path], list[Path]]] = {"photos": list_photos, "video": list_videos}
"""Adapters whose samples are files; those of the others are folders, or mesh files beside them."""


@dataclass(frozen=True)
class Source:
    """Files to be brought in.

    Attributes:
        root: the folder below which they lie.
        files: paths relative to `root`, sorted; hidden ones are left out.
    """

    root: Path
    files: list[PurePosixPath]


def list_samples(root: Path, adapter: str) -> list[str]:
    """Names of the files or folders that are one sample each."""
    if not root.is_dir():
        return []
    return [p.name for p in LISTERS.get(adapter, _folders_and_meshes)(root)]


def _folders_and_meshes(root: Path) -> list[Path]:
    entries = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    return [p for p in entries if p.is_dir() or p.suffix.lower() in MESHES]


def is_archive(path: Path) -> bool:
    """Whether the file is one that is unpacked."""
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def survey(path: Path) -> Source:
    """What a folder, or a single file, holds.

    Raises:
        DatasetError: nothing there, a link out of the folder, or something that is neither file nor folder.
    """
    if path.is_file():
        return Source(path.parent, [PurePosixPath(path.name)])
    if not path.is_dir():
        raise DatasetError(f"{path} does not exist; --path takes a folder, a file, a .zip or a .tar")
    root, files = path.resolve(), []
    for file in _walk(root):
        if file.is_symlink() and not file.resolve().is_relative_to(root):
            raise DatasetError(
                f"{file} is a link out of the folder; put the file itself there, or use --link"
            )
        if not file.is_file():
            raise DatasetError(f"{file} is neither a file nor a folder; take it out")
        files.append(PurePosixPath(file.relative_to(root)))
        if len(files) > MAX_FILES:
            raise DatasetError(f"{path} holds more than {MAX_FILES} files; add it in several data sets")
    if not files:
        raise DatasetError(f"{path} is empty")
    return Source(root, sorted(files))


def unpack(archive: Path, folder: Path, bar: bool) -> Path:
    """Unpack an archive that may be hostile into `folder` and return the folder of the samples.

    Only plain files come out, below `folder` and within bounds. A single folder that holds everything is
    stepped into.

    Raises:
        DatasetError: a damaged archive, a path outside, a link, or too much.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    limit = min(MAX_UNPACKED_BYTES, shutil.disk_usage(folder).free - KEPT_FREE)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _unpack_members(list(_zip_members(opened)), folder, limit, bar, archive)
        else:
            with tarfile.open(archive) as opened_tar:
                _unpack_members(list(_tar_members(opened_tar)), folder, limit, bar, archive)
    except DatasetError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DatasetError(
            f"{archive.name} cannot be unpacked ({error}); is it damaged or encrypted?"
        ) from None
    return _step_into(folder)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    link: bool
    read: Callable[[], IO[bytes] | None]


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for entry in archive.infolist():
        if not entry.is_dir():
            link = stat.S_ISLNK(entry.external_attr >> 16)
            yield _Member(entry.filename, entry.file_size, link, partial(archive.open, entry))


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for number, entry in enumerate(archive):
        if number > MAX_FILES:
            raise DatasetError(f"the archive holds more than {MAX_FILES} entries")
        if not entry.isdir():
            yield _Member(entry.name, entry.size, not entry.isreg(), partial(archive.extractfile, entry))


def _unpack_members(members: list[_Member], folder: Path, limit: int, bar: bool, archive: Path) -> None:
    """Check everything that the archive claims, then write no more than it claimed."""
    if len(members) > MAX_FILES:
        raise DatasetError(f"{archive.name} holds {len(members)} files, at most {MAX_FILES} are unpacked")
    total = sum(member.size for member in members)
    if total > limit:
        raise DatasetError(
            f"{archive.name} unpacks to {total >> 20} MiB, {max(limit, 0) >> 20} MiB are allowed or free"
        )
    for member in members:
        plain = PurePosixPath(member.name.replace("\\", "/"))
        if plain.is_absolute() or ".." in plain.parts or ":" in member.name or not plain.parts:
            raise DatasetError(
                f"{archive.name}: the path {member.name!r} points outside; nothing was unpacked"
            )
        if member.link:
            raise DatasetError(f"{archive.name}: {member.name!r} is a link; nothing was unpacked")
    with progress(f"unpacking {archive.name}", len(members), bar=bar) as advance:
        for member in members:
            _write_member(member, folder / PurePosixPath(member.name.replace("\\", "/")), archive)
            advance()


def _write_member(member: _Member, target: Path, archive: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source, left = member.read(), member.size
    if source is None:
        raise DatasetError(f"{archive.name}: {member.name!r} cannot be read")
    with source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise DatasetError(f"{archive.name}: {member.name!r} is larger than the archive says")
            file.write(chunk)


def _step_into(folder: Path) -> Path:
    """Archives of a folder hold that folder; `__MACOSX` and hidden entries do not count."""
    inside = [p for p in folder.iterdir() if not p.name.startswith((".", "__MACOSX"))]
    if len(inside) != 1 or not inside[0].is_dir():
        return folder
    below = [p for p in inside[0].iterdir() if not p.name.startswith(".")]
    single_sample = any(p.suffix.lower() in MESHES for p in below)
    return folder if single_sample else _step_into(inside[0])


def plan_parts(
    source: Source, name: str, samples: Sequence[str], subjects: Sequence[str], size: int | None
) -> dict[str, list[PurePosixPath]]:
    """Which files go to which part.

    Samples of one subject stay together, so that pairs of poses stay pairs. A file that belongs to no sample
    goes with the sample whose name it starts with (keypoints, masks), and to every part if there is none.

    Args:
        samples, subjects: of equal length.
        size: samples in a part, at least; None: no parts.
    """
    if size is None:
        return {name: source.files}
    part_of: dict[str, int] = {}
    members: dict[str, list[str]] = {}
    for sample, subject in zip(samples, subjects, strict=True):
        members.setdefault(subject, []).append(sample)
    filled = 0
    for group in members.values():
        part_of |= dict.fromkeys(group, filled // size)
        filled += len(group)
    numbers = sorted(set(part_of.values()))
    names = {number: f"{name}-{place:03d}" for place, number in enumerate(numbers)}
    if len(numbers) > 1000:
        raise DatasetError(f"{len(numbers)} parts are too many, at most 1000; choose a larger --part-size")
    parts: dict[str, list[PurePosixPath]] = {names[number]: [] for number in numbers}
    for file in source.files:
        owner = owner_of(file, samples)
        for number in numbers if owner is None else [part_of[owner]]:
            parts[names[number]].append(file)
    return parts


def owner_of(file: PurePosixPath, samples: Sequence[str]) -> str | None:
    """The sample that a file belongs to: the one it is or lies in, or the longest whose name it starts with."""
    if file.parts[0] in samples:
        return file.parts[0]
    stems = {PurePosixPath(sample).stem: sample for sample in samples}
    found = [stem for stem in stems if file.name.startswith((f"{stem}.", f"{stem}_"))]
    return stems[max(found, key=len)] if found else None


def copy_files(
    source: Source,
    files: Sequence[PurePosixPath],
    target: Path,
    work: Path,
    bar: bool,
    bring: Callable[[Path, Path], None],
) -> None:
    """Bring files to a folder that appears whole; what an interrupted call brought is not brought again.

    Args:
        bring: `copy_file`, or `link_or_copy` where the source is ours.

    Raises:
        DatasetError: the disk is too small.
    """
    work.mkdir(parents=True, exist_ok=True)
    todo = [f for f in files if not same_file(source.root / f, work / f)]
    need = sum((source.root / f).stat().st_size for f in todo)
    if need > shutil.disk_usage(work).free - KEPT_FREE:
        raise DatasetError(f"{need >> 20} MiB are to be copied, which the disk of {work} has not; use --link")
    with progress(f"copying to {target.name}", len(files), len(files) - len(todo), bar=bar) as advance:
        for file in todo:
            bring(source.root / file, work / file)
            advance()
    wanted = {work / f for f in files}
    for stale in [p for p in work.rglob("*") if p.is_file() and p not in wanted]:
        stale.unlink()
    replace_folder(work, target)


def copy_file(source: Path, target: Path) -> None:
    """Copy with its time, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    shutil.copystat(source, partial)
    partial.chmod(0o644)
    os.replace(partial, target)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that nobody edits; a copy where the file system has no such names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        copy_file(source, target)


def same_file(a: Path, b: Path) -> bool:
    """By size and time, as rsync judges."""
    if not b.is_file():
        return False
    one, two = a.stat(), b.stat()
    return one.st_size == two.st_size and one.st_mtime_ns == two.st_mtime_ns


def _walk(root: Path) -> Iterator[Path]:
    """Every file below a folder, hidden files and folders left out; links to folders are not followed."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        linked = [f for f in folders if Path(folder, f).is_symlink()]
        if linked:
            raise DatasetError(
                f"{Path(folder, linked[0])} is a link to a folder; use --link or copy it first"
            )
        for name in files:
            if not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini"):
                yield Path(folder, name)
