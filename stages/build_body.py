"""Make the body model in the SMPL-X file format and its UV atlas.

The open body is distilled from CC0 MakeHuman people. A licensed SMPLX_{NEUTRAL,MALE,FEMALE}.npz in
data/raw/body_models/ takes its place; which of them, `build_body.gender` says.
"""

import json
import logging
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from dinar_models.body import BodyModel
from dinar_models.uv_atlas import build_atlas
from stages._core.cli import main
from stages._core.params import StageParams
from stages._core.publish import publish, write_file
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary
from stages.makehuman.smplx_file import build_open_body

log = logging.getLogger(__name__)

Gender = Literal["neutral", "male", "female"]

FILE_NAME = "SMPLX_NEUTRAL.npz"
"""The body's file in this stage's output, whatever its gender: `smplx` looks for this name."""

MIN_VERTICES = 9930
"""`smplx` reads surface points at vertex numbers up to 9929."""

ARRAY_DIMENSIONS = {
    **{"v_template": 2, "f": 2, "shapedirs": 3, "posedirs": 3, "J_regressor": 2, "weights": 2},
    **{"kintree_table": 2, "hands_componentsl": 2, "hands_componentsr": 2},
    **{"hands_meanl": 1, "hands_meanr": 1, "lmk_faces_idx": 1, "lmk_bary_coords": 2},
}
"""What `smplx` reads from an SMPL-X file, and how many axes each array has."""


class BuildBodyParams(StageParams):
    """The open body's sample; which licensed body takes its place."""

    seed: int = Field(ge=0)
    subjects: int = Field(
        1000, ge=60, le=5000, description="MakeHuman people from which the shape space is learnt"
    )
    gender: Gender = Field(
        "neutral", description="of the licensed body; THuman2.0's fits, for one, are of the male one"
    )


def run(params: BuildBodyParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Write smplx/SMPLX_NEUTRAL.npz, atlas.npz and body.json."""
    licensed = find_licensed(inputs.get("licensed", Path()), params.gender) if "licensed" in inputs else None
    if licensed is not None:
        kind, gender, arrays = "licensed", params.gender, read_licensed(licensed)
    else:
        kind, gender = "open", "neutral"
        arrays = build_open_body(params.subjects, params.seed, bar=runtime.progress).arrays
    with publish(outputs["body"]) as folder:
        (folder / "smplx").mkdir()
        np.savez_compressed(folder / "smplx" / FILE_NAME, **arrays)
        body_digest = BodyModel.load(folder).digest
        log.info("%s body written, %d vertices; building its atlas", kind, len(arrays["v_template"]))
        joints = arrays["J_regressor"] @ arrays["v_template"]
        atlas = build_atlas(arrays["v_template"], arrays["f"].astype(np.int64), arrays["weights"], joints)
        atlas.save(folder / "atlas.npz")
        card = {"kind": kind, "gender": gender, "body_digest": body_digest, "atlas_digest": atlas.digest}
        write_file(folder / "body.json", json.dumps(card, indent=1, sort_keys=True) + "\n")
    return {**card, "vertices": len(arrays["v_template"]), "faces": len(arrays["f"])}


def find_licensed(folder: Path, gender: Gender) -> Path | None:
    """The licensed body of this gender, None where the folder has none at all.

    Raises:
        ValueError: it has those of other genders only.
    """
    path = folder / f"SMPLX_{gender.upper()}.npz"
    if path.is_file():
        return path
    others = sorted(other.name for other in folder.glob("SMPLX_*.npz"))
    if others:
        raise ValueError(
            f"{folder} has {', '.join(others)}, but not {path.name}; set build_body.gender in params.yaml"
        )
    return None


def read_licensed(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a foreign SMPL-X file that `smplx` needs, checked, without ever unpickling anything.

    Raises:
        ValueError: naming the array and what is wrong with it.
    """
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
        for name, dimensions in ARRAY_DIMENSIONS.items():
            if name not in file.files:
                raise ValueError(f"{path}: array {name!r} is missing; is this an SMPL-X model (.npz)?")
            try:
                array = file[name]
            except ValueError:
                raise ValueError(f"{path}: {name} holds pickled objects, which are refused") from None
            if array.ndim != dimensions or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
                raise ValueError(
                    f"{path}: {name} is {array.dtype}{list(array.shape)}; finite numbers with "
                    f"{dimensions} axes are expected"
                )
            arrays[name] = array
    _check_consistent(arrays, path)
    arrays["shapedirs"] = _ten_and_ten(arrays["shapedirs"])
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in arrays.items()}


def _check_consistent(arrays: dict[str, np.ndarray], path: Path) -> None:
    count, faces = len(arrays["v_template"]), arrays["f"]
    checks = {
        f"{count} vertices; at least {MIN_VERTICES} are expected": count >= MIN_VERTICES,
        "shapedirs, posedirs or weights have another number of vertices": all(
            len(arrays[name]) == count for name in ("shapedirs", "posedirs", "weights")
        ),
        "J_regressor is not 55 joints × vertices": arrays["J_regressor"].shape == (55, count),
        "weights are not vertices × 55 joints with rows that sum to 1": arrays["weights"].shape[1] == 55
        and np.allclose(arrays["weights"].sum(axis=1), 1, atol=1e-3),
        "posedirs are not for 54 joints": arrays["posedirs"].shape[1:] == (3, 486),
        "shapedirs hold fewer than 10 shape and 10 expression components": arrays["shapedirs"].shape[2] >= 20,
        "f is not triangles of these vertices": faces.shape[1] == 3
        and faces.min() >= 0
        and faces.max() < count,
    }
    for mistake, passed in checks.items():
        if not passed:
            raise ValueError(f"{path}: {mistake}")


def _ten_and_ten(shapedirs: np.ndarray) -> np.ndarray:
    """Full files hold 300 shape, then 100 expression components; small ones 10 and 10."""
    expression = 300 if shapedirs.shape[2] >= 400 else 10
    return np.concatenate([shapedirs[..., :10], shapedirs[..., expression : expression + 10]], axis=2)


STAGE = Stage("build_body", BuildBodyParams, inputs=("licensed?",), outputs=("body",), run=run)

if __name__ == "__main__":
    main(STAGE)
