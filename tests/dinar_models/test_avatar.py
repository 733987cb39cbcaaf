"""The assembled avatar: windows around the body, pasting, configuration."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dinar_models.avatar import AvatarConfig, AvatarNets, Texture, body_windows, over_white
from dinar_models.texture import rasterise_texture
from dinar_models.types import NeuralTexture

TINY = AvatarConfig(
    image_size=64, texture_size=16, encoder_base=8, generator_base=8, renderer_base=4, renderer_blocks=1,
    renderer_kernel=3, rgb_blocks=1, mask_blocks=1, style=8, margin=0.1,
)  # fmt: skip


def random(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def nets(margin: float) -> AvatarNets:
    torch.manual_seed(0)
    return AvatarNets(replace(TINY, margin=margin)).eval().requires_grad_(False)


def square(rows: slice, columns: slice, size: int = 64) -> Tensor:
    """UV raster (1, size, size, 2) of a square on background, coordinates growing across it."""
    uv = torch.full((1, size, size, 2), -1.0)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    uv[0, rows, columns, 0] = torch.linspace(0, 1, width)
    uv[0, rows, columns, 1] = torch.linspace(0, 1, height)[:, None]
    return uv


def test_over_white_by_hand() -> None:
    rgb = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 1, 3)
    out = over_white(rgb, torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    assert out[0, :, 0].T.tolist() == [[1, 1, 1], [0, 0.5, 1], [-1, 0, 1]]


def covered(*boxes: tuple[int, int, int, int], size: int = 64) -> Tensor:
    """One image per box of rows and columns [y0, y1, x0, x1)."""
    images = torch.zeros(len(boxes), size, size, dtype=torch.bool)
    for image, (y0, y1, x0, x1) in zip(images, boxes, strict=True):
        image[y0:y1, x0:x1] = True
    return images


def test_windows_of_a_batch_have_one_size() -> None:
    """Boxes 20 × 10 and 4 × 13 with 3 px around: 26 rows become 32, 19 columns become 32; clamped at borders."""
    windows = body_windows(covered((20, 40, 30, 40), (60, 64, 0, 13)), 3)
    assert windows == [(14, 46, 19, 51), (32, 64, 0, 32)]


def test_window_of_nobody_is_in_the_middle() -> None:
    assert body_windows(covered((0, 0, 0, 0)), 3) == [(24, 40, 24, 40)]


def test_a_wide_margin_takes_the_whole_image() -> None:
    assert body_windows(covered((30, 31, 30, 31)), 64) == [(0, 64, 0, 64)]


def test_every_body_lies_in_its_window_with_the_margin() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        (y0, x0), (h, w) = torch.randint(0, 60, (2,), generator=generator).tolist(), torch.randint(
            1, 30, (2,), generator=generator
        ).tolist()  # fmt: skip
        y1, x1 = min(y0 + h, 64), min(x0 + w, 64)
        ((top, bottom, left, right),) = body_windows(covered((y0, y1, x0, x1)), 2)
        assert 0 <= top <= max(y0 - 2, 0)
        assert min(y1 + 2, 64) <= bottom <= 64
        assert 0 <= left <= max(x0 - 2, 0)
        assert min(x1 + 2, 64) <= right <= 64
        assert (bottom - top) % 16 == (right - left) % 16 == 0


def test_margin_1_renders_the_whole_image() -> None:
    model, texture, uv = nets(1.0), random(1, 21, 16, 16), square(slice(20, 40), slice(30, 40))
    rgb, mask = model.render(NeuralTexture(texture), uv)
    whole = model.renderer(rasterise_texture(texture, uv), uv)
    assert torch.equal(rgb, whole[0])
    assert torch.equal(mask, whole[1])


def test_window_is_rendered_alone_and_pasted_on_white() -> None:
    """6 px of margin around 20 × 10 px: window rows 14–45, columns 19–50."""
    model, texture, uv = nets(0.1), random(1, 21, 16, 16), square(slice(20, 40), slice(30, 40))
    rgb, mask = model.render(texture, uv)
    near = uv[:, 14:46, 19:51]
    alone = model.renderer(rasterise_texture(texture, near), near)
    torch.testing.assert_close(rgb[..., 14:46, 19:51], alone[0])
    torch.testing.assert_close(mask[..., 14:46, 19:51], alone[1])
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[14:46, 19:51] = False
    assert rgb[..., outside].eq(1).all()
    assert mask[..., outside].eq(0).all()


def test_a_body_that_moves_takes_its_picture_along() -> None:
    """Whole images do not: the net's borders stay where they are. A batch renders each body in its own window."""
    model, texture = nets(0.1), random(1, 21, 16, 16)
    there, moved = square(slice(20, 40), slice(20, 30)), square(slice(23, 43), slice(31, 41))
    both = model.render(texture.expand(2, -1, -1, -1), torch.cat([there, moved]))
    for image in both:
        torch.testing.assert_close(image[0, :, 14:46, 9:41], image[1, :, 17:49, 20:52])


