"""From one photo to a texture: colours, completing and tuning on a flat body and nets of a few channels."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dinar_models.avatar import AvatarNets
from dinar_models.blending import Blending
from dinar_models.diffusion import DiffusionConfig, LatentDiffusion
from dinar_models.reconstruction import (
    ReconstructionRules,
    adjust_colour,
    keep_detail,
    merge_photos,
    partial_texture,
    reconstruct,
)
from dinar_models.types import NeuralTexture
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN, VQGANConfig
from tests.dinar_models.flat_atlas import flat_atlas
from tests.dinar_models.flat_photos import (
    SIZE,
    flat_photo,
    generator,
    left_half,
    of_colour,
    tiny_nets,
    together,
)


@pytest.fixture(scope="module")
def nets() -> AvatarNets:
    return tiny_nets()


@pytest.fixture(scope="module")
def priors() -> tuple[VQGAN, LatentDiffusion]:
    torch.manual_seed(1)
    vqgan = VQGAN(VQGANConfig(texture_size=SIZE, widths=(4, 4, 4), layers=1, groups=2, codes=16))
    diffusion = LatentDiffusion(DiffusionConfig(latent_size=8, widths=(8, 8), attention=(False, False),
                                                layers=1, groups=4, head_width=4))  # fmt: skip
    return vqgan.eval(), diffusion.eval()


@pytest.fixture
def sheet() -> Atlas:
    """The torso fills the texture."""
    return flat_atlas({"torso": (0, 0, 1, 1)}, {})


def test_colours_of_hidden_texels_follow_the_seen_ones() -> None:
    """α and β per channel, found on the left half, change the right half alike; nothing else changes."""
    rgb = 0.3 + 0.4 * torch.rand(1, 3, SIZE, SIZE, generator=generator())
    alpha, beta = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.8, 1.0, 1.1], [0.1, -0.1, 0.05]))
    true = alpha * rgb + beta
    partial = of_colour(torch.where(left_half(), true, 0.0), left_half())
    decoded = of_colour(rgb, torch.ones(SIZE, SIZE))
    adjusted = adjust_colour(decoded, partial)
    torch.testing.assert_close(adjusted.rgb, true, atol=0.01, rtol=0)
    assert torch.equal(adjusted.generated, decoded.generated)
    assert torch.equal(adjusted.filled, decoded.filled)


def test_adjusted_colours_stay_in_range() -> None:
    rgb = torch.rand(1, 3, SIZE, SIZE, generator=generator())
    adjusted = adjust_colour(of_colour(rgb, left_half()), of_colour(3 * rgb - 1, left_half()))
    assert adjusted.rgb.min() == 0
    assert adjusted.rgb.max() == 1


def test_detail_of_the_guess_stays_where_the_diffusion_kept_to_it() -> None:
    """Stripes ± 0.1 that the autoencoder blurs to 0.5: kept on the left, where 0.5 stays; the right turns 0.9."""
    stripes = torch.tensor([0.4, 0.6]).repeat(SIZE // 2)[:, None].expand(1, 3, SIZE, SIZE)
    everywhere = torch.ones(SIZE, SIZE)
    blurred = of_colour(torch.full((1, 3, SIZE, SIZE), 0.5), everywhere)
    decoded = of_colour(torch.where(left_half(), 0.5, 0.9).expand(1, 3, -1, -1), everywhere)
    detailed = keep_detail(decoded, of_colour(stripes, everywhere), blurred)
    torch.testing.assert_close(detailed.rgb[..., : SIZE // 2], stripes[..., : SIZE // 2])
    torch.testing.assert_close(
        detailed.rgb[..., SIZE // 2 :], decoded.rgb[..., SIZE // 2 :], atol=1e-6, rtol=0
    )
    assert torch.equal(detailed.filled, decoded.filled)


def test_generated_channels_stay_with_the_colours() -> None:
    """The autoencoder makes 0 of generated channels of 1: they are back where the colour was kept."""
    everywhere = torch.ones(SIZE, SIZE)
    blurred = of_colour(torch.full((1, 3, SIZE, SIZE), 0.5), everywhere)
    decoded = of_colour(torch.where(left_half(), 0.5, 0.9).expand(1, 3, -1, -1), everywhere)
    guess = NeuralTexture(blurred.data.clone())
    guess.data[:, :16] = 1
    generated = keep_detail(decoded, guess, blurred).generated
    torch.testing.assert_close(generated, left_half().float().expand(1, 16, -1, -1), atol=1e-6, rtol=0)


def test_what_the_photo_shows_stays_and_the_rest_is_completed(
    nets: AvatarNets, priors: tuple[VQGAN, LatentDiffusion], sheet: Atlas
) -> None:
    """Two columns beside the seen half the composite is all decoded, three columns inside all the photo's."""
    inputs = flat_photo(0.25, left_half())
    rules = ReconstructionRules(steps=2, tune_steps=0)
    made = reconstruct(nets, *priors, inputs, sheet, rules, generator=generator())
    middle = SIZE // 2
    assert made.coverage[..., : middle - 2].eq(1).all()
    assert made.coverage[..., middle:].eq(0).all()
    assert torch.equal(made.texture.data[..., : middle - 2], made.partial.data[..., : middle - 2])
    assert made.texture.rgb[..., : middle - 2].eq(0.25).all()
    assert made.partial.rgb[..., middle:].eq(0).all()
    hidden = made.texture.data[..., middle:]
    assert (hidden != made.partial.data[..., middle:]).any()
    assert 0 <= hidden[:, 16:].min() <= hidden[:, 16:].max() <= 1


