"""Whole people: reproducible, complete, without holes, the body inside the clothes."""

import numpy as np
import pytest
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from dinar_models.labels import CLASSES
from stages._core.seeds import rng_for
from stages.makehuman.phenotypes import sample_phenotypes
from stages.makehuman.vertex_order import body_faces
from stages.people.labels import Part
from stages.people.outfit import sample_outfit
from stages.people.person import make_person, pose_person

NAMES = ("s0004", "s0009")  # one in a skirt and a tucked blouse, one in an open jacket over trousers


@pytest.fixture(scope="module", params=NAMES)
def person(request):
    return make_person(request.param, seed=1)


@pytest.fixture(scope="module")
def posing(person):
    return next(iter(pose_person(person, 1, seed=1)))


def _depth(vertices: np.ndarray, faces: np.ndarray, direction: float) -> np.ndarray:
    """(H, W) depth seen from the front (+1) or the back (−1), 5 mm pixels; inf = background."""
    x, y = np.meshgrid(np.arange(-0.95, 0.95, 0.005), np.arange(0.0, 2.1, 0.005))
    origins = np.stack([x, y, np.full_like(x, 3 * direction)], axis=-1).reshape(-1, 3)
    mesh = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    rays = np.tile([0.0, 0.0, -direction], (len(origins), 1))
    points, ray, _ = mesh.intersects_location(origins, rays, multiple_hits=False)
    depth = np.full(len(origins), np.inf)
    depth[ray] = 3 - points[:, 2] * direction
    return depth.reshape(x.shape)


def test_labels_are_those_of_the_parser():
    assert {part.name.lower(): int(part) for part in Part} == {
        p.name.lower(): CLASSES.index(p.name.lower()) for p in Part
    }


def test_the_same_name_and_seed_give_the_same_person(person, posing):
    again = make_person(person.name, seed=1)
    np.testing.assert_array_equal(again.texture, person.texture)
    np.testing.assert_array_equal(
        next(iter(pose_person(again, 1, seed=1))).mesh.vertices, posing.mesh.vertices
    )
    assert (make_person(person.name, seed=2).texture != person.texture).any()


def test_a_scan_stands_on_the_floor_and_every_corner_has_texture(person, posing):
    mesh = posing.mesh
    assert mesh.vertices[:, 1].min() == pytest.approx(0, abs=1e-9)
    assert 1.4 < mesh.vertices[:, 1].max() < 2.2
    assert np.isfinite(mesh.vertices).all()
    assert mesh.faces.max() == len(mesh.vertices) - 1
    assert mesh.uv.min() > 0
    assert mesh.uv.max() < 1
    assert set(np.unique(person.parts)) <= {int(part) for part in Part}


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_clothes_have_no_holes_and_the_body_does_not_poke_through(posing, direction):
    scan = _depth(posing.mesh.vertices, posing.mesh.faces, direction)
    body = _depth(posing.truth.vertices, body_faces(), direction)
    seen = np.isfinite(body)
    assert np.isinf(scan[seen]).mean() < 0.002
    through = body[seen] < scan[seen] - 0.004
    assert through.mean() < 0.004


def test_a_wardrobe_is_varied_and_some_prints_are_on_one_side_only():
    people = sample_phenotypes(40, rng_for(0, "people"))
    outfits = [sample_outfit(people.select(slice(i, i + 1)), rng_for(1, i)) for i in range(40)]
    assert len({o.top_fabric.pattern for o in outfits}) >= 6
    assert {o.bottom.kind for o in outfits} == {"trousers", "skirt"}
    assert len({o.looks.hair for o in outfits}) >= 6
    assert len({o.top_fabric.colours for o in outfits}) > 35
    prints = [o.top_fabric.motifs for o in outfits if o.top_fabric.motifs]
    assert any(len({m.piece for m in motifs}) == 1 for motifs in prints)
