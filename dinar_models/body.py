"""The body model: SMPL-X parameters in, vertices and joints out.

The full body is `smplx`'s own; `BodySubset` computes the same for some of the vertices only, which is what
fitting needs a thousand times.
"""

import contextlib
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import smplx
import torch
from jaxtyping import Float, Int, Num
from smplx.lbs import batch_rodrigues
from torch import Tensor, nn

SIZES: dict[str, int] = {
    "betas": 10,
    "expression": 10,
    "global_orient": 3,
    "body_pose": 63,
    "left_hand_pose": 45,
    "right_hand_pose": 45,
    "jaw_pose": 3,
    "leye_pose": 3,
    "reye_pose": 3,
    "transl": 3,
    "scale": 1,
}
"""Numbers per parameter."""

POSES = (
    *("global_orient", "body_pose", "jaw_pose", "leye_pose", "reye_pose"),
    *("left_hand_pose", "right_hand_pose"),
)
"""Pose parameters in the order of the 55 joints."""


@dataclass
class BodyParams:
    """Parameters of b bodies. Rotations are axis-angle in radians, hands absolute (flat hand = 0).

    Attributes:
        betas, expression: coefficients of unit variance.
        global_orient: rotation about the pelvis joint.
        body_pose: 21 joints; left_hand_pose, right_hand_pose: 15 each.
        transl: metres, added after scaling.
        scale: factor on the whole body, 1 for a body of its own size.
    """

    betas: Float[Tensor, "b 10"]
    expression: Float[Tensor, "b 10"]
    global_orient: Float[Tensor, "b 3"]
    body_pose: Float[Tensor, "b 63"]
    left_hand_pose: Float[Tensor, "b 45"]
    right_hand_pose: Float[Tensor, "b 45"]
    jaw_pose: Float[Tensor, "b 3"]
    leye_pose: Float[Tensor, "b 3"]
    reye_pose: Float[Tensor, "b 3"]
    transl: Float[Tensor, "b 3"]
    scale: Float[Tensor, "b 1"]

    def __len__(self) -> int:
        return len(self.betas)

    @staticmethod
    def zeros(count: int, device: torch.device | str = "cpu") -> "BodyParams":
        """Mean bodies in the T-pose, scale 1."""
        values = {name: torch.zeros(count, size, device=device) for name, size in SIZES.items()}
        return BodyParams(**{**values, "scale": torch.ones(count, 1, device=device)})

    @staticmethod
    def from_dict(values: "Mapping[str, Tensor | np.ndarray]") -> "BodyParams":
        """From arrays by field name, as the `bodies` store holds them; other keys are ignored."""
        return BodyParams(**{name: torch.as_tensor(values[name]) for name in SIZES})

    @staticmethod
    def cat(parts: "Sequence[BodyParams]") -> "BodyParams":
        """One after the other."""
        return BodyParams(**{name: torch.cat([getattr(p, name) for p in parts]) for name in SIZES})

    def as_dict(self) -> dict[str, Tensor]:
        """Tensors by field name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def select(self, rows: "Tensor | Sequence[int] | slice") -> "BodyParams":
        """Some of the bodies."""
        return BodyParams(**{name: value[rows] for name, value in self.as_dict().items()})

    def to(self, device: torch.device | str) -> "BodyParams":
        """On another device."""
        return BodyParams(**{name: value.to(device) for name, value in self.as_dict().items()})


@dataclass
class BodyOutput:
    """World coordinates in metres.

    Attributes:
        vertices: of the body, or of the chosen subset.
        joints: the 55 joints, 21 surface points (nose, eyes, ears, toes, heels, finger tips), 51 landmarks.
    """

    vertices: Float[Tensor, "b v 3"]
    joints: Float[Tensor, "b 127 3"]


class BodyModel(nn.Module):
    """An SMPL-X body of neutral gender. Build with `BodyModel.load`.

    Attributes:
        faces: (F, 3) long.
        parents: (55,) long, −1 for the pelvis.
        digest: of the file; fits and weights carry it.
    """

    faces: Int[Tensor, "f 3"]
    parents: Int[Tensor, "55"]

    def __init__(self, model: smplx.SMPLX, digest: str) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.digest = digest
        self.register_buffer("faces", model.faces_tensor.long(), persistent=False)
        parents = model.parents.long().clone()
        parents[0] = -1
        self.register_buffer("parents", parents, persistent=False)

    @staticmethod
    def load(body_folder: Path) -> "BodyModel":
        """Load `smplx/SMPLX_NEUTRAL.npz` of a folder that the stage build_body made."""
        path = Path(body_folder) / "smplx" / "SMPLX_NEUTRAL.npz"
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; run `dvc repro build_body`")
        with contextlib.redirect_stdout(io.StringIO()):  # smplx prints that the file has 10 components
            model = smplx.create(
                str(body_folder),
                model_type="smplx",
                gender="neutral",
                ext="npz",
                use_pca=False,
                flat_hand_mean=True,
                num_betas=SIZES["betas"],
                num_expression_coeffs=SIZES["expression"],
                use_face_contour=False,
                create_transl=False,
            )
        return BodyModel(model, hashlib.sha256(path.read_bytes()).hexdigest()[:16])

    def forward(self, params: BodyParams) -> BodyOutput:
        """Pose and shape b bodies."""
        names = ("betas", "expression", *POSES)
        posed = self.model(**{name: getattr(params, name) for name in names}, return_shaped=False)
        return _place(posed.vertices, posed.joints, params)

    def subset(self, vertex_ids: Num[np.ndarray, "n"] | Int[Tensor, "n"]) -> "BodySubset":
        """A light model of all 127 joints and only these vertices."""
        return BodySubset(self.model, torch.as_tensor(vertex_ids, dtype=torch.long, device=self.faces.device))


class BodySubset(nn.Module):
    """Joints and some vertices of an SMPL-X body, without touching the other vertices.

    Linear blend skinning as in the SMPL paper (Loper et al. 2015, eqs. 2–4, 9–10); the joints come from a
    precomputed template and its change with shape, instead of regressing them from all vertices. It lives on
    the device on which its model was when it was made.
    """

    def __init__(self, model: smplx.SMPLX, vertex_ids: Int[Tensor, "n"]) -> None:
        super().__init__()
        extra = model.vertex_joint_selector.extra_joints_idxs
        corners = model.faces_tensor[model.lmk_faces_idx].flatten()
        used, place = torch.unique(torch.cat([vertex_ids, extra, corners]), return_inverse=True)
        sections = [len(vertex_ids), len(extra), len(corners)]
        self.wanted, self.extra, self.corners = place.split(sections)
        self.landmark_weights = model.lmk_bary_coords
        directions = torch.cat([model.shapedirs, model.expr_dirs], dim=2)
        self.template = model.v_template[used]
        self.directions = directions[used].flatten(0, 1).T.contiguous()
        self.pose_directions = model.posedirs.unflatten(1, (-1, 3))[:, used].flatten(1).contiguous()
        self.weights = model.lbs_weights[used]
        self.joint_template = model.J_regressor @ model.v_template
        self.joint_directions = torch.einsum("jv,vck->kjc", model.J_regressor, directions)
        self.levels = _levels(model.parents)
        self.order = torch.argsort(torch.cat([joints for joints, _ in self.levels]))

    def forward(self, params: BodyParams) -> BodyOutput:
        """The chosen vertices, in the order asked for, and the 127 joints."""
        shape = torch.cat([params.betas, params.expression], dim=1)
        rest = self.joint_template + torch.einsum("bk,kjc->bjc", shape, self.joint_directions)
        pose = torch.cat([getattr(params, name) for name in POSES], dim=1).unflatten(1, (-1, 3))
        local = batch_rodrigues(pose.reshape(-1, 3)).unflatten(0, pose.shape[:2])
        rotations, joints = self._chain(local, rest)
        vertices = self._skin(shape, local, rotations, joints - (rotations @ rest[..., None])[..., 0])
        landmarks = vertices[:, self.corners].unflatten(1, (-1, 3))
        landmarks = (landmarks * self.landmark_weights[..., None]).sum(dim=2)
        joints = torch.cat([joints, vertices[:, self.extra], landmarks], dim=1)
        return _place(vertices[:, self.wanted], joints, params)

    def _chain(
        self, local: Float[Tensor, "b 55 3 3"], rest: Float[Tensor, "b 55 3"]
    ) -> tuple[Float[Tensor, "b 55 3 3"], Float[Tensor, "b 55 3"]]:
        """World rotations and positions of the joints, one level of the tree at a time."""
        rotation, position, above = local[:, :1], rest[:, :1], rest[:, :1]
        rotations, positions = [rotation], [position]
        for joints, parents in self.levels[1:]:
            offset = (rest[:, joints] - above[:, parents])[..., None]
            position = (rotation[:, parents] @ offset)[..., 0] + position[:, parents]
            rotation = rotation[:, parents] @ local[:, joints]
            above = rest[:, joints]
            rotations.append(rotation)
            positions.append(position)
        return torch.cat(rotations, dim=1)[:, self.order], torch.cat(positions, dim=1)[:, self.order]

    def _skin(
        self,
        shape: Float[Tensor, "b 20"],
        local: Float[Tensor, "b 55 3 3"],
        rotations: Float[Tensor, "b 55 3 3"],
        offsets: Float[Tensor, "b 55 3"],
    ) -> Float[Tensor, "b u 3"]:
        corrective = (local[:, 1:] - torch.eye(3, device=local.device)).flatten(1)
        moved = shape @ self.directions + corrective @ self.pose_directions
        vertices = self.template + moved.unflatten(1, (-1, 3))
        transforms = torch.cat([rotations, offsets[..., None]], dim=3).flatten(2)
        blended = (self.weights @ transforms).unflatten(2, (3, 4))
        return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]


def _levels(parents: Int[Tensor, "55"]) -> list[tuple[Tensor, Tensor]]:
    """Joints by depth in the tree, and each one's parent as a place in the level above."""
    depth = [0] * len(parents)
    for joint in range(1, len(parents)):  # parents come first
        depth[joint] = depth[int(parents[joint])] + 1
    levels: list[tuple[Tensor, Tensor]] = []
    for level in range(max(depth) + 1):
        joints = [j for j, d in enumerate(depth) if d == level]
        above = levels[-1][0].tolist() if levels else []
        places = [above.index(int(parents[j])) for j in joints] if levels else []
        levels.append((_index(joints, parents), _index(places, parents)))
    return levels


def _index(values: list[int], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.long, device=like.device)


def _place(
    vertices: Float[Tensor, "b v 3"], joints: Float[Tensor, "b j 3"], params: BodyParams
) -> BodyOutput:
    scale, transl = params.scale[:, None], params.transl[:, None]
    return BodyOutput(scale * vertices + transl, scale * joints + transl)
