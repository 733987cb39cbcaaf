"""A killed and resumed training run ends with the same weights, bit for bit."""

from functools import partial

import pytest
import torch

from stages._core.runtime import Runtime
from stages._core.train_loop import TrainLoop, cosine_rate


def _train(tmp_path, name: str, kill_at: int | None = None):
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.3)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    loop = TrainLoop(
        name=name, work=tmp_path / name, steps=11, seed=5, checkpoint_every=4, log_every=3,
        runtime=Runtime(runs_root=tmp_path / "runs"), state={"net": net, "optimiser": optimiser},
    )  # fmt: skip
    for step in loop:
        if step == kill_at:
            raise KeyboardInterrupt
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        loss = net(x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loop.log(loss=loss)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), loop


def test_resume_is_exact(tmp_path):
    unbroken, loop = _train(tmp_path, "unbroken")
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, "broken", kill_at=6)
    resumed, again = _train(tmp_path, "broken")
    assert again.start == 4
    assert torch.equal(unbroken, resumed)
    assert again.history == loop.history
    assert [line["step"] for line in loop.history] == [3, 6, 9, 11]


def test_a_diverged_loss_stops_the_run(tmp_path):
    loop = TrainLoop(
        name="nan", work=tmp_path / "nan", steps=2, seed=0, checkpoint_every=1,
        runtime=Runtime(runs_root=tmp_path / "runs"), state={},
    )  # fmt: skip
    next(iter(loop))
    with pytest.raises(FloatingPointError, match="rgb is nan at step 0"):
        loop.log(rgb=float("nan"))


def test_the_rate_warms_up_and_falls_along_half_a_cosine():
    """The published schedule: 1000 steps up, then down to a thousandth at step 50,000."""
    rate = partial(cosine_rate, steps=50_000, warmup=1000, end=0.001)
    assert [rate(step) for step in (0, 499, 999, 1000)] == [0.001, 0.5, 1.0, 1.0]
    assert rate(25_500) == pytest.approx(0.5005)
    assert rate(50_000) == pytest.approx(0.001)
    assert cosine_rate(10, steps=10) == pytest.approx(0.1)
