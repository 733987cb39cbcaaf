"""The diffusion prior with a denoiser whose answers are known, and with a tiny U-Net."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from dinar_models.diffusion import (
    SAMPLERS,
    DiffusionConfig,
    LatentDiffusion,
    Prediction,
    Sampler,
    latent_mask,
)
from dinar_models.fills import Guess

TINY = DiffusionConfig(
    latent_size=8, widths=(8, 8), attention=(False, True), layers=1, groups=4, head_width=4, dropout=0.0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 9) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


class Noise:
    """A U-Net's answer."""

    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


class TrustsPartial(nn.Module):
    """In the U-Net's place: takes the partial latent × mask for the clean latent, and says what noise is left."""

    def __init__(self, model: LatentDiffusion) -> None:
        super().__init__()
        self.alphas, self.prediction = model.noise.alphas_cumprod, model.config.prediction

    def forward(self, x: Tensor, t: Tensor) -> Noise:
        noisy, clean = x[:, :6], x[:, 6:12] * x[:, 12:]
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        return Noise(noise if self.prediction == "epsilon" else velocity)


class SaysNothing(nn.Module):
    """In the U-Net's place: predicts zeros."""

    def forward(self, x: Tensor, t: Tensor) -> Noise:
        return Noise(torch.zeros_like(x[:, :6]))


def diffusion(
    net: type[nn.Module], prediction: Prediction = "epsilon", steps: int = 1000, guess: Guess = "none"
) -> LatentDiffusion:
    model = LatentDiffusion(replace(TINY, prediction=prediction, steps=steps, guess=guess)).eval()
    model.unet = net(model) if net is TrustsPartial else net()
    model.mean.copy_(torch.arange(6.0))
    model.deviation.copy_(torch.arange(6.0) + 1)
    return model


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_costs_nothing_a_wrong_one_something(prediction: Prediction) -> None:
    model, mask = diffusion(TrustsPartial, prediction), torch.ones(2, 1, 8, 8)
    z = random(2, 6, 8, 8)
    assert model.loss(z, z, mask, generator=generator()).max() < 1e-6
    mask[1] = 0
    loss = model.loss(z, z, mask, generator=generator())
    assert loss[0] < 1e-6
    assert loss[1] > 1e-3


def test_predicting_no_noise_costs_the_noise() -> None:
    """The loss draws the noise first: its mean square is what a net that says nothing pays."""
    z = random(3, 6, 8, 8)
    loss = diffusion(SaysNothing).loss(z, z, torch.ones(3, 1, 8, 8), generator=generator(4))
    noise = torch.randn(3, 6, 8, 8, generator=generator(4))
    torch.testing.assert_close(loss, noise.square().mean((1, 2, 3)))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("sampler", "tolerance"), [("dpm++", 1e-3), ("ddim", 0.08)])
def test_a_perfect_denoiser_gives_its_latent_back(
    prediction: Prediction, sampler: Sampler, tolerance: float
) -> None:
    """dpm++ ends without noise, ddim at the first level of it: √(3e-4) = 0.017 of the latents' deviation."""
    model, mask = diffusion(TrustsPartial, prediction), torch.ones(2, 1, 8, 8)
    z = 3 + 2 * random(2, 6, 8, 8)
    sample = model.sample(z, mask, generator=generator(), steps=10, sampler=sampler)
    error = (sample - z).abs() / model.deviation.view(6, 1, 1)
    assert error.max() < tolerance


def test_a_hidden_latent_is_the_mean_to_who_trusts_the_mask() -> None:
    """Mask 0 hides everything: the clean latent of `TrustsPartial` is 0 in standard units."""
    model = diffusion(TrustsPartial)
    sample = model.sample(random(1, 6, 8, 8), torch.zeros(1, 1, 8, 8), generator=generator(), steps=5)
    torch.testing.assert_close(
        sample, torch.arange(6.0).view(1, 6, 1, 1).expand_as(sample), atol=1e-3, rtol=0
    )