@pytest.mark.parametrize("adjust", [True, False])
def test_completed_colours_are_matched_to_the_photo_if_asked(
    nets: AvatarNets, priors: tuple[VQGAN, LatentDiffusion], sheet: Atlas, adjust: bool
) -> None:
    """A photo of one grey: the best α is nearly 0, so that everything becomes that grey."""
    rules = ReconstructionRules(steps=2, tune_steps=0, adjust_colour=adjust)
    made = reconstruct(nets, *priors, flat_photo(0.25, left_half()), sheet, rules, generator=generator())
    difference = (made.texture.rgb[..., SIZE // 2 :] - 0.25).abs().mean()
    assert bool(difference < 0.05) == adjust


def test_reconstruction_is_reproducible_and_says_how_far_it_is(
    nets: AvatarNets, priors: tuple[VQGAN, LatentDiffusion], sheet: Atlas
) -> None:
    rules = ReconstructionRules(steps=2, tune_steps=2, perceptual_weight=0.0)
    inputs, said = flat_photo(0.4, left_half()), []
    first, again, other = (
        reconstruct(
            nets, *priors, inputs, sheet, rules,
            generator=generator(seed), progress=lambda *step: said.append(step),
        )
        for seed in (0, 0, 1)
    )  # fmt: skip
    assert torch.equal(first.texture.data, again.texture.data)
    assert not torch.equal(first.texture.data, other.texture.data)
    once = [("completing the texture", 1, 2), ("completing the texture", 2, 2),
            ("tuning the texture", 1, 2), ("tuning the texture", 2, 2)]  # fmt: skip
    assert said == 3 * once


def test_without_a_prior_hidden_texels_are_left_to_the_renderer(nets: AvatarNets, sheet: Atlas) -> None:
    inputs = flat_photo(0.4, left_half())
    rules = ReconstructionRules(tune_steps=0)
    made = reconstruct(nets, None, None, inputs, sheet, rules, generator=generator())
    assert torch.equal(made.texture.data, made.partial.data)
    assert torch.equal(made.coverage, inputs.sample.filled)
    assert made.texture.rgb[..., SIZE // 2 :].eq(0).all()


def test_tuning_after_completing_moves_seen_colours_only(
    nets: AvatarNets, priors: tuple[VQGAN, LatentDiffusion], sheet: Atlas
) -> None:
    """As in the paper, when the generated channels are not tuned."""
    inputs = flat_photo(0.4, left_half())
    rules = ReconstructionRules(
        steps=2, tune_steps=0, tune_generated=0.0, mask_weight=0.0, perceptual_weight=0.0
    )
    plain, tuned = (
        reconstruct(nets, *priors, inputs, sheet, replace(rules, tune_steps=n), generator=generator())
        for n in (0, 4)
    )
    assert torch.equal(plain.texture.generated, tuned.texture.generated)
    moved = (plain.texture.rgb != tuned.texture.rgb).any(dim=1)[0]
    assert moved.any()
    assert not moved[:, SIZE // 2 :].any()


def test_partial_texture_is_generated_everywhere_and_coloured_where_seen(nets: AvatarNets) -> None:
    inputs = flat_photo(0.6, left_half())
    partial = partial_texture(nets, inputs, generator())
    with torch.no_grad():
        generated = nets.generate(inputs.rgb, inputs.mask, generator())
    assert torch.equal(partial.generated, generated)
    assert torch.equal(partial.filled[0, 0], left_half().float())
    torch.testing.assert_close(partial.rgb, 0.6 * left_half().float().expand(1, 3, -1, -1))


def right_half() -> Tensor:
    return ~left_half()


def test_a_single_photos_partial_texture_stays_as_it_is(nets: AvatarNets, sheet: Atlas) -> None:
    inputs = flat_photo(0.4, left_half())
    partial = partial_texture(nets, inputs, generator())
    merged = merge_photos(partial, inputs, sheet.tables(SIZE), ReconstructionRules())
    assert torch.equal(merged.data, partial.data)


@pytest.mark.parametrize("blending", ["softmax", "pyramid", "poisson"])
def test_photos_of_one_person_are_merged_before_anything_is_completed(
    nets: AvatarNets, priors: tuple[VQGAN, LatentDiffusion], sheet: Atlas, blending: Blending
) -> None:
    """One photo shows the left half in one grey, the other one the right half in another: nothing is made up."""
    inputs = together(flat_photo(0.3, left_half()), flat_photo(0.6, right_half()), person=[0, 0])
    rules = ReconstructionRules(steps=2, tune_steps=0, blending=blending)
    made = reconstruct(nets, *priors, inputs, sheet, rules, generator=generator())
    assert made.texture.data.shape == (1, 21, SIZE, SIZE)
    assert made.coverage.eq(1).all()
    row = made.texture.rgb[0, 0, SIZE // 2]
    assert row[0] < 0.45 < row[-1]
    step = row.diff().abs().max()
    assert bool(step > 0.29) == (blending == "softmax")


def test_only_networks_run_in_half_precision(
    nets: AvatarNets, priors: tuple[VQGAN, LatentDiffusion], sheet: Atlas
) -> None:
    """Merged colours keep their digits: 0.3 in bfloat16 would be 0.30078."""
    inputs = together(flat_photo(0.3, left_half()), flat_photo(0.6, right_half()), person=[0, 0])
    rules = ReconstructionRules(steps=2, tune_steps=0, dtype=torch.bfloat16)
    made = reconstruct(nets, *priors, inputs, sheet, rules, generator=generator())
    torch.testing.assert_close(made.partial.rgb[0, 0, 5, 5], torch.tensor(0.3), atol=1e-6, rtol=0)


def test_the_more_frontal_photo_counts_more(nets: AvatarNets, sheet: Atlas) -> None:
    """Cosines 0.5 and 0.3 at a temperature of 10: weights 1 / (1 + e⁻²) and the rest (eq. 5)."""
    everything = torch.ones(SIZE, SIZE, dtype=torch.bool)
    inputs = together(flat_photo(1.0, everything), flat_photo(0.0, everything), person=[0, 0])
    inputs.sample.frontality[0] *= 0.5
    inputs.sample.frontality[1] *= 0.3
    merged = merge_photos(
        partial_texture(nets, inputs, generator()), inputs, sheet.tables(SIZE), ReconstructionRules()
    )
    torch.testing.assert_close(merged.rgb, torch.full((1, 3, SIZE, SIZE), 1 / (1 + math.exp(-2))))
    assert inputs.frontality.eq(0.5).all()


def test_photos_of_several_people_go_to_their_own(
    nets: AvatarNets, priors: tuple[VQGAN, LatentDiffusion], sheet: Atlas
) -> None:
    """Person 0 has the first and third photo, person 1 the second; each is tuned towards their own photos."""
    photos = flat_photo(0.2, left_half()), flat_photo(0.8, left_half()), flat_photo(0.2, right_half())
    rules = ReconstructionRules(steps=2, tune_steps=3, perceptual_weight=0.0)
    said: list[tuple[str, int, int]] = []
    made = reconstruct(
        nets, *priors, together(*photos, person=[0, 1, 0]), sheet, rules,
        generator=generator(), progress=lambda *step: said.append(step),
    )  # fmt: skip
    first, second = made.texture.rgb[:, 0]
    assert first[:, 2:-2].sub(0.2).abs().max() < 0.02
    assert second[:, 2 : SIZE // 2 - 3].sub(0.8).abs().max() < 0.02
    assert made.coverage[0].eq(1).all()
    assert made.coverage[1, :, SIZE // 2 :].eq(0).all()
    assert said[-1] == ("tuning the texture", 6, 6)


def test_alpha_and_beta_can_be_found_through_the_renderer(
    nets: AvatarNets, priors: tuple[VQGAN, LatentDiffusion], sheet: Atlas
) -> None:
    """As in the paper: hidden colours follow although no texel is compared; these steps count as tuning's."""
    said: list[tuple[str, int, int]] = []
    inputs = flat_photo(0.25, torch.ones(SIZE, SIZE, dtype=torch.bool))
    inputs.sample.filled[..., SIZE // 2 :] = 0
    rules = ReconstructionRules(steps=2, tune_steps=1, perceptual_weight=0.0, tune_rate=0.02)
    plain, adjusted = (
        reconstruct(
            nets, *priors, inputs, sheet, replace(rules, adjust_colour=steps > 0, colour_steps=steps),
            generator=generator(), progress=lambda *step: said.append(step),
        ).texture.rgb[..., SIZE // 2 + 2 :]
        for steps in (0, 40)
    )  # fmt: skip
    assert (adjusted - 0.25).abs().mean() < 0.75 * (plain - 0.25).abs().mean()
    assert said[-1] == ("tuning the texture", 41, 41)
