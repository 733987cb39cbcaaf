"""Ranges of images, and the layout of a neural texture."""

import torch

from dinar_models.types import CHANNELS, NeuralTexture, to_net_range, to_store_range


def test_every_byte_survives_the_round_trip() -> None:
    """White stays white: the published code's scaling wrapped 255 to 0."""
    bytes_ = torch.arange(256, dtype=torch.uint8)
    net = to_net_range(bytes_)
    assert net[0] == -1
    assert net[255] == 1
    assert torch.equal(to_store_range(net), bytes_)


def test_values_beyond_the_range_are_clamped() -> None:
    assert to_store_range(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]


def test_parts_come_back_from_the_named_channels() -> None:
    parts = {"generated": 16, "rgb": 3, "sampled": 1, "filled": 1}
    tensors = {name: torch.full((2, count, 4, 4), float(i)) for i, (name, count) in enumerate(parts.items())}
    texture = NeuralTexture.assemble(**tensors)
    assert texture.data.shape[1] == len(CHANNELS)
    for name, tensor in tensors.items():
        assert torch.equal(getattr(texture, name), tensor)
    assert CHANNELS[int((texture.data[0, :, 0, 0] == 3).nonzero())] == "filled"
    assert CHANNELS[int((texture.data[0, :, 0, 0] == 2).nonzero())] == "sampled"
