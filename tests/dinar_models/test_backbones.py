"""The pretrained features that every training stage builds: they recognise a cat, so weights and order are right."""

import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from dinar_models.backbones import efficientnet_lite0, efficientnet_lite0_state
from dinar_models.perceptual import PooledFeatures

IMAGENET_CATS = range(281, 286)
"""tabby, tiger cat, Persian, Siamese, Egyptian"""


def cat(size: int = 224) -> Tensor:
    """(1, 3, size, size) in [−1, 1]."""
    photo = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None, :, :, 80:380].float() / 127.5 - 1
    return F.interpolate(photo, size=(size, size), mode="bilinear", antialias=True)


def test_building_draws_no_random_numbers() -> None:
    """Else a net that is made afterwards starts elsewhere in a process that had read the weights before."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    efficientnet_lite0_state.cache_clear()
    net = efficientnet_lite0(features_only=True, out_indices=(0,))
    assert torch.equal(torch.get_rng_state(), before)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())


def test_a_cat_is_a_cat() -> None:
    net = efficientnet_lite0(num_classes=1000)
    with torch.no_grad():
        scores = net(cat())[0].softmax(dim=0)
    assert int(scores.argmax()) in IMAGENET_CATS
    assert scores[list(IMAGENET_CATS)].sum() > 0.5


def test_pooled_features_are_what_the_classifier_sees() -> None:
    whole, pooled = efficientnet_lite0(num_classes=1000), PooledFeatures()
    classify = whole.get_submodule("classifier")
    with torch.no_grad():
        # Batch norms folded into the convolutions round otherwise.
        torch.testing.assert_close(classify(pooled(cat(96))), whole(cat(96)), atol=1e-4, rtol=1e-4)
