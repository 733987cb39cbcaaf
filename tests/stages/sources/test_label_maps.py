from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinar_models.labels import CLASSES, GROUPS, PERSON, SOME, UNKNOWN
from stages.sources.card import Card, CardError, read_card
from stages.sources.label_maps import LabelMaps, label_maps_of
from stages.sources.photos import PhotoError, inner_box
from tests.stages.raw_scans import write_card

HAIR, SHIRT = CLASSES.index("hair"), CLASSES.index("upper_clothes")


def save_map(path: Path, numbers: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers.astype(np.uint8))
    if palette:  # as SCHP writes them: numbers as indices, colours only for show
        image = image.convert("P")
        image.putdata(numbers.ravel().tolist())
        image.putpalette([v for i in range(256) for v in (i * 7 % 256, i * 13 % 256, 255 - i)])
    image.save(path)


def card(**values: object) -> Card:
    return Card.model_validate({"adapter": "photos", "path": "x", "licence": "CC0-1.0", **values})


def halves(height: int = 80, width: int = 40) -> np.ndarray:
    """Number 2 above, number 5 below."""
    numbers = np.full((height, width), 5)
    numbers[: height // 2] = 2
    return numbers


@pytest.mark.parametrize("palette", [False, True])
def test_a_map_is_padded_and_resized_as_its_photo(tmp_path: Path, palette: bool) -> None:
    save_map(tmp_path / "schp" / "anna.png", halves(), palette)
    maps = label_maps_of(card(labels="schp"), tmp_path)
    assert maps is not None
    labels = maps.read(tmp_path / "anna.jpg", 80, inner_box((40, 80), 80))
    assert labels[:, :20].max() == labels[:, 60:].max() == 0
    assert (labels[:40, 20:60] == HAIR).all()
    assert (labels[40:, 20:60] == SHIRT).all()


def test_maps_named_by_a_pattern_and_numbered_by_the_card(tmp_path: Path) -> None:
    save_map(tmp_path / "maps" / "anna_parsed.png", np.kron([[0, 7], [9, 3]], np.ones((32, 64))))
    table = {0: "background", 7: "face", 9: "legs", 3: "person"}
    maps = label_maps_of(card(labels="maps/{name}_parsed.png", label_table=table), tmp_path)
    assert maps is not None
    labels = maps.read(tmp_path / "anna.png", 8, inner_box((128, 64), 8))
    assert labels[3, [0, 7]].tolist() == [0, CLASSES.index("face")]
    assert labels[4, [0, 7]].tolist() == [SOME + GROUPS.index("legs"), PERSON]


@pytest.mark.parametrize(
    ("numbers", "table", "sentence"),
    [
        (np.full((80, 40), 19), "atr", "number 19, which the card's table does not name"),
        (np.zeros((40, 80)), "cihp", "80 × 40 pixels, unlike its photo"),
        (np.zeros((80, 40, 3)), "cihp", "picture of mode RGB"),
        (None, "cihp", "no label map schp/anna.png"),
    ],
)
def test_maps_that_do_not_fit_are_refused(
    tmp_path: Path, numbers: np.ndarray | None, table: str, sentence: str
) -> None:
    if numbers is not None:
        (tmp_path / "schp").mkdir()
        Image.fromarray(numbers.astype(np.uint8)).save(tmp_path / "schp" / "anna.png")
    maps = label_maps_of(card(labels="schp", label_table=table), tmp_path)
    assert maps is not None
    with pytest.raises(PhotoError, match=sentence):
        maps.read(tmp_path / "anna.png", 80, inner_box((40, 80), 80))


def test_a_map_outside_the_raw_folder_is_refused(tmp_path: Path) -> None:
    save_map(tmp_path / "secret.png", halves())
    maps = LabelMaps(tmp_path / "raw", "../{name}.png", {0: 0})
    with pytest.raises(PhotoError, match="outside the data set's folder"):
        maps.read(tmp_path / "raw" / "secret.jpg", 80, inner_box((40, 80), 80))


def test_unknown_pixels_stay_unknown(tmp_path: Path) -> None:
    save_map(tmp_path / "maps" / "a.png", np.full((32, 32), UNKNOWN))
    maps = label_maps_of(card(labels="maps"), tmp_path)
    assert maps is not None
    assert (maps.read(tmp_path / "a.png", 32, inner_box((32, 32), 32)) == UNKNOWN).all()


def test_cards_with_wrong_label_fields_are_refused(tmp_path: Path) -> None:
    path = write_card(tmp_path, "photos")
    text = path.read_text()
    path.write_text(text + "labels: maps\nlabel_table: {1: trousers}\n")
    with pytest.raises(CardError, match="'trousers' is no label"):
        read_card(path)
    path.write_text(text.replace("photos", "video") + "labels: maps\n")
    with pytest.raises(CardError, match="only photos can bring label maps"):
        read_card(path)
    assert label_maps_of(card(), tmp_path) is None