def test_window_and_whole_image_agree_on_the_body() -> None:
    """A trained net hardly looks far beyond the body; an untrained one, with its net silenced, not at all."""
    torch.manual_seed(0)
    texture, uv = random(1, 21, 16, 16).sigmoid(), square(slice(20, 40), slice(30, 40))
    texture[:, 20] = 1
    images = []
    for margin in (0.1, 1.0):
        model = AvatarNets(replace(TINY, margin=margin, colour_skip=True)).eval().requires_grad_(False)
        for head in (model.renderer.rgb_head, model.renderer.mask_head):
            head[-1].weight.zero_()  # type: ignore[operator]
        images.append(over_white(*model.render(texture, uv)))
    torch.testing.assert_close(images[0][..., 20:40, 30:40], images[1][..., 20:40, 30:40])


def test_gradients_pass_from_the_image_to_the_texture_where_it_is_seen() -> None:
    """The left half of the texture is on the square, the right half is nowhere."""
    model, texture = nets(0.1), random(1, 21, 16, 16).requires_grad_()
    uv = square(slice(10, 50), slice(10, 50))
    uv[..., 0] = torch.where(uv[..., 0] >= 0, 0.4 * uv[..., 0], uv[..., 0])
    rgb, mask = model.render(texture, uv)
    (rgb.sum() + mask.sum()).backward()
    assert texture.grad is not None
    assert texture.grad[..., :6].abs().sum((1, 2)).min() > 0
    assert texture.grad[..., 8:].eq(0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_generated_channels_are_the_photos_and_the_generators(seed: int) -> None:
    model = nets(1.0)
    rgb, mask = random(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    first, again = (model.generate(rgb, mask, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert first.shape == (2, 16, 16, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_nets_are_rebuilt_from_their_config() -> None:
    model = nets(0.25)
    again = AvatarNets.from_config(model.config_dict())
    assert again.config == replace(TINY, margin=0.25)
    again.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize(
    ("texture", "neural", "colours"), [("both", True, True), ("rgb", False, True), ("neural", True, False)]
)
def test_only_channels_that_textures_hold_are_rendered(texture: Texture, neural: bool, colours: bool) -> None:
    torch.manual_seed(0)
    model = AvatarNets(replace(TINY, texture=texture)).eval().requires_grad_(False)
    uv = square(slice(10, 50), slice(20, 40))
    first, other = (NeuralTexture(random(1, 21, 16, 16, seed=seed)) for seed in (1, 2))
    mixed = NeuralTexture.assemble(other.generated, first.rgb, first.sampled, first.filled)
    recoloured = NeuralTexture.assemble(first.generated, other.rgb, other.sampled, other.filled)
    for changed, matters in ((mixed, neural), (recoloured, colours)):
        same = torch.equal(model.render(first, uv)[0], model.render(changed, uv)[0])
        assert same != matters


def test_textures_of_colours_alone_generate_nothing() -> None:
    model = AvatarNets(replace(TINY, texture="rgb"))
    generated = model.generate(random(2, 3, 64, 64), torch.ones(2, 1, 64, 64))
    assert generated.shape == (2, 16, 16, 16)
    assert not generated.any()
    assert not generated.requires_grad
