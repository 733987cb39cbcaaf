"""Every store's arrays: dimensions, types, ranges and units. data/README.md says the same in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dinar_models.types import CHANNELS


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store; axis 0 is the row.

    Attributes:
        dims: the axes after the row; numbers are fixed, letters are sizes given when the store is made.
        dtype: NumPy name.
        low, high: inclusive range of valid values, None = unbounded. Floats must be finite on valid rows.
        fill: the value of rows that are not ok.
        notes: attributes written beside the array (units, channels, frame).
    """

    dims: tuple[int | str, ...]
    dtype: str
    low: float | None = None
    high: float | None = None
    fill: float = 0
    notes: Mapping[str, Any] = field(default_factory=dict)

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The axes after the row as numbers."""
        return tuple(d if isinstance(d, int) else sizes[d] for d in self.dims)


@dataclass(frozen=True)
class Schema:
    """A store's name, major version, arrays, and index columns besides the common ones."""

    name: str
    version: int
    arrays: Mapping[str, ArraySpec]
    columns: Mapping[str, str] = field(default_factory=dict)


INDEX_COLUMNS = {
    "subject": "str",
    "scan": "str",
    "split": "str",
    "view": "int",
    "yaw": "float",
    "variant": "int",
    "source": "str",
    "ok": "bool",
    "reason": "str",
}
"""Columns of every index. yaw in degrees, NaN where unknown; reason is empty where ok."""

SPLITS = ("train", "val", "gate", "test")

_BYTE_IMAGE = ArraySpec(("H", "W"), "uint8", notes={"range": "0-255"})
_TEXEL_BYTE = ArraySpec(("T", "T"), "uint8", notes={"range": "0-255", "frame": "row 0 is v = 0"})
_CROP = {"crop_x": "float", "crop_y": "float", "crop_side": "float", "verdict": "str"}

BODY_ARRAYS = {
    "betas": ArraySpec((10,), "float32"),
    "expression": ArraySpec((10,), "float32"),
    "global_orient": ArraySpec((3,), "float32", notes={"units": "rad, axis-angle"}),
    "body_pose": ArraySpec((63,), "float32", notes={"units": "rad, axis-angle"}),
    "left_hand_pose": ArraySpec((45,), "float32", notes={"units": "rad, axis-angle, absolute"}),
    "right_hand_pose": ArraySpec((45,), "float32", notes={"units": "rad, axis-angle, absolute"}),
    "jaw_pose": ArraySpec((3,), "float32", notes={"units": "rad, axis-angle"}),
    "leye_pose": ArraySpec((3,), "float32", notes={"units": "rad, axis-angle"}),
    "reye_pose": ArraySpec((3,), "float32", notes={"units": "rad, axis-angle"}),
    "transl": ArraySpec((3,), "float32", notes={"units": "m, in the frame of R and T"}),
    "scale": ArraySpec((1,), "float32", low=0.0, fill=1),
}

SCHEMAS: dict[str, Schema] = {
    s.name: s
    for s in (
        Schema(
            "views",
            1,
            {
                "rgb": ArraySpec(("H", "W", 3), "uint8", fill=255, notes={"channels": "R, G, B"}),
                "mask": _BYTE_IMAGE,
                "parts": ArraySpec(("H", "W"), "uint8", fill=255, notes={"classes": "CIHP, 255 unknown"}),
                "K": ArraySpec((3, 3), "float32", notes={"units": "px"}),
                "R": ArraySpec((3, 3), "float32", low=-1.001, high=1.001),
                "T": ArraySpec((3,), "float32", notes={"units": "m"}),
            },
        ),
        Schema(
            "parsing",
            1,
            {
                "parts": ArraySpec(("H", "W"), "uint8", high=19, notes={"classes": "CIHP"}),
                "mask": _BYTE_IMAGE,
            },
        ),
        Schema(
            "keypoints",
            1,
            {
                "xyc": ArraySpec(("J", 3), "float32", notes={"units": "px, px, confidence 0-1"}),
                "world": ArraySpec(
                    ("J", 3), "float32", notes={"units": "m, camera axes, between the hips; 0 where unknown"}
                ),
            },
        ),
        Schema(
            "bodies",
            1,
            {
                **BODY_ARRAYS,
                "residuals": ArraySpec(
                    (4,), "float32", notes={"channels": "reprojection px, iou, prior, spare"}
                ),
            },
            _CROP,
        ),
        Schema(
            "textures",
            1,
            {
                "rgb": ArraySpec((3, "T", "T"), "uint8", notes={"channels": "R, G, B; 0 where unseen"}),
                "sampled": _TEXEL_BYTE,
                "filled": _TEXEL_BYTE,
                "frontality": ArraySpec(("T", "T"), "uint8", notes={"units": "255 cos(normal, camera)"}),
            },
        ),
        Schema(
            "merged",
            1,
            {
                "texture": ArraySpec(
                    (len(CHANNELS), "T", "T"), "float16", notes={"channels": list(CHANNELS)}
                ),
                "coverage": _TEXEL_BYTE,
            },
        ),
        Schema(
            "latents",
            1,
            {
                "z_partial": ArraySpec((6, "t", "t"), "float16"),
                "z_merged": ArraySpec((6, "t", "t"), "float16"),
                "mask": ArraySpec((1, "t", "t"), "float16", low=0, high=1),
            },
        ),
        Schema(
            "avatars",
            1,
            {
                "texture": ArraySpec(
                    (len(CHANNELS), "T", "T"), "float16", notes={"channels": list(CHANNELS)}
                ),
                "partial": ArraySpec(
                    (len(CHANNELS), "T", "T"), "float16", notes={"channels": list(CHANNELS)}
                ),
                "mirror": ArraySpec((len(CHANNELS), "T", "T"), "float16", notes={"channels": list(CHANNELS)}),
                "mean_fill": ArraySpec(
                    (len(CHANNELS), "T", "T"), "float16", notes={"channels": list(CHANNELS)}
                ),
                "coverage": _TEXEL_BYTE,
                **BODY_ARRAYS,
            },
            {"view_row": "int"},
        ),
        Schema(
            "renders",
            1,
            {
                "avatar": ArraySpec(("H", "W", 3), "uint8", fill=255),
                "avatar_mask": _BYTE_IMAGE,
                "mirror": ArraySpec(("H", "W", 3), "uint8", fill=255),
                "mean_fill": ArraySpec(("H", "W", 3), "uint8", fill=255),
                "target": ArraySpec(("H", "W", 3), "uint8", fill=255),
                "target_mask": _BYTE_IMAGE,
            },
            {"view_row": "int", "kind": "str"},
        ),
    )
}
