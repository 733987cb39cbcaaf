import torch

from dinar_models.augment import augment_batch, degrade, move_people, paste_people
from dinar_models.labels import CLASSES

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
        colour, mask[:, None] / 255, parts, 48, 48, generator=torch.Generator().manual_seed(0)
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
        colour, mask[:, None] / 255, parts, 48, 48, generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close((labels > 0).float().mean(), moved[:, 3].mean(), atol=0.01, rtol=0.02)


def test_nobody_leaves_only_background() -> None:
    empty = torch.zeros(4, 48, 48, dtype=torch.uint8)
    white = torch.full((4, 48, 48, 3), 255, dtype=torch.uint8)
    images, labels = augment_batch(white, empty, empty, 32, 16, generator=torch.Generator().manual_seed(0))
    assert images.shape == (4, 3, 32, 32)
    assert labels.max() == 0
    assert images.abs().max() <= 1


def test_equal_generators_give_equal_images() -> None:
    people = striped_people(4)
    first, _ = augment_batch(*people, 32, 32, generator=torch.Generator().manual_seed(5))
    second, _ = augment_batch(*people, 32, 32, generator=torch.Generator().manual_seed(5))
    third, _ = augment_batch(*people, 32, 32, generator=torch.Generator().manual_seed(6))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_small_labels_cover_the_same_square_as_the_image() -> None:
    people = striped_people(12)
    _, fine = augment_batch(*people, 48, 48, generator=torch.Generator().manual_seed(3))
    _, coarse = augment_batch(*people, 48, 16, generator=torch.Generator().manual_seed(3))
    assert torch.equal(coarse, fine[:, 1::3, 1::3])  # the middle one of three pixels


def test_pasted_people_hide_what_is_behind_them() -> None:
    rgb, mask, _ = striped_people(1)
    pasted = paste_people(rgb, mask, torch.full((1, 3, 48, 48), 0.2))
    assert pasted[0, 24, 14].tolist() == [255, 0, 0]
    assert pasted[0, 2, 2].tolist() == [51, 51, 51]


def test_degraded_images_keep_their_size_and_range() -> None:
    images = torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    out = degrade(images, generator=torch.Generator().manual_seed(0))
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert not torch.equal(out, images)
