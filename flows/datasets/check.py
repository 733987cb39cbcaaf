"""Run a data set's stages in a scratch area and say what became of every sample."""

import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from flows.datasets.catalog import DatasetError, Places, kind_of
from flows.datasets.raw import link_or_copy, list_samples, owner_of, survey
from flows.graph import read_graph
from stages._core.cli import USER_ERRORS, run_stage
from stages._core.digests import work_key
from stages._core.params import parse_section, read_params
from stages._core.publish import write_file
from stages._core.registry import load_stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import INDEX
from stages.sources.card import read_card

log = logging.getLogger(__name__)

STAGES = {
    "scans": ("ingest", "render_views", "segment", "detect_keypoints", "fit_body"),
    "images": ("ingest_images", "segment", "detect_keypoints", "fit_body"),
}
"""The stages that say whether a sample can be used; the later ones need trained networks."""

KINDS = ("scans", "views", "parsing", "keypoints", "bodies")
"""Stores in the order in which a sample passes through them."""

DRY_SAMPLES = 3
RATIO = "max_reject_ratio"


@dataclass(frozen=True)
class Sample:
    """What became of a scan, a photo or a video.

    Attributes:
        part: of the data set.
        rows: its images without jitter, and how many of these have a fit.
        reason: one sentence where it was rejected, else empty.
    """

    name: str
    part: str
    subject: str
    split: str
    rows: int
    fitted: int
    reason: str

    @property
    def ok(self) -> bool:
        """Whether anything of it can be used."""
        return not self.reason


@dataclass
class Findings:
    """What a check found.

    Attributes:
        samples: in the order of the data set.
        problems: why the graph could not run on the data set; empty when it can.
        missing: models without which some stages could not be tried, and the stage that makes each.
    """

    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the data set may be enabled."""
        return not self.problems and not self.missing and any(s.ok for s in self.samples)

    def reasons(self) -> dict[str, int]:
        """Reason → samples, the most frequent first."""
        return dict(Counter(s.reason for s in self.samples if not s.ok).most_common())

    def why_not(self) -> list[str]:
        """Sentences on why it did not pass."""
        makers = " ".join(dict.fromkeys(self.missing.values()))
        lines = [f"{', '.join(self.missing)} missing: run `dvc repro {makers}` first"] if self.missing else []
        if not self.samples and not self.problems:
            lines.append("no sample was read")
        elif not self.problems and not any(s.ok for s in self.samples):
            lines.append("no sample can be used")
        return self.problems + lines

    def save(self, path: Path, earlier: Iterable[Sample] = ()) -> None:
        """Keep it for `list`, with what an earlier check found of parts that this one did not look at."""
        samples = [asdict(s) for s in (*earlier, *self.samples)]
        found = {"passed": self.passed, "why": self.why_not(), "rejected": self.reasons(), "samples": samples}
        write_file(path, json.dumps(found, indent=1) + "\n")


def samples_beside(report: Path, parts: Iterable[str]) -> list[Sample]:
    """Samples of other parts in a saved report."""
    saved = json.loads(report.read_text())["samples"] if report.is_file() else []
    return [Sample(**s) for s in saved if s["part"] not in set(parts)]


def check_part(
    places: Places, name: str, part: str, runtime: Runtime, *, raw: Path, dry: bool = False
) -> tuple[Findings, Path]:
    """Run the stages on one part, or on a few samples of it.

    Args:
        raw: where the part's raw data lie.
        dry: try a few samples only.

    Returns:
        What was found, and the folder of the stores, which stays for the contact sheet and for resuming.
    """
    scratch = places.work("check", name) / ("few" if dry else "all") / part
    if dry:
        raw = _few(raw, read_card(places.card(name)).adapter, scratch / "raw")
    check = _Check(places, name, part, raw, scratch, _lifted_params(places.params, scratch))
    findings = check.run(
        replace(runtime, work_root=scratch / "work", runs_root=scratch / "runs"),
    )
    return findings, check.stores


def count_samples(places: Places, name: str, folders: Iterable[Path]) -> int:
    """Samples in all parts. Raises DatasetError when there are none."""
    adapter = read_card(places.card(name)).adapter
    count = sum(len(list_samples(folder, adapter)) for folder in folders)
    if not count:
        raise DatasetError(f"{name} holds nothing that the adapter {adapter!r} reads; see docs/datasets.md")
    return count


@dataclass
class _Check:
    """One run of the stages on one part."""

    places: Places
    name: str
    part: str
    raw: Path
    scratch: Path
    params_file: Path

    @property
    def stores(self) -> Path:
        return self.scratch / "stores" / self.part

    def run(self, runtime: Runtime) -> Findings:
        found = Findings()
        stages, makers = _stages_and_makers(self.places.root / "dvc.yaml")
        names = STAGES[kind_of(read_card(self.places.card(self.name)).adapter)]
        for stage in names:
            paths = {str(p.relative_to(self.places.root)): p for p in self._outer_inputs(stages[stage])}
            found.missing |= {name: makers[name] for name, p in paths.items() if not p.exists()}
        for stage in names:
            inputs, outputs = self._paths(stages[stage])
            lacking = [p for p in inputs.values() if not p.exists()]
            if lacking:
                log.info("%s is not tried: %s missing", stage, ", ".join(map(str, lacking)))
                continue
            try:
                summary = self._run_stage(stage, inputs, outputs, runtime)
            except USER_ERRORS as error:
                found.problems.append(f"{stage}: {error}")
                break
            if not _any_ok(outputs):
                found.problems.append(f"{stage}: every sample was rejected")
                break
            found.problems += list(_too_many(stage, summary, self._limit(stage)))
        found.samples = outcomes(self.stores, self.part)
        return found

    def _run_stage(self, name: str, inputs: Paths, outputs: Paths, runtime: Runtime) -> dict[str, Any]:
        """Run a stage unless an earlier check finished it with the same inputs, params and code."""
        stage = load_stage(name)
        params = parse_section(stage.params, name, read_params(self.params_file))
        key, marker = work_key(params, inputs.values()), self.scratch / "done" / f"{name}.json"
        if marker.is_file() and all(p.exists() for p in outputs.values()):
            done = json.loads(marker.read_text())
            if done["key"] == key:
                return dict(done["summary"])
        summary = run_stage(stage, self.params_file, inputs, outputs, runtime)
        write_file(marker, json.dumps({"key": key, "summary": summary}, default=str))
        return summary

    def _paths(self, entry: dict[str, Any]) -> tuple[Paths, Paths]:
        """The paths of dvc.yaml, with this part's stores in the scratch area and its raw data where they are."""

        def place(path: str) -> Path:
            path = path.replace("${item}", self.part)
            if path.startswith(f"data/stores/{self.part}/"):
                return self.stores / path.removeprefix(f"data/stores/{self.part}/")
            return self.raw if path == f"data/raw/{self.part}" else self.places.root / path

        found = re.findall(r"--(input|output) (\S+?)=(\S+)", entry["do"]["cmd"])
        inputs, outputs = ({n: place(p) for k, n, p in found if k == kind} for kind in ("input", "output"))
        return Paths(inputs), Paths(outputs)

    def _outer_inputs(self, entry: dict[str, Any]) -> list[Path]:
        """Inputs that other stages of the graph make: models."""
        models = self.places.data / "models"
        return [path for path in self._paths(entry)[0].values() if path.is_relative_to(models)]

    def _limit(self, name: str) -> float:
        """The share of samples that the graph would let the stage reject."""
        stage = load_stage(name)
        params = parse_section(stage.params, name, read_params(self.places.params))
        return float(getattr(params, RATIO, 1.0))


