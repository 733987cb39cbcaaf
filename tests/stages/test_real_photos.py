"""What happens to real photos, where the folder DINAR_TEST_INPUTS (by default `../shared`) has them."""

import os
from pathlib import Path

import pytest

from stages.detection.person import PersonFinder, PersonRules
from stages.sources.photos import load_photo

ROOT = Path(__file__).parents[2]
PHOTOS = Path(os.environ.get("DINAR_TEST_INPUTS", ROOT.parent / "shared")) / "photos"

BAD = {
    "crop_lhm_half_outdoor.jpg": "the legs are not in the picture",
    "crop_painting_mona_lisa.png": "shoulders and hips are not all visible",
    "multi_4dh_skaters.png": "several people are in the photo",
    "multi_magic_2women.png": "several people are in the photo",
    "none_tiger.jpg": "no person was found",
    "tiny_rembg_car_with_person.jpg": "px long in the file",
}

pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason="the real photos are not here")


@pytest.mark.parametrize("size", [512, 1024])
def test_single_people_are_used_and_each_bad_photo_has_its_reason(size: int) -> None:
    """At the sizes of the pipeline and of `dinar avatar`."""
    reasons = {}
    with PersonFinder(PersonRules(), photos=True) as finder:
        for path in sorted(PHOTOS.rglob("*.[jp][pn]g")):
            photo = load_photo(path, size)
            reasons[path.name] = finder.look(photo.rgb, photo.frame)[1]
    assert len(reasons) == 17
    for name, reason in reasons.items():
        assert BAD.get(name, "") in reason
        assert bool(reason) == (name in BAD), f"{name}: {reason}"
