"""What is really inside the clothes of the generated people: joints, surface and pose. For `evaluate` only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

INDEX, PARAMETERS, VERTICES = "index.parquet", "parameters.npz", "vertices.npy"


@dataclass(frozen=True)
class BodyTruth:
    """One scan's body, in the scan's world frame (metres, y up, floor at y = 0).

    Attributes:
        full_pose: (55, 3) axis-angle in SMPL-X order; the first is the global orientation.
        transl: (3,) added after posing about T-pose joints whose pelvis lies at (0, −0.35, 0).
        joints: (55, 3).
        vertices: (V, 3) body surface in the vertex order of the open body.
    """

    full_pose: np.ndarray
    transl: np.ndarray
    joints: np.ndarray
    vertices: np.ndarray


@dataclass(frozen=True)
class TruthTable:
    """The bodies of all scans; `index` has columns subject, scan, split, pose, and one line per row.

    Attributes:
        vertices: (N, V, 3) float32, read from disk as it is used.
    """

    index: pd.DataFrame
    full_pose: np.ndarray
    transl: np.ndarray
    joints: np.ndarray
    vertices: np.ndarray

    def row(self, scan: str) -> int:
        """Row of a scan. Raises KeyError when it was not generated."""
        rows = np.flatnonzero(self.index["scan"].to_numpy() == scan)
        if len(rows) != 1:
            raise KeyError(f"no truth for scan {scan!r}; it holds {len(self.index)} generated scans")
        return int(rows[0])

    def body(self, scan: str) -> BodyTruth:
        """The body of one scan."""
        row = self.row(scan)
        return BodyTruth(
            self.full_pose[row], self.transl[row], self.joints[row], np.array(self.vertices[row])
        )


def write_truth(folder: Path, index: pd.DataFrame, bodies: Sequence[BodyTruth]) -> None:
    """Write the table into an existing folder; `bodies` in the order of `index`."""
    small = {
        name: np.stack([getattr(b, name) for b in bodies]).astype(np.float32)
        for name in ("full_pose", "transl", "joints")
    }
    np.savez(folder / PARAMETERS, **small)
    np.save(folder / VERTICES, np.stack([b.vertices for b in bodies]).astype(np.float32))
    index.to_parquet(folder / INDEX, index=False)


def open_truth(folder: Path) -> TruthTable:
    """Read the table. Raises FileNotFoundError naming the stage that makes it."""
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder} holds no truth table; run `dvc repro synthesize_people`")
    with np.load(folder / PARAMETERS) as small:
        parameters = {name: small[name] for name in ("full_pose", "transl", "joints")}
    vertices = np.load(folder / VERTICES, mmap_mode="r")
    return TruthTable(pd.read_parquet(folder / INDEX), vertices=vertices, **parameters)
