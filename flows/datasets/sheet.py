"""The contact sheet of a check: a row per sample with views, mask, parts, keypoints, fit and verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dinar_models.body import BodyModel
from flows.datasets.check import Sample
from stages._core.publish import write_file
from stages._core.store import Store, open_store
from stages.reporting.fits import fit_overlay
from stages.reporting.pictures import keypoints_overlay, parts_overlay

CELL, GAP, TEXT_WIDTH = 160, 4, 260
"""Pixels."""

ROWS_PER_PAGE = 24
SHOWN_VIEWS = 4
GREEN, RED, GREY = (20, 120, 40), (190, 30, 30), (235, 235, 235)


@dataclass(frozen=True)
class Stores:
    """The open stores of a check; None where a stage was not tried."""

    views: Store | None
    parsing: Store | None
    keypoints: Store | None
    bodies: Store | None

    @staticmethod
    def below(folder: Path) -> "Stores":
        """Those that are there."""
        kinds = ("views", "parsing", "keypoints", "bodies")
        return Stores(*(open_store(folder / k, k) if (folder / k).is_dir() else None for k in kinds))


def write_sheets(
    path: Path, samples: Sequence[tuple[Sample, Path]], body: BodyModel | None, most: int
) -> list[Path]:
    """Draw at most `most` samples, rejected ones first, 24 to a page.

    Args:
        path: of the first page; further ones get -2, -3, … .
        samples: each with the folder of its stores.

    Returns:
        The pages, in order.
    """
    stale = [p for p in path.parent.glob(f"{path.stem}-[0-9]*.png") if p.stem[len(path.stem) + 1 :].isdigit()]
    for old in stale:
        old.unlink()
    shown = choose(samples, most)
    pages = []
    for number, first in enumerate(range(0, len(shown), ROWS_PER_PAGE), start=1):
        here = [(s, Stores.below(f)) for s, f in shown[first : first + ROWS_PER_PAGE]]
        columns = max([1, *(len(_rows_of(s, stores.views)) for s, stores in here)])
        rows = [draw_row(s, stores, body, columns) for s, stores in here]
        page = path if number == 1 else path.with_name(f"{path.stem}-{number}.png")
        _save(page, _stack(rows, columns))
        pages.append(page)
    return pages


def choose(samples: Sequence[tuple[Sample, Path]], most: int) -> list[tuple[Sample, Path]]:
    """Rejected ones first, up to half of the space where there are more, then good ones evenly over all."""
    bad, good = [s for s in samples if not s[0].ok], [s for s in samples if s[0].ok]
    bad = bad[: max(most // 2, most - len(good))]
    places = np.unique(np.linspace(0, len(good) - 1, min(most - len(bad), len(good))).astype(int))
    return bad + [good[i] for i in places]


def draw_row(sample: Sample, stores: Stores, body: BodyModel | None, columns: int) -> np.ndarray:
    """(CELL, width, 3) uint8: up to `columns` views, then mask, parts, keypoints and fit of the first, then words."""
    rows = _rows_of(sample, stores.views)
    cells = [_image(stores.views, row) for row in rows]
    cells += [_blank()] * (columns - len(cells))
    cells += _overlays(rows[0], stores, body) if rows else [_blank()] * 4
    line = np.full((CELL, len(cells) * (CELL + GAP) + TEXT_WIDTH, 3), 255, np.uint8)
    for place, cell in enumerate(cells):
        line[:, place * (CELL + GAP) : place * (CELL + GAP) + CELL] = cell
    line[:, -TEXT_WIDTH:] = _words(sample)
    return line


def _rows_of(sample: Sample, views: Store | None) -> list[int]:
    """Readable images of the sample, evenly over all, the first from the front."""
    if views is None:
        return []
    index = views.index
    mine = index[(index["scan"] == sample.name) & (index["variant"] == 0) & index["ok"]]
    count = min(SHOWN_VIEWS, len(mine))
    return [int(mine.index[i * len(mine) // count]) for i in range(count)]


def _overlays(row: int, stores: Stores, body: BodyModel | None) -> list[np.ndarray]:
    """Mask, parts, keypoints and fit over one image; blank where there is none."""
    assert stores.views is not None
    rgb = stores.views.read("rgb", [row])[0]
    cells = [_blank()] * 4
    if _has(stores.parsing, row):
        mask = stores.parsing.read("mask", [row])[0, ..., None] / 255  # type: ignore[union-attr]
        cells[0] = _small((rgb * mask + np.array([255, 0, 255]) * (1 - mask)).astype(np.uint8))
        cells[1] = _small(parts_overlay(rgb, stores.parsing.read("parts", [row])[0]))  # type: ignore[union-attr]
    if _has(stores.keypoints, row):
        xyc = stores.keypoints.read("xyc", [row])[0].copy()  # type: ignore[union-attr]
        xyc[:, :2] *= CELL / rgb.shape[0]
        cells[2] = keypoints_overlay(_small(rgb), xyc)
    if body is not None and _has(stores.bodies, row):
        cells[3] = _small(fit_overlay(rgb, row, stores.views, stores.bodies, body))  # type: ignore[arg-type]
    return cells


def _has(store: Store | None, row: int) -> bool:
    """Whether a store has something for this row: rejected rows are filled with zeros."""
    return store is not None and bool(store.index["ok"].iloc[row])


def _image(views: Store | None, row: int) -> np.ndarray:
    assert views is not None
    return _small(views.read("rgb", [row])[0])


def _small(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(rgb, (CELL, CELL), interpolation=cv2.INTER_AREA))


def _blank() -> np.ndarray:
    return np.full((CELL, CELL, 3), GREY, np.uint8)


def _words(sample: Sample) -> np.ndarray:
    """Name, subject and split, and the verdict in words."""
    image = Image.new("RGB", (TEXT_WIDTH, CELL), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    verdict = f"{sample.fitted} of {sample.rows} images fitted" if sample.ok else f"rejected: {sample.reason}"
    lines = [*_wrap(sample.name, 36), f"{sample.subject}, {sample.split}"[:36]]
    for number, text in enumerate(lines):
        draw.text((8, 4 + 16 * number), text, fill="black", font=font)
    for number, text in enumerate(_wrap(verdict, 36)[:6]):
        colour = GREEN if sample.ok else RED
        draw.text((8, 12 + 16 * (len(lines) + number)), text, fill=colour, font=font)
    return np.asarray(image)


def _wrap(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]


def _stack(rows: list[np.ndarray], columns: int) -> np.ndarray:
    titles = ("views", *[""] * (columns - 1), "mask", "parts", "keypoints", "fit")
    head = Image.new("RGB", (rows[0].shape[1], 22), "white")
    draw, font = ImageDraw.Draw(head), ImageFont.load_default(14)
    for place, title in enumerate(titles):
        draw.text((place * (CELL + GAP) + 4, 2), title, fill="black", font=font)
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([np.asarray(head), *(piece for row in rows for piece in (row, gap))])


def _save(path: Path, image: np.ndarray) -> None:
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    write_file(path, data.tobytes())
