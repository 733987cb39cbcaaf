from itertools import product

import numpy as np
import pytest

from stages.sources.card import Card
from stages.sources.mesh import ScanError
from stages.sources.placement import GLTF, place, toes_ahead
from tests.stages.sources.box_person import BOX, BOX_FACES, PARTS, BoxPerson

PERSON = BoxPerson.make()
TO_Z_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])


def card(**fields: str) -> Card:
    return Card.model_validate({"adapter": "scans", "path": "x", "licence": "CC0-1.0", **fields})


def facing(axis: str) -> np.ndarray:
    """The turn about y that makes someone who faces +z face `axis`."""
    x, z = {"+z": (0, 1), "-z": (0, -1), "+x": (1, 0), "-x": (-1, 0)}[axis]
    return np.array([[z, 0, x], [0, 1, 0], [-x, 0, z]])


@pytest.mark.parametrize(("axis", "up", "said"), [*product(("+z", "-z", "+x", "-x"), "yz", (True, False))])
def test_every_frame_comes_back_upright_facing_z(axis: str, up: str, said: bool) -> None:
    turn = (TO_Z_UP if up == "z" else np.eye(3)) @ facing(axis)
    raw = 1000 * PERSON.vertices @ turn.T
    placed = place(raw, PERSON.faces, card(up=up, facing=axis, units="mm") if said else card())
    np.testing.assert_allclose(placed.apply(raw), PERSON.vertices, atol=1e-9)
    np.testing.assert_allclose(placed.matrix[:, :3] @ raw[0] + placed.matrix[:, 3], PERSON.vertices[0])


def test_a_scan_in_our_frame_keeps_its_bytes() -> None:
    raw = np.array([[-0.0, 0, 0], [0.1, 1.7, 0], [0, 0.3, 0.2]])
    placed = place(raw, np.array([[0, 1, 2]]), card(facing="+z"))
    assert placed.apply(raw).tobytes() == raw.tobytes()


def test_a_scan_far_away_comes_to_the_origin_and_one_nearby_stays() -> None:
    aside = PERSON.vertices + np.array([5.0, 0, 0])
    moved = place(aside, PERSON.faces, card()).apply(aside)
    np.testing.assert_allclose(moved, PERSON.vertices - (0, 0, 0.035), atol=1e-9)  # its box: -0.12 to 0.19
    far = PERSON.vertices * 100 + (5e7, 300, -4e7)
    moved = place(far, PERSON.faces, card()).apply(far)
    np.testing.assert_allclose(moved.min(axis=0)[1], 0, atol=1e-6)
    np.testing.assert_allclose(moved.min(axis=0) + moved.max(axis=0), (0, 1.75, 0), atol=1e-6)
    near = PERSON.vertices - (0.5, 0.9, 0)
    assert place(near, PERSON.faces, card()).apply(near).tobytes() == near.tobytes()


def test_toes_are_in_front_of_ankles_by_hand() -> None:
    """The soles' middle is at z = 0.06, the ankles' at 0; the height is 1.75. Near ankles count more."""
    x, z = toes_ahead(PERSON.vertices, PERSON.faces)
    assert x == pytest.approx(0, abs=1e-3)
    assert 0.6 * 0.06 / 1.75 < z <= 0.06 / 1.75 * 1.05


def without(*parts: str) -> np.ndarray:
    kept = [i for i, name in enumerate(PARTS) if name not in parts]
    return PERSON.faces[np.isin(PERSON.part[PERSON.faces[:, 0]], kept)]


def test_what_is_unclear_names_the_key() -> None:
    nobody = without("left_foot", "right_foot")
    with pytest.raises(ScanError, match="`facing:"):
        place(PERSON.vertices, nobody, card())
    assert (place(PERSON.vertices, nobody, card(facing="-z")).matrix[:, :3] == np.diag([-1, 1, -1])).all()
    assert (place(PERSON.vertices, nobody, card(), GLTF).matrix == np.eye(3, 4)).all()
    with pytest.raises(ScanError, match="say `up: y` or `up: z`"):
        place(BOX.astype(float), BOX_FACES, card())
    with pytest.raises(ScanError, match="stand on the head"):
        place(PERSON.vertices * (1, -1, -1), PERSON.faces, card())


def test_arms_spread_along_the_depth_do_not_hide_up() -> None:
    """A T-pose facing +x: the arms reach 1.7 m along z, nearly the height."""
    vertices = PERSON.vertices.copy()
    for part, side in ((3, 1), (4, -1)):
        here = PERSON.part == part
        arm = vertices[here] - (side * 0.2, 1.4, 0)
        vertices[here] = np.stack([-side * 1.18 * arm[:, 1] * 1.0, arm[:, 0] * side, arm[:, 2]], 1)
        vertices[here] += (side * 0.2, 1.35, 0)
    raw = vertices @ facing("+x").T
    assert np.ptp(raw, axis=0)[2] > 1.4
    np.testing.assert_allclose(place(raw, PERSON.faces, card()).apply(raw), vertices, atol=1e-9)


@pytest.mark.parametrize(("units", "height"), [("m", 1.75), ("cm", 175), ("mm", 1750), ("auto", 17.5)])
def test_a_height_that_is_no_persons(units: str, height: float) -> None:
    raw = PERSON.vertices * (height / 1.75 if units == "auto" else 4 * height / 1.75)
    with pytest.raises(ScanError, match="no person's"):
        place(raw, PERSON.faces, card(units=units))
