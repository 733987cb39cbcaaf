"""What follows the renderer's gradients to make an avatar more like its photos (paper section 3.4 and appendix B)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models.adversary import Adversary, AdversaryRules
from dinar_models.avatar import AvatarNets, over_white
from dinar_models.discriminator import Discriminator
from dinar_models.folding import for_inference
from dinar_models.losses import Distance, Rendering
from dinar_models.photos import Outlines, PhotoViews
from dinar_models.types import NeuralTexture

Tick = Callable[[], None]
"""Called after each step."""

BEHIND_EVERY = 4
"""One of so many steps is about the outline from behind, where there is one."""


@dataclass(frozen=True)
class TuningRules:
    """What is minimised, and how.

    Attributes:
        rate: Adam's step size, of a colour range of 1.
        generated_rate: of the generated channels, which say where hair and cloth stand out and what texels are too
            coarse for; 0: they stay, as in the paper.
        mask: weight of the mask's squared error beside the image's.
        perceptual: weight of the perceptual distance beside the squared error.
        adversarial: weight of the discriminator's opinion and of its own loss; 0: it is not asked.
        dtype: in which the networks run.
    """

    rate: float = 4e-3
    generated_rate: float = 0.0
    mask: float = 0.0
    perceptual: float = 0.05
    adversarial: float = 0.0
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Critics:
    """Networks that judge renders.

    Attributes:
        distance: perceptual, of image pairs in [−1, 1].
        discriminator: as training left it; every avatar's tuning goes on training a copy of its own.
    """

    distance: Distance | None = None
    discriminator: Discriminator | None = None


class Tuner:
    """Renders one texture in the views of all photos and takes steps towards them.

    Every step is one of the texture; the discriminator's own step comes after it and is not counted (in the published
    code both count, so that its 64 steps may be 32: bug 9).
    """

    def __init__(
        self,
        nets: AvatarNets,
        views: PhotoViews,
        rules: TuningRules,
        critics: Critics,
        generator: torch.Generator,
        behind: Outlines | None = None,
    ) -> None:
        """Make it ready, with copies of the nets that learn nothing.

        Args:
            views: (N, J, …), of the one person.
            behind: (N, K, …), their outline from behind.

        Raises:
            ValueError: the rules ask for a critic that is not there.
        """
        self.nets = for_inference(nets, rules.dtype)
        self.views, self.behind, self.rules, self.generator = views, behind, rules, generator
        self.held: list[tuple[Outlines, Rendering]] = []
        self.squares = torch.Generator().manual_seed(0)
        if rules.perceptual and critics.distance is None:
            raise ValueError("tuning with a perceptual weight needs a perceptual distance")
        distance = critics.distance if rules.perceptual else None
        self.distance = for_inference(distance, rules.dtype) if isinstance(distance, nn.Module) else distance
        self.adversary: Adversary | None = None
        if rules.adversarial:
            if critics.discriminator is None:
                raise ValueError(
                    "tuning with an adversarial weight needs the discriminator of finetune_avatar"
                )
            judge = copy.deepcopy(critics.discriminator).train()
            self.adversary = Adversary(judge, AdversaryRules(weight=rules.adversarial), rules.dtype)
        self.steps = 0

    def descend(
        self, texture: Callable[[], NeuralTexture], variables: Mapping[Tensor, float], steps: int, tick: Tick
    ) -> None:
        """Take steps with Adam.

        Args:
            texture: of the one avatar, from the variables as they are.
            variables: leaves with gradients, and the step size of each; changed in place.
        """
        groups = [{"params": [leaf], "lr": rate} for leaf, rate in variables.items()]
        optimiser = torch.optim.Adam(groups, betas=(0.0, 0.99))
        for _ in range(steps):
            optimiser.zero_grad()
            if self.held and self.steps % BEHIND_EVERY == BEHIND_EVERY - 1:
                self._loss_behind(texture()).backward()
                optimiser.step()
            else:
                seen = self._draw()
                loss, image = self._loss(texture(), seen)
                loss.backward()
                optimiser.step()
                if self.adversary:
                    real, fake = self._judged(seen.target, image.detach())
                    self.adversary.learn(real, fake, self.steps)
            self.steps += 1
            tick()

    @torch.no_grad()
    def hold_behind(self, texture: NeuralTexture) -> None:
        """From now on some steps bring the outline from behind near the photos'; what is inside stays as it is."""
        squares = (
            [] if self.behind is None else [self.behind.square(k) for k in range(self.behind.uv.shape[1])]
        )
        self.held = [(square, self._render(texture, square)) for square in squares]

    def _draw(self) -> PhotoViews:
        """The photos' own squares and others by turns.

        In one square alone, generated channels learn what gives the right pixels of just that raster.
        """
        squares = self.views.uv.shape[1]
        if squares == 1 or self.steps % 2 == 0:
            return self.views.square(0)
        return self.views.square(self._draw_number(1, squares))

    def _draw_number(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=self.squares))

    def _render(self, texture: NeuralTexture, outlines: Outlines) -> Rendering:
        """The one texture as all photos see it, float32."""
        with self._autocast():
            made = self.nets.render(texture.data.expand(len(outlines.uv), -1, -1, -1), outlines.uv)
        return Rendering(*(image.float() for image in made))

    def _autocast(self) -> torch.autocast:
        dtype = self.rules.dtype
        return torch.autocast(self.views.uv.device.type, dtype, enabled=dtype != torch.float32)

    def _loss_behind(self, texture: NeuralTexture) -> Float[Tensor, ""]:
        """Squared errors of the mask, and of the colours where the person was before: Adam moves all channels."""
        outlines, before = self.held[self._draw_number(0, len(self.held))]
        made = self._render(texture, outlines)
        changed = before.mask * (made.rgb - before.rgb)
        return changed.square().mean() + self.rules.mask * (made.mask - outlines.mask).square().mean()

    def _loss(self, texture: NeuralTexture, views: PhotoViews) -> tuple[Tensor, Float[Tensor, "n 3 s s"]]:
        """The weighted sum of eq. 4's terms that tuning has, a mean over the photos; and the renders."""
        rules, made = self.rules, self._render(texture, views)
        image = over_white(made.rgb, made.mask)
        loss = (image - views.target).square().mean()
        if rules.mask:
            loss = loss + rules.mask * (made.mask - views.mask).square().mean()
        if self.distance is not None:
            near = self._cut([image, views.target], image.shape[-1] // 2)
            with self._autocast():
                loss = loss + rules.perceptual * self.distance(*near).float().mean()
        if self.adversary:
            fake, _ = self._judged(image, image)
            loss = loss + rules.adversarial * self.adversary.judge(fake).mean()
        return loss, image

    def _judged(self, *images: Tensor) -> list[Tensor]:
        """What the discriminator looks at: whole images, or squares of the size that it was trained on."""
        assert self.adversary is not None
        return self._cut(images, self.adversary.net.config["size"])

    def _cut(self, images: Sequence[Tensor], side: int) -> list[Tensor]:
        """The same square, at random, of all images; images that are no larger stay whole."""
        room = images[0].shape[-1] - side
        if room <= 0:
            return list(images)
        y, x = torch.randint(
            0, room + 1, (2,), generator=self.generator, device=self.generator.device
        ).tolist()
        return [image[..., y : y + side, x : x + side] for image in images]


def tune_texture(
    tuner: Tuner, texture: NeuralTexture, weight: Float[Tensor, "1 t t"], steps: int, tick: Tick
) -> NeuralTexture:
    """Optimise the seen colours of one avatar, and its generated channels if the rules say so, towards its photos.

    Steps of colours are weighted: scaling gradients would do nothing, because Adam divides by their size (bug 8 of
    the published code), so the change itself is weighted. Generated channels are not: where the body turns away from
    the camera they say how far the person goes on beside it. Texels that no photo shows have no gradient and stay,
    but for the generated channels where the outline from behind is known.

    Args:
        weight: of each texel: how frontally it is seen, 0 where what is there is not the photos'.
    """
    share = weight[:, None]
    colours, channels = (torch.zeros_like(x, requires_grad=True) for x in (texture.rgb, texture.generated))
    rates = {colours: tuner.rules.rate}
    if tuner.rules.generated_rate:
        rates[channels] = tuner.rules.generated_rate
        tuner.hold_behind(texture)

    def tuned() -> NeuralTexture:
        rgb = texture.rgb + share * colours
        return NeuralTexture.assemble(texture.generated + channels, rgb, texture.sampled, texture.filled)

    tuner.descend(tuned, rates, steps, tick)
    with torch.no_grad():
        made = tuned()
        return with_rgb(made, made.rgb.clamp(0, 1))


def adjust_by_rendering(tuner: Tuner, decoded: NeuralTexture, steps: int, tick: Tick) -> NeuralTexture:
    """α and β of eq. 7 for one avatar, by the renderer's gradients at the pixels that the photos show."""
    alpha = torch.ones_like(decoded.rgb[:, :, :1, :1]).requires_grad_()
    beta = torch.zeros_like(decoded.rgb[:, :, :1, :1]).requires_grad_()
    rates = dict.fromkeys((alpha, beta), tuner.rules.rate)
    tuner.descend(lambda: with_rgb(decoded, alpha * decoded.rgb + beta), rates, steps, tick)
    with torch.no_grad():
        return with_rgb(decoded, (alpha * decoded.rgb + beta).clamp(0, 1))


def with_rgb(texture: NeuralTexture, rgb: Tensor) -> NeuralTexture:
    """The same texture in other colours."""
    return NeuralTexture.assemble(texture.generated, rgb, texture.sampled, texture.filled)
