"""The discriminator's side of training: who gets gradients, and when the penalty comes."""

import copy

import torch
from torch import Tensor

from dinar_models.adversary import Adversary, AdversaryRules
from dinar_models.discriminator import Discriminator


def random(seed: int) -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def adversary(**rules: float) -> Adversary:
    torch.manual_seed(0)
    return Adversary(Discriminator(16, base=8), AdversaryRules(**rules), torch.float32)  # type: ignore[arg-type]


def test_judging_teaches_the_image_only() -> None:
    judge, fake = adversary(), random(1).requires_grad_()
    judge.judge(fake).sum().backward()
    assert fake.grad is not None
    assert fake.grad.any()
    assert all(p.grad is None for p in judge.net.parameters())


def test_learning_teaches_the_discriminator_only() -> None:
    judge, fake = adversary(weight=1.0, rate=5e-3), random(1).requires_grad_()
    before = [p.detach().clone() for p in judge.net.parameters()]
    for step in range(10):
        logs = judge.learn(random(2) + 1, fake, step)
    assert fake.grad is None
    assert any((p != q).any() for p, q in zip(judge.net.parameters(), before, strict=True))
    assert logs["discriminator"].item() < 1.0  # it began at 2 ln 2 = 1.39, a coin's


def test_the_penalty_comes_every_so_many_steps() -> None:
    judge = adversary(r1=0.1, r1_every=4)
    penalised = ["r1" in judge.learn(random(2), random(1), step) for step in range(6)]
    assert penalised == [True, False, False, False, True, False]


def test_lazy_penalties_weigh_as_much_as_frequent_ones() -> None:
    """Gradients of one step with r1_every 4 and with weight four times as large are equal."""
    grads = []
    for rules in ({"r1": 0.1, "r1_every": 4}, {"r1": 0.4, "r1_every": 1}):
        judge = adversary(weight=0.0, **rules)
        judge.learn(random(2), random(1), 0)
        grads.append([p.grad for p in judge.net.parameters() if p.grad is not None])
    torch.testing.assert_close(*grads)
    assert max(float(g.abs().max()) for g in grads[0]) > 0


def test_state_holds_all_that_learning_changes() -> None:
    """Restored, the next update is the same."""
    first, second = adversary(weight=1.0), adversary(weight=1.0)
    first.learn(random(2), random(1), 1)
    for name, part in second.state.items():
        part.load_state_dict(copy.deepcopy(first.state[name].state_dict()))
    for judge in (first, second):
        judge.learn(random(3), random(4), 2)
    for p, q in zip(first.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(p, q)
