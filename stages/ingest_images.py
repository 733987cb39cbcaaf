"""Photos and videos → views: a video's frames are its views; what shows the same subject, the card says."""

from collections.abc import Callable, Iterator
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
from stages._core.stage import Paths, Stage, Summary
from stages.sources.card import Card, CardError, read_card
from stages.sources.frames import PhotoFrame, frame_columns
from stages.sources.label_maps import LabelMaps, label_maps_of
from stages.sources.people_snapshot import count_people_frames, list_people, read_people_frames
from stages.sources.photos import Photo, PhotoError, list_photos, load_photo
from stages.sources.splits import splits_of
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
class ImageSource:
    """How an adapter reads its files or folders, each of which shows one person.

    Attributes:
        name: the index column `source`: frames of a `video` show one body that moves.
        find: the files or folders below the raw data, by name.
        count: how many rows one gives at most, for a stride and a limit; PhotoError says why none.
        read: the photos of some of these rows, for a stride and a size; PhotoError where they cannot be read.
    """

    name: str
    find: Callable[[Path], list[Path]]
    count: Callable[[Path, int, int], int]
    read: Callable[[Path, range, int, int], Iterator[Photo]]


@dataclass(frozen=True)
class Frame:
    """Where one row comes from: frame `number` of those kept of a file or folder."""

    path: Path
    number: int = 0


def run(params: IngestImagesParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Read every photo of the folder, or the frames of its videos."""
    card = read_card(inputs["card"])
    if card.adapter not in IMAGE_SOURCES:
        raise CardError(
            f"{inputs['card']}: ingest_images reads {', '.join(IMAGE_SOURCES)}, not {card.adapter!r}"
        )
    source = IMAGE_SOURCES[card.adapter]
    frames, reasons = list_frames(source, inputs["raw"], params)
    maps = label_maps_of(card, inputs["raw"])
    if not frames:
        raise FileNotFoundError(f"{inputs['raw']} holds nothing that the {card.adapter!r} adapter reads")
    return build_store(
        out=outputs["views"],
        schema="views",
        index=_index(frames, reasons, card, inputs["raw"], source.name),
        sizes={"H": params.image_size, "W": params.image_size},
        attrs={
            **params.model_dump(),
            "has_mask": False,
            "has_parts": bool(maps),
            "brought_parts": bool(maps),
        },
        shard_rows=SHARD_IMAGES,
        work=partial(
            read_shard, adapter=card.adapter, frames=frames, reasons=reasons, params=params, maps=maps
        ),
        runtime=runtime,
        key=work_key(params, [inputs["raw"], inputs["card"]]),
        max_reject_ratio=params.max_reject_ratio,
    )


def list_frames(
    source: ImageSource, root: Path, params: IngestImagesParams
) -> tuple[list[Frame], dict[int, str]]:
    """All rows, and why some are rejected: what cannot be read at all is one row with its reason."""
    frames: list[Frame] = []
    reasons: dict[int, str] = {}
    for path in source.find(root):
        try:
            count = source.count(path, params.frame_stride, params.max_frames)
        except PhotoError as error:
            reasons[len(frames)] = str(error)
            count = 1
        frames += [Frame(path, number) for number in range(count)]
    return frames, reasons


def _one_row(path: Path, stride: int, limit: int) -> int:
    return 1


def _read_photo(path: Path, numbers: range, stride: int, size: int) -> Iterator[Photo]:
    yield load_photo(path, size)


IMAGE_SOURCES = {
    "photos": ImageSource("photos", list_photos, _one_row, _read_photo),
    "video": ImageSource("video", list_videos, count_frames, read_frames),
    "people_snapshot": ImageSource("video", list_people, count_people_frames, read_people_frames),
}
"""Adapters whose raw data are images, by the card's `adapter`."""


def read_shard(
    rows: range,
    *,
    adapter: str,
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
    placed: list[PhotoFrame | None] = [None] * len(rows)
    rejects = {row: reasons[row] for row in rows if row in reasons}
    readable = [row for row in rows if row not in reasons]
    for path, group in groupby(readable, key=lambda row: frames[row].path):
        members = list(group)
        unread = "the frame could not be decoded"
        numbers = range(frames[members[0]].number, frames[members[-1]].number + 1)
        photos = IMAGE_SOURCES[adapter].read(path, numbers, params.frame_stride, size)
        done = 0
        try:
            for row, photo in zip(members, photos, strict=False):
                if maps:
                    arrays["parts"][row - rows.start] = maps.read(path, size, photo.frame.box)
                _put(arrays, row - rows.start, photo)
                placed[row - rows.start] = photo.frame
                done += 1
        except PhotoError as error:
            unread = str(error)
        rejects.update(dict.fromkeys(members[done:], unread))
    return ShardResult(arrays, rejects, dict(frame_columns(placed)))


def _put(arrays: dict[str, np.ndarray], place: int, photo: Photo) -> None:
    arrays["rgb"][place] = photo.rgb
    arrays["K"][place] = photo.K
    if photo.alpha is not None:
        arrays["mask"][place] = photo.alpha


def _index(frames: list[Frame], reasons: dict[int, str], card: Card, root: Path, source: str) -> pd.DataFrame:
    """One line per image. The scan is the file's stem, or its whole name where stems collide."""
    paths = sorted({frame.path for frame in frames})
    stems = [path.stem if path.is_file() else path.name for path in paths]
    name = {p: stem if stems.count(stem) == 1 else p.name for p, stem in zip(paths, stems, strict=True)}
    scans = [name[frame.path] for frame in frames]
    subjects = [card.subject_of(scan) for scan in scans]
    return pd.DataFrame(
        {
            "subject": subjects,
            "scan": scans,
            "split": splits_of(subjects, card, root),
            "view": [frame.number for frame in frames],
            "source": source,
            "ok": [row not in reasons for row in range(len(frames))],
            "reason": [reasons.get(row, "") for row in range(len(frames))],
        }
    )


STAGE = Stage("ingest_images", IngestImagesParams, inputs=("raw", "card"), outputs=("views",), run=run)

if __name__ == "__main__":
    main(STAGE)