def test_clamping_puts_the_known_latent_inside_the_eroded_mask() -> None:
    """Columns 0–3 are known, 0–2 after erosion; elsewhere the start noise is all there is, scaled up."""
    model = diffusion(SaysNothing, steps=50)
    model.mean.zero_()
    model.deviation.fill_(1.0)
    known, mask = random(1, 6, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    free, clamped = (
        model.sample(known, mask, generator=generator(), steps=50, clamp_known=clamp)
        for clamp in (False, True)
    )
    start = torch.randn(1, 6, 8, 8, generator=generator())
    torch.testing.assert_close(free, start / model.noise.alphas_cumprod[-1].sqrt(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(clamped[..., 3:], free[..., 3:])
    assert (clamped - known)[..., :3].abs().max() < 0.2
    assert (free - known)[..., :3].abs().mean() > 0.5


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_equal_generators_give_equal_samples(sampler: Sampler) -> None:
    torch.manual_seed(0)
    model = LatentDiffusion(TINY).eval()
    z, mask = random(2, 6, 8, 8), torch.ones(2, 1, 8, 8)
    first, again, other = (
        model.sample(z, mask, generator=generator(seed), steps=3, sampler=sampler) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.1


@pytest.mark.parametrize(("sampler", "draws"), [("dpm++", 1), ("ddim", 5)])
def test_ddim_draws_noise_at_each_step_and_dpm_only_at_the_start(sampler: Sampler, draws: int) -> None:
    z, used, twin = torch.zeros(1, 6, 8, 8), generator(), generator()
    diffusion(SaysNothing).sample(z, z[:, :1], generator=used, steps=4, sampler=sampler)
    for _ in range(draws):
        torch.randn(z.shape, generator=twin)
    assert torch.equal(used.get_state(), twin.get_state())


def test_statistics_are_per_channel_and_a_guess_has_a_scale_for_its_changes() -> None:
    """Channel c is c ± (c + 1); the guess is off by half of that deviation, without a guess nothing is scaled."""
    sign = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 6, 8, 8)
    mean, deviation = torch.arange(6.0), torch.arange(6.0) + 1
    z = mean.view(6, 1, 1) + deviation.view(6, 1, 1) * sign
    plain, guessing = (LatentDiffusion(replace(TINY, guess=guess)) for guess in ("none", "mirror"))
    for model in (plain, guessing):
        model.set_statistics(z, z - deviation.view(6, 1, 1) / 2)
        torch.testing.assert_close(model.mean, mean)
        torch.testing.assert_close(model.deviation, deviation, rtol=5e-3, atol=0)
    assert plain.scale.eq(1).all()
    torch.testing.assert_close(guessing.scale, torch.full((6,), 0.5), rtol=5e-3, atol=0)


@pytest.mark.parametrize("clamp", [False, True])
def test_who_changes_nothing_gives_the_guess_back(clamp: bool) -> None:
    """With a guess the chain is over changes: where it ends at 0, the partial latent stays, mask or not."""
    model = diffusion(TrustsPartial, guess="mirror")
    model.scale.fill_(0.5)
    model.unet.register_forward_pre_hook(lambda net, x: (x[0] * no_change, x[1]))
    no_change = torch.cat([torch.ones(1, 6, 8, 8), torch.zeros(1, 7, 8, 8)], dim=1)
    z, mask = random(1, 6, 8, 8), torch.ones(1, 1, 8, 8)
    sample = model.sample(z, mask, generator=generator(), steps=10, clamp_known=clamp)
    torch.testing.assert_close(sample, z, atol=5e-3, rtol=0)
    assert model.loss(z, z, mask, generator=generator()).max() < 1e-6
    assert model.loss(z + 1, z, mask, generator=generator()).min() > 1e-3


def test_progress_counts_the_steps() -> None:
    seen: list[int] = []
    diffusion(SaysNothing).sample(
        torch.zeros(1, 6, 8, 8), torch.ones(1, 1, 8, 8), generator=generator(), steps=4, progress=seen.append
    )
    assert seen == [1, 2, 3, 4]


def test_latent_mask_by_hand() -> None:
    """4 → 2 texels: weights 3/7, 3/7, 1/7 of the bilinear filter, twice as wide as the new texel."""
    filled = torch.tensor([1.0, 1, 0, 0]).expand(1, 1, 4, 4)
    expected = torch.tensor([6 / 7, 1 / 7]).expand(1, 1, 2, 2)
    torch.testing.assert_close(latent_mask(filled, 2), expected)
    torch.testing.assert_close(latent_mask(torch.ones(1, 1, 16, 16), 4), torch.ones(1, 1, 4, 4))


def test_the_loss_reaches_every_weight_of_the_u_net() -> None:
    torch.manual_seed(0)
    model = LatentDiffusion(TINY)
    z, mask = random(2, 6, 8, 8), torch.ones(2, 1, 8, 8)
    model.loss(z, z, mask, generator=generator()).sum().backward()
    silent = [name for name, p in model.unet.named_parameters() if p.grad is None or not p.grad.any()]
    # a key's bias adds the same to every logit of a softmax
    assert [name for name in silent if not name.endswith("to_k.bias")] == []


def test_every_level_can_have_so_many_heads() -> None:
    """Eight channels: two heads of four, or one of eight, which attends otherwise with the same weights."""
    made = []
    for heads in (0, 2, 1):
        torch.manual_seed(0)
        model = LatentDiffusion(replace(TINY, heads=heads)).eval()
        for layer in model.unet.modules():
            if isinstance(layer, Attention):
                assert layer.heads == (heads or 2)
                nn.init.normal_(layer.to_q.weight)
                nn.init.normal_(layer.to_k.weight)
        with torch.no_grad():
            made.append(model.unet(random(1, 13, 8, 8), torch.tensor([500])).sample)
    assert torch.equal(made[0], made[1])
    assert not torch.allclose(made[1], made[2], atol=1e-6)


def test_config_and_statistics_survive_saving() -> None:
    model = LatentDiffusion(TINY)
    model.mean.copy_(torch.arange(6.0))
    model.deviation.fill_(2.0)
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in model.config_dict().items()}
    again = LatentDiffusion.from_config(config)
    again.load_state_dict(model.state_dict(), strict=True)
    assert again.config == TINY
    assert again.mean.tolist() == [0, 1, 2, 3, 4, 5]
    assert again.deviation.tolist() == [2.0] * 6


@pytest.mark.parametrize("guess", ["none", "mirror"])
def test_a_net_that_gives_the_mean_draws_no_noise(guess: Guess) -> None:
    """Predicting nothing it leaves the mean of all latents, or the guess; whoever asks, however often."""
    model = diffusion(SaysNothing, "mean", guess=guess)
    z, mask, said = random(2, 6, 8, 8), torch.ones(2, 1, 8, 8), []
    made = [
        model.sample(z, mask, generator=generator(seed), steps=5, progress=said.append) for seed in (0, 1)
    ]
    assert torch.equal(made[0], made[1])
    expected = torch.arange(6.0).view(6, 1, 1).expand(2, -1, 8, 8) if guess == "none" else z
    torch.testing.assert_close(made[0], expected)
    assert said == [5, 5]


def test_the_loss_of_the_mean_is_the_squared_error_in_standard_units() -> None:
    model = diffusion(SaysNothing, "mean")
    z = model.mean.view(6, 1, 1) + 3 * model.deviation.view(6, 1, 1)
    loss = model.loss(z.expand(2, 6, 8, 8), random(2, 6, 8, 8), torch.ones(2, 1, 8, 8), generator=generator())
    assert loss.tolist() == pytest.approx([9, 9])


def test_of_two_answers_the_direct_mapping_learns_neither() -> None:
    """The same partial latent is completed by +1 and by −1: least squares ends between them."""
    torch.manual_seed(0)
    model = LatentDiffusion(replace(TINY, prediction="mean"))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    answers = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 6, 8, 8)
    partial, mask = random(1, 6, 8, 8).expand(2, -1, -1, -1), torch.zeros(2, 1, 8, 8)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(answers, partial, mask, generator=generator()).mean().backward()
        optimiser.step()
    made = model.eval().sample(partial, mask, generator=generator())
    assert made.abs().mean() < 0.2
