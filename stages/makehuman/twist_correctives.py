"""Pose correctives against the "candy wrapper": arms keep their girth when they are twisted.

Linear skinning averages rotation matrices, so a limb whose skin changes from one joint to the next within
a few centimetres is wrung out by a twist: at 90° its section shrinks to half. A real forearm instead turns
gradually between elbow and wrist. The SMPL-X format has room for the difference: offsets that are linear in
the entries of each joint's rotation matrix minus the identity (SMPL, Loper et al. 2015, eq. 9).

For a twist by θ about the arm (the x axis of the T-pose) two such combinations are 1 − cos θ and sin θ; both
vanish for bends about y and z. They suffice to take the skin to where a gradual twist would put it.
"""

from dataclasses import dataclass

import numpy as np

from stages.makehuman.joints import JOINTS, PARENTS

CALIBRATION = np.deg2rad(75.0)
"""Twist at which the correction is exact, rad."""

SMALLEST_M = 5e-5
"""Offsets below this are dropped, so that most of the table is zero."""


@dataclass(frozen=True)
class Segment:
    """Where along a bone of the arm a joint's twist takes place.

    Attributes:
        joint: the twisting joint; start, end: joints between which position runs from 0 to 1.
        first, last: positions between which the skin passes from 0 to the whole twist.
    """

    joint: str
    start: str
    end: str
    first: float
    last: float


SEGMENTS = (
    Segment("shoulder", "shoulder", "elbow", -0.1, 0.8),
    Segment("elbow", "elbow", "wrist", -0.1, 0.8),
    Segment("wrist", "elbow", "wrist", 0.2, 1.0),
)


def twist_correctives(template: np.ndarray, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(V, 3, 486) float32 pose directions of the SMPL-X file.

    Args:
        template: (V, 3) T-pose, m; joints: (55, 3); weights: (V, 55).
    """
    directions = np.zeros((len(template), 3, 9 * (len(JOINTS) - 1)), dtype=np.float32)
    for segment in SEGMENTS:
        for side in ("left", "right"):
            joint = JOINTS.index(f"{side}_{segment.joint}")
            factor, radius = _correction(segment, side, template, joints, weights)
            growing = factor.real / (1 - np.cos(CALIBRATION)) * radius  # goes with 1 − cos θ
            turning = 1j * factor.imag / np.sin(CALIBRATION) * radius  # goes with sin θ
            entries = directions[:, :, 9 * (joint - 1) : 9 * joint].reshape(-1, 3, 3, 3)
            for offset, matrix in ((growing, _ONE_MINUS_COSINE), (turning, _SINE)):
                yz = np.where(abs(offset) < SMALLEST_M, 0, offset)
                entries[:, 1] += yz.real[:, None, None] * matrix
                entries[:, 2] += yz.imag[:, None, None] * matrix
            directions[:, :, 9 * (joint - 1) : 9 * joint] = entries.reshape(-1, 3, 9)
    return directions


_ONE_MINUS_COSINE = np.diag([0.5, -0.5, -0.5])
"""Σ of its product with (R − I) is 1 − cos θ for a rotation about x, 0 for one about y or z."""

_SINE = np.array([[0, 0, 0], [0, 0, -0.5], [0, 0.5, 0]])
"""Likewise sin θ."""


def _correction(
    segment: Segment, side: str, template: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(V,) complex factor c and radius v = y + iz about the arm: the corrected skin is v (1 + c) before skinning.

    Skinning multiplies v by (1 − w) + w e^{iθ}; wanted is e^{isθ} with s the share of the twist there.
    """
    start, end = (joints[JOINTS.index(f"{side}_{name}")] for name in (segment.start, segment.end))
    along = (template[:, 0] - start[0]) / (end[0] - start[0])
    ramp = np.clip((along - segment.first) / (segment.last - segment.first), 0, 1)
    limb, carried = (
        weights[:, _with_descendants(JOINTS.index(f"{side}_{name}"))].sum(axis=1)
        for name in (segment.start, segment.joint)
    )
    share = limb * ramp**2 * (3 - 2 * ramp)
    skinned = 1 - carried + carried * np.exp(1j * CALIBRATION)
    factor = np.exp(1j * share * CALIBRATION) / skinned - 1
    radius = (template[:, 1] - start[1]) + 1j * (template[:, 2] - start[2])
    return factor, radius


def _with_descendants(joint: int) -> list[int]:
    found = [joint]
    for child, parent in enumerate(PARENTS):  # parents come first
        if parent in found:
            found.append(child)
    return found
