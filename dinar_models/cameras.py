"""Pinhole cameras in OpenCV's convention, orbits around a subject, and the square crop.

x right, y down, z forward; pixel centres at +0.5, so that an image of `size` pixels spans [0, size];
`x_cam = R x_world + T`; metres and radians.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class Camera:
    """A batch of cameras with square images.

    Attributes:
        K: intrinsics, px.
        R, T: world → camera.
        size: pixels per side.
    """

    K: Float[Tensor, "b 3 3"]
    R: Float[Tensor, "b 3 3"]
    T: Float[Tensor, "b 3"]
    size: int

    def __len__(self) -> int:
        return len(self.K)

    @property
    def centers(self) -> Float[Tensor, "b 3"]:
        """Positions of the cameras in the world, m."""
        return -(self.R.mT @ self.T[..., None])[..., 0]

    def transform(self, points: Float[Tensor, "b1 n 3"]) -> Float[Tensor, "b n 3"]:
        """World → camera frame; a single set of points is shown to every camera."""
        return points @ self.R.mT + self.T[:, None]

    def project(self, points: Float[Tensor, "b1 n 3"]) -> Float[Tensor, "b n 2"]:
        """World points → pixels. Points behind a camera give meaningless pixels."""
        image = self.transform(points) @ self.K.mT
        return image[..., :2] / image[..., 2:]

    def select(self, rows: int | slice | list[int] | Int[Tensor, " r"]) -> "Camera":
        """Some of the cameras; an int gives a batch of one."""
        rows = [rows] if isinstance(rows, int) else rows
        return Camera(self.K[rows], self.R[rows], self.T[rows], self.size)

    @staticmethod
    def cat(cameras: Sequence["Camera"]) -> "Camera":
        """One batch of several; their images must be of one size."""
        sizes = {camera.size for camera in cameras}
        if len(sizes) != 1:
            raise ValueError(f"cameras of images with {sorted(sizes)} pixels a side cannot be one batch")
        K, R, T = (torch.cat([getattr(camera, name) for camera in cameras]) for name in ("K", "R", "T"))
        return Camera(K, R, T, sizes.pop())

    def resize(self, size: int) -> "Camera":
        """The same views with `size` pixels per side."""
        return Camera(_scale_shift(self.K, size / self.size, 0.0, 0.0), self.R, self.T, size)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Camera":
        """Move or convert the tensors."""
        K, R, T = (t.to(device=device, dtype=dtype) for t in (self.K, self.R, self.T))
        return Camera(K, R, T, self.size)


def orbit_camera(
    yaw: float | Float[Tensor, " b"],
    pitch: float | Float[Tensor, " b"],
    distance: float | Float[Tensor, " b"],
    *,
    target: Float[Tensor, "3"],
    size: int,
    fov: float | None = None,
    focal: float | None = None,
) -> Camera:
    """Cameras on a sphere, looking at its middle, world up (+y) upwards.

    Args:
        yaw: radians; 0 = in front of the subject (+z), growing towards +x (the subject's left).
        pitch: radians in (−π/2, π/2); positive = from above.
        distance: to the target, m.
        target: the point in the middle of the images, m.
        fov: full angle of view, radians; or
        focal: focal length, px. Exactly one of the two.
    """
    if fov is not None and focal is None:
        focal = size / (2 * math.tan(fov / 2))
    elif focal is None or fov is not None:
        raise ValueError(f"give either fov or focal, got fov={fov}, focal={focal}")
    around, above, away = torch.broadcast_tensors(
        *(torch.as_tensor(value).to(target).reshape(-1) for value in (yaw, pitch, distance))
    )
    outward = torch.stack([around.sin() * above.cos(), above.sin(), around.cos() * above.cos()], dim=1)
    right = torch.stack([around.cos(), torch.zeros_like(around), -around.sin()], dim=1)
    down = torch.linalg.cross(-outward, right)
    rotation = torch.stack([right, down, -outward], dim=1)
    centers = target + away[:, None] * outward
    lens = [[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]
    K = torch.tensor(lens, dtype=target.dtype, device=target.device)
    translation = -(rotation @ centers[..., None])[..., 0]
    return Camera(K.expand(len(around), 3, 3), rotation, translation, size)


@dataclass
class Crop:
    """Squares of images, in pixels of those images; they may reach outside.

    Attributes:
        x, y: the upper left corner.
        side: length of the side.
    """

    x: Float[Tensor, " b"]
    y: Float[Tensor, " b"]
    side: Float[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.x)

    @staticmethod
    def cat(crops: Sequence["Crop"]) -> "Crop":
        """One batch of several."""
        return Crop(*(torch.cat([getattr(crop, name) for crop in crops]) for name in ("x", "y", "side")))


def seen_from_behind(
    vertices: Float[Tensor, "1 n 3"], camera: Camera
) -> tuple[Float[Tensor, "1 n 3"], Camera]:
    """What a body looks like from behind, with just the outline that the camera sees, mirrored.

    What two opposite views have in common is the outline, but for perspective. So depths are reversed about their
    mean with every point left on its ray, then left and right exchanged, which makes it a body again and not a
    mirror image: pixel (u, v) becomes (size − u, v).

    Returns:
        The points in the frame of the camera, and the one camera that sees them so.
    """
    points = camera.transform(vertices)
    depth = points[..., 2:]
    turned = points * (2 * depth.mean() - depth) / depth
    turned[..., 0] *= -1
    K = camera.K.clone()
    K[:, 0, 2] = camera.size - K[:, 0, 2]
    eye = torch.eye(3, dtype=K.dtype, device=K.device)[None]
    return turned, Camera(K, eye, torch.zeros_like(camera.T), camera.size)


def points_box(points: Float[Tensor, "b n 2"]) -> Float[Tensor, "b 4"]:
    """(left, top, right, bottom) of sets of pixels."""
    return torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)


def mask_box(mask: Float[Tensor, "b h w"], threshold: float = 0.5) -> Float[Tensor, "b 4"]:
    """(left, top, right, bottom) of the pixels above the threshold; the whole image where there is none."""
    inside = mask > threshold
    bounds = []
    for axis, length in ((1, mask.shape[2]), (2, mask.shape[1])):
        hit = inside.any(dim=axis)
        place = torch.arange(length, device=mask.device).expand_as(hit)
        low = place.masked_fill(~hit, length).amin(dim=1)
        high = place.masked_fill(~hit, -1).amax(dim=1) + 1
        empty = low >= high
        bounds.append((low.masked_fill(empty, 0), high.masked_fill(empty, length)))
    (left, right), (top, bottom) = bounds
    return torch.stack([left, top, right, bottom], dim=1).to(mask.dtype)


def square_crop(*boxes: Float[Tensor, "b 4"], margin: float = 1.2) -> Crop:
    """The square around the union of boxes (left, top, right, bottom), its longer side × margin.

    Both width and height count: the published code took the width alone and cut tall people's feet.
    """
    low = torch.stack([box[:, :2] for box in boxes]).amin(dim=0)
    high = torch.stack([box[:, 2:] for box in boxes]).amax(dim=0)
    side = (high - low).amax(dim=1) * margin
    corner = (low + high) / 2 - side[:, None] / 2
    return Crop(corner[:, 0], corner[:, 1], side)


def crop_image(
    image: Float[Tensor, "b c h w"], crop: Crop, size: int, fill: float
) -> Float[Tensor, "b c size size"]:
    """Cut squares out and resample them to size × size, anti-aliased; `fill` is the colour outside."""
    height, width = image.shape[-2:]
    samples = max(math.ceil(float(crop.side.max()) / size - 1e-3), 1)
    steps = (torch.arange(size * samples, dtype=image.dtype, device=image.device) + 0.5) / (size * samples)
    x = 2 * (crop.x[:, None] + crop.side[:, None] * steps) / width - 1
    y = 2 * (crop.y[:, None] + crop.side[:, None] * steps) / height - 1
    count = len(steps)
    grid = torch.stack([x[:, None].expand(-1, count, -1), y[:, :, None].expand(-1, -1, count)], dim=-1)
    fine = F.grid_sample(image - fill, grid, padding_mode="zeros", align_corners=False) + fill
    return F.avg_pool2d(fine, samples) if samples > 1 else fine


def crop_camera(camera: Camera, crop: Crop, size: int) -> Camera:
    """The camera of the cropped and resampled images."""
    return Camera(_scale_shift(camera.K, size / crop.side, crop.x, crop.y), camera.R, camera.T, size)


def _scale_shift(
    K: Float[Tensor, "b 3 3"], scale: float | Tensor, x: float | Tensor, y: float | Tensor
) -> Float[Tensor, "b 3 3"]:
    """Intrinsics after pixels moved by (−x, −y) and were scaled."""
    zero, one = torch.zeros_like(K[:, 0, 0]), torch.ones_like(K[:, 0, 0])
    s = one * scale
    rows = [s, zero, -s * x, zero, s, -s * y, zero, zero, one]
    return torch.stack(rows, dim=1).view(-1, 3, 3) @ K
