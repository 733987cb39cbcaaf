"""The pretrained features that every training stage builds."""

import torch

from dinar_models.backbones import efficientnet_lite0, efficientnet_lite0_state


def test_building_draws_no_random_numbers() -> None:
    """Else a net that is made afterwards starts elsewhere in a process that had read the weights before."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    efficientnet_lite0_state.cache_clear()
    net = efficientnet_lite0(features_only=True, out_indices=(0,))
    assert torch.equal(torch.get_rng_state(), before)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
