"""`dinar dataset remove`: everything that the project holds of a data set goes."""

import shutil
from pathlib import Path

from flows import engine
from flows.datasets.catalog import (
    EMBEDDED,
    DatasetError,
    Places,
    datasets_in_params,
    drop_from_params,
    load_enabled,
    save_enabled,
)


def remove_dataset(places: Places, name: str, *, keep_raw: bool, force: bool) -> list[Path]:
    """Take a data set out of the graph and delete what was made of it.

    Args:
        keep_raw: leave the raw data and the card, so that `add` can bring it back.
        force: take its name out of params.yaml, too.

    Returns:
        What was deleted.

    Raises:
        DatasetError: unknown, the embedded people, or still named in params.yaml.
    """
    _refuse(places, name, force)
    enabled = load_enabled(places.enabled)
    parts = sorted({name, *enabled.parts(name), *places.raw_parts(name)})  # it may have been whole once
    named = [section for section, names in datasets_in_params(places.params).items() if name in names]
    if named:
        drop_from_params(places.params, name)
    save_enabled(places.enabled, enabled.without(name))
    doomed = _made(places, name, parts)
    # Of sections that named it before and do not now, the file stays: without it their training would run again.
    doomed += [places.data / "offers" / section / f"{name}.json" for section in named]
    if not keep_raw:
        for part in parts:
            engine.untrack(places.raw(part), places.root)
        cards = {places.card(part) for part in parts}
        doomed += [*(places.raw(part) for part in parts), *sorted(cards)]
    gone = [path for path in doomed if _delete(path)]
    engine.forget({*parts}, places.root)
    return gone


def raw_to_delete(places: Places, name: str) -> list[Path]:
    """Copies of raw data that `remove` would delete; links are not among them."""
    return [p for p in map(places.raw, places.raw_parts(name)) if not p.is_symlink()]


def _refuse(places: Places, name: str, force: bool) -> None:
    if name == EMBEDDED:
        raise DatasetError(f"{EMBEDDED} is embedded: `evaluate` measures its people, so it cannot be removed")
    if name not in places.names() and name not in load_enabled(places.enabled).names:
        raise DatasetError(f"there is no data set {name!r}; `dinar dataset list` shows all")
    named = [section for section, names in datasets_in_params(places.params).items() if name in names]
    alone = [section for section in named if datasets_in_params(places.params)[section] == [name]]
    if named and not force:
        raise DatasetError(
            f"params.yaml names {name} in {', '.join(f'{s}.datasets' for s in named)}; take it out there, "
            "or say --force"
        )
    if alone:
        raise DatasetError(
            f"{', '.join(f'{s}.datasets' for s in alone)} would be empty; name another there first"
        )


def _made(places: Places, name: str, parts: list[str]) -> list[Path]:
    """Stores, offers, unfinished work, provenance, reports."""
    data = places.data
    paths = [data / "offers" / role / name for role in ("images", "latents")]
    paths += [places.work(what, name) for what in ("check", "add", "update")]
    paths += [places.report(name), *sorted(places.report(name).parent.glob(f"{name}*.png"))]
    paths = [p for p in paths if p.suffix != ".png" or _is_page(p.stem, name)]
    for part in parts:
        paths += [places.stores(part), *sorted((data / ".work").glob(f"{part}.*"))]
        paths += sorted((data / ".runs").glob(f"*@{part}.json"))
    return paths


def _is_page(stem: str, name: str) -> bool:
    return stem == name or stem.removeprefix(f"{name}-").isdigit()


def _delete(path: Path) -> bool:
    """Whether there was something. A link goes, what it points to stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return True
    if path.is_dir():
        shutil.rmtree(path)
        return True
    return False
