"""Clothed, textured people as raw scans, made from CC0 assets: the embedded default data set."""

import itertools
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.executor import map_shards
from stages._core.params import StageParams
from stages._core.publish import replace_folder, write_file
from stages._core.runtime import Runtime
from stages._core.splits import SPLIT_SHARES, fill_quotas, split_of
from stages._core.stage import Paths, Stage, Summary
from stages.people.export import png_bytes, write_scan
from stages.people.person import make_person, pose_person
from stages.people.poses import POSES
from stages.people.truth import BodyTruth, write_truth

SUBJECTS_PER_SHARD = 4
_LETTERS = "abcdefghij"


class SynthesizePeopleParams(StageParams):
    """How many people, and in how many poses each."""

    seed: int = Field(ge=0, description="every random draw derives from it")
    train: int = Field(192, ge=1, description="training subjects")
    val: int = Field(8, ge=0, description="subjects that choose between models")
    gate: int = Field(8, ge=0, description="subjects that decide promotions")
    test: int = Field(16, ge=0, description="subjects that are only reported")
    poses: int = Field(2, ge=1, le=len(POSES), description="scans of each subject, each in another pose")


def run(params: SynthesizePeopleParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Make every subject's scans and truth in shards; resume after a kill; publish both outputs whole."""
    subjects = subject_names(params)
    shards = [subjects[s : s + SUBJECTS_PER_SHARD] for s in range(0, len(subjects), SUBJECTS_PER_SHARD)]
    folder = _work_folder(params, runtime)
    todo = [s for s in shards if not _marker(folder, s).exists()]
    make = partial(_make_shard, folder=folder, params=params)
    map_shards(make, todo, runtime, "raw/synthetic", done=len(shards) - len(todo))
    lines = [line for s in shards for line in json.loads(_marker(folder, s).read_text())]
    index = pd.DataFrame(lines)
    _collect_truth(folder, index)
    replace_folder(folder / "raw", outputs["raw"])
    replace_folder(folder / "truth", outputs["truth"])
    shutil.rmtree(folder)
    counts = index.drop_duplicates("subject")["split"].value_counts()
    return {"scans": len(index), **{split: int(counts.get(split, 0)) for split in SPLIT_SHARES}}


def subject_names(params: SynthesizePeopleParams) -> list[str]:
    """The first of s0000, s0001, … whose hashes fill each split's quota."""
    quotas = {split: getattr(params, split) for split in SPLIT_SHARES}
    return fill_quotas((f"s{i:04d}" for i in itertools.count()), quotas)


def _work_folder(params: SynthesizePeopleParams, runtime: Runtime) -> Path:
    folder = runtime.work_dir("synthesize_people", work_key(params, []))
    for stale in set(folder.parent.iterdir()) - {folder}:
        shutil.rmtree(stale)
    for name in ("raw", "bodies", "done"):
        (folder / name).mkdir(exist_ok=True)
    return folder


def _marker(folder: Path, shard: list[str]) -> Path:
    return folder / "done" / f"{shard[0]}.json"


def _make_shard(shard: list[str], *, folder: Path, params: SynthesizePeopleParams) -> None:
    """Make a few subjects, then mark them as done with their index lines."""
    lines = [line for subject in shard for line in _make_subject(subject, folder, params)]
    write_file(_marker(folder, shard), json.dumps(lines))


def _make_subject(subject: str, folder: Path, params: SynthesizePeopleParams) -> list[dict[str, Any]]:
    """Write one subject's scan folders and bodies; returns a line for each scan."""
    person = make_person(subject, params.seed)
    texture, parts = png_bytes(person.texture), png_bytes(person.parts)
    lines = []
    for letter, posing in zip(_LETTERS, pose_person(person, params.poses, params.seed)):
        scan = f"{subject}_{letter}"
        write_scan(folder / "raw" / scan, posing.mesh, texture, parts)
        np.savez(folder / "bodies" / f"{scan}.npz", **vars(posing.truth))
        lines.append({"subject": subject, "scan": scan, "split": split_of(subject), "pose": posing.pose})
    return lines


def _collect_truth(folder: Path, index: pd.DataFrame) -> None:
    """Join the bodies that the shards left into one table."""
    bodies = []
    for scan in index["scan"]:
        with np.load(folder / "bodies" / f"{scan}.npz") as arrays:
            bodies.append(BodyTruth(**arrays))
    out = folder / "truth"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    write_truth(out, index, bodies)


STAGE = Stage("synthesize_people", SynthesizePeopleParams, inputs=(), outputs=("raw", "truth"), run=run)

if __name__ == "__main__":
    main(STAGE)
