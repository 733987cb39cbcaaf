"""The fits of a data set as SMPL-X/AMASS files, which other programs and `read_fit` understand."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from dinar_models.body import POSES
from stages._core.publish import publish
from stages._core.schemas import BODY_ARRAYS
from stages._core.store import Store, open_store
from stages.sources.video import frame_rate, list_videos

FILES_AT_ONCE = 64
FileFormat = Literal["npz", "json"]


@dataclass(frozen=True)
class Exported:
    """How many files were written, and how many scans or images had no fit to write."""

    written: int
    without_fit: int


@dataclass(frozen=True)
class Fits:
    """Where the fits of a data set lie.

    Attributes:
        views, bodies: stores of the data set.
        raw: the raw data; only a video's frame rate is read there.
    """

    views: Path
    bodies: Path
    raw: Path


def export_fits(fits: Fits, out: Path, file_format: FileFormat) -> Exported:
    """Write one file a scan, a photo or a video into the folder `out`, which appears whole.

    Every file holds `poses`, `trans`, `betas` (AMASS) and the fields of `smplx` by name; the cameras K, R, T of
    the unjittered views; verdict and residuals; and what `read_fit` needs to take it for what it is. Vertices
    are scale · smplx(…, transl), in the world of the cameras (metres, y up for scans).

    Raises:
        StoreError: the data set has not been fitted.
        FileExistsError: `out` holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; name another folder")
    views, bodies = open_store(fits.views, "views"), open_store(fits.bodies, "bodies")
    files = _files(bodies.index)
    fitted = {scan: rows for scan, rows in files.items() if bodies.index["ok"].to_numpy(bool)[rows].any()}
    rates = _rates(fits.raw, views)
    with publish(out) as folder:
        for scan, values in _contents(bodies, views, fitted):
            if scan in rates:
                values["mocap_frame_rate"] = rates[scan]
            WRITERS[file_format](folder / f"{scan}.{file_format}", values)
    return Exported(len(fitted), len(files) - len(fitted))


def _files(index: pd.DataFrame) -> dict[str, np.ndarray]:
    """Scans, photos or videos, and their rows without jitter."""
    plain = index[index["variant"] == 0]
    return {str(scan): np.asarray(rows) for scan, rows in plain.groupby("scan", sort=False).groups.items()}


def _contents(
    bodies: Store, views: Store, files: dict[str, np.ndarray]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each file holds. Rows are read for many files at once: a shard holds those of several."""
    pairs = list(files.items())
    for start in range(0, len(pairs), FILES_AT_ONCE):
        block = pairs[start : start + FILES_AT_ONCE]
        rows = np.concatenate([rows for _, rows in block])
        arrays = {name: bodies.read(name, rows) for name in (*BODY_ARRAYS, "residuals")}
        arrays |= {name: views.read(name, rows) for name in ("K", "R", "T")}
        ends = np.cumsum([len(rows) for _, rows in block])
        body = {"body_digest": str(bodies.attrs["body_digest"]), "gender": str(bodies.attrs["gender"])}
        facts = {**body, "image_size": views["rgb"].shape[1]}
        for (scan, rows), end in zip(block, ends, strict=True):
            mine = {name: values[end - len(rows) : end] for name, values in arrays.items()}
            yield scan, {**facts, **_values(bodies.index.iloc[rows], mine)}


def _values(lines: pd.DataFrame, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A sequence for a video, one body for everything else."""
    ok = lines["ok"].to_numpy(bool)
    sequence = bool(lines["source"].eq("video").any())
    frames = slice(None) if sequence else slice(ok.argmax(), ok.argmax() + 1)  # views share their scan's body
    body = {name: arrays[name][frames].astype(np.float64) for name in BODY_ARRAYS}
    transl = body["transl"] / body["scale"]  # of smplx, which knows no scale: files with one apply it last
    one_shape = (body["betas"] == body["betas"][0]).all()
    verdicts = lines["verdict"].to_numpy(str)
    return {
        **{name: body[name] for name in (*POSES, "expression", "scale")},
        **{
            "poses": np.concatenate([body[name] for name in POSES], axis=1),
            "trans": transl,
            "transl": transl,
        },
        **{"betas": body["betas"][0] if one_shape else body["betas"]},
        **{"surface_model_type": "smplx", "flat_hand_mean": True, "frame": "ingested"},
        **{"subject": str(lines["subject"].iloc[0]), "view": lines["view"].to_numpy()},
        **{name: arrays[name] for name in ("K", "R", "T")},
        **{"reprojection": arrays["residuals"][:, 0], "iou": arrays["residuals"][:, 1]},
        **({"ok": ok, "verdict": verdicts} if sequence else {"verdict": verdicts[ok.argmax()]}),
    }


def _rates(raw: Path, views: Store) -> dict[str, float]:
    """Kept frames a second of the videos whose files are still there, by name."""
    stride = int(views.attrs.get("frame_stride", 1))
    videos = list_videos(raw) if raw.exists() and views.index["source"].eq("video").any() else []
    rates = {name: frame_rate(path) / stride for path in videos for name in (path.name, path.stem)}
    return {name: rate for name, rate in rates.items() if rate > 0}


def _write_npz(path: Path, values: dict[str, Any]) -> None:
    np.savez_compressed(path, **values)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}
    path.write_text(json.dumps(plain) + "\n")


WRITERS = {"npz": _write_npz, "json": _write_json}
