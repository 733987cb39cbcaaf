"""`dinar dataset add` and `update`: bring data in, try them, and only then let the graph run on them."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from flows import engine
from flows.datasets import raw
from flows.datasets.catalog import (
    UNKNOWN_LICENCE,
    DatasetError,
    Places,
    add_to_training,
    check_name,
    kind_of,
    load_enabled,
    make_card,
    save_enabled,
    write_cards,
)
from flows.datasets.checking import check_dataset
from stages._core.publish import replace_folder
from stages._core.runtime import Runtime
from stages.sources.card import ADAPTERS, Card, read_card


@dataclass(frozen=True)
class Request:
    """What `add` was asked for.

    Attributes:
        path: folder, file or archive, relative to the working directory.
        link: leave the data where they are.
        fields: of the card, only those that were given.
        part_size: samples in a part, at least; None: one piece.
        train: name it in params.yaml once it is enabled.
    """

    name: str
    path: Path
    fields: Mapping[str, Any]
    link: bool = False
    part_size: int | None = None
    train: bool = False


def add_dataset(places: Places, request: Request, runtime: Runtime, console: Console) -> bool:
    """Add a data set; a second call goes on where the first stopped.

    Returns:
        Whether it was enabled. If not, the reasons have been printed and are kept for `list`.

    Raises:
        DatasetError: nothing was enabled; the sentence says what to do.
    """
    check_request(places, request)
    name = request.name
    values = {"licence": UNKNOWN_LICENCE, **request.fields, "path": f"data/raw/{name}"}
    card = make_card(values)
    with _resumable(f"dinar dataset add {name}"):
        parts = _link(places, request) if request.link else _copy(places, request, card, runtime)
        write_cards(places, name, card, parts)
        if card.licence == UNKNOWN_LICENCE:
            console.print(
                f"licence unknown: write it into {_relative(places, places.card(name))}", style="yellow"
            )
        if not request.link:
            for part in parts:
                engine.track(places.raw(part), places.root)
        if not check_dataset(places, name, runtime, console, parts=parts):
            console.print(f"{name} is not enabled; mend the data or the card, then run `add` again")
            return False
        _enable(places, name, card, parts)
        console.print(f"{name} is enabled; `dinar repro` runs the graph on it")
        if request.train:
            _train(places, name, card, console)
    return True


def update_dataset(places: Places, name: str, path: Path, runtime: Runtime, console: Console) -> bool:
    """Bring new and changed samples into a data set; parts without any stay untouched.

    New samples of a known subject go to its part, others to the last part while it is smaller than the first,
    else to a new one. Samples that `path` does not hold stay.

    Returns:
        Whether the changed parts passed their check; only then do they take the place of the old ones.
    """
    if name not in places.names():
        raise DatasetError(f"there is no data set {name!r}; `dinar dataset list` shows all")
    old_parts = places.raw_parts(name)
    if not old_parts or places.raw(old_parts[0]).is_symlink():
        raise DatasetError(
            f"{name} has no raw data here that could be updated; a linked one is read as it is"
        )
    card = read_card(places.card(name))
    work = places.work("update", name)
    with _resumable(f"dinar dataset update {name}"):
        source, samples = _source(path, card, work, runtime)
        plan = plan_update(places, name, card, source, samples)
        if not plan:
            console.print(f"{name}: nothing new or changed in {path}")
            return True
        staged = {part: _stage_part(places, source, part, files, work) for part, files in plan.items()}
        write_cards(places, name, None, list(staged))
        console.print(f"{name}: new or changed samples in {', '.join(staged)}")
        if not check_dataset(places, name, runtime, console, parts=list(staged), raw_of=staged):
            for part in {*staged} - {*old_parts}:
                places.card(part).unlink()
            console.print(f"{name} stays as it was")
            return False
        for part, folder in staged.items():
            replace_folder(folder, places.raw(part))
            engine.track(places.raw(part), places.root)
        _enable(places, name, card, sorted({*old_parts, *staged}))
        shutil.rmtree(work, ignore_errors=True)
    return True


def check_request(places: Places, request: Request) -> None:
    """Refuse what cannot be done before anything is written."""
    check_name(request.name)
    adapter = request.fields.get("adapter")
    if adapter not in ADAPTERS:
        raise DatasetError(f"the adapter {adapter!r} is not known; there are {', '.join(ADAPTERS)}")
    if request.name in load_enabled(places.enabled).names:
        raise DatasetError(
            f"the name {request.name!r} is taken; `dinar dataset update {request.name}` brings new samples "
            f"in, `dinar dataset remove {request.name}` takes it away"
        )
    if request.link and (request.part_size is not None or not request.path.is_dir()):
        raise DatasetError("--link takes a folder, and goes without --part-size: nothing is copied")
    if request.part_size is not None and request.part_size < 1:
        raise DatasetError(f"--part-size {request.part_size}: at least 1 is expected")
    if request.train and adapter == "photos":
        raise DatasetError("--train: photos show each person once, and training needs two frames of a person")
    if not request.path.exists():
        raise DatasetError(f"{request.path} does not exist; --path takes a folder, a file, a .zip or a .tar")


def plan_update(
    places: Places, name: str, card: Card, source: raw.Source, samples: Sequence[str]
) -> dict[str, list[PurePosixPath]]:
    """Part → files of the source that it gets, for parts that change."""
    parts = places.raw_parts(name)
    held = {part: raw.list_samples(places.raw(part), card.adapter) for part in parts}
    home = {sample: part for part, names in held.items() for sample in names}
    subjects = {_subject(card, s): part for s, part in home.items()}
    sizes = {part: len(names) for part, names in held.items()}
    full = max(sizes[parts[0]], 1)
    files: dict[str, list[PurePosixPath]] = {}
    for file in source.files:
        files.setdefault(raw.owner_of(file, samples) or "", []).append(file)
    plan: dict[str, list[PurePosixPath]] = {}
    for sample in samples:
        part = home.get(sample) or subjects.get(_subject(card, sample))
        if part is None:
            last = max(sizes)
            part = last if last == name or sizes[last] < full else f"{name}-{int(last[-3:]) + 1:03d}"
            subjects[_subject(card, sample)] = part
        if sample not in home:
            sizes[part] = sizes.get(part, 0) + 1
        elif not _changed(source.root, places.raw(part), files.get(sample, [])):
            continue
        plan.setdefault(part, []).extend(files.get(sample, []))
    for part in plan:
        plan[part] += files.get("", [])  # what belongs to no sample: tables, cameras
    return plan


def _copy(places: Places, request: Request, card: Card, runtime: Runtime) -> list[str]:
    """Copy the data to data/raw, in parts if asked. Returns the parts."""
    name, work = request.name, places.work("add", request.name)
    source, samples = _source(request.path, card, work, runtime)
    subjects = [_subject(card, sample) for sample in samples]
    plan = raw.plan_parts(source, name, samples, subjects, request.part_size)
    for stale in {*places.raw_parts(name)} - {*plan}:  # an earlier try with another --part-size
        engine.untrack(places.raw(stale), places.root)
        _delete(places.raw(stale))
        if places.card(stale).is_symlink():
            places.card(stale).unlink()
    bring = raw.link_or_copy if raw.is_archive(request.path) else raw.copy_file
    for part, files in plan.items():
        if _same_files(source, files, places.raw(part)):
            continue
        if places.raw(part).exists() and name not in places.names():
            raise DatasetError(
                f"{_relative(places, places.raw(part))} holds other files and has no card; move it away or "
                "choose another name"
            )
        raw.copy_files(source, files, places.raw(part), work / part, runtime.progress, bring)
    shutil.rmtree(work, ignore_errors=True)
    return list(plan)


def _link(places: Places, request: Request) -> list[str]:
    """A link in data/raw: DVC hashes what it points to as a dependency and caches nothing of it."""
    target, link = request.path.resolve(), places.raw(request.name)
    if target.is_relative_to(places.data.resolve()):
        raise DatasetError(
            f"{request.path} lies in the project's own data folder; choose another name or folder"
        )
    raw.survey(target)
    _require_samples(
        raw.list_samples(target, request.fields["adapter"]), request.path, request.fields["adapter"]
    )
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists() and not link.is_symlink():
        raise DatasetError(f"{link} is there already; `dinar dataset remove {request.name}` takes it away")
    link.unlink(missing_ok=True)
    link.symlink_to(target, target_is_directory=True)
    return [request.name]


def _source(path: Path, card: Card, work: Path, runtime: Runtime) -> tuple[raw.Source, list[str]]:
    """The files and samples of what was given; an archive is unpacked first."""
    root = raw.unpack(path, work / "unpacked", runtime.progress) if raw.is_archive(path) else path
    source = raw.survey(root)
    samples = raw.list_samples(source.root, card.adapter)
    if path.is_file() and not raw.is_archive(path):
        samples = [s for s in samples if s == path.name]
    _require_samples(samples, path, card.adapter)
    return source, samples


def _require_samples(samples: Sequence[str], path: Path, adapter: str) -> None:
    if not samples:
        raise DatasetError(
            f"{path} holds nothing that the adapter {adapter!r} reads; docs/datasets.md shows the layouts"
        )


def _stage_part(
    places: Places, source: raw.Source, part: str, files: Sequence[PurePosixPath], work: Path
) -> Path:
    """The part as it will be: its old files under second names, the new ones copied over."""
    folder = work / part
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted call, perhaps with another path
    old = raw.survey(places.raw(part)) if places.raw(part).exists() else None
    for file in old.files if old else []:
        if old:
            raw.link_or_copy(old.root / file, folder / file)
    for file in files:
        raw.copy_file(source.root / file, folder / file)
    return folder


def _enable(places: Places, name: str, card: Card, parts: Sequence[str]) -> None:
    kind = kind_of(card.adapter)
    save_enabled(places.enabled, load_enabled(places.enabled).with_parts(kind, name, list(parts)))


def _train(places: Places, name: str, card: Card, console: Console) -> None:
    sections = add_to_training(places.params, name, kind_of(card.adapter))
    console.print(f"params.yaml: {name} is learnt from in {', '.join(sections) or 'all sections already'}")
    if kind_of(card.adapter) == "images":
        console.print(
            "train_diffusion learns from scans only: photos and videos are not merged", style="yellow"
        )


def _subject(card: Card, sample: str) -> str:
    return card.subject_of(PurePosixPath(sample).stem)


def _changed(root: Path, old: Path, files: Sequence[PurePosixPath]) -> bool:
    """Whether any file differs from the one that is there, by content."""
    import filecmp

    filecmp.clear_cache()
    return any(not (old / f).is_file() or not filecmp.cmp(root / f, old / f, shallow=False) for f in files)


def _same_files(source: raw.Source, files: Sequence[PurePosixPath], target: Path) -> bool:
    """Whether an earlier call brought exactly these files."""
    if target.is_symlink() or not target.is_dir():
        return False
    there = {PurePosixPath(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
    return there == set(files) and not _changed(source.root, target, files)


def _delete(path: Path) -> None:
    """A link goes, what it points to stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _relative(places: Places, path: Path) -> Path:
    return path.relative_to(places.root)


@contextmanager
def _resumable(command: str) -> Iterator[None]:
    """An interruption says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise DatasetError(f"interrupted; nothing was enabled: `{command} …` goes on") from None
