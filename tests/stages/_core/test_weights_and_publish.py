"""Weights load strictly and only beside the body they belong to; outputs appear whole or not at all."""

import pytest
import torch

from stages._core.publish import publish
from stages._core.weights import WeightsError, load_weights, save_weights


def _build(config: dict) -> torch.nn.Linear:
    return torch.nn.Linear(config["features"], 1)


def test_weights_come_back_with_their_config(tmp_path):
    net = torch.nn.Linear(3, 1)
    save_weights(tmp_path, "net", net, {"features": 3}, {"body": "b1"})
    again = load_weights(tmp_path, "net", _build, {"body": "b1"})
    assert torch.equal(again.weight, net.weight)
    assert not again.training


def test_weights_of_another_body_are_refused(tmp_path):
    save_weights(tmp_path, "net", torch.nn.Linear(3, 1), {"features": 3}, {"body": "b1"})
    with pytest.raises(WeightsError, match="belongs to body b1, but the body here is b2"):
        load_weights(tmp_path, "net", _build, {"body": "b2"})


def test_a_failed_run_leaves_the_old_output_alone(tmp_path):
    out = tmp_path / "out"
    with publish(out) as folder:
        (folder / "a").write_text("old")

    def fail() -> None:
        with publish(out) as folder:
            (folder / "a").write_text("new")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert (out / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
