"""Photo → avatar: partial texture, diffusion, colour, composite, tuning (paper section 3.4), batched over people."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dinar_models.atlas.tables import AtlasTables
from dinar_models.avatar import AvatarNets, over_white
from dinar_models.body import BodyParams
from dinar_models.cameras import Camera, Crop, crop_camera, crop_image
from dinar_models.diffusion import LatentDiffusion, latent_mask
from dinar_models.fills import fill_guess
from dinar_models.occlusion import occlusion_contours
from dinar_models.perceptual import PerceptualDistance
from dinar_models.rasterize.base import uv_raster
from dinar_models.surface import Surface
from dinar_models.texture import SampleRules, Texels, TextureSample, composite, fit_colour, sample_texture
from dinar_models.types import NeuralTexture
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN

SUPERSAMPLE = 2
"""Samples per texel and axis when an image is read into a texture."""

AGREEMENT = 0.1
"""Change of colour, of a range of 1, at which a third of the guess's detail is kept."""

SAMPLE_RULES = SampleRules()

Step = Callable[[str, int, int], None]
"""Progress: what, done, of how many."""


@dataclass(frozen=True)
class ReconstructionRules:
    """How an avatar is made from what one photo shows.

    Attributes:
        steps, sampler, clamp_known, temperature: of the diffusion, see LatentDiffusion.sample.
        adjust_colour: fit α and β (eq. 7) so that the completed colours agree with the seen ones.
        tune_steps: optimisation steps of the seen texels' colours through the renderer; 0 = none.
        tune_rate: their step size, of a colour range of 1.
        perceptual_weight: of the perceptual term beside the squared error.
        dtype: in which the networks run.
    """

    steps: int = 25
    sampler: Literal["ddim", "dpm++"] = "dpm++"
    clamp_known: bool = False
    temperature: float = 1.0
    adjust_colour: bool = True
    tune_steps: int = 64
    tune_rate: float = 4e-3
    perceptual_weight: float = 0.05
    dtype: torch.dtype = torch.float32

    def autocast(self, device: torch.device) -> torch.autocast:
        """Run a block in `dtype`."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)


@dataclass
class PhotoInputs:
    """One photo of each of B people, cropped to the networks' size.

    Attributes:
        rgb: in [−1, 1] on black, what the encoder sees.
        target: in [−1, 1] on white, what the render is compared with.
        mask: of the person, in [0, 1].
        uv: UV raster of the fitted body, −1 on the background.
        sample: the partial texture.
    """

    rgb: Float[Tensor, "b 3 s s"]
    target: Float[Tensor, "b 3 s s"]
    mask: Float[Tensor, "b 1 s s"]
    uv: Float[Tensor, "b s s 2"]
    sample: TextureSample


@dataclass
class Reconstruction:
    """The avatars' textures.

    Attributes:
        texture: complete.
        partial: what the photo gave, before anything was completed.
        coverage: weight of the photo in the final colours, (B, T, T) in [0, 1].
    """

    texture: NeuralTexture
    partial: NeuralTexture
    coverage: Float[Tensor, "b t t"]


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
    occlusion: bool = True,
) -> PhotoInputs:
    """Crop photos around their people and read them into partial textures at the photos' own resolution.

    `occlusion` leaves out the outlines of limbs in front of the body (paper section 3.5).
    """
    colour = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255
    cover = torch.from_numpy(mask).float()[:, None] / 255
    small = crop_image(colour, crop, image_size, fill=1.0)
    alpha = crop_image(cover, crop, image_size, fill=0.0).clamp(0, 1)
    near = crop_camera(camera, crop, image_size)
    samples = [_sample(colour[[i]], cover[[i], 0], camera.select(i), params.select([i]), surface, texture_size, rules,
                       occlusion) for i in range(len(params))]  # fmt: skip
    return PhotoInputs(
        rgb=(2 * small - 1) * alpha - (1 - alpha),
        target=over_white(2 * small - 1, alpha),
        mask=alpha,
        uv=surface.uv(params, near),
        sample=TextureSample(*(torch.cat([getattr(s, f) for s in samples]) for f in _SAMPLE_FIELDS)),
    )


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


def reconstruct(
    nets: AvatarNets,
    vqgan: VQGAN | None,
    diffusion: LatentDiffusion | None,
    inputs: PhotoInputs,
    atlas: Atlas,
    rules: ReconstructionRules,
    *,
    generator: torch.Generator,
    progress: Step = lambda what, done, total: None,
) -> Reconstruction:
    """Complete, colour-match, composite and tune the textures of B people.

    Without `vqgan` and `diffusion` nothing is completed: hidden texels are left to the renderer.
    """
    tables = atlas.tables(inputs.sample.rgb.shape[-1])
    with torch.no_grad(), rules.autocast(inputs.rgb.device):
        partial = partial_texture(nets, inputs, generator)
    texture, coverage = partial, inputs.sample.filled
    if vqgan is not None and diffusion is not None:
        texture, coverage = fill_hidden(vqgan, diffusion, partial, tables, rules, generator, progress)
    if rules.tune_steps:
        keep = torch.maximum(coverage, torch.from_numpy(tables.eyes_hands) * inputs.sample.filled)
        texture = tune_colours(nets, texture, inputs, keep, rules, generator, progress)
    return Reconstruction(texture, partial, coverage)


def partial_texture(nets: AvatarNets, inputs: PhotoInputs, generator: torch.Generator) -> NeuralTexture:
    """What a photo gives: generated channels everywhere, colours and masks where it shows the body (eq. 2)."""
    generated = nets.generate(inputs.rgb, inputs.mask, generator).float()
    sample = inputs.sample
    return NeuralTexture.assemble(generated, sample.rgb, sample.sampled[:, None], sample.filled[:, None])


@torch.no_grad()
def fill_hidden(
    vqgan: VQGAN,
    diffusion: LatentDiffusion,
    partial: NeuralTexture,
    tables: AtlasTables,
    rules: ReconstructionRules,
    generator: torch.Generator,
    progress: Step = lambda what, done, total: None,
) -> tuple[NeuralTexture, Float[Tensor, "b t t"]]:
    """The partial texture where something was seen, a sample of the diffusion elsewhere (eq. 6).

    Returns:
        The complete texture, and the weight of `partial` in it.
    """
    with rules.autocast(partial.data.device):
        decoded = complete(vqgan, diffusion, partial, tables, rules, generator, progress)
    if rules.adjust_colour:
        decoded = adjust_colour(decoded, partial)
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
    rgb = (alpha[..., None, None] * decoded.rgb + beta[..., None, None]).clamp(0, 1)
    return NeuralTexture.assemble(decoded.generated, rgb, decoded.sampled, decoded.filled)


def tune_colours(
    nets: AvatarNets,
    texture: NeuralTexture,
    inputs: PhotoInputs,
    keep: Float[Tensor, "b t t"],
    rules: ReconstructionRules,
    generator: torch.Generator,
    progress: Step,
) -> NeuralTexture:
    """Optimise the seen colours so that the render of the photo's view matches the photo.

    Steps are weighted by frontality and by `keep`: scaling gradients would do nothing, because Adam divides
    by their size (bug 8 of the published code), so the change itself is weighted.
    """
    weight = (keep * inputs.sample.frontality.clamp(0, 1))[:, None]
    change = torch.zeros_like(texture.rgb, requires_grad=True)
    optimiser = torch.optim.Adam([change], lr=rules.tune_rate, betas=(0.0, 0.99))
    distance = PerceptualDistance() if rules.perceptual_weight else None
    nets.eval().requires_grad_(False)
    for step in range(rules.tune_steps):
        tuned = _with_rgb(texture, texture.rgb + weight * change)
        with rules.autocast(inputs.rgb.device):
            rgb, mask = nets.render(tuned, inputs.uv)
            image = over_white(rgb, mask).float()
            loss = (image - inputs.target).square().mean((1, 2, 3)).sum()
            if distance is not None:
                loss = (
                    loss + rules.perceptual_weight * _cropped(distance, image, inputs.target, generator).sum()
                )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        progress("tuning colours", step + 1, rules.tune_steps)
    with torch.no_grad():
        return _with_rgb(texture, (texture.rgb + weight * change).clamp(0, 1))


def _cropped(
    distance: PerceptualDistance, image: Tensor, target: Tensor, generator: torch.Generator
) -> Float[Tensor, " b"]:
    """The perceptual distance on one random square of half the size (paper section 4.1)."""
    size = image.shape[-1]
    side = size // 2
    y, x = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
    return distance(image[..., y : y + side, x : x + side], target[..., y : y + side, x : x + side])


def _with_rgb(texture: NeuralTexture, rgb: Tensor) -> NeuralTexture:
    return NeuralTexture.assemble(texture.generated, rgb, texture.sampled, texture.filled)
