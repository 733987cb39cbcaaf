"""Assets, phenotypes, joint table and T-pose of MakeHuman people."""

import igl
import numpy as np
import pytest
import trimesh

from stages.makehuman.assets import load_base_mesh, load_rig
from stages.makehuman.joints import BONE_OF_JOINT, JOINTS, PARENTS, bone_to_joint
from stages.makehuman.phenotypes import Phenotypes, load_targets, sample_phenotypes, with_stature
from stages.makehuman.subject import (
    BODY_GROUPS,
    PELVIS_Y,
    Subject,
    group_triangles,
    make_subject,
    skinning_weights,
)


@pytest.fixture(scope="module")
def average() -> Subject:
    return make_subject(Phenotypes.average())


def joint(subject: Subject, name: str) -> np.ndarray:
    return subject.joints[JOINTS.index(name)]


def test_body_is_closed_and_faces_outwards(average: Subject) -> None:
    mesh = trimesh.Trimesh(average.vertices, group_triangles(*BODY_GROUPS), process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert 0.04 < mesh.volume < 0.12  # m³: an adult has 60 to 100 litres


def test_bones_hang_together() -> None:
    rig, vertices = load_rig(), load_base_mesh().vertices
    heads, tails = rig.heads @ vertices, rig.tails @ vertices
    child = rig.index("lowerarm01.L")
    assert np.allclose(heads[child], tails[rig.parents[child]], atol=1e-6)
    assert (rig.parents[1:] < np.arange(1, len(rig.names))).all()


def test_joint_table_has_the_order_of_smplx() -> None:
    from smplx.joint_names import JOINT_NAMES

    assert list(JOINTS) == JOINT_NAMES[:55]
    assert PARENTS[JOINTS.index("left_elbow")] == JOINTS.index("left_shoulder")
    assert PARENTS[JOINTS.index("right_thumb1")] == JOINTS.index("right_wrist")
    assert (PARENTS[1:] < np.arange(1, 55)).all()
    assert set(BONE_OF_JOINT) == set(JOINTS)


def test_every_bone_folds_to_the_nearest_joint() -> None:
    rig = load_rig()
    folded = {name: JOINTS[bone_to_joint()[rig.index(name)]] for name in rig.names}
    assert folded["upperarm02.L"] == "left_shoulder"
    assert folded["metacarpal3.R"] == "right_wrist"
    assert folded["toe5-3.R"] == "right_foot"
    assert folded["tongue03"] == "jaw"
    assert folded["levator02.L"] == "head"
    assert folded["breast.L"] == "spine2"
    assert folded["pelvis.R"] == "pelvis"


def test_weights_cover_helpers_too() -> None:
    weights = skinning_weights()
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    tights = np.unique(group_triangles("helper-tights"))
    assert (weights[tights].max(axis=1) > 0.2).all()


def test_target_weights_multiply_factors() -> None:
    targets = load_targets()
    person = Phenotypes.average().replace(
        gender=np.array([0.25]), age=np.array([0.5]), weight=np.array([0.75])
    )
    weights = dict(zip(targets.names, targets.weights(person)[0]))
    assert weights["male-young-averagemuscle-maxweight"] == pytest.approx(0.75 * 0.5 * 0.5)
    assert weights["asian-female-old"] == pytest.approx(0.25 * 0.5 / 3)
    assert weights["female-old-averagemuscle-averageweight-maxheight"] == 0


def test_height_slider_is_solved_for_stature() -> None:
    wanted = np.array([1.55, 1.70, 1.85])
    people = with_stature(Phenotypes.average(3), wanted)
    body = np.unique(group_triangles("body"))
    y = load_targets().shape(people, body)[..., 1]
    assert y.max(axis=1) - y.min(axis=1) == pytest.approx(wanted, abs=1e-3)


def test_samples_are_reproducible_adults() -> None:
    first, again = (sample_phenotypes(50, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.height, again.height)
    y = load_targets().shape(first)[..., 1][:, np.unique(group_triangles("body"))]
    stature = y.max(axis=1) - y.min(axis=1)
    assert (stature > 1.4).all()
    assert (stature < 2.0).all()


def test_tpose_has_level_arms_and_feet_on_one_height(average: Subject) -> None:
    assert joint(average, "pelvis") == pytest.approx([0, PELVIS_Y, 0], abs=1e-6)
    for side, sign in (("left", 1), ("right", -1)):
        shoulder, elbow, wrist = (joint(average, f"{side}_{j}") for j in ("shoulder", "elbow", "wrist"))
        assert elbow - shoulder == pytest.approx([sign * np.linalg.norm(elbow - shoulder), 0, 0], abs=1e-4)
        assert wrist - elbow == pytest.approx([sign * np.linalg.norm(wrist - elbow), 0, 0], abs=1e-4)
        thumb = joint(average, f"{side}_thumb3") - wrist
        assert thumb[2] > 0.03  # palms down: thumbs point forward
    soles = [average.vertices[average.vertices[:, 0] * s > 0.05][:, 1].min() for s in (1, -1)]
    assert soles[0] == pytest.approx(soles[1], abs=1e-3)


def test_tpose_is_symmetric(average: Subject) -> None:
    left = [i for i, j in enumerate(JOINTS) if j.startswith("left_")]
    right = [JOINTS.index(JOINTS[i].replace("left_", "right_")) for i in left]
    assert np.allclose(average.joints[left] * [-1, 1, 1], average.joints[right], atol=5e-4)


def test_tights_stay_near_the_skin(average: Subject) -> None:
    """Helpers take the same morphs and pose as the body: cloth stays near the skin it covers."""
    vertices = average.vertices.astype(np.float64)
    tights = vertices[np.unique(group_triangles("helper-tights"))]
    distance = np.sqrt(igl.point_mesh_squared_distance(tights, vertices, group_triangles("body"))[0])
    assert np.median(distance) < 0.01
    assert distance.max() < 0.06
