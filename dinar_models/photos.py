"""Photos with fitted bodies, read for the networks: crops, partial textures, what tuning compares avatars with."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dinar_models.avatar import over_white
from dinar_models.body import BodyParams
from dinar_models.cameras import Camera, Crop, crop_camera, crop_image, seen_from_behind
from dinar_models.occlusion import occlusion_contours
from dinar_models.rasterize.base import uv_raster
from dinar_models.surface import Surface
from dinar_models.texture import SampleRules, Texels, TextureSample, sample_texture

SUPERSAMPLE = 2
"""Samples per texel and axis when an image is read into a texture."""

SAMPLE_RULES = SampleRules()

ASIDE_ZOOM, ASIDE_SHIFT = 1.4, 0.1
"""Crops for the tuning are larger or smaller by up to this factor, and aside by up to this share of their side."""

BEHIND_SQUARES = 6
"""At most so many of them are looked at from behind."""


Views = TypeVar("Views", bound="Outlines")


@dataclass(frozen=True)
class Outlines:
    """How far people go beside their bodies. N photos, each in J squares where tuning draws from several.

    Attributes:
        uv: rasters of the bodies, −1 on the background.
        mask: of the people, in [0, 1].
    """

    uv: Float[Tensor, "n *j s s 2"]
    mask: Float[Tensor, "n *j 1 s s"]

    @classmethod
    def stack(cls: type[Views], squares: Sequence[Views]) -> Views:
        """(N, …) of J squares as one (N, J, …)."""
        return cls(*(torch.stack(part, dim=1) for part in zip(*map(cls._tensors, squares), strict=True)))

    def select(self: Views, photos: Int[Tensor, " p"]) -> Views:
        """Some of the photos."""
        return type(self)(*(tensor[photos] for tensor in self._tensors()))

    def square(self: Views, number: int) -> Views:
        """One square (N, …) of all photos of (N, J, …)."""
        return type(self)(*(tensor[:, number] for tensor in self._tensors()))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, f.name) for f in dataclasses.fields(self)]


@dataclass(frozen=True)
class PhotoViews(Outlines):
    """Photos as tuning compares avatars with them.

    Attributes:
        target: the photos in [−1, 1], the person on white.
    """

    target: Float[Tensor, "n *j 3 s s"]


@dataclass
class PhotoInputs:
    """N photos of B people, cropped to the networks' size.

    Attributes:
        rgb: in [−1, 1] on black, what the encoder sees.
        target: in [−1, 1] on white, what the render is compared with.
        mask: of the person, in [0, 1].
        uv: UV raster of the fitted body, −1 on the background.
        sample: the partial textures.
        person: number of the person in each photo, 0 to B − 1; None: each photo shows another one, in order.
        views: the photos in all squares that tuning looks at, their own first.
        behind: the people's outlines as they are from behind, which are those of the photos mirrored.
    """

    rgb: Float[Tensor, "n 3 s s"]
    target: Float[Tensor, "n 3 s s"]
    mask: Float[Tensor, "n 1 s s"]
    uv: Float[Tensor, "n s s 2"]
    sample: TextureSample
    person: Int[Tensor, " n"] | None = None
    views: PhotoViews | None = None
    behind: Outlines | None = None

    @property
    def photos(self) -> list[Int[Tensor, " p"]]:
        """The numbers of each person's photos."""
        if self.person is None:
            return list(torch.arange(len(self.rgb)).split(1))
        return [(self.person == k).nonzero()[:, 0] for k in range(int(self.person.max()) + 1)]

    def views_of(self, photos: Int[Tensor, " p"]) -> PhotoViews:
        """What tuning compares one person's avatar with."""
        own = PhotoViews(self.uv[:, None], self.mask[:, None], self.target[:, None])
        return (self.views or own).select(photos)

    def behind_of(self, photos: Int[Tensor, " p"]) -> Outlines | None:
        """One person's outlines from behind."""
        return None if self.behind is None else self.behind.select(photos)

    @property
    def frontality(self) -> Float[Tensor, "b t t"]:
        """How frontally each person's texels are seen, in the photo that sees them best; 0 where in none."""
        seen = self.sample.frontality.clamp(0, 1)
        return torch.stack([seen[photos].amax(dim=0) for photos in self.photos])


