import torch

from dinar_models.augment import augment_batch, degrade, make_backgrounds, move_people
from dinar_models.parser import CLASSES

LEFT, RIGHT = CLASSES.index("left_arm"), CLASSES.index("right_arm")


def striped_people(count: int, size: int = 48) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """On white, a square whose left half is red and a left arm, the right half green and a right arm."""
    rgb = torch.full((count, size, size, 3), 255, dtype=torch.uint8)
    mask = torch.zeros(count, size, size, dtype=torch.uint8)
    parts = torch.zeros(count, size, size, dtype=torch.uint8)
    low, middle, high = size // 4, size // 2, 3 * size // 4
    for columns, colour, label in (
        (slice(low, middle), (255, 0, 0), LEFT),
        (slice(middle, high), (0, 255, 0), RIGHT),
    ):
        rgb[:, low:high, columns] = torch.tensor(colour, dtype=torch.uint8)
        mask[:, low:high, columns] = 255
        parts[:, low:high, columns] = label
    return rgb, mask, parts


def test_mirroring_exchanges_left_and_right_labels() -> None:
    rgb, mask, parts = striped_people(24)
    colour = rgb.permute(0, 3, 1, 2) / 255 * (mask[:, None] > 0)
    moved, labels = move_people(
        colour, mask[:, None] / 255, parts, 48, generator=torch.Generator().manual_seed(0)
    )
    red = (moved[:, 0] > 0.9) & (moved[:, 3] > 0.999)
    kinds = set()
    for person in range(24):
        of_red = labels[person][red[person]].unique().tolist()
        assert of_red in ([LEFT], [RIGHT])
        kinds.add(of_red[0])
    assert kinds == {LEFT, RIGHT}


def test_labels_cover_what_the_mask_covers() -> None:
    rgb, mask, parts = striped_people(16)
    colour = rgb.permute(0, 3, 1, 2) / 255
    moved, labels = move_people(
        colour, mask[:, None] / 255, parts, 48, generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close((labels > 0).float().mean(), moved[:, 3].mean(), atol=0.01, rtol=0.02)


def test_nobody_leaves_only_background() -> None:
    empty = torch.zeros(4, 48, 48, dtype=torch.uint8)
    white = torch.full((4, 48, 48, 3), 255, dtype=torch.uint8)
    images, labels = augment_batch(white, empty, empty, 32, generator=torch.Generator().manual_seed(0))
    assert images.shape == (4, 3, 32, 32)
    assert labels.max() == 0
    assert images.abs().max() <= 1


def test_equal_generators_give_equal_images() -> None:
    people = striped_people(4)
    first, _ = augment_batch(*people, 32, generator=torch.Generator().manual_seed(5))
    second, _ = augment_batch(*people, 32, generator=torch.Generator().manual_seed(5))
    third, _ = augment_batch(*people, 32, generator=torch.Generator().manual_seed(6))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_backgrounds_differ_and_some_are_white() -> None:
    people = torch.zeros(40, 3, 24, 24)
    images = make_backgrounds(people, generator=torch.Generator().manual_seed(0))
    white = (images == 1).flatten(1).all(dim=1)
    assert 1 <= int(white.sum()) <= 15
    assert images[~white].flatten(1).std(dim=1).median() > 0.05


def test_degraded_images_keep_their_size_and_range() -> None:
    images = torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    out = degrade(images, generator=torch.Generator().manual_seed(0))
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert not torch.equal(out, images)
