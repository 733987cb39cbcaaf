"""Steps along the renderer's gradients on a flat sheet, with nets whose answers are known."""

import pytest
import torch
from torch import Tensor

from dinar_models.adversary import Adversary
from dinar_models.avatar import AvatarNets, over_white
from dinar_models.discriminator import Discriminator
from dinar_models.folding import for_inference
from dinar_models.losses import Rendering
from dinar_models.perceptual import PerceptualDistance
from dinar_models.photos import Outlines, PhotoInputs, PhotoViews
from dinar_models.tuning import Critics, Tuner, TuningRules, adjust_by_rendering, tune_texture
from dinar_models.types import NeuralTexture
from tests.dinar_models.flat_photos import (
    SIZE,
    flat_photo,
    generator,
    grey,
    left_half,
    of_colour,
    tiny_nets,
    together,
)

EVERYTHING = torch.ones(SIZE, SIZE, dtype=torch.bool)
PLAIN = TuningRules(rate=0.01, perceptual=0.0)


@pytest.fixture(scope="module")
def nets() -> AvatarNets:
    return tiny_nets()


def tuner(
    nets: AvatarNets, inputs: PhotoInputs, rules: TuningRules = PLAIN, critics: Critics | None = None
) -> Tuner:
    return Tuner(nets, inputs.views_of(inputs.photos[0]), rules, critics or Critics(), generator())


def nothing() -> None:
    """Progress that nobody looks at."""


