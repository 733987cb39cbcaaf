"""The texture compressor: its codebook by hand, its folding of statistics, its error by group."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinar_models.types import NeuralTexture
from dinar_models.vqgan import (
    DEAD_SHARE,
    USAGE_DECAY,
    VQGAN,
    Codebook,
    LinearSkip,
    VQGANConfig,
    texture_error,
)

TINY = VQGANConfig(texture_size=16, widths=(4, 4, 4), layers=1, groups=2, codes=8)


def codebook(*vectors: tuple[float, float]) -> Codebook:
    """A codebook with these codes; the other four channels are 0."""
    book = Codebook(len(vectors))
    with torch.no_grad():
        book.vectors.copy_(F.pad(torch.tensor(vectors), (0, 4)))
    return book


def latent(*columns: tuple[float, float]) -> Tensor:
    """(1, 6, 1, n): one row of latents; the other four channels are 0."""
    return F.pad(torch.tensor(columns, dtype=torch.float32), (0, 4)).T[None, :, None]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_each_latent_snaps_to_its_nearest_code() -> None:
    """(3, 0) has the larger dot product with the far code (9, 0), yet lies nearer to (1, 0)."""
    book = codebook((1, 0), (9, 0), (0, 2)).eval()
    quantised = book(latent((3, 0), (6, 0), (0.4, 1.5)))
    assert quantised.codes.tolist() == [[[0, 1, 2]]]
    torch.testing.assert_close(quantised.z, latent((1, 0), (9, 0), (0, 2)))


def test_nearest_agrees_with_all_distances() -> None:
    book, rows = Codebook(64), random(500, 6)
    assert torch.equal(book.nearest(rows), torch.cdist(rows, book.vectors).argmin(1))


def test_loss_is_a_commitment_and_a_quarter_of_a_codebook_term() -> None:
    """Distances (2, 0) and (0, −1): mean square (4 + 1) / 12, counted 1 + ¼ times."""
    book = codebook((1, 0), (0, 2)).eval()
    assert book(latent((3, 0), (0, 1))).loss.item() == pytest.approx(1.25 * 5 / 12)


def test_gradient_passes_straight_through() -> None:
    """Downstream gradients reach the latent unchanged; the loss moves both, the latent four times as much."""
    book, z = codebook((1, 0), (9, 0)).eval(), latent((3, 0)).requires_grad_()
    quantised = book(z)
    (through,) = torch.autograd.grad((quantised.z * latent((5, -7))).sum(), z, retain_graph=True)
    torch.testing.assert_close(through, latent((5, -7)))
    to_latent, to_codes = torch.autograd.grad(quantised.loss.sum(), [z, book.vectors])
    torch.testing.assert_close(to_latent, latent((2 / 3, 0)))  # d/dz of (z − 1)² / 6 at 3
    torch.testing.assert_close(to_codes[:, :2], torch.tensor([[-1 / 6, 0], [0, 0]]))


def test_usage_follows_the_share_of_each_code_while_training() -> None:
    book = codebook((0, 0), (9, 9))
    book(latent((0, 1), (1, 0), (0, 0), (8, 8)))
    torch.testing.assert_close(book.usage, torch.tensor([0.5, 0.5]).lerp(torch.tensor([0.75, 0.25]), 0.02))
    before = book.usage.clone()
    book.eval()(latent((0, 1)))
    assert torch.equal(book.usage, before)
    assert pytest.approx(0.98) == USAGE_DECAY


def test_perplexity_counts_codes_in_use() -> None:
    """Four of eight codes used alike: 4. Shares ½, ¼, ¼: e^(ln 2 / 2 + ln 4 / 2) = 2^1.5."""
    book = Codebook(8, 2)
    assert book.perplexity.item() == pytest.approx(8)
    book.usage.copy_(torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]))
    assert book.perplexity.item() == pytest.approx(4, rel=1e-4)
    book.usage.copy_(torch.tensor([0.5, 0.25, 0.25, 0, 0, 0, 0, 0]))
    assert book.perplexity.item() == pytest.approx(2**1.5, rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_start_finds_the_middles_of_clusters(seed: int) -> None:
    """Pairs at 0 and 1, and at 10 and 11: wherever two codes begin, they end at ½ and 10½."""
    rows = latent((0, 5), (1, 5), (10, 5), (11, 5))[0, :, 0].T
    book = codebook((0, 0), (0, 0))
    book.usage.copy_(torch.tensor([1.0, 0.0]))
    book.start(rows, torch.Generator().manual_seed(seed))
    assert sorted(book.vectors[:, :2].tolist()) == [[0.5, 5], [10.5, 5]]
    assert book.usage.tolist() == [0.5, 0.5]


def test_start_with_fewer_latents_than_codes_repeats_them() -> None:
    book, rows = Codebook(8), latent((1, 2), (3, 4))[0, :, 0].T
    book.start(rows, torch.Generator().manual_seed(0))
    assert torch.cdist(book.vectors, rows).min(1).values.max() == 0


def test_dead_codes_restart_at_latents_of_the_batch() -> None:
    book = codebook((0, 0), (1, 1), (2, 2), (3, 3))
    limit = DEAD_SHARE / 4
    book.usage.copy_(torch.tensor([0.9, limit * 1.01, limit * 0.99, 0.0]))
    assert book.restart_dead(latent((7, 8), (7, 8)), torch.Generator().manual_seed(0)) == 2
    assert book.vectors[:, :2].tolist() == [[0, 0], [1, 1], [7, 8], [7, 8]]
    assert book.usage[2:].tolist() == [0.25, 0.25]
    assert book.restart_dead(latent((5, 5)), torch.Generator().manual_seed(0)) == 0


@pytest.mark.parametrize("skip", [False, True])
def test_codebook_start_standardises_latents_and_changes_no_output(skip: bool) -> None:
    torch.manual_seed(0)
    net = VQGAN(replace(TINY, skip=skip)).eval()
    textures = random(6, 21, 16, 16)
    with torch.no_grad():
        before = net.encode(textures)
        unquantised = net.decode_codes(before)
        net.start_codebook(before, torch.Generator().manual_seed(1))
        after = net.encode(textures)
        torch.testing.assert_close(after.mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
        torch.testing.assert_close(after.std((0, 2, 3)), torch.ones(6), atol=1e-3, rtol=0)
        torch.testing.assert_close(net.decode_codes(after), unquantised, atol=1e-4, rtol=1e-4)
        assert net.codebook(after).loss.mean() < 0.75 * Codebook(8)(after).loss.mean()


def test_decode_quantises() -> None:
    """Latents that share a code give the same texture; a latent on a code loses nothing."""
    torch.manual_seed(0)
    net = VQGAN(TINY).eval()
    z = net.codebook.vectors[torch.randint(8, (1, 4, 4))].permute(0, 3, 1, 2).detach()
    with torch.no_grad():
        torch.testing.assert_close(net.decode(z), net.decode_codes(z), atol=1e-5, rtol=0)
        torch.testing.assert_close(net.decode(z + 1e-3), net.decode(z), atol=1e-5, rtol=0)


def test_linear_path_carries_block_means_and_the_mask() -> None:
    """Blocks of 4 × 4 texels: their mean colours and B_fill in the first four channels, and back into colours
    and both masks."""
    path, texture = LinearSkip(4).requires_grad_(False), random(1, 21, 16, 16)
    means = F.avg_pool2d(texture, 4)
    z = path.down(texture)
    torch.testing.assert_close(z[:, :3], means[:, 16:19])
    torch.testing.assert_close(z[:, 3], means[:, 20])
    assert z[:, 4:].eq(0).all()
    flat = torch.ones(1, 21, 16, 16) * torch.arange(21.0).view(21, 1, 1)
    back = NeuralTexture(path.up(path.down(flat)))
    assert back.generated.eq(0).all()
    torch.testing.assert_close(back.rgb, flat[:, 16:19])
    torch.testing.assert_close(back.sampled, flat[:, 20:])
    torch.testing.assert_close(back.filled, flat[:, 20:])


def test_a_net_with_a_linear_path_starts_there() -> None:
    """One colour comes back before anything was learnt, but for the whisper of the nets."""
    torch.manual_seed(0)
    net = VQGAN(replace(TINY, skip=True)).eval()
    full = torch.ones(1, 1, 16, 16)
    colour = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    texture = NeuralTexture.assemble(torch.zeros(1, 16, 16, 16), colour, full, full).data
    with torch.no_grad():
        decoded = NeuralTexture(net.decode_codes(net.encode(texture)))
    torch.testing.assert_close(decoded.rgb, colour, atol=0.25, rtol=0)
    torch.testing.assert_close(decoded.filled, full, atol=0.25, rtol=0)


def test_sizes_follow_the_config_and_survive_saving() -> None:
    assert VQGANConfig().latent_size == 64
    assert TINY.latent_size == 4
    net = VQGAN(TINY)
    again = VQGAN.from_config({**net.config_dict(), "widths": [4, 4, 4]})
    assert again.config == TINY
    again.load_state_dict(net.state_dict(), strict=True)
    assert net.encode(torch.zeros(1, 21, 16, 16)).shape == (1, 6, 4, 4)


def test_texture_error_by_group() -> None:
    """Colours count on filled texels of islands, the rest on islands; nothing counts off them."""
    island = torch.tensor([[True, True], [True, False]])
    filled = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[None, None]
    texture = NeuralTexture.assemble(
        torch.zeros(1, 16, 2, 2), torch.zeros(1, 3, 2, 2), filled.clone(), filled.clone()
    ).data
    decoded = texture.clone()
    decoded[:, :16, 0, 0] = 3.0  # one of three island texels off by 3
    decoded[:, 16:19, 0, 1] = 5.0  # unseen: does not count
    decoded[:, 16, 0, 0] = 1.0  # one of three colours off by 1 on the one seen texel
    decoded[:, 20, 1, 0] = 2.0  # one of two masks off by 2
    decoded[:, :, 1, 1] = 99.0
    error = {name: value.item() for name, value in texture_error(decoded, texture, island).items()}
    assert error == pytest.approx({"generated": 9 / 3, "rgb": 1 / 3, "masks": 4 / 2 / 3})


def test_untrained_heads_are_an_identity() -> None:
    """Output heads start at zero beside an identity, so colours come straight from the decoder."""
    torch.manual_seed(0)
    net = VQGAN(TINY).eval()
    z = random(1, 6, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(net.decode_codes(z), net.decoder(net.from_latent(z)))


def test_without_snap_latents_are_decoded_as_they_are() -> None:
    torch.manual_seed(0)
    net, free = VQGAN(TINY).eval(), VQGAN(replace(TINY, snap=False)).eval()
    free.load_state_dict(net.state_dict())
    z = torch.randn(1, 6, TINY.latent_size, TINY.latent_size)
    torch.testing.assert_close(free.decode(z), net.decode_codes(z))
    torch.testing.assert_close(net.decode(z), net.decode_codes(net.codebook(z).z))
    assert (net.decode(z) - free.decode(z)).abs().max() > 1e-3
