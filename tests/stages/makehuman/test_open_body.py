"""What the open body promises: joints, symmetry, landmarks, and limbs that keep their girth."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from smplx.vertex_ids import vertex_ids

from stages.makehuman.hands import hand_components, relaxed_hand
from stages.makehuman.joints import JOINTS
from stages.makehuman.landmarks import RIGHT_OF
from stages.makehuman.phenotypes import sample_phenotypes
from stages.makehuman.shape_space import principal_components, tposed_people
from stages.makehuman.twist_correctives import twist_correctives
from stages.makehuman.vertex_order import body_vertices, mirror_vertices

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def arrays(tiny_body: Path) -> Arrays:
    with np.load(tiny_body / "smplx" / "SMPLX_NEUTRAL.npz") as file:
        return dict(file)


def test_pca_finds_the_axes_of_a_known_cloud() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((500, 2))
    axes = np.array([[3.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1.0, 0]])
    space = principal_components((scores @ axes + 5).reshape(500, 2, 3), 2)
    assert space.components.reshape(2, 6) == pytest.approx(axes, abs=0.15)
    assert space.scores.std(axis=0) == pytest.approx([1, 1])
    assert space.explained[1] == pytest.approx(1)
    rebuilt = space.mean + np.einsum(
        "pk,kvc->pvc", space.scores - space.scores.mean(axis=0), space.components
    )
    assert rebuilt.reshape(500, 6) == pytest.approx(scores @ axes + 5, abs=1e-6)


def test_regressed_joints_match_the_rig_on_100_bodies(arrays: Arrays) -> None:
    """People that the model was not made from, brought into its shape space: mean ≤ 1.5, p95 ≤ 4 mm."""
    people = sample_phenotypes(100, np.random.default_rng(11))
    truth = tposed_people(people, body_vertices(), lambda n=1, text="": None)
    shape = np.moveaxis(arrays["shapedirs"][..., :10], -1, 0).reshape(10, -1).astype(np.float64)
    offsets = (truth.vertices - arrays["v_template"]).reshape(100, -1)
    scores = np.linalg.lstsq(shape.T, offsets.T, rcond=None)[0].T
    bodies = arrays["v_template"] + (scores @ shape).reshape(truth.vertices.shape)
    joints = np.einsum("jv,pvc->pjc", arrays["J_regressor"], bodies)
    error = np.linalg.norm(joints - truth.joints, axis=-1) * 1000
    assert error.mean() <= 1.5
    assert np.percentile(error, 95) <= 4


def test_expressions_do_not_move_joints(arrays: Arrays) -> None:
    moved = np.einsum("jv,vck->jck", arrays["J_regressor"], arrays["shapedirs"][..., 10:])
    assert np.abs(moved).max() < 1e-4
    assert np.abs(arrays["shapedirs"][..., 10:]).max() > 2e-3


def test_regressor_is_affine_and_mirrored(arrays: Arrays) -> None:
    regressor = arrays["J_regressor"]
    assert regressor.sum(axis=1) == pytest.approx(np.ones(55), abs=1e-5)
    left, right = JOINTS.index("left_knee"), JOINTS.index("right_knee")
    assert np.array_equal(regressor[left], regressor[right][mirror_vertices()])
    assert np.allclose((regressor @ arrays["v_template"])[left][0], 0.13, atol=0.03)


def test_named_vertices_are_where_smplx_looks(arrays: Arrays) -> None:
    point = {name: arrays["v_template"][i] for name, i in vertex_ids["smplx"].items()}
    assert abs(point["nose"][0]) < 1e-3
    assert point["nose"][2] == arrays["v_template"][arrays["v_template"][:, 1] > 0.2][:, 2].max()
    assert point["leye"][0] > 0.02
    assert point["reye"][0] < -0.02
    assert point["lear"][0] > 0.07
    assert point["LBigToe"][2] > point["LSmallToe"][2] > point["LHeel"][2]
    assert point["LBigToe"][0] < point["LSmallToe"][0]
    tips = [point[f"r{f}"][0] for f in ("middle", "ring", "pinky", "thumb")]
    assert tips == sorted(tips)  # the right middle finger reaches furthest to −x


def test_landmarks_are_ordered_points_on_the_face(arrays: Arrays) -> None:
    corners = arrays["v_template"][arrays["f"][arrays["lmk_faces_idx"]]]
    points = (corners * arrays["lmk_bary_coords"][..., None]).sum(axis=1)
    at = {number: points[number - 17] for number in range(17, 68)}
    for left, right in RIGHT_OF.items():
        assert at[left] * [-1, 1, 1] == pytest.approx(at[right], abs=1e-3)
        assert at[left][0] > 0
    assert np.diff(points[:10, 0]).min() > 0  # brows: from the subject's right to the left
    assert np.diff(points[10:14, 1]).max() < 0  # the nose's bridge: downwards
    assert at[44][1] > at[45][1] > at[46][1]  # left eye: upper lid, outer corner, lower lid
    assert at[42][0] < at[43][0] < at[45][0]
    assert at[51][1] > at[62][1] > at[66][1] > at[57][1]  # lips, from top to bottom
    assert at[60][0] > at[48][0]
    assert points[:, 2].min() > 0.08


def test_hand_tables_curl_both_hands_alike() -> None:
    for side in ("left", "right"):
        basis = hand_components(side)
        assert basis @ basis.T == pytest.approx(np.eye(45), abs=1e-9)
        assert relaxed_hand(side) @ basis[0] > 0.3  # a relaxed hand is a half-curled one
    mirrored = relaxed_hand("right").reshape(15, 3) * [1, -1, -1]
    assert relaxed_hand("left").reshape(15, 3) == pytest.approx(mirrored, abs=0.01)


def test_twist_correctives_vanish_for_bends(arrays: Arrays) -> None:
    directions = arrays["posedirs"].reshape(-1, 3, 54, 3, 3)
    wrist = directions[:, :, JOINTS.index("left_wrist") - 1].astype(np.float64)
    bend = np.array([[0.36, 0, 0.8], [0, 1, 0], [-0.8, 0, 0.36]]) - np.eye(3)  # about y
    bend[0, 0] = bend[2, 2]
    assert np.abs(np.einsum("vcij,ij->vc", wrist, bend)).max() < 1e-7
    still = np.setdiff1d(np.arange(54), [JOINTS.index(f"{s}_{j}") - 1 for s in ("left", "right") for j in
                                         ("shoulder", "elbow", "wrist")])  # fmt: skip
    assert not directions[:, :, still].any()


@pytest.mark.parametrize(("degrees", "tolerance"), [(75, 1e-4), (-75, 1e-4), (90, 0.004), (40, 0.004)])
def test_a_twisted_tube_stays_round(degrees: float, tolerance: float) -> None:
    """A tube of 3 cm whose skin changes abruptly at the wrist; without correctives 90° leave it 2.1 cm."""
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    x = np.repeat(np.linspace(0.42, 0.75, 40), len(angle))
    ring = np.tile(np.stack([np.cos(angle), np.sin(angle)], axis=1) * 0.03, (40, 1))
    tube = np.concatenate([x[:, None], ring], axis=1)
    joints = np.zeros((55, 3))
    for name, place in (("shoulder", 0.17), ("elbow", 0.41), ("wrist", 0.65)):
        for side, sign in (("left", 1), ("right", -1)):
            joints[JOINTS.index(f"{side}_{name}"), 0] = sign * place
    wrist = JOINTS.index("left_wrist")
    weights = np.zeros((len(tube), 55))
    weights[:, wrist] = np.clip((x - 0.64) / 0.02, 0, 1)
    weights[:, JOINTS.index("left_elbow")] = 1 - weights[:, wrist]

    directions = twist_correctives(tube, joints, weights).reshape(-1, 3, 54, 3, 3)
    turn = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    offset = np.einsum("vcij,ij->vc", directions[:, :, wrist - 1], turn - np.eye(3))
    share = weights[:, wrist, None, None]
    skinned = (((1 - share) * np.eye(3) + share * turn) @ (tube + offset)[..., None])[..., 0]
    assert np.linalg.norm(skinned[:, 1:], axis=1) == pytest.approx(0.03, abs=tolerance)
    turned = np.arctan2(skinned[:, 2], skinned[:, 1]) - np.arctan2(tube[:, 2], tube[:, 1])
    share_of_twist = np.angle(np.exp(1j * turned)).reshape(40, 12).mean(axis=1) / np.deg2rad(degrees)
    assert np.abs(np.diff(share_of_twist)).max() < 0.25  # gradually, from ring to ring
    assert share_of_twist[[0, -1]] == pytest.approx([0, 1], abs=1e-3)
