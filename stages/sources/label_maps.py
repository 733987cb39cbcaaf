"""Label maps that others made of a data set's photos: one PNG of class numbers per photo."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.sources.card import Card
from stages.sources.photos import PhotoError, decode_image, inner_box

BACKGROUND, UNKNOWN = 0, 255
NAME = "{name}"


@dataclass(frozen=True)
class LabelMaps:
    """Where the maps of a data set lie, and what their numbers mean.

    Attributes:
        root: the raw folder.
        pattern: path inside it, `{name}` being the photo's name without its ending.
        table: our label (dinar_models/labels.py) of each of their numbers.
    """

    root: Path
    pattern: str
    table: dict[int, int]

    def read(self, photo: Path, size: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """The labels of one photo, padded and resized as the photo was: (S, S) uint8; the padding is background.

        Nearest pixels, because the numbers of classes have no means between them.

        Args:
            size: pixels per side of the square.
            box: left, top, right and bottom of the photo in it, px.

        Raises:
            PhotoError: when the photo has no map, or one of another shape or with a number that is not in the table.
        """
        path = self.path_of(photo)
        if not path.is_file():
            raise PhotoError(f"there is no label map {path.relative_to(self.root)}")
        image = decode_image(path)
        if image.mode not in ("P", "L", "1"):
            raise PhotoError(
                f"label map {path.name} is a picture of mode {image.mode}, not one of class numbers"
            )
        if inner_box(image.size, size) != box:
            raise PhotoError(
                f"label map {path.name} has {image.width} × {image.height} pixels, unlike its photo"
            )
        left, top, right, bottom = box
        labels = np.full((size, size), BACKGROUND, np.uint8)
        small = image.resize((right - left, bottom - top), Image.Resampling.NEAREST)
        labels[top:bottom, left:right] = self._translate(np.asarray(small, dtype=np.uint8), path.name)
        return labels

    def path_of(self, photo: Path) -> Path:
        """The map of a photo. Raises PhotoError for names that lead out of the raw folder."""
        path = self.root / self.pattern.replace(NAME, photo.stem)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise PhotoError(f"label map {self.pattern} of {photo.name} lies outside the data set's folder")
        return path

    def _translate(self, numbers: np.ndarray, name: str) -> np.ndarray:
        foreign = set(np.unique(numbers).tolist()) - set(self.table) - {UNKNOWN}
        if foreign:
            raise PhotoError(
                f"label map {name} has the number {min(foreign)}, which the card's table does not name"
            )
        table = np.full(256, UNKNOWN, np.uint8)
        table[list(self.table)] = list(self.table.values())
        return table[numbers]


def label_maps_of(card: Card, root: Path) -> LabelMaps | None:
    """What the card says of label maps; None when it names none."""
    if not card.labels:
        return None
    pattern = card.labels if NAME in card.labels else f"{card.labels}/{NAME}.png"
    return LabelMaps(root, pattern, card.label_numbers())
