"""Photos → avatar: partial texture, diffusion, colour, composite, tuning (paper section 3.4), batched over people.

Several photos of one person are merged into one partial texture (section 3.2) before anything is completed.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dinar_models.atlas.tables import AtlasTables
from dinar_models.avatar import AvatarNets
from dinar_models.blending import Blending, blend_textures
from dinar_models.diffusion import LatentDiffusion, latent_mask
from dinar_models.fills import fill_guess
from dinar_models.perceptual import DistanceName, PerceptualDistance
from dinar_models.photos import PhotoInputs
from dinar_models.texture import composite, fit_colour
from dinar_models.tuning import (
    Critics,
    Tuner,
    TuningRules,
    adjust_by_rendering,
    tune_texture,
    with_rgb,
)
from dinar_models.types import NeuralTexture
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN

AGREEMENT = 0.1
"""Change of colour, of a range of 1, at which a third of the guess's detail is kept."""

Step = Callable[[str, int, int], None]
"""Progress: what, done, of how many."""


@dataclass(frozen=True)
class ReconstructionRules:
    """How an avatar is made from what photos show.

    Attributes:
        blending, merge_temperature: of several photos of one person, see `blend_textures`.
        steps, sampler, clamp_known, temperature: of the diffusion, see LatentDiffusion.sample.
        adjust_colour: fit α and β (eq. 7) so that the completed colours agree with the seen ones.
        colour_steps: optimisation steps of α and β through the renderer (paper); 0: by least squares on the texels.
        tune_steps: optimisation steps of the seen texels through the renderer; 0 = none.
        tune_crops: squares of each photo that these steps look at; 1: the photo's own.
        tune_behind: some of them are about the outline from behind.
        tune_rate: the step size of both, of a colour range of 1.
        tune_generated: the tuning's step size for the generated channels, see TuningRules; 0: colours alone (paper).
        mask_weight: of the mask's squared error beside the image's in both.
        perceptual_weight, adversarial: weights beside the squared error in both, see TuningRules.
        distance: what judges perceptually.
        dtype: in which the networks run.
    """

    blending: Blending = "softmax"
    merge_temperature: float = 10.0
    steps: int = 25
    sampler: Literal["ddim", "dpm++"] = "dpm++"
    clamp_known: bool = False
    temperature: float = 1.0
    adjust_colour: bool = True
    colour_steps: int = 0
    tune_steps: int = 96
    tune_crops: int = 16
    tune_behind: bool = True
    tune_rate: float = 4e-3
    tune_generated: float = 0.06
    mask_weight: float = 1.0
    perceptual_weight: float = 0.05
    distance: DistanceName = "effnet"
    adversarial: float = 0.0
    dtype: torch.dtype = torch.float32

    @property
    def tuning(self) -> TuningRules:
        """The part that optimisation through the renderer goes by."""
        return TuningRules(
            self.tune_rate, self.tune_generated, self.mask_weight, self.perceptual_weight, self.adversarial,
            self.dtype,
        )  # fmt: skip

    def autocast(self, device: torch.device) -> torch.autocast:
        """Run a block in `dtype`."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)


@dataclass
class Reconstruction:
    """The avatars' textures.

    Attributes:
        texture: complete.
        partial: what the photos gave, before anything was completed.
        coverage: weight of the photos in the final colours, (B, T, T) in [0, 1].
    """

    texture: NeuralTexture
    partial: NeuralTexture
    coverage: Float[Tensor, "b t t"]


def reconstruct(
    nets: AvatarNets,
    vqgan: VQGAN | None,
    diffusion: LatentDiffusion | None,
    inputs: PhotoInputs,
    atlas: Atlas,
    rules: ReconstructionRules,
    *,
    generator: torch.Generator,
    critics: Critics | None = None,
    progress: Step = lambda what, done, total: None,
) -> Reconstruction:
    """Merge the photos of each of B people, then complete, colour-match, composite and tune their textures.

    Without `vqgan` and `diffusion` nothing is completed: hidden texels are left to the renderer.

    Args:
        critics: of the tuning; by default `perceptual`, without a discriminator.
    """
    tables = atlas.tables(inputs.sample.rgb.shape[-1])
    with torch.no_grad():
        with rules.autocast(inputs.rgb.device):
            partial = partial_texture(nets, inputs, generator)
        partial = merge_photos(partial, inputs, tables, rules)
    tuners = _tuners(nets, inputs, rules, critics, generator)
    colour_steps = rules.colour_steps if rules.adjust_colour else 0
    tick = _ticks(len(inputs.photos) * (colour_steps + rules.tune_steps), progress)

    def adjust(decoded: NeuralTexture) -> NeuralTexture:
        if not colour_steps:
            return adjust_colour(decoded, partial)
        return _each(decoded, lambda k, one: adjust_by_rendering(tuners[k], one, colour_steps, tick))

    texture, coverage = partial, partial.filled[:, 0]
    if vqgan is not None and diffusion is not None:
        texture, coverage = fill_hidden(
            vqgan, diffusion, partial, tables, rules, generator, adjust=adjust, progress=progress
        )
    if rules.tune_steps:
        keep = (
            torch.maximum(coverage, torch.from_numpy(tables.eyes_hands) * partial.filled[:, 0])
            * inputs.frontality
        )
        texture = _each(
            texture, lambda k, one: tune_texture(tuners[k], one, keep[[k]], rules.tune_steps, tick)
        )
    return Reconstruction(texture, partial, coverage)


def _tuners(
    nets: AvatarNets,
    inputs: PhotoInputs,
    rules: ReconstructionRules,
    critics: Critics | None,
    generator: torch.Generator,
) -> list[Tuner]:
    """One for each person: what one person's discriminator learns is nothing to the others."""
    if not (rules.tune_steps or rules.colour_steps):
        return []
    if critics is None:
        critics = Critics(PerceptualDistance() if rules.perceptual_weight else None)
    return [
        Tuner(nets, inputs.views_of(photos), rules.tuning, critics, generator, inputs.behind_of(photos))
        for photos in inputs.photos
    ]


