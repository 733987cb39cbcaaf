"""The body model against smplx and against motions known by hand."""

from pathlib import Path

import numpy as np
import pytest
import smplx
import torch

from dinar_models.body import SIZES, BodyModel, BodyParams
from stages.makehuman.joints import JOINTS


@pytest.fixture(scope="module")
def body(tiny_body: Path) -> BodyModel:
    return BodyModel.load(tiny_body)


def random_params(count: int, size: float = 0.4) -> BodyParams:
    generator = torch.Generator().manual_seed(5)
    values = {name: size * torch.randn(count, n, generator=generator) for name, n in SIZES.items()}
    return BodyParams(**{**values, "scale": 1 + values["scale"].abs()})


def test_scale_comes_before_translation(body: BodyModel) -> None:
    params = BodyParams.zeros(2)
    params.scale[1] = 2.0
    params.transl[1] = torch.tensor([1.0, -2.0, 3.0])
    output = body(params)
    assert torch.allclose(output.vertices[1], 2 * output.vertices[0] + params.transl[1], atol=1e-6)
    assert torch.allclose(output.joints[1], 2 * output.joints[0] + params.transl[1], atol=1e-6)


def test_batch_rows_do_not_mix(body: BodyModel) -> None:
    params = random_params(3)
    together = body(params)
    alone = body(params.select([1]))
    # Products of matrices of other sizes round otherwise, and not alike on all processors.
    assert torch.allclose(together.vertices[1], alone.vertices[0], atol=1e-5)
    assert torch.allclose(together.joints[1], alone.joints[0], atol=1e-5)


def test_loads_with_smplx_unchanged(
    body: BodyModel, tiny_body: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = smplx.create(str(tiny_body), model_type="smplx", ext="npz", use_pca=False, flat_hand_mean=True)
    assert "10 shape" in capsys.readouterr().out
    assert torch.equal(body(BodyParams.zeros(1)).vertices, model().vertices.detach())


def test_left_elbow_bends_the_left_forearm_forward(body: BodyModel) -> None:
    params = BodyParams.zeros(1)
    elbow, wrist = JOINTS.index("left_elbow"), JOINTS.index("left_wrist")
    params.body_pose[0, 3 * (elbow - 1) + 1] = -torch.pi / 2
    rest, bent = body(BodyParams.zeros(1)).joints[0], body(params).joints[0]
    length = torch.linalg.norm(rest[wrist] - rest[elbow])
    assert torch.allclose(bent[wrist] - bent[elbow], torch.stack([0 * length, 0 * length, length]), atol=3e-3)
    assert torch.allclose(bent[JOINTS.index("right_wrist")], rest[JOINTS.index("right_wrist")], atol=1e-6)


def test_subset_agrees_with_the_whole_body(body: BodyModel) -> None:
    ids = np.array([9120, 5, 13491, 700, 5])
    params = random_params(4)
    whole, some = body(params), body.subset(ids)(params)
    assert torch.allclose(some.vertices, whole.vertices[:, ids], atol=1e-5)
    assert torch.allclose(some.joints, whole.joints, atol=1e-5)


def test_subset_has_the_gradient_of_the_whole_body(body: BodyModel) -> None:
    ids = torch.arange(0, 13000, 500)
    gradients = []
    for model, rows in ((body, ids), (body.subset(ids), slice(None))):
        params = random_params(2)
        leaves = [value.requires_grad_() for value in params.as_dict().values()]
        output = model(params)
        loss = output.vertices[:, rows].square().sum() + output.joints.square().sum()
        gradients.append(torch.autograd.grad(loss, leaves))
    for whole, some in zip(*gradients):
        assert torch.allclose(whole, some, rtol=1e-3, atol=2e-3)


def test_params_survive_a_round_trip_through_arrays() -> None:
    params = random_params(3)
    arrays = {name: value.numpy() for name, value in params.as_dict().items()}
    back = BodyParams.from_dict({**arrays, "residuals": np.zeros((3, 4))})
    joined = BodyParams.cat([back.select([0]), back.select(slice(1, 3))])
    assert len(joined) == 3
    assert all(torch.equal(a, b) for a, b in zip(joined.as_dict().values(), params.as_dict().values()))


def test_missing_body_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="dvc repro build_body"):
        BodyModel.load(tmp_path)
