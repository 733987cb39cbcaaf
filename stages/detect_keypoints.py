"""Views → keypoints of body, hands, feet and face: found by MediaPipe Holistic, or OpenPose's that came along."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from dinar_models.keypoints import MEDIAPIPE, OPENPOSE, KeypointLayout
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages.detection.openpose import read_person
from stages.detection.person import PersonFinder, PersonRules
from stages.sources.card import CardError, read_card
from stages.sources.frames import read_photo_frames

SHARD_IMAGES = 64


class DetectKeypointsParams(StageParams):
    """How keypoints are looked for."""

    variants: int = Field(1, ge=1, description="variants of each scan that are looked at; fits need one")
    min_side: int = Field(512, ge=256, le=2048, description="smaller images are enlarged to this side, px")
    min_confidence: float = Field(0.5, gt=0, lt=1, description="of MediaPipe's person detector")
    min_person: float = Field(0.15, ge=0, lt=1, description="least length of a person, of the image's side")
    min_pixels: float = Field(180, ge=0, description="least length of a person in the file of a photo, px")
    max_reject_ratio: float = Field(0.3, ge=0, le=1, description="share of images that may be rejected")

    @property
    def rules(self) -> PersonRules:
        """What `PersonFinder` is told."""
        return PersonRules(self.min_side, self.min_confidence, self.min_person, self.min_pixels)


def run(params: DetectKeypointsParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Look at every view of the chosen variants; the other rows say that they were not looked at."""
    views = open_store(inputs["views"], "views")
    work, layout = _work(params, inputs)
    return build_store(
        out=outputs["keypoints"],
        schema="keypoints",
        index=_index(views.index, params.variants),
        sizes={"J": len(layout)},
        attrs={**params.model_dump(), "layout": layout.name, "points": list(layout.points)},
        shard_rows=SHARD_IMAGES,
        work=work,
        runtime=runtime,
        key=work_key(params, inputs.values()),
        max_reject_ratio=params.max_reject_ratio,
    )


def _work(
    params: DetectKeypointsParams, inputs: Paths
) -> tuple[Callable[[range], ShardResult], KeypointLayout]:
    """What gives keypoints to rows, and in which layout: the card's choice, by default the detector."""
    path = inputs.get("card")
    card = read_card(path) if path is not None else None
    if card is None or card.keypoints == "mediapipe":
        return partial(detect_shard, store=inputs["views"], params=params), MEDIAPIPE
    if card.adapter != "photos":
        raise CardError(f"{path}: keypoints: openpose is for photos, not for {card.adapter!r}")
    return partial(read_shard, store=inputs["views"], raw=inputs["raw"], params=params), OPENPOSE


def _index(views: pd.DataFrame, variants: int) -> pd.DataFrame:
    index = views.copy()
    skipped = index["ok"] & (index["variant"] >= variants)
    index.loc[skipped, "reason"] = "not looked at: fits use the first variants only"
    index["ok"] &= ~skipped
    return index


def detect_shard(rows: range, *, store: Path, params: DetectKeypointsParams) -> ShardResult:
    """Keypoints of consecutive rows."""
    views = open_store(store, "views")
    wanted = _index(views.index, params.variants)["ok"].to_numpy(bool)[rows.start : rows.stop]
    arrays = {
        "xyc": np.zeros((len(rows), len(MEDIAPIPE), 3), np.float32),
        "world": np.zeros((len(rows), len(MEDIAPIPE), 3), np.float32),
    }
    rejects: dict[int, str] = {}
    if not wanted.any():
        return ShardResult(arrays)
    images = np.asarray(views["rgb"][rows.start : rows.stop])
    frames = read_photo_frames(views.index.iloc[rows.start : rows.stop])
    with PersonFinder(params.rules, photos=any(frames)) as finder:
        for place in np.flatnonzero(wanted):
            found, reason = finder.look(images[place], frames[place])
            if found is not None:
                arrays["xyc"][place], arrays["world"][place] = found.xyc, found.world
            if reason:
                rejects[rows.start + int(place)] = reason
    return ShardResult(arrays, rejects)


def read_shard(rows: range, *, store: Path, raw: Path, params: DetectKeypointsParams) -> ShardResult:
    """OpenPose's keypoints of consecutive photos."""
    views = open_store(store, "views")
    index = views.index.iloc[rows.start : rows.stop]
    xyc = np.zeros((len(rows), len(OPENPOSE), 3), np.float32)
    rejects: dict[int, str] = {}
    for place, (photo, frame) in enumerate(zip(index["scan"], read_photo_frames(index), strict=True)):
        if frame is not None:  # else the photo could not be read
            xyc[place], reason = read_person(raw, photo, frame, views["rgb"].shape[1], params.rules)
            if reason:
                rejects[rows.start + place] = reason
    return ShardResult({"xyc": xyc, "world": np.zeros_like(xyc)}, rejects)


STAGE = Stage(
    "detect_keypoints",
    DetectKeypointsParams,
    inputs=("views", "raw?", "card?"),
    outputs=("keypoints",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