def _ticks(total: int, progress: Step) -> Callable[[], None]:
    """What tells each step of the tuning, of so many."""
    done = itertools.count(1)
    return lambda: progress("tuning the texture", next(done), total)


def _each(texture: NeuralTexture, change: Callable[[int, NeuralTexture], NeuralTexture]) -> NeuralTexture:
    """Change the texture of one person after the other."""
    made = [change(k, NeuralTexture(texture.data[[k]])).data for k in range(len(texture.data))]
    return NeuralTexture(torch.cat(made))


def merge_photos(
    partial: NeuralTexture, inputs: PhotoInputs, tables: AtlasTables, rules: ReconstructionRules
) -> NeuralTexture:
    """The partial textures of the photos as one for each person (section 3.2); a single photo's stays as it is."""
    island = torch.from_numpy(tables.texel_part).long()
    merged = [
        blend_textures(
            partial.data[photos], inputs.sample.frontality[photos], inputs.sample.filled[photos] > 0, island,
            temperature=rules.merge_temperature, blending=rules.blending,
        )[0]
        for photos in inputs.photos
    ]  # fmt: skip
    return NeuralTexture(torch.stack(merged))


def partial_texture(nets: AvatarNets, inputs: PhotoInputs, generator: torch.Generator) -> NeuralTexture:
    """What each photo gives: generated channels everywhere, colours and masks where it shows the body (eq. 2)."""
    generated = nets.generate(inputs.rgb, inputs.mask, generator).float()
    sample = inputs.sample
    return NeuralTexture.assemble(generated, sample.rgb, sample.sampled[:, None], sample.filled[:, None])


def fill_hidden(
    vqgan: VQGAN,
    diffusion: LatentDiffusion,
    partial: NeuralTexture,
    tables: AtlasTables,
    rules: ReconstructionRules,
    generator: torch.Generator,
    *,
    adjust: Callable[[NeuralTexture], NeuralTexture] | None = None,
    progress: Step = lambda what, done, total: None,
) -> tuple[NeuralTexture, Float[Tensor, "b t t"]]:
    """The partial texture where something was seen, a sample of the diffusion elsewhere (eq. 6).

    Args:
        adjust: how its colours are matched (eq. 7), if the rules ask for that; by default `adjust_colour`.

    Returns:
        The complete texture, and the weight of `partial` in it.
    """
    with torch.no_grad(), rules.autocast(partial.data.device):
        decoded = complete(vqgan, diffusion, partial, tables, rules, generator, progress)
    if rules.adjust_colour:
        decoded = adjust_colour(decoded, partial) if adjust is None else adjust(decoded)
    island = torch.from_numpy(tables.island_mask)
    data, coverage = composite(decoded.data, partial.data, partial.filled[:, 0], island)
    return NeuralTexture(data), coverage


def complete(
    vqgan: VQGAN,
    diffusion: LatentDiffusion,
    partial: NeuralTexture,
    tables: AtlasTables,
    rules: ReconstructionRules,
    generator: torch.Generator,
    progress: Step,
) -> NeuralTexture:
    """Encode, sample the diffusion from noise, decode; colours and masks clipped to their range."""
    guess = fill_guess(partial, tables, diffusion.config.guess)
    z = vqgan.encode(guess.data)
    mask = latent_mask(partial.filled, z.shape[-1])
    sampled = diffusion.sample(
        z, mask, generator=generator, steps=rules.steps, sampler=rules.sampler, clamp_known=rules.clamp_known,
        temperature=rules.temperature,
        progress=lambda done: progress("completing the texture", done, rules.steps),
    )  # fmt: skip
    decoded = NeuralTexture(vqgan.decode(sampled).float())
    if guess is not partial:
        decoded = keep_detail(decoded, guess, NeuralTexture(vqgan.decode(z).float()))
    return decoded.clipped()


def keep_detail(decoded: NeuralTexture, guess: NeuralTexture, blurred: NeuralTexture) -> NeuralTexture:
    """Add to decoded textures what the autoencoder loses of the guess, where the diffusion kept to the guess.

    The generated channels too: what the generator made of the photo is known everywhere.

    Args:
        decoded: what the diffusion made, through the decoder.
        guess: where it started.
        blurred: the guess through encoder and decoder.
    """
    change = (decoded.rgb - blurred.rgb).square().mean(1, keepdim=True)
    agreement = torch.exp(-change / AGREEMENT**2)
    return NeuralTexture(decoded.data + agreement * (guess.data - blurred.data))


def adjust_colour(decoded: NeuralTexture, partial: NeuralTexture) -> NeuralTexture:
    """α and β of eq. 7 per colour, by least squares where the photo shows the body."""
    alpha, beta = fit_colour(decoded.rgb, partial.rgb, partial.filled[:, 0])
    return with_rgb(decoded, (alpha[..., None, None] * decoded.rgb + beta[..., None, None]).clamp(0, 1))
