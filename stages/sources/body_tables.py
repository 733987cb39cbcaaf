"""What importing a fit needs of the body at hand: its pelvis, and its hands' mean and components."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SMPLX_PELVIS = np.array([0.003, -0.351, 0.012])
"""Metres; where the pelvis of SMPL-X's mean neutral body is at rest. Fits turn about it."""


@dataclass(frozen=True)
class BodyTables:
    """Parts of the body file of a folder that build_body made.

    Attributes:
        licensed: whether it is SMPL-X itself, so that its hand components mean what others' files mean.
        gender: of that SMPL-X; the open body is neutral.
        digest: of the body.
        pelvis: (3,) m, of the mean body at rest.
        pelvis_directions: (3, 20) how 10 shape and 10 expression coefficients move it.
        hand_means: left and right, (45,) axis-angle.
        hand_components: left and right, (45, 45), one component a row.
    """

    licensed: bool
    gender: str
    digest: str
    pelvis: np.ndarray
    pelvis_directions: np.ndarray
    hand_means: dict[str, np.ndarray]
    hand_components: dict[str, np.ndarray]

    @staticmethod
    def load(body_folder: Path) -> "BodyTables":
        """Read `smplx/SMPLX_NEUTRAL.npz` and `body.json`, without pickle."""
        card = json.loads((body_folder / "body.json").read_text())
        with np.load(body_folder / "smplx" / "SMPLX_NEUTRAL.npz", allow_pickle=False) as file:
            regressor = file["J_regressor"][0].astype(np.float64)
            return BodyTables(
                licensed=card["kind"] == "licensed",
                gender=str(card["gender"]),
                digest=str(card["body_digest"]),
                pelvis=regressor @ file["v_template"],
                pelvis_directions=np.einsum("v,vck->ck", regressor, file["shapedirs"]),
                hand_means={side: file[f"hands_mean{side[0]}"].astype(np.float64) for side in SIDES},
                hand_components={
                    side: file[f"hands_components{side[0]}"].astype(np.float64) for side in SIDES
                },
            )

    def rest_pelvis(self, betas: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(F, 3) the pelvis at rest of bodies of scale 1 at the origin, from (F, 10) coefficients each."""
        return self.pelvis + np.concatenate([betas, expression], axis=1) @ self.pelvis_directions.T


SIDES = ("left", "right")
