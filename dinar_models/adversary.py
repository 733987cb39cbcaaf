"""The adversarial part of eq. 4: a discriminator, its optimiser and its updates."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinar_models import ranks
from dinar_models.discriminator import Discriminator
from dinar_models.losses import discriminator_loss, generator_loss, r1_penalty


@dataclass(frozen=True)
class AdversaryRules:
    """How the discriminator learns.

    Attributes:
        rate: its learning rate.
        weight: of its own loss: the published code scales both sides' losses.
        r1: weight of the gradient penalty on real images.
        r1_every: steps between penalties, each so many times as heavy (lazy regularisation).
    """

    rate: float = 4e-4
    weight: float = 0.01
    r1: float = 0.1
    r1_every: int = 16


class Adversary:
    """Judges images in [−1, 1]; holds all that it changes in `state`."""

    def __init__(self, net: Discriminator, rules: AdversaryRules, dtype: torch.dtype) -> None:
        self.net, self.rules, self.dtype = net, rules, dtype
        self.optimizer = torch.optim.Adam(net.parameters(), rules.rate, betas=(0.0, 0.99))

    @property
    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """For checkpoints."""
        return {"discriminator": self.net, "discriminator_optimizer": self.optimizer}

    def judge(self, fake: Float[Tensor, "b 3 s s"]) -> Float[Tensor, " b"]:
        """The generator's loss; the discriminator gets no gradient."""
        self.net.requires_grad_(False)
        return generator_loss(self._scores(fake))

    def learn(
        self, real: Float[Tensor, "b 3 s s"], fake: Float[Tensor, "b 3 s s"], step: int
    ) -> dict[str, Tensor]:
        """One update; gives what to log."""
        self.net.requires_grad_(True)
        scores = self._scores(torch.cat([real, fake.detach()]))
        loss = discriminator_loss(*scores.chunk(2)).mean()
        logs, total = {"discriminator": loss.detach()}, self.rules.weight * loss
        if self.rules.r1 and step % self.rules.r1_every == 0:
            real = real.detach().requires_grad_()
            penalty = r1_penalty(self.net(real), real).mean()  # single precision: it is differentiated twice
            total = total + self.rules.r1 / 2 * self.rules.r1_every * penalty
            logs["r1"] = penalty.detach()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        ranks.average_gradients(self.net.parameters())
        self.optimizer.step()
        return logs

    def _scores(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, " b"]:
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.net(images).float()
