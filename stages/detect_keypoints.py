"""Views → keypoints of body, hands, feet and face, found by MediaPipe Holistic."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from dinar_models.keypoints import MEDIAPIPE
from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages.detection.person import PersonFinder, PersonRules
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
    return build_store(
        out=outputs["keypoints"],
        schema="keypoints",
        index=_index(views.index, params.variants),
        sizes={"J": len(MEDIAPIPE)},
        attrs={**params.model_dump(), "layout": MEDIAPIPE.name, "points": list(MEDIAPIPE.points)},
        shard_rows=SHARD_IMAGES,
        work=partial(detect_shard, store=inputs["views"], params=params),
        runtime=runtime,
        key=work_key(params, [inputs["views"]]),
        max_reject_ratio=params.max_reject_ratio,
    )


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


STAGE = Stage("detect_keypoints", DetectKeypointsParams, inputs=("views",), outputs=("keypoints",), run=run)

if __name__ == "__main__":
    main(STAGE)
