"""Views → parsing: the class of every pixel and the one mask that every later stage uses.

The rule is written down in stages/_data/segmentation.py.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from stages._core.cli import main
from stages._core.digests import work_key
from stages._core.params import StageParams
from stages._core.precision import DtypeChoice, resolve_dtype
from stages._core.runtime import Runtime
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._data.segmentation import INDISTINCT, SMALLEST_PERSON, load_parser, pose_prior, segment_images

SHARD_IMAGES = 128


class SegmentParams(StageParams):
    """Where masks come from."""

    trust_source_mask: bool = Field(True, description="use the source's mask where it has one")
    trust_source_parts: bool = Field(True, description="use label maps of others where the data set has them")
    person_prior: bool = Field(
        True, description="average MediaPipe's person mask with the parser's, in photos"
    )
    batch: int = Field(8, ge=1, description="images parsed at once")
    dtype: DtypeChoice = "auto"
    max_reject_ratio: float = Field(0.5, ge=0, le=1, description="share of images that may be rejected")


def run(params: SegmentParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Parse every image of one data set."""
    views = open_store(inputs["views"], "views")
    dtype = resolve_dtype(params.dtype, runtime.device)
    _, height, width = views["mask"].shape
    attrs = {**params.model_dump(), "dtype": str(dtype).removeprefix("torch.")}
    return build_store(
        out=outputs["parsing"],
        schema="parsing",
        index=views.index,
        sizes={"H": height, "W": width},
        attrs=attrs,
        shard_rows=SHARD_IMAGES,
        work=partial(
            segment_shard,
            views=inputs["views"],
            parser=inputs["parser"],
            params=params,
            dtype=dtype,
            device=runtime.device,
        ),
        runtime=runtime,
        key=work_key(params, inputs.values()),
        max_reject_ratio=params.max_reject_ratio,
    )


def segment_shard(
    rows: range, *, views: Path, parser: Path, params: SegmentParams, dtype: torch.dtype, device: str
) -> ShardResult:
    """Parse some rows; those without a person are rejected."""
    store = open_store(views, "views")
    rgb = np.asarray(store["rgb"][rows.start : rows.stop])
    known = np.asarray(store["mask"][rows.start : rows.stop]) if params.trust_source_mask else None
    # Labels of renders are the truth that the parser is measured against, never its answer.
    brought = params.trust_source_parts and store.attrs.get("brought_parts", False)
    labels = np.asarray(store["parts"][rows.start : rows.stop]) if brought else None
    parts, mask = segment_images(
        load_parser(parser, device),
        rgb,
        known,
        pose_prior if params.person_prior else None,
        labels=labels,
        batch=params.batch,
        dtype=dtype,
        device=device,
    )
    share = (mask >= 128).mean(axis=(1, 2))
    rejects = {row: INDISTINCT for row, part in zip(rows, share, strict=True) if part < SMALLEST_PERSON}
    return ShardResult({"parts": parts, "mask": mask}, rejects)


STAGE = Stage("segment", SegmentParams, inputs=("views", "parser"), outputs=("parsing",), run=run)

if __name__ == "__main__":
    main(STAGE)
