"""The settings of a body fit: phases with growing freedom, weights of the terms in each."""

import math
from dataclasses import dataclass, field, replace

ROTATIONS = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose", "jaw_pose")

STEP_SIZES = {
    "pelvis": 0.5,
    "betas": 2.0,
    "expression": 2.0,
    **dict.fromkeys(ROTATIONS, 1.0),
}
"""Adam's step of each variable against the phase's `rate` (rad): metres, standard deviations, radians."""


@dataclass(frozen=True)
class Weights:
    """Factor of each term; see `terms`, `capsules` and `clips` for the energies."""

    body: float = 1.0
    feet: float = 1.0
    hands: float = 0.0
    face: float = 0.0
    direction: float = 10.0
    stance: float = 1.0
    limits: float = 1.0
    bending: float = 0.1
    balance: float = 0.0
    shape: float = 1.0
    expression: float = 1.0
    hand_prior: float = 1.0
    jaw: float = 1.0
    penetration: float = 0.0
    smoothness: float = 0.0
    silhouette: float = 0.0


@dataclass(frozen=True)
class Phase:
    """Steps with the same weights.

    Attributes:
        steps: of Adam.
        rate: its step at the start, rad; it falls to a tenth over the phase.
        free: names of the variables that move.
    """

    steps: int
    rate: float
    free: tuple[str, ...]
    weights: Weights = field(default_factory=Weights)

    def rate_at(self, step: int) -> float:
        """The rate, falling along half a cosine to a tenth."""
        return self.rate * (0.55 + 0.45 * math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Schedule:
    """All settings of a fit.

    Attributes:
        phases: in order; those before `choose_after` are run for each hypothesis of the orientation.
        sigma: scale of the robust reprojection, m.
        spread: standard deviation of a good keypoint, m.
        outside, uncovered: weights of `tversky`.
        silhouette_size: pixels per side of the silhouettes compared.
    """

    phases: tuple[Phase, ...]
    choose_after: int = 1
    sigma: float = 0.15
    spread: float = 0.03
    outside: float = 0.7
    uncovered: float = 0.3
    silhouette_size: int = 128


_PLACE = ("global_orient", "pelvis")
_POSE = (*_PLACE, "body_pose", "betas")
_ALL = (*_POSE, "left_hand_pose", "right_hand_pose", "jaw_pose", "expression")


def multi_view_schedule(effort: float = 1.0) -> Schedule:
    """Phases for bodies seen from all sides; `effort` scales the number of steps."""
    details = Weights(direction=0.0, hands=0.3, face=0.3, stance=0.3, penetration=1.0)
    phases = (
        Phase(30, 0.05, _PLACE, Weights(direction=0.0)),
        Phase(120, 0.06, _POSE, Weights(direction=20.0, stance=0.5)),
        Phase(120, 0.04, _ALL, details),
        Phase(30, 0.015, _ALL, replace(details, silhouette=300.0)),
    )
    return _scaled(Schedule(phases), effort)


def single_view_schedule(effort: float = 1.0) -> Schedule:
    """Phases for bodies seen once; `effort` scales the number of steps.

    The detector's 3-D guess stays in to the end: nothing else tells a limb that comes forward from one that
    goes back. One view is easier to fill than eight: leaving the mask costs more here, so that bodies fill their
    clothes alike. A renderer trained on joint fits widens all bodies by what those lack.
    """
    details = Weights(direction=10.0, hands=0.3, face=0.3, balance=1.0, penetration=1.0, smoothness=1.0)
    phases = (
        Phase(30, 0.05, _PLACE, Weights(direction=10.0)),
        Phase(100, 0.06, _POSE, Weights(direction=20.0, balance=1.0)),
        Phase(100, 0.04, _ALL, details),
        Phase(80, 0.02, _ALL, replace(details, silhouette=900.0)),
    )
    return _scaled(Schedule(phases, choose_after=2, outside=0.8, uncovered=0.2), effort)


def _scaled(schedule: Schedule, effort: float) -> Schedule:
    phases = tuple(replace(p, steps=max(round(p.steps * effort), 1)) for p in schedule.phases)
    return replace(schedule, phases=phases)
