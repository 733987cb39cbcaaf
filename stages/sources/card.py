"""The card of a data set, data/catalog/NAME.yaml: what it is and how its raw data are to be read."""

import string
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dinar_models.labels import LABEL_TABLES, label_named

Adapter = Literal["scans", "photos", "video", "people_snapshot"]
ADAPTERS: tuple[str, ...] = get_args(Adapter)
FITS_FIELDS = ("scan", "subject")
FITS_SUFFIXES = (".npz", ".json", ".pkl")
METRES_PER_UNIT = {"m": 1.0, "cm": 0.01, "mm": 0.001}


SplitRule = Literal["hash", "train", "val", "gate", "test"]


class CardError(ValueError):
    """A card that is missing or does not say what is needed; one line per mistake."""


class SplitTable(BaseModel):
    """Splits from a table of the data set's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(description="CSV with the columns subject and split, relative to the raw data")


class Card(BaseModel):
    """One data set. Only what cannot be inferred has to be given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Adapter = Field(description="which adapter reads the raw data")
    path: str = Field(description="the raw data, relative to the repository root")
    licence: str = Field(description="SPDX name or a sentence")
    title: str = Field("", description="what it shows")
    citation: str = Field("", description="whom to cite")
    units: Literal["auto", "m", "cm", "mm"] = Field(
        "auto", description="of the vertices; auto: from the height"
    )
    up: Literal["auto", "y", "z"] = Field(
        "auto", description="vertical axis of the raw meshes; auto: from their extents"
    )
    facing: Literal["auto", "+z", "-z", "+x", "-x"] = Field(
        "auto",
        description="where the subjects look once y is up (z up: -y becomes +z); auto: from their feet",
    )
    split: SplitRule | SplitTable = Field(
        "hash", description="hash of the subject, one split for all, or {file: TABLE} in the raw folder"
    )
    subject: Literal["auto", "before_last_underscore", "whole"] = Field(
        "auto",
        description="how the subject is read from the name of a scan, photo or video;"
        " auto: scans before_last_underscore, the others whole",
    )
    keypoints: Literal["mediapipe", "openpose"] = Field(
        "mediapipe", description="of photos: found by the pipeline, or OpenPose's JSON beside the photos"
    )
    fits: str = Field(
        "", description="where SMPL-X fits lie in the raw data, a path with {scan} or {subject}; empty: none"
    )
    fits_frame: Literal["auto", "world", "camera"] = Field(
        "auto", description="of fits that do not tell; auto: the raw meshes' own, the camera's for images"
    )

    @field_validator("fits")
    @classmethod
    def _fits_stay_inside(cls, pattern: str) -> str:
        path = PurePosixPath(pattern)
        if path.is_absolute() or ".." in path.parts or "\\" in pattern or ":" in pattern:
            raise ValueError("a path inside the raw data is expected")
        for _, field, form, conversion in string.Formatter().parse(pattern):
            if field is not None and (field not in FITS_FIELDS or form or conversion):
                raise ValueError("only {scan} and {subject} can be filled in")
        if pattern and path.suffix.lower() not in FITS_SUFFIXES:
            raise ValueError(f"a path that ends with {', '.join(FITS_SUFFIXES)} is expected")
        return pattern

    def fits_path(self, scan: str, subject: str) -> PurePosixPath:
        """Where the fit of a scan lies in the raw data."""
        return PurePosixPath(self.fits.format(scan=scan, subject=subject))

    labels: str = Field(
        "",
        description="label maps of others (Graphonomy, SCHP): folder of PNGs in the raw data named as the photos are,"
        " or a pattern with {name}",
    )
    label_table: Literal["cihp", "lip", "atr", "pascal"] | dict[int, str] = Field(
        "cihp",
        description="what their numbers mean: a public label set, or {number: class, group, person, unknown}",
    )

    @model_validator(mode="after")
    def _labels_fit(self) -> "Card":
        if self.labels and self.adapter != "photos":
            raise ValueError(f"labels: only photos can bring label maps, not {self.adapter!r}")
        self.label_numbers()
        return self

    def label_numbers(self) -> dict[int, int]:
        """Our label (dinar_models/labels.py) of each number in the label maps."""
        if isinstance(self.label_table, str):
            return dict(enumerate(LABEL_TABLES[self.label_table]))
        if any(not 0 <= number <= 255 for number in self.label_table):
            raise ValueError(
                f"label_table: numbers from 0 to 255 are expected, got {sorted(self.label_table)}"
            )
        return {number: label_named(name) for number, name in self.label_table.items()}

    def subject_of(self, scan: str) -> str:
        """The subject of a scan, photo or video: `anna_walk` → `anna`, unless names are subjects."""
        cut = self.subject == "before_last_underscore" or (self.subject == "auto" and self.adapter == "scans")
        return scan.rsplit("_", 1)[0] if cut and "_" in scan.strip("_") else scan


def read_card(path: Path) -> Card:
    """Read and check a card.

    Raises:
        CardError: naming the file, the key and what is allowed.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise CardError(f"{path} does not exist; make it with `dinar dataset add`") from None
    except yaml.YAMLError as error:
        raise CardError(f"{path} is not valid YAML: {error}") from None
    try:
        return Card.model_validate(values)
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors()]
        raise CardError("\n".join(lines)) from None