@torch.no_grad()
def read_photos(
    rgb: UInt8[np.ndarray, "b h w 3"],
    mask: UInt8[np.ndarray, "b h w"],
    camera: Camera,
    crop: Crop,
    params: BodyParams,
    *,
    surface: Surface,
    image_size: int,
    texture_size: int,
    rules: SampleRules = SAMPLE_RULES,
    person: Int[Tensor, " b"] | None = None,
    occlusion: bool = True,
    crops: int = 1,
    behind: bool = False,
) -> PhotoInputs:
    """Crop photos around their people and read them into partial textures at the photos' own resolution.

    Args:
        params: the body in each photo.
        person: see PhotoInputs.
        occlusion: leave out the outlines of limbs in front of the body (paper section 3.5).
        crops: squares of each photo that tuning looks at, `crop` among them.
        behind: outlines from behind are wanted.
    """
    colour = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255
    cover = torch.from_numpy(mask).float()[:, None] / 255
    squares = [crop, *crops_aside(crop, crops - 1)]
    views = [cut(colour, cover, camera, square, params, surface, image_size) for square in squares]
    backs = list(zip(squares, views, strict=True))[:BEHIND_SQUARES] if behind else []
    outlines = [
        outlines_behind(view.mask, crop_camera(camera, square, image_size), params, surface)
        for square, view in backs
    ]
    own = views[0]
    samples = [_sample(colour[[i]], cover[[i], 0], camera.select(i), params.select([i]), surface, texture_size, rules,
                       occlusion) for i in range(len(params))]  # fmt: skip
    return PhotoInputs(
        rgb=own.target - 2 * (1 - own.mask),
        target=own.target,
        mask=own.mask,
        uv=own.uv,
        sample=TextureSample(*(torch.cat([getattr(s, f) for s in samples]) for f in _SAMPLE_FIELDS)),
        person=person,
        views=PhotoViews.stack(views),
        behind=Outlines.stack(outlines) if outlines else None,
    )


def cut(
    colour: Float[Tensor, "n 3 h w"],
    cover: Float[Tensor, "n 1 h w"],
    camera: Camera,
    crop: Crop,
    params: BodyParams,
    surface: Surface,
    size: int,
) -> PhotoViews:
    """A square of each photo, and the body's UV raster in it.

    Args:
        colour: the photos in [0, 1].
        cover: masks of the people in [0, 1].
    """
    rgb = crop_image(colour, crop, size, fill=1.0)
    mask = crop_image(cover, crop, size, fill=0.0).clamp(0, 1)
    uv = surface.uv(params, crop_camera(camera, crop, size))
    return PhotoViews(uv, mask, over_white(2 * rgb - 1, mask))


def outlines_behind(
    mask: Float[Tensor, "n 1 s s"], camera: Camera, params: BodyParams, surface: Surface
) -> Outlines:
    """What squares of photos say of their people's outlines from behind: their masks mirrored, and such rasters.

    Args:
        mask: of the people in the squares, in [0, 1].
        camera: of the squares.
    """
    bodies = (surface.body(params.select([i])).vertices for i in range(len(params)))
    turned = (seen_from_behind(vertices, camera.select(i)) for i, vertices in enumerate(bodies))
    return Outlines(torch.cat([surface.uv_of(*one) for one in turned]), mask.flip(-1))


def crops_aside(crop: Crop, count: int) -> list[Crop]:
    """Squares that show the same people larger, smaller and aside; the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    zoom, x, y = 2 * torch.rand(3, max(count, 0), generator=generator) - 1
    made = []
    for side, dx, dy in zip(ASIDE_ZOOM**zoom, ASIDE_SHIFT * x, ASIDE_SHIFT * y, strict=True):
        middle = (crop.x + crop.side * (0.5 + dx), crop.y + crop.side * (0.5 + dy))
        left, top = (m - crop.side * side / 2 for m in middle)
        made.append(Crop(left, top, crop.side * side))
    return made


_SAMPLE_FIELDS = ("rgb", "sampled", "filled", "frontality")


def _sample(
    rgb: Tensor,
    mask: Tensor,
    camera: Camera,
    params: BodyParams,
    surface: Surface,
    size: int,
    rules: SampleRules,
    occlusion: bool,
) -> TextureSample:
    """The partial texture of one photo."""
    tables = surface.atlas.tables(size * SUPERSAMPLE)
    vertices = surface.body(params).vertices
    fragments = surface.rasterizer.rasterize(vertices, surface.body.faces, camera)
    blocked = None
    if occlusion:
        uv = uv_raster(fragments, torch.from_numpy(surface.atlas.corner_uv))
        blocked = occlusion_contours(uv, torch.from_numpy(tables.limb_colour))
    return sample_texture(
        rgb, mask, vertices, surface.body.faces, camera, Texels.of(tables), fragments,
        blocked=blocked, rules=rules, supersample=SUPERSAMPLE,
    )  # fmt: skip
