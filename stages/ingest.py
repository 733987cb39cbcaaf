"""Raw scans of any adapter → the `scans` store; unusable ones stay rows with a reason."""

import json
import logging
import shutil
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.executor import map_shards
from stages._core.params import StageParams
from stages._core.publish import replace_folder, write_file
from stages._core.runtime import Runtime
from stages._core.scan_store import SCANS_PER_GROUP, Scan, create_scan_arrays, finish_scans, write_group
from stages._core.stage import Paths, Stage, Summary
from stages.sources.card import Card, CardError, read_card
from stages.sources.mesh import Limits, ScanError
from stages.sources.scans import LOADERS, READERS, list_scans
from stages.sources.splits import splits_of

log = logging.getLogger(__name__)


class IngestParams(StageParams):
    """Bounds on what a scan may be."""

    max_vertices: int = Field(2_000_000, ge=1000, description="larger meshes are rejected")
    max_texture_size: int = Field(
        2048, ge=16, le=8192, description="texels per side; larger textures are reduced by a whole factor"
    )
    max_reject_ratio: float = Field(0.2, ge=0, le=1, description="share of scans that may be rejected")


@dataclass(frozen=True)
class _Source:
    """What a worker needs to read scans."""

    root: Path
    card: Card
    limits: Limits


@dataclass(frozen=True)
class _Said:
    """By row: why a scan was rejected, and the matrix of one that was moved, 3 × 4 by rows."""

    reasons: dict[int, str] = field(default_factory=dict)
    moved: dict[int, list[float]] = field(default_factory=dict)


def run(params: IngestParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Read every scan, 16 to a shard; resume after a kill; publish whole."""
    card = read_card(inputs["card"])
    if card.adapter not in LOADERS:
        raise CardError(f"{inputs['card']}: ingest reads {', '.join(LOADERS)}, not {card.adapter!r}")
    source = _Source(
        inputs["raw"],
        card,
        Limits(vertices=params.max_vertices, texture_side=params.max_texture_size),
    )
    paths = list_scans(source.root)
    index = _index(source, list(paths))
    out = outputs["scans"]
    key = work_key(params, [inputs["raw"], inputs["card"]])
    folder = runtime.work_dir(f"{out.parent.name}.{out.name}", key)
    for stale in set(folder.parent.iterdir()) - {folder}:  # made with other params, inputs or code
        shutil.rmtree(stale)
    if not (folder / "done").is_dir():
        create_scan_arrays(folder, {"max_texture_size": params.max_texture_size})
        (folder / "done").mkdir()
    said = _ingest_groups(source, list(paths.values()), folder, runtime, f"{out.parent.name}/{out.name}")
    _note(index, said)
    for _, row in index[~index["ok"]].iterrows():
        log.warning("%s: rejected %s: %s", out, row["scan"], row["reason"])
    _check_rejects(index, params.max_reject_ratio, out)
    for marker in (folder / "done").iterdir():
        marker.unlink()
    (folder / "done").rmdir()
    digest = finish_scans(folder, index)
    replace_folder(folder, out)
    return {"scans": len(index), "rejected": len(said.reasons), "digest": digest}


def _index(source: _Source, names: list[str]) -> pd.DataFrame:
    if not names:
        raise FileNotFoundError(
            f"{source.root} holds no scans: neither folders nor {', '.join(READERS)} files"
        )
    subjects = [source.card.subject_of(name) for name in names]
    return pd.DataFrame(
        {
            "subject": subjects,
            "scan": names,
            "split": splits_of(subjects, source.card, source.root),
            "source": [source.card.adapter] * len(names),
            "ok": True,
            "reason": "",
        }
    )


def _ingest_groups(source: _Source, paths: list[Path], folder: Path, runtime: Runtime, label: str) -> _Said:
    """Write the groups that an earlier run left undone. Returns what is to be said of all rows."""
    groups = {n: paths[s : s + SCANS_PER_GROUP] for n, s in enumerate(range(0, len(paths), SCANS_PER_GROUP))}
    todo = [(n, members) for n, members in groups.items() if not _marker(folder, n).exists()]
    ingest = partial(_ingest_group, source=source, folder=folder)
    map_shards(ingest, todo, runtime, label, done=len(groups) - len(todo))
    said = _Said()
    for number in groups:
        marker = json.loads(_marker(folder, number).read_text())
        said.reasons.update({int(row): reason for row, reason in marker["reasons"].items()})
        said.moved.update({int(row): matrix for row, matrix in marker["moved"].items()})
    return said


def _ingest_group(shard: tuple[int, list[Path]], *, source: _Source, folder: Path) -> None:
    """Read and write one group, then mark it as done with what is to be said of its rows."""
    number, paths = shard
    scans: list[Scan | None] = []
    said = _Said()
    for row, path in enumerate(paths, start=number * SCANS_PER_GROUP):
        try:
            scan, placement = LOADERS[source.card.adapter](path, source.card, source.limits)
        except ScanError as error:
            scans.append(None)
            said.reasons[row] = str(error)
            continue
        scans.append(scan)
        if not np.array_equal(placement.matrix, np.eye(3, 4)):
            said.moved[row] = placement.matrix.ravel().tolist()
    write_group(folder, number, scans)
    write_file(_marker(folder, number), json.dumps(asdict(said), sort_keys=True))


def _note(index: pd.DataFrame, said: _Said) -> None:
    """Write into the index which rows are rejected, and how the others were moved if any was.

    The column `raw_to_scan` holds 12 numbers as JSON, the rows of a 3 × 4 matrix from the raw file's frame to
    the scan's: what others measured on the raw file (fits) has to be moved alike.
    """
    for row, reason in said.reasons.items():
        index.loc[row, ["ok", "reason"]] = False, reason
    if said.moved:
        still = np.eye(3, 4).ravel().tolist()
        index["raw_to_scan"] = [json.dumps(said.moved.get(row, still)) for row in range(len(index))]


def _check_rejects(index: pd.DataFrame, max_ratio: float, out: Path) -> None:
    rejected = index.loc[~index["ok"]]
    if len(rejected) > max_ratio * len(index):
        first = "; ".join(f"{r['scan']}: {r['reason']}" for _, r in rejected.head(3).iterrows())
        raise RuntimeError(
            f"{out}: {len(rejected)} of {len(index)} scans rejected, "
            f"{max_ratio:.0%} are allowed; first: {first}"
        )


def _marker(folder: Path, number: int) -> Path:
    return folder / "done" / f"{number:05d}.json"


STAGE = Stage("ingest", IngestParams, inputs=("raw", "card"), outputs=("scans",), run=run)

if __name__ == "__main__":
    main(STAGE)
