"""Who stands, who turns, and what the camera holds."""

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dinar_models.animation import (
    compose_white,
    framing_camera,
    render_frames,
    standing,
    turntable,
)
from dinar_models.avatar import AvatarConfig, AvatarNets
from dinar_models.body import SIZES, BodyModel, BodyParams
from dinar_models.keypoints import SMPLX_NAMES
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.uv_atlas import Atlas


@pytest.fixture(scope="module")
def body(tiny_body: Path) -> BodyModel:
    return BodyModel.load(tiny_body)


@pytest.fixture
def person() -> BodyParams:
    """Somebody with a shape, hands and a pose of their own, somewhere, turned."""
    generator = torch.Generator().manual_seed(3)
    return BodyParams.from_dict({n: 0.3 * torch.randn(1, s, generator=generator) for n, s in SIZES.items()})


def joint(positions: Tensor, name: str) -> Tensor:
    """(frames, 3)."""
    return positions[:, SMPLX_NAMES.index(name)]


def assert_same_person(moved: BodyParams, person: BodyParams, *, but: tuple[str, ...]) -> None:
    """Shape, hands, face and scale stay; the body is at the origin."""
    for field in fields(moved):
        if field.name not in (*but, "global_orient", "body_pose", "transl"):
            value = getattr(moved, field.name)
            assert torch.equal(value, getattr(person, field.name).expand_as(value)), field.name


def test_turntable_turns_once_in_equal_steps(person: BodyParams) -> None:
    turning = turntable(person, 8)
    expected = torch.zeros(8, 3)
    expected[:, 1] = torch.arange(8) * (math.pi / 4)
    torch.testing.assert_close(turning.global_orient, expected)
    assert torch.equal(turning.body_pose, person.body_pose.expand(8, -1))
    assert not turning.transl.any()
    assert_same_person(turning, person, but=())


def test_turntable_shows_the_left_side_after_three_quarters(body: BodyModel) -> None:
    """Turning about +y brings the face (+z) to +x after a quarter: the viewer in front sees the right side."""
    nose = body(turntable(BodyParams.zeros(1), 4)).joints
    ahead = joint(nose, "nose") - joint(nose, "head")
    assert ahead[0, 2] > 0.05
    assert ahead[1, 0] > 0.05
    assert ahead[2, 2] < -0.05
    assert ahead[3, 0] < -0.05


def test_standing_arms_hang_clear_of_the_hips(body: BodyModel, person: BodyParams) -> None:
    assert_same_person(standing(person), person, but=())
    positions = body(standing(BodyParams.zeros(1))).joints
    for side, sign in (("left", 1), ("right", -1)):
        points = [joint(positions, f"{side}_{name}")[0] for name in ("shoulder", "elbow", "wrist")]
        assert points[0][1] > points[1][1] + 0.15
        assert points[1][1] > points[2][1] + 0.1
        assert sign * points[2][0] > sign * joint(positions, f"{side}_hip")[0, 0] + 0.1
    left, right = joint(positions, "left_wrist")[0], joint(positions, "right_wrist")[0]
    torch.testing.assert_close(left * torch.tensor([-1.0, 1, 1]), right, atol=5e-3, rtol=0)


@pytest.mark.parametrize("stretched", [False, True])
def test_camera_holds_every_frame(body: BodyModel, stretched: bool) -> None:
    """Arms spread or hanging, turned to all sides; who stands fills three quarters of the height."""
    pose = BodyParams.zeros(1) if stretched else standing(BodyParams.zeros(1))
    vertices = body(turntable(pose, 4)).vertices
    pixels = framing_camera(vertices, 100).project(vertices.reshape(1, -1, 3))[0]
    assert pixels.min() > 0
    assert pixels.max() < 100
    assert stretched or pixels[:, 1].max() - pixels[:, 1].min() > 75
    middle = (pixels.amax(0) + pixels.amin(0)) / 2
    assert (middle - 50).abs().max() < 4


def test_camera_at_a_yaw_sees_the_side() -> None:
    """At a quarter turn towards +x, what is at +z of the body is at the image's left."""
    points = torch.tensor([[[0.0, 0, 0.5], [0, 0, -0.5], [0, 1, 0], [0, -1, 0]]])
    pixels = framing_camera(points, 100, yaw=math.pi / 2).project(points)[0]
    assert pixels[0, 0] < 50 < pixels[1, 0]
    assert pixels[2, 1] < 50 < pixels[3, 1]


def test_compose_white_by_hand() -> None:
    rgb = torch.tensor([-1.0, 0.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 1, 3)
    frames = compose_white(rgb, torch.tensor([[[[1.0, 0.5, 0.0]]]]))
    assert frames.dtype == np.uint8
    assert frames[0, 0].tolist() == [[0, 128, 255], [128, 191, 255], [255, 255, 255]]


def test_frames_are_rendered_in_order_whatever_the_batch(body: BodyModel, tiny_body: Path) -> None:
    """An untrained net with colour skip shows a red texture as reddish; around the person all is white."""
    torch.manual_seed(0)
    config = AvatarConfig(image_size=32, texture_size=16, encoder_base=8, generator_base=8, style=8,
                          renderer_base=4, renderer_blocks=1, renderer_kernel=3, rgb_blocks=1, mask_blocks=1,
                          colour_skip=True, margin=0.0)  # fmt: skip
    nets = AvatarNets(config).eval()
    texture = torch.zeros(1, 21, 16, 16)
    texture[:, [16, 19, 20]] = 1  # red, all of it seen
    params = turntable(BodyParams.zeros(1), 3)
    atlas = Atlas.load(tiny_body / "atlas.npz")

    def frames(rows: list[int], batch: int) -> np.ndarray:
        camera = framing_camera(body(params).vertices, 64)
        return np.stack(list(render_frames(
            nets, texture, params.select(rows), body=body, atlas=atlas, rasterizer=EmbreeRasterizer(),
            size=64, camera=camera, batch=batch,
        )))  # fmt: skip

    whole = frames([0, 1, 2], 2)
    assert whole.shape == (3, 64, 64, 3)
    assert (whole[:, 0] == 255).all()
    red = (whole[..., 0] > 200) & (whole[..., 1] < 60)
    assert (red.sum(axis=(1, 2)) > 100).all()
    width = red.any(axis=1).sum(axis=1)
    assert width[1] == pytest.approx(width[0] / 2, abs=3)  # spread arms, turned by a third: cos 120° = −½
    assert width[1] == pytest.approx(width[2], abs=2)
    assert np.abs(frames([1], 4)[0].astype(int) - whole[1]).mean() < 2