def outcomes(stores: Path, part: str) -> list[Sample]:
    """What became of every sample, read off the indices of the stores that were made."""
    indices = {k: pd.read_parquet(stores / k / INDEX) for k in KINDS if (stores / k / INDEX).is_file()}
    if not indices:
        return []
    first = indices.get("views", next(iter(indices.values())))
    lost: dict[str, str] = {}
    for kind, index in indices.items():
        for scan, rows in index[index["variant"] == 0].groupby("scan", sort=False):
            if not rows["ok"].any():
                lost.setdefault(str(scan), _commonest(rows["reason"], kind))
    fits = indices.get("bodies", first.iloc[:0])
    fitted = fits[fits["ok"] & (fits["variant"] == 0)].groupby("scan").size()
    lines = first[first["variant"] == 0].groupby("scan", sort=False)
    return [
        Sample(
            name=str(scan),
            part=part,
            subject=str(rows["subject"].iloc[0]),
            split=str(rows["split"].iloc[0]),
            rows=len(rows),
            fitted=int(fitted.get(scan, 0)),
            reason=lost.get(str(scan), ""),
        )
        for scan, rows in lines
    ]


def _commonest(reasons: pd.Series, kind: str) -> str:
    """The reason of most rows, behind the stage that gave it."""
    counted = Counter(str(r) for r in reasons if r)
    reason = counted.most_common(1)[0][0] if counted else "no reason given"
    return reason if reason.startswith(KINDS) or kind == "bodies" else f"{kind}: {reason}"


def _too_many(stage: str, summary: dict[str, Any], limit: float) -> Iterator[str]:
    """A sentence for each store whose share of rejects the graph would refuse."""
    for key, part in {stage: summary, **{k: v for k, v in summary.items() if isinstance(v, dict)}}.items():
        if "rejected" not in part:
            continue
        rejected = int(part["rejected"])
        candidates = int(part["scans"] if "scans" in part else part["rows"] - part["not_ok"] + rejected)
        if rejected > limit * max(candidates, 1):
            where = stage if key == stage else f"{stage} ({key})"
            yield f"{where}: {rejected} of {candidates} rejected, {limit:.0%} are allowed ({stage}.{RATIO})"


def _any_ok(outputs: Paths) -> bool:
    index = pd.read_parquet(next(iter(outputs.values())) / INDEX)
    return bool(index["ok"].any())


def _stages_and_makers(dvc_yaml: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The stages of dvc.yaml, and which of them makes each output."""
    document, entries = read_graph(dvc_yaml)
    makers = {path: entry.name for entry in entries for path in entry.paths("output").values()}
    return dict(document["stages"]), makers


def _lifted_params(params: Path, scratch: Path) -> Path:
    """params.yaml with every limit on rejects lifted: a check wants the reason of each, and judges itself."""
    values = read_params(params)
    for name in {name for names in STAGES.values() for name in names}:
        if RATIO in load_stage(name).params.model_fields:
            values[name] = {**(values.get(name) or {}), RATIO: 1.0}
    text = yaml.safe_dump(values, sort_keys=False)
    path = scratch / "params.yaml"
    if not path.is_file() or path.read_text() != text:
        write_file(path, text)
    return path


def _few(raw: Path, adapter: str, folder: Path) -> Path:
    """A folder with a few samples, evenly over all, and what belongs to them."""
    samples = list_samples(raw, adapter)
    step = max(len(samples) // DRY_SAMPLES, 1)
    chosen = samples[::step][:DRY_SAMPLES]
    shutil.rmtree(folder, ignore_errors=True)
    source = survey(raw)
    for file in source.files:
        owner = owner_of(file, samples)
        if owner is None or owner in chosen:
            link_or_copy(source.root / file, folder / file)
    return folder
