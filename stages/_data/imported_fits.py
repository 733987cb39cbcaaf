"""Fits of others for the rows of a data set: what the fitter starts from, or what takes its place."""

import functools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from dinar_models.body import BodyParams
from dinar_models.cameras import Camera
from dinar_models.fitting.observations import Fit, Observations
from stages.sources import video
from stages.sources.body_tables import BodyTables
from stages.sources.card import Card, CardError, read_card
from stages.sources.fits import FitError, ImportedFit, read_fit
from stages.sources.photos import PhotoError, list_photos

log = logging.getLogger(__name__)

RAW_TO_SCAN = "raw_to_scan"
"""Index column of scans that were moved when they were read: JSON of 12 numbers, the rows of a 3 × 4 matrix."""


@dataclass(frozen=True)
class FitFiles:
    """Where a data set's fits lie; small, so that it travels to workers.

    Attributes:
        raw: folder of the raw data.
        card: with `fits` set.
        body: folder made by build_body.
    """

    raw: Path
    card: Card
    body: Path

    @staticmethod
    def find(raw: Path | None, card: Path | None, body: Path, index: pd.DataFrame) -> "FitFiles | None":
        """The fits of a data set, None where its card names none.

        Args:
            index: of the views.

        Raises:
            CardError: the card names fits, but not one of the scans has one.
        """
        files = None if raw is None or card is None else FitFiles(raw, read_card(card), body)
        if files is None or not files.card.fits:
            return None
        names = index[["scan", "subject"]].drop_duplicates().to_numpy(str).tolist()
        present = sum(files.path(scan, subject).is_file() for scan, subject in names)
        if present == 0:
            raise CardError(f"{card}: fits: there is no {files.path(*names[0])}, nor that of any other scan")
        log.info("%s: %d of %d scans bring a fit", card, present, len(names))
        return files

    def path(self, scan: str, subject: str) -> Path:
        """Where the fit of a scan lies, if it has one."""
        return self.raw / self.card.fits_path(scan, subject)

    @property
    def of_images(self) -> bool:
        """Whether the raw data are images rather than meshes."""
        return self.card.adapter != "scans"


@dataclass(frozen=True)
class KnownFits:
    """What is known of b bodies before they are fitted.

    Attributes:
        start: in the world of the views; rows that are not known are neutral.
        known: whether a fit was found and could be read.
        replaces: whether it was made for the body at hand, so that there is nothing left to fit.
    """

    start: BodyParams
    known: Bool[Tensor, " b"]
    replaces: Bool[Tensor, " b"]


def known_fits(lines: pd.DataFrame, camera: Camera, files: FitFiles) -> KnownFits:
    """Look up the fits of some bodies. One that cannot be used is logged and counts as not there.

    Args:
        lines: of the views' index, one a body: the row of an image, or any row of a scan.
        camera: of these rows.
    """
    start = BodyParams.zeros(len(lines))
    known, replaces = torch.zeros(len(lines), dtype=torch.bool), torch.zeros(len(lines), dtype=torch.bool)
    for row, (_, line) in enumerate(lines.iterrows()):
        path = files.path(str(line["scan"]), str(line["subject"]))
        if not path.is_file():
            continue
        try:
            fit = _placed(read_cached(path, files.body), line, camera.select([row]), files)
            values = fit.at(int(line["view"]) if files.of_images else 0)
        except FitError as error:
            log.warning("%s: the fit is not used: %s", line["scan"], error)
            continue
        for name, value in values.items():
            getattr(start, name)[row] = torch.from_numpy(value)
        known[row], replaces[row] = True, fit.exact
    return KnownFits(start, known, replaces)


def fit_known(
    known: KnownFits | None,
    observations: Observations,
    *,
    fit: Callable[[Observations, BodyParams | None, Tensor | None], Fit],
    judge: Callable[[BodyParams, Observations], Fit],
) -> Fit:
    """Fit some bodies, each from what is known of it; those with nothing left to fit are only judged.

    Args:
        fit: from observations, starts and which of these are known.
        judge: residuals of given bodies.
    """
    if known is None or not known.known.any():
        return fit(observations, None, None)
    given, rest = (rows.nonzero()[:, 0] for rows in (known.replaces, ~known.replaces))
    parts = []
    if len(given):
        parts.append(judge(known.start.select(given), observations.select(given)))
    if len(rest):
        parts.append(fit(observations.select(rest), known.start.select(rest), known.known[rest]))
    return _join(parts, torch.cat([given, rest]).argsort())


def _join(parts: list[Fit], order: Tensor) -> Fit:
    joined = {
        field.name: torch.cat([getattr(part, field.name) for part in parts])[order]
        for field in fields(Fit)
        if field.name != "params"
    }
    return Fit(params=BodyParams.cat([part.params for part in parts]).select(order), **joined)


@functools.lru_cache(maxsize=8)
def read_cached(path: Path, body: Path) -> ImportedFit:
    """The fit of a file; a video's frames ask for the same one again and again."""
    return read_fit(path, load_tables(body))


@functools.cache
def load_tables(body: Path) -> BodyTables:
    """The body's tables, once per process."""
    return BodyTables.load(body)


def _placed(fit: ImportedFit, line: pd.Series, camera: Camera, files: FitFiles) -> ImportedFit:
    """In the world of the views. `camera` is that of the row."""
    frame = fit.frame or files.card.fits_frame
    if frame == "auto":
        frame = "camera" if files.of_images else "world"
    if frame == "camera" and not files.of_images:
        raise FitError("it is in a camera's frame, which says nothing about a scan")
    if frame == "camera":
        return _from_camera(fit, str(line["scan"]), camera, files)
    if frame == "world" and isinstance(line.get(RAW_TO_SCAN), str):
        matrix = np.array(json.loads(line[RAW_TO_SCAN])).reshape(3, 4)
        scale = float(np.cbrt(np.linalg.det(matrix[:, :3])))
        return fit.transformed(matrix[:, :3] / scale, scale, matrix[:, 3])
    return fit


def _from_camera(fit: ImportedFit, scan: str, camera: Camera, files: FitFiles) -> ImportedFit:
    """From the frame of the image's camera to the world, at the depth that our focal length asks for."""
    if fit.focal is not None:
        fit = fit.seen_with(float(camera.K[0, 0, 0]) / camera.size * longer_side(files.raw, scan))
    turn, shift = camera.R[0].numpy().astype(np.float64), camera.T[0].numpy().astype(np.float64)
    return fit.transformed(turn.T, 1.0, -turn.T @ shift)


@functools.lru_cache(maxsize=1024)
def longer_side(raw: Path, scan: str) -> int:
    """Pixels of the longer side of the photo or video that is called so: its stem or its whole name.

    Raises:
        FitError: there is none.
    """
    try:
        for path in list_photos(raw) if raw.is_dir() else []:
            if scan in (path.stem, path.name):
                with Image.open(path) as image:
                    return max(image.size)
        for path in video.list_videos(raw):
            if scan in (path.stem, path.name):
                return video.longer_side(path)
    except (OSError, PhotoError) as error:
        raise FitError(f"the size of the image {scan!r} is unknown ({error})") from None
    raise FitError(f"{raw} holds no image {scan!r} whose size would tell the focal length")
