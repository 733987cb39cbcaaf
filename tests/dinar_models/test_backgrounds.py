import torch

from dinar_models.backgrounds import (
    LONGER_SIDE,
    TRAINING_PHOTOGRAPHS,
    UNSEEN_PHOTOGRAPHS,
    make_backgrounds,
    photograph,
    photograph_pieces,
)


def test_photographs_come_without_a_download_and_none_serves_both_purposes() -> None:
    for name in (*TRAINING_PHOTOGRAPHS, *UNSEEN_PHOTOGRAPHS):
        image = photograph(name)
        assert image.shape[0] == 3
        assert max(image.shape[1:]) <= LONGER_SIDE
        assert image.float().std() > 5
    assert not set(TRAINING_PHOTOGRAPHS) & set(UNSEEN_PHOTOGRAPHS)


def test_pieces_that_keep_their_colours_have_only_colours_of_the_photograph() -> None:
    pieces = photograph_pieces(("rocket",), 6, 16, generator=torch.Generator().manual_seed(0), recolour=False)
    low, high = (photograph("rocket").flatten(1).float() / 255).aminmax(dim=1)
    assert (pieces >= low[None, :, None, None] - 1e-5).all()
    assert (pieces <= high[None, :, None, None] + 1e-5).all()
    assert len({tuple(piece.flatten().tolist()) for piece in pieces}) == 6


def test_backgrounds_differ_and_some_are_white() -> None:
    people = torch.zeros(40, 3, 24, 24)
    images = make_backgrounds(people, generator=torch.Generator().manual_seed(0))
    white = (images == 1).flatten(1).all(dim=1)
    assert 1 <= int(white.sum()) <= 15
    assert images[~white].flatten(1).std(dim=1).median() > 0.05
    assert images.min() >= 0
    assert images.max() <= 1
