"""Photos and videos → views: one subject a file, a video's frames being its views."""

from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.splits import split_of
from stages._core.stage import Paths, Stage, Summary
from stages.sources.card import CardError, read_card
from stages.sources.label_maps import LabelMaps, label_maps_of
from stages.sources.photos import Photo, PhotoError, list_photos, load_photo
from stages.sources.video import count_frames, list_videos, read_frames

SHARD_IMAGES = 32
PARTS_UNKNOWN = 255


class IngestImagesParams(StageParams):
    """Size of the squares, and which frames of videos are taken."""

    image_size: int = Field(512, ge=64, le=2048, multiple_of=16, description="pixels per side")
    frame_stride: int = Field(10, ge=1, description="every n-th frame of a video is taken")
    max_frames: int = Field(64, ge=1, description="frames taken of one video")
    max_reject_ratio: float = Field(0.5, ge=0, le=1, description="share of images that may be rejected")


@dataclass(frozen=True)
class Frame:
    """Where one row comes from: a photo, or kept frame `number` of a video."""

    path: Path
    number: int = 0
    video: bool = False


def run(params: IngestImagesParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Read every photo of the folder, or the frames of its videos."""
    card = read_card(inputs["card"])
    if card.adapter not in LISTERS:
        raise CardError(f"{inputs['card']}: ingest_images reads {', '.join(LISTERS)}, not {card.adapter!r}")
    maps = label_maps_of(card, inputs["raw"])
    frames, reasons = LISTERS[card.adapter](inputs["raw"], params)
    if not frames:
        raise FileNotFoundError(f"{inputs['raw']} holds nothing that the {card.adapter!r} adapter reads")
    return build_store(
        out=outputs["views"],
        schema="views",
        index=_index(frames, reasons, card.adapter),
        sizes={"H": params.image_size, "W": params.image_size},
        attrs={
            **params.model_dump(),
            "has_mask": False,
            "has_parts": bool(maps),
            "brought_parts": bool(maps),
        },
        shard_rows=SHARD_IMAGES,
        work=partial(read_shard, frames=frames, reasons=reasons, params=params, maps=maps),
        runtime=runtime,
        key=work_key(params, [inputs["raw"], inputs["card"]]),
        max_reject_ratio=params.max_reject_ratio,
    )


def frames_of_photos(root: Path, params: IngestImagesParams) -> tuple[list[Frame], dict[int, str]]:
    """One frame a photo."""
    return [Frame(path) for path in list_photos(root)], {}


def frames_of_videos(root: Path, params: IngestImagesParams) -> tuple[list[Frame], dict[int, str]]:
    """The kept frames of every video; a video that cannot be read is one row with its reason."""
    frames: list[Frame] = []
    reasons: dict[int, str] = {}
    for path in list_videos(root):
        try:
            count = count_frames(path, params.frame_stride, params.max_frames)
        except PhotoError as error:
            reasons[len(frames)] = str(error)
            count = 1
        frames += [Frame(path, number, video=True) for number in range(count)]
    return frames, reasons


LISTERS = {"photos": frames_of_photos, "video": frames_of_videos}
"""Adapters whose raw data are images, by the card's `adapter`."""


def read_shard(
    rows: range,
    *,
    frames: list[Frame],
    reasons: dict[int, str],
    params: IngestImagesParams,
    maps: LabelMaps | None = None,
) -> ShardResult:
    """The images of some rows; files that cannot be read are rejected with the reason."""
    size = params.image_size
    arrays: dict[str, np.ndarray] = {
        "rgb": np.full((len(rows), size, size, 3), 255, np.uint8),
        "mask": np.zeros((len(rows), size, size), np.uint8),
        "parts": np.full((len(rows), size, size), PARTS_UNKNOWN, np.uint8),
        "K": np.zeros((len(rows), 3, 3), np.float32),
        "R": np.tile(np.eye(3, dtype=np.float32), (len(rows), 1, 1)),
        "T": np.zeros((len(rows), 3), np.float32),
    }
    rejects = {row: reasons[row] for row in rows if row in reasons}
    readable = [row for row in rows if row not in reasons]
    for path, group in groupby(readable, key=lambda row: frames[row].path):
        members = list(group)
        try:
            photos = _read(path, [frames[row] for row in members], params)
            if maps:
                arrays["parts"][members[0] - rows.start] = maps.read(path, size, photos[0].box)
        except PhotoError as error:
            rejects.update(dict.fromkeys(members, str(error)))
            continue
        for row, photo in zip(members, photos, strict=False):
            _put(arrays, row - rows.start, photo)
        for row in members[len(photos) :]:
            rejects[row] = "the frame could not be decoded"
    return ShardResult(arrays, rejects)


def _read(path: Path, frames: list[Frame], params: IngestImagesParams) -> list[Photo]:
    if not frames[0].video:
        return [load_photo(path, params.image_size)]
    numbers = range(frames[0].number, frames[-1].number + 1)
    return list(read_frames(path, numbers, params.frame_stride, params.image_size))


def _put(arrays: dict[str, np.ndarray], place: int, photo: Photo) -> None:
    arrays["rgb"][place] = photo.rgb
    arrays["K"][place] = photo.K
    if photo.alpha is not None:
        arrays["mask"][place] = photo.alpha


def _index(frames: list[Frame], reasons: dict[int, str], adapter: str) -> pd.DataFrame:
    """One line per image. The subject is the file's stem, or its whole name where stems collide."""
    paths = sorted({frame.path for frame in frames})
    stems = [path.stem for path in paths]
    name = {p: p.stem if stems.count(p.stem) == 1 else p.name for p in paths}
    subjects = [name[frame.path] for frame in frames]
    return pd.DataFrame(
        {
            "subject": subjects,
            "scan": subjects,
            "split": [split_of(subject) for subject in subjects],
            "view": [frame.number for frame in frames],
            "source": adapter,
            "ok": [row not in reasons for row in range(len(frames))],
            "reason": [reasons.get(row, "") for row in range(len(frames))],
        }
    )


STAGE = Stage("ingest_images", IngestImagesParams, inputs=("raw", "card"), outputs=("views",), run=run)

if __name__ == "__main__":
    main(STAGE)
