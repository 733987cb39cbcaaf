import pytest
import torch
from torch import Tensor, nn

from dinar_models.labels import CLASSES
from dinar_models.parser import Parser, build_parser, start_at_prior, train_mode


class RedIsHair(Parser):
    """A parser with a known answer: hair where red is above one half, background elsewhere."""

    def __init__(self, size: int = 8) -> None:
        nn.Module.__init__(self)
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(len(image), len(CLASSES), *image.shape[2:])
        logits[:, 0] = -100 * image[:, 0]
        logits[:, 2] = 100 * image[:, 0]
        return logits


@pytest.mark.parametrize(("architecture", "side"), [("unet", 32), ("deeplabv3plus", 16)])
def test_architectures_give_logits_at_their_stride(architecture: str, side: int) -> None:
    parser = build_parser({"architecture": architecture, "size": 64}).eval()
    with torch.no_grad():
        assert parser(torch.zeros(1, 3, 64, 64)).shape == (1, 20, side, side)
    assert 64 // parser.stride == side


def test_training_leaves_the_encoders_statistics_and_first_stages_alone() -> None:
    parser = build_parser({"architecture": "unet", "size": 64})
    train_mode(parser)
    before = {name: value.clone() for name, value in parser.net.encoder.state_dict().items()}
    parser(torch.randn(2, 3, 64, 64)).sum().backward()
    after = parser.net.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert parser.net.encoder.model.conv_stem.weight.grad is None
    assert parser.net.encoder.model.blocks[4][0].conv_pw.weight.grad is not None
    assert parser.net.decoder.training


def test_an_untrained_parser_can_start_at_the_share_of_the_background() -> None:
    parser = build_parser({"architecture": "deeplabv3plus", "size": 64})
    start_at_prior(parser, 0.9)
    prior = parser.net.segmentation_head[0].bias.softmax(dim=0)
    assert prior[0].item() == pytest.approx(0.9)
    assert prior[7].item() == pytest.approx(0.1 / 19)


def test_wrong_configs_are_refused() -> None:
    with pytest.raises(ValueError, match="deeplabv3plus"):
        build_parser({"architecture": "fcn", "size": 64})
    with pytest.raises(ValueError, match="multiple of 32"):
        build_parser({"architecture": "unet", "size": 100})
