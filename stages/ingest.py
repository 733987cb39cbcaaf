"""Raw scans of any adapter → the `scans` store; unusable ones stay rows with a reason."""

import json
import logging
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from pydantic import Field

from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.executor import map_shards
from stages._core.params import StageParams
from stages._core.publish import replace_folder, write_file
from stages._core.runtime import Runtime
from stages._core.scan_store import SCANS_PER_GROUP, Scan, create_scan_arrays, finish_scans, write_group
from stages._core.splits import split_of
from stages._core.stage import Paths, Stage, Summary
from stages.sources.card import Card, CardError, read_card
from stages.sources.obj import ScanError
from stages.sources.scans import LOADERS, Limits, list_scans

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


def run(params: IngestParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Read every scan folder, 16 to a shard; resume after a kill; publish whole."""
    card = read_card(inputs["card"])
    if card.adapter not in LOADERS:
        raise CardError(f"{inputs['card']}: ingest reads {', '.join(LOADERS)}, not {card.adapter!r}")
    source = _Source(
        inputs["raw"],
        card,
        Limits(vertices=params.max_vertices, texture_side=params.max_texture_size),
    )
    index = _index(source)
    out = outputs["scans"]
    key = work_key(params, [inputs["raw"], inputs["card"]])
    folder = runtime.work_dir(f"{out.parent.name}.{out.name}", key)
    for stale in set(folder.parent.iterdir()) - {folder}:  # made with other params, inputs or code
        shutil.rmtree(stale)
    if not (folder / "done").is_dir():
        create_scan_arrays(folder, {"max_texture_size": params.max_texture_size})
        (folder / "done").mkdir()
    rejects = _ingest_groups(source, index, folder, runtime, f"{out.parent.name}/{out.name}")
    for row, reason in rejects.items():
        index.at[row, "ok"] = False
        index.at[row, "reason"] = reason
        log.warning("%s: rejected %s: %s", out, index.at[row, "scan"], reason)
    _check_rejects(index, params.max_reject_ratio, out)
    for marker in (folder / "done").iterdir():
        marker.unlink()
    (folder / "done").rmdir()
    digest = finish_scans(folder, index)
    replace_folder(folder, out)
    return {"scans": len(index), "rejected": len(rejects), "digest": digest}


def _index(source: _Source) -> pd.DataFrame:
    names = [folder.name for folder in list_scans(source.root)]
    if not names:
        raise FileNotFoundError(f"{source.root} holds no scan folders")
    subjects = [source.card.subject_of(name) for name in names]
    return pd.DataFrame(
        {
            "subject": subjects,
            "scan": names,
            "split": [split_of(subject) for subject in subjects],
            "source": [source.card.adapter] * len(names),
            "ok": True,
            "reason": "",
        }
    )


def _ingest_groups(
    source: _Source, index: pd.DataFrame, folder: Path, runtime: Runtime, label: str
) -> dict[int, str]:
    """Write the groups that an earlier run left undone. Returns row → reason of all rejected rows."""
    names = index["scan"].tolist()
    groups = {n: names[s : s + SCANS_PER_GROUP] for n, s in enumerate(range(0, len(names), SCANS_PER_GROUP))}
    todo = [(n, members) for n, members in groups.items() if not _marker(folder, n).exists()]
    ingest = partial(_ingest_group, source=source, folder=folder)
    map_shards(ingest, todo, runtime, label, done=len(groups) - len(todo))
    markers = [json.loads(_marker(folder, n).read_text()) for n in groups]
    return {int(row): reason for marker in markers for row, reason in marker.items()}


def _ingest_group(shard: tuple[int, list[str]], *, source: _Source, folder: Path) -> None:
    """Read and write one group, then mark it as done with its rejects."""
    number, names = shard
    scans: list[Scan | None] = []
    rejects: dict[int, str] = {}
    for place, name in enumerate(names):
        try:
            scans.append(LOADERS[source.card.adapter](source.root / name, source.card, source.limits))
        except ScanError as error:
            scans.append(None)
            rejects[number * SCANS_PER_GROUP + place] = str(error)
    write_group(folder, number, scans)
    write_file(_marker(folder, number), json.dumps(rejects, sort_keys=True))


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
