"""Encoder, texture generator and discriminator: what each may and may not depend on."""

import torch
from torch import Tensor, nn

from dinar_models.discriminator import Discriminator
from dinar_models.encoder import Encoder
from dinar_models.generator import TextureGenerator
from dinar_models.losses import discriminator_loss, r1_penalty
from dinar_models.stylegan2 import ToTexture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def silent(net: nn.Module) -> list[str]:
    """Parameters that got no gradient."""
    return [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]


def test_encoder_sees_colour_mask_and_noise() -> None:
    torch.manual_seed(0)
    encoder = Encoder(16, base=8, style=6).requires_grad_(False)
    rgb, mask = random(2, 3, 16, 16), torch.ones(2, 1, 16, 16)
    style = encoder(rgb, mask, generator())
    assert style.shape == (2, 6)
    assert torch.equal(encoder(rgb, mask, generator()), style)
    for other in (encoder(-rgb, mask, generator()), encoder(rgb, 0 * mask, generator()),
                  encoder(rgb, mask, generator(1))):  # fmt: skip
        assert (other - style).abs().max() > 1e-3


def test_encoder_treats_samples_apart() -> None:
    """Changing the second photo changes the second style only."""
    torch.manual_seed(0)
    encoder = Encoder(16, base=8, style=6).requires_grad_(False)
    rgb, mask = random(2, 3, 16, 16), torch.ones(2, 1, 16, 16)
    changed = torch.stack([rgb[0], -rgb[1]])
    first, second = (encoder(images, mask, generator()) for images in (rgb, changed))
    torch.testing.assert_close(first[0], second[0])
    assert (first[1] - second[1]).abs().max() > 1e-3


def test_every_weight_of_the_encoder_learns_slowly() -> None:
    """Stored weights are 100 times what they stand for, so that a step of Adam moves them by a hundredth."""
    torch.manual_seed(0)
    encoder = Encoder(16, base=8, style=6)
    encoder(random(2, 3, 16, 16), torch.ones(2, 1, 16, 16), generator()).square().sum().backward()
    assert silent(encoder) == []
    assert all(p.abs().mean() > 50 for name, p in encoder.named_parameters() if name.endswith("weight"))


def test_texture_depends_on_its_own_style_only() -> None:
    torch.manual_seed(0)
    net = TextureGenerator(16, base=8, style=6).requires_grad_(False)
    style = random(2, 6)
    texture = net(style, generator())
    assert texture.shape == (2, 16, 16, 16)
    changed = net(torch.stack([style[0], -style[1]]), generator())
    torch.testing.assert_close(changed[0], texture[0])
    assert (changed[1] - texture[1]).abs().max() > 1e-3


def test_texture_is_the_sum_of_its_heads() -> None:
    """Heads that say 1, 2 and 4 at 4, 8 and 16 texels: 7 away from the border, where upsampling fades."""
    net = TextureGenerator(16, base=8, style=6).requires_grad_(False)
    for value, head in zip((1.0, 2.0, 4.0), (net.first_head, *net.heads), strict=True):
        assert isinstance(head, ToTexture)
        head.conv.weight.zero_()
        head.bias.fill_(value)
    texture = net(random(1, 6), generator())
    torch.testing.assert_close(texture[..., 4:-4, 4:-4], torch.full((1, 16, 8, 8), 7.0))


def test_noise_of_the_texture_is_the_generators() -> None:
    torch.manual_seed(0)
    net = TextureGenerator(16, base=8, style=6).requires_grad_(False)
    style = random(1, 6)
    assert torch.equal(net(style, generator(0)), net(style, generator(1)))  # its strength starts at 0
    net.first.noise_strength.fill_(1.0)
    assert torch.equal(net(style, generator(0)), net(style, generator(0)))
    assert not torch.equal(net(style, generator(0)), net(style, generator(1)))


def test_every_weight_of_the_texture_generator_learns() -> None:
    torch.manual_seed(0)
    net = TextureGenerator(16, base=8, style=6)
    net(random(2, 6), generator()).square().sum().backward()
    assert silent(net) == []


def test_scores_do_not_depend_on_the_batch() -> None:
    """No minibatch deviation: an image's score is the same in any company."""
    torch.manual_seed(0)
    net = Discriminator(16, base=8).requires_grad_(False)
    images = random(3, 3, 16, 16)
    torch.testing.assert_close(net(images)[1:2], net(images[1:2]))
    assert net(images).unique().numel() == 3


def test_discriminator_learns_to_tell_bright_from_dark() -> None:
    torch.manual_seed(0)
    net = Discriminator(16, base=8)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3, betas=(0.0, 0.99))
    real, fake = 0.5 + 0.1 * random(4, 3, 16, 16), -0.5 + 0.1 * random(4, 3, 16, 16, seed=6)
    for _ in range(10):
        optimizer.zero_grad()
        discriminator_loss(net(real), net(fake)).mean().backward()
        optimizer.step()
    assert net(real).min() > net(fake).max() + 1


def test_r1_differentiates_the_discriminator_twice() -> None:
    torch.manual_seed(0)
    net, images = Discriminator(16, base=8).double(), random(2, 3, 16, 16).double().requires_grad_()
    penalty = r1_penalty(net(images), images)
    penalty.sum().backward()
    assert [name for name in silent(net) if not name.endswith("bias")] == []
    # scores are piecewise linear, so a small step along the gradient changes them by its squared length
    step = 1e-7 * torch.autograd.grad(net(images).sum(), images)[0]
    torch.testing.assert_close((net(images + step) - net(images)) / 1e-7, penalty, rtol=1e-3, atol=0)


def test_discriminator_is_rebuilt_from_its_config() -> None:
    net = Discriminator(16, base=8)
    again = Discriminator.from_config(net.config_dict())
    again.load_state_dict(net.state_dict(), strict=True)
    images = random(1, 3, 16, 16)
    assert torch.equal(again(images), net(images))