def error(nets: AvatarNets, made: NeuralTexture, inputs: PhotoInputs) -> float:
    """Of the first photo's left half but its border."""
    with torch.no_grad():
        image = over_white(*nets.render(made, inputs.uv[:1]))
    return (image - inputs.target[:1])[..., :-2, : SIZE // 2 - 1].square().mean().item()


@pytest.mark.parametrize("perceptual", [0.0, 0.05])
def test_tuning_nears_the_photo_and_leaves_unseen_texels_alone(nets: AvatarNets, perceptual: float) -> None:
    """The texture is grey 0.5, the photo 0.7; the last row is seen, but from the side (frontality 0)."""
    inputs = flat_photo(0.7, left_half())
    inputs.sample.frontality[:, -1] = 0
    critics = Critics(PerceptualDistance())
    rules = TuningRules(rate=0.02, perceptual=perceptual)
    texture, weight = grey(0.5), inputs.sample.filled * inputs.frontality
    tuned = tune_texture(tuner(nets, inputs, rules, critics), texture, weight, 16, nothing)
    assert error(nets, tuned, inputs) < 0.5 * error(nets, texture, inputs)
    changed = (tuned.rgb != texture.rgb).any(dim=1)[0]
    expected = left_half()
    expected[-1] = False
    assert torch.equal(changed, expected)
    assert torch.equal(tuned.generated, texture.generated)


def test_the_weight_of_tuning_scales_the_change(nets: AvatarNets) -> None:
    """One step of Adam is ± the rate on every texel, whatever its gradient; a weight of ½ makes half of it."""
    weight = torch.where(left_half(), 1.0, 0.5)[None]
    texture = grey(0.5)
    tuned = tune_texture(tuner(nets, flat_photo(0.7, EVERYTHING)), texture, weight, 1, nothing)
    expected = (0.01 * weight).expand(1, 3, -1, -1)
    torch.testing.assert_close(tuned.rgb - texture.rgb, expected, atol=2e-5, rtol=0)


def test_generated_channels_may_learn_what_colours_cannot_say(nets: AvatarNets) -> None:
    """Towards a person in part of the image, white on white: the mask alone tells where, and colours may not move."""
    inputs = flat_photo(1.0, EVERYTHING)
    inputs.mask[..., SIZE // 2 :] = 0
    texture, never = grey(1.0), torch.zeros(1, SIZE, SIZE)
    errors = []
    for rate, mask in ((0.0, 1.0), (0.5, 0.0), (0.5, 1.0)):
        rules = TuningRules(rate=0.01, generated_rate=rate, mask=mask, perceptual=0.0)
        tuned = tune_texture(tuner(nets, inputs, rules), texture, never, 30, nothing)
        assert torch.equal(tuned.rgb, texture.rgb)
        assert torch.equal(tuned.generated, texture.generated) == (rate == 0)
        with torch.no_grad():
            errors.append((nets.render(tuned, inputs.uv)[1] - inputs.mask).square().mean().item())
    still, moved, told = errors
    assert told < 0.8 * min(still, moved)


def test_texels_that_no_photo_shows_keep_their_generated_channels(nets: AvatarNets) -> None:
    """The camera sees the texture's left half alone, two pixels a texel."""
    inputs = flat_photo(0.7, EVERYTHING)
    inputs.uv = inputs.uv * torch.tensor([0.5, 1.0])
    rules = TuningRules(rate=0.01, generated_rate=0.02, perceptual=0.0)
    tuned = tune_texture(tuner(nets, inputs, rules), grey(0.5), torch.ones(1, SIZE, SIZE), 3, nothing)
    assert tuned.generated[..., : SIZE // 2].ne(0).any()
    assert tuned.generated[..., SIZE // 2 + 1 :].eq(0).all()


def test_the_outline_from_behind_is_learnt_and_the_colours_there_stay(nets: AvatarNets) -> None:
    """The camera sees the texture's left half; the back is the other half, where the person is on its upper part.

    Colours are the photo's already, so what moves are the masks; hidden texels have no weight.
    """
    inputs = flat_photo(0.5, EVERYTHING)
    inputs.uv = inputs.uv * torch.tensor([0.5, 1.0])
    back = inputs.uv + torch.tensor([0.5, 0.0])
    upper = torch.ones(1, 1, 1, SIZE, SIZE)
    upper[..., SIZE // 2 :, :] = 0
    rules = TuningRules(rate=0.01, generated_rate=0.3, mask=1.0, perceptual=0.0)
    texture, share = grey(0.5), inputs.sample.filled * left_half()
    with torch.no_grad():
        before = Rendering(*nets.render(texture, back))
    errors, shifts = [], []
    for outlines in (None, Outlines(back[:, None], upper)):
        made = Tuner(nets, inputs.views_of(inputs.photos[0]), rules, Critics(), generator(), outlines)
        tuned = tune_texture(made, texture, share, 80, nothing)
        with torch.no_grad():
            after = Rendering(*nets.render(tuned, back))
        errors.append((after.mask - upper[:, 0]).square().mean().item())
        shifts.append((before.mask * (after.rgb - before.rgb)).abs().mean().item())
        assert torch.equal(tuned.rgb[..., SIZE // 2 :], texture.rgb[..., SIZE // 2 :])
    assert errors[1] < 0.3 * errors[0]
    assert shifts[1] < 0.08  # 0.095 where the mask alone counts


def test_tuning_ends_in_range(nets: AvatarNets) -> None:
    rules = TuningRules(rate=0.5, perceptual=0.0)
    weight = torch.ones(1, SIZE, SIZE)
    tuned = tune_texture(tuner(nets, flat_photo(1.0, EVERYTHING), rules), grey(0.95), weight, 3, nothing)
    assert tuned.rgb.max() <= 1


def test_all_photos_pull(nets: AvatarNets) -> None:
    """Photos of grey 0.6 and 0.8 draw a texture of 0.5 between them; one of both alone draws it to itself."""
    both = together(flat_photo(0.6, EVERYTHING), flat_photo(0.8, EVERYTHING), person=[0, 0])
    weight, made = torch.ones(1, SIZE, SIZE), []
    for inputs in (flat_photo(0.6, EVERYTHING), both, flat_photo(0.8, EVERYTHING)):
        tuned = tune_texture(tuner(nets, inputs), grey(0.5), weight, 40, nothing)
        made.append(tuned.rgb[..., 4:-4, 4:-4].mean().item())
    low, middle, high = made
    assert low < middle < high
    assert middle == pytest.approx((low + high) / 2, abs=0.02)


def test_all_squares_pull(nets: AvatarNets) -> None:
    """One photo in two squares of grey 0.6 and 0.8: steps draw from both."""
    inputs, other = flat_photo(0.6, EVERYTHING), flat_photo(0.8, EVERYTHING)
    own = inputs.views_of(torch.tensor([0]))
    assert own.uv.shape[:2] == (1, 1)
    views = PhotoViews.stack([own.square(0), other.views_of(torch.tensor([0])).square(0)])
    made = tune_texture(
        Tuner(nets, views, PLAIN, Critics(), generator()), grey(0.5), torch.ones(1, SIZE, SIZE), 60, nothing
    )
    middle = made.rgb[..., 4:-4, 4:-4].mean().item()
    assert 0.62 < middle < 0.78


def test_colours_are_adjusted_by_what_the_photos_show(nets: AvatarNets) -> None:
    """α and β, the same for all texels, bring decoded stripes of 0.3 and 0.5 nearer to a photo of 0.5 and 0.7."""
    stripes = torch.tensor([0.3, 0.5]).repeat(SIZE // 2).expand(1, 3, SIZE, SIZE)
    inputs = flat_photo(0.0, EVERYTHING)
    inputs.target = 2 * (stripes + 0.2) - 1
    decoded = of_colour(stripes, torch.ones(SIZE, SIZE))
    adjusted = adjust_by_rendering(tuner(nets, inputs), decoded, 40, nothing)
    change = adjusted.rgb - decoded.rgb
    assert change.mean() == pytest.approx(0.2, abs=0.06)
    slope = adjusted.rgb[0, :, :, 1::2] - adjusted.rgb[0, :, :, ::2]
    assert slope.flatten(1).std(dim=1).max() < 1e-5  # one α for all texels of a channel
    assert torch.equal(adjusted.generated, decoded.generated)
    assert torch.equal(adjusted.filled, decoded.filled)


def judge(size: int = SIZE) -> Discriminator:
    torch.manual_seed(3)
    return Discriminator(size, base=8)


def test_the_discriminator_learns_along_and_the_trained_one_stays(nets: AvatarNets) -> None:
    """A copy of it is trained, once after every step of the texture; its weights before are as they were."""
    trained = judge()
    before = [p.detach().clone() for p in trained.parameters()]
    rules = TuningRules(rate=0.01, perceptual=0.0, adversarial=0.01)
    made = tuner(nets, flat_photo(0.7, EVERYTHING), rules, Critics(discriminator=trained))
    tune_texture(made, grey(0.5), torch.ones(1, SIZE, SIZE), 3, nothing)
    assert made.adversary is not None
    assert all(torch.equal(p, q) for p, q in zip(trained.parameters(), before, strict=True))
    moved = [not torch.equal(p, q) for p, q in zip(made.adversary.net.parameters(), before, strict=True)]
    assert all(moved)


def test_the_discriminators_opinion_changes_what_is_tuned(nets: AvatarNets) -> None:
    """Texture that already equals its photo stays without a discriminator and moves with one."""
    inputs, texture = flat_photo(0.7, EVERYTHING), grey(0.5)
    with torch.no_grad():
        # By the same folded nets: Adam makes whole steps of a gradient that is rounding alone.
        inputs.target = over_white(*for_inference(nets, torch.float32).render(texture, inputs.uv))
    moved = []
    for weight in (0.0, 1.0):
        rules = TuningRules(rate=0.01, perceptual=0.0, adversarial=weight)
        made = tuner(nets, inputs, rules, Critics(discriminator=judge()))
        tuned = tune_texture(made, texture, torch.ones(1, SIZE, SIZE), 2, nothing)
        moved.append((tuned.rgb - texture.rgb).abs().mean().item())
    assert moved[0] < 1e-3
    assert moved[1] > 5e-3


def test_every_step_is_one_of_the_texture(nets: AvatarNets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five steps with a discriminator are five steps of the texture: the published code may count both as steps."""
    learnt: list[int] = []
    learn = Adversary.learn

    def counted(self: Adversary, real: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        learnt.append(step)
        return learn(self, real, fake, step)

    monkeypatch.setattr(Adversary, "learn", counted)
    rules = TuningRules(rate=0.01, perceptual=0.0, adversarial=0.001)
    ticks: list[int] = []
    made = tuner(nets, flat_photo(0.9, EVERYTHING), rules, Critics(discriminator=judge()))
    tuned = tune_texture(made, grey(0.3), torch.ones(1, SIZE, SIZE), 5, lambda: ticks.append(1))
    assert learnt == [0, 1, 2, 3, 4]
    assert len(ticks) == 5
    assert (tuned.rgb - 0.3).median() == pytest.approx(
        0.05, abs=0.005
    )  # five steps of the rate in one direction


def test_a_smaller_discriminator_sees_squares(nets: AvatarNets) -> None:
    """One that was trained on crops (`judged: crop`)."""
    rules = TuningRules(rate=0.01, perceptual=0.0, adversarial=0.01)
    made = tuner(nets, flat_photo(0.7, EVERYTHING), rules, Critics(discriminator=judge(SIZE // 2)))
    tune_texture(made, grey(0.5), torch.ones(1, SIZE, SIZE), 2, nothing)
    assert made.steps == 2


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (TuningRules(perceptual=0.1), "needs a perceptual distance"),
        (TuningRules(perceptual=0.0, adversarial=0.01), "needs the discriminator"),
    ],
)
def test_a_missing_critic_is_said(nets: AvatarNets, rules: TuningRules, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tuner(nets, flat_photo(0.7, EVERYTHING), rules)
