"""Frames of a video: one person, one shape, no jumps.

The frames are fitted alone first. Then the turns that one image leaves in doubt are settled along the clip, and
the last phases share the shape and pay for what jerks.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dinar_models.fitting.terms import geman_mcclure

TURN_PRICE = 60.0
"""Energy of turning by half a circle from one frame to the next."""


def people_of(clip: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Number of the person in each frame: a new one wherever the clip's number changes."""
    return torch.cat([clip.new_zeros(1), (clip[1:] != clip[:-1]).long()]).cumsum(dim=0)


def triples_of(clip: Int[Tensor, " b"]) -> Int[Tensor, "t 3"]:
    """Rows of three consecutive frames of one clip."""
    first = torch.arange(max(len(clip) - 2, 0))
    inside = (clip[first] == clip[first + 1]) & (clip[first] == clip[first + 2])
    return first[inside][:, None] + torch.arange(3)


def smoothness_energy(
    joints: Float[Tensor, "b j 3"], triples: Int[Tensor, "t 3"], spread: float = 0.05, sigma: float = 0.15
) -> Float[Tensor, " b"]:
    """Robust price of second differences of joints over three frames, given to the middle one.

    Steady motion is free; frames may lie a third of a second apart, so what really jerks costs a bounded amount.

    Args:
        joints: world, m.
        spread: standard deviation of the second difference, m.
        sigma: scale of the Geman-McClure function, m.
    """
    before, middle, after = joints[triples].unbind(dim=1)
    squared = (before - 2 * middle + after).square().sum(dim=-1)
    price = 0.5 * geman_mcclure(squared, sigma).sum(dim=1) / spread**2
    return joints.new_zeros(len(joints)).index_add(0, triples[:, 1], price)


def settle_turns(
    energy: Float[Tensor, "b 2"], rotation: Float[Tensor, "b 2 3 3"], person: Int[Tensor, " b"]
) -> Int[Tensor, " b"]:
    """Which of its two hypotheses each frame takes, so that a person does not spin between frames.

    The cheapest path through each clip (Viterbi); a frame alone takes its cheaper one.

    Args:
        energy: of both, inf where there is none.
        rotation: of the bodies, for both.
        person: of each frame, see `people_of`.
    """
    cost, came_from = energy.clone(), torch.zeros_like(energy, dtype=torch.long)
    for frame in range(1, len(energy)):
        if person[frame] == person[frame - 1]:
            cosine = (torch.einsum("xii->x", _relative(rotation[frame - 1], rotation[frame])) - 1) / 2
            through = cost[frame - 1][:, None] + TURN_PRICE * (1 - cosine.view(2, 2)) / 2
            cheapest = through.min(dim=0)
            cost[frame] += cheapest.values
            came_from[frame] = cheapest.indices
    chosen = cost.argmin(dim=1)
    for frame in reversed(range(1, len(energy))):
        if person[frame] == person[frame - 1]:
            chosen[frame - 1] = came_from[frame, chosen[frame]]
    return chosen


def _relative(before: Float[Tensor, "2 3 3"], after: Float[Tensor, "2 3 3"]) -> Float[Tensor, "4 3 3"]:
    """Rotations from each hypothesis of one frame to each of the next."""
    return (before.mT[:, None] @ after[None]).flatten(0, 1)


def shared_shape(betas: Float[Tensor, "b 10"], person: Int[Tensor, " b"]) -> Float[Tensor, "p 10"]:
    """The mean shape over each person's frames."""
    people = int(person.max()) + 1
    total = betas.new_zeros(people, betas.shape[1]).index_add(0, person, betas)
    return total / torch.bincount(person, minlength=people)[:, None]
