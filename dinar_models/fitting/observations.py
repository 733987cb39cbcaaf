"""What is known of the people to be fitted, the form in which the energy takes it, and what a fit is."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dinar_models.body import BodyParams
from dinar_models.cameras import Camera

Variables = dict[str, Tensor]
"""The fields of BodyParams but `transl` and `scale`, and `pelvis`: where that joint is in the world, m.

A shape that changes moves the pelvis in the body's own frame; with the pelvis as variable it stays put. Frames of
a clip and photos of a person share one shape: `betas` has a row for each person, everything else for each body."""


@dataclass
class Observations:
    """What is known of B bodies from V views each.

    Attributes:
        xyc: keypoints, pixels of the camera's image and confidence; 0 confidence = not seen.
        camera: B·V cameras, body by body.
        mask: of the person, 0–1, square, of any resolution; None switches the silhouette term off.
        world: the detector's own 3-D guess in camera axes, m, zeros where it has none; used with one view.
        clip: bodies beside each other with the same number are one person in the frames of a video, in their
            order; None: their order says nothing.
        person: number of the person, from 0, in each of several photos of somebody; None: as `clip` says, or all
            are different people.
    """

    xyc: Float[Tensor, "b v j 3"]
    camera: Camera
    mask: Float[Tensor, "b v h w"] | None = None
    world: Float[Tensor, "b v j 3"] | None = None
    clip: Int[Tensor, " b"] | None = None
    person: Int[Tensor, " b"] | None = None

    def __len__(self) -> int:
        return len(self.xyc)

    @property
    def views(self) -> int:
        """Views of each body."""
        return self.xyc.shape[1]

    def select(self, bodies: Int[Tensor, " r"]) -> "Observations":
        """The observations of some bodies."""
        rows = (bodies[:, None] * self.views + torch.arange(self.views)).flatten()
        mask = None if self.mask is None else self.mask[bodies]
        world = None if self.world is None else self.world[bodies]
        clip = None if self.clip is None else self.clip[bodies]
        person = None if self.person is None else self.person[bodies]
        return Observations(self.xyc[bodies], self.camera.select(rows), mask, world, clip, person)


@dataclass
class Target:
    """Observations in the form that the energy takes.

    Attributes:
        observations: with sides exchanged where the detector erred.
        bones: measured directions of `energy.BONES`, world.
        known: how sure they are, 0–1.
        person: row of `betas` that each body has.
        triples: bodies that are three consecutive frames of a clip.
    """

    observations: Observations
    bones: Float[Tensor, "b k 3"]
    known: Float[Tensor, "b k"]
    person: Int[Tensor, " b"]
    triples: Int[Tensor, "t 3"]

    @staticmethod
    def of_strangers(observations: Observations, bones: Tensor, known: Tensor) -> "Target":
        """Each body is another person's."""
        person = torch.arange(len(observations))
        return Target(observations, bones, known, person, person.new_zeros(0, 3))

    @property
    def up(self) -> Float[Tensor, "b 3"]:
        """Against gravity: the first camera's up, since people hold cameras level."""
        return -self.observations.camera.R[:: self.observations.views, 1]

    def strangers(self, bodies: Int[Tensor, " r"]) -> "Target":
        """The target of some bodies, each another person's."""
        return Target.of_strangers(self.observations.select(bodies), self.bones[bodies], self.known[bodies])


@dataclass
class Fit:
    """Bodies and how well they explain what was seen.

    Attributes:
        params: in the world of the cameras.
        reprojection: mean confidence-weighted distance of the body's and feet's keypoints, px.
        person: length of the person in the image, px: what `reprojection` is to be compared with.
        iou: overlap of the body's and the person's silhouette, 0–1; NaN where the mask is empty or missing.
        stance: energy of the pose prior.
        excess: largest angle beyond a joint's limits, rad.
        depth: how far limbs are inside each other or the torso at the deepest place, m.
    """

    params: BodyParams
    reprojection: Float[Tensor, "b v"]
    person: Float[Tensor, "b v"]
    iou: Float[Tensor, "b v"]
    stance: Float[Tensor, " b"]
    excess: Float[Tensor, " b"]
    depth: Float[Tensor, " b"]

    def select(self, bodies: Int[Tensor, " r"]) -> "Fit":
        """Some of the bodies."""
        rest = {f.name: getattr(self, f.name)[bodies] for f in fields(self) if f.name != "params"}
        return Fit(params=self.params.select(bodies), **rest)
