"""One-shot avatars of held-out people: one front view each → complete neural texture (paper section 3.4).

Without autoencoder and diffusion what the photo hides is left to the renderer.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from dinar_models.blending import Blending
from dinar_models.body import BodyParams
from dinar_models.fills import mean_fill, mirror_fill
from dinar_models.perceptual import DistanceName
from dinar_models.photos import PhotoInputs, read_photos
from dinar_models.reconstruction import ReconstructionRules, reconstruct
from stages._core.cli import main
from stages._core.digests import digest_path, work_key
from stages._core.memory import keep_freed_memory
from stages._core.params import StageParams
from stages._core.precision import DtypeChoice, resolve_dtype
from stages._core.runtime import Runtime
from stages._core.schemas import BODY_ARRAYS
from stages._core.seeds import generator_for
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths, Stage, Summary
from stages._core.store import open_store
from stages._core.weights import read_body_digests
from stages._data.images import read_bodies, read_cameras, read_crops
from stages._data.models import AvatarModels, build_critics, load_models, load_nets

PEOPLE_PER_SHARD = 4
"""Tuned at once: half a GiB each."""

WEIGHTS = ("avatar", "vqgan", "diffusion")
"""Inputs that hold networks, in files of the same names."""

FRONT_YAW = 1.0
"""Degrees from the front within which a view counts as the front view."""


class ReconstructParams(StageParams):
    """How avatars are made, and whose."""

    seed: int
    datasets: list[str] = Field(description="data sets whose held-out people are reconstructed")
    splits: tuple[Literal["gate", "test"], ...] = Field(("gate", "test"), description="held-out splits")
    blending: Blending = Field("softmax", description="of several photos of one person, see merge_textures")
    merge_temperature: float = Field(10.0, gt=0, le=100, description="T of eq. 5 for these photos")
    occlusion_contours: bool = Field(
        True, description="leave out the outlines of limbs in front of the body (paper, section 3.5)"
    )
    steps: int = Field(25, ge=1, le=1000, description="steps of the diffusion sampler")
    sampler: Literal["ddim", "dpm++"] = Field("dpm++", description="the published code: ddim, 200 steps")
    clamp_known: bool = Field(False, description="put the noised partial latent where it is known (RePaint)")
    temperature: float = Field(
        1.0, ge=0, le=1, description="of the sampler's first noise; below 1 nearer to the mean (paper: 1)"
    )
    adjust_colour: bool = Field(True, description="fit alpha and beta of eq. 7")
    colour_steps: int = Field(
        0, ge=0, le=1000, description="steps of that fit through the renderer (paper: 64); 0: least squares"
    )
    tune_steps: int = Field(96, ge=0, le=1000, description="steps of the texture's tuning on the photo")
    tune_crops: int = Field(
        16, ge=1, le=64, description="squares of each photo that they look at (paper: 1, its own)"
    )
    tune_behind: bool = Field(
        True, description="a quarter of them is about the outline from behind (paper: false)"
    )
    tune_rate: float = Field(4e-3, gt=0, le=1, description="their step size, colours in [0, 1]")
    tune_generated: float = Field(
        0.06, ge=0, le=1, description="their step size for the generated channels; 0: colours alone (paper)"
    )
    mask_weight: float = Field(1.0, ge=0, description="of the tuning's squared error of the mask (paper: 0)")
    perceptual_weight: float = Field(0.05, ge=0, description="of the tuning's perceptual term")
    distance: DistanceName = Field("effnet", description="the tuning's perceptual term (paper: lpips)")
    adversarial: float = Field(
        0.0,
        ge=0,
        description="weight of the discriminator in the tuning, which trains it along (paper: 0.01)",
    )
    dtype: DtypeChoice = "auto"
    max_reject_ratio: float = Field(0.3, ge=0, le=1, description="share of people that may be rejected")

    def rules(self, dtype: torch.dtype) -> ReconstructionRules:
        """The same for the model."""
        names = set(ReconstructionRules.__dataclass_fields__) - {"dtype"}
        return ReconstructionRules(dtype=dtype, **{name: getattr(self, name) for name in names})


def run(params: ReconstructParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Reconstruct every held-out person from the front view of the first scan."""
    if ("vqgan" in inputs) != ("diffusion" in inputs):
        raise ValueError("vqgan and diffusion complete textures together: give both, or neither")
    people = pd.concat([front_views(name, inputs, params) for name in params.datasets], ignore_index=True)
    if people.empty:
        raise ValueError(
            f"no front view of splits {', '.join(params.splits)} in {', '.join(params.datasets)}"
        )
    nets = load_nets(inputs["avatar"], inputs["body"], runtime.device)
    dtype = resolve_dtype(params.dtype, runtime.device)
    digests = {**read_body_digests(inputs["body"]), "weights": weight_digests(inputs)}
    return build_store(
        out=outputs["avatars"],
        schema="avatars",
        index=people,
        sizes={"T": nets.config.texture_size},
        attrs={**params.model_dump(mode="json"), "dtype": str(dtype), **digests},
        shard_rows=PEOPLE_PER_SHARD,
        work=_Work(people, dict(inputs), params, dtype, runtime.device),
        runtime=runtime,
        key=work_key(params, inputs.values()),
        max_reject_ratio=params.max_reject_ratio,
    )


def weight_digests(folders: Mapping[str, Path]) -> dict[str, str]:
    """Of the weights in the folders `avatar`, `vqgan` and `diffusion`: whose avatars these are."""
    there = [name for name in WEIGHTS if name in folders]
    return {name: digest_path(folders[name] / f"{name}.safetensors") for name in there}


def front_views(dataset: str, inputs: Paths, params: ReconstructParams) -> pd.DataFrame:
    """One line per held-out person: the front view of the first scan that was fitted alone.

    A person none of whose front views was fitted stays as a line that is not ok.
    """
    single = open_store(inputs[f"bodies_single.{dataset}"], "bodies").index.reset_index(names="single_row")
    yaw = (single["yaw"] + 180) % 360 - 180
    chosen = single[
        single["split"].isin(params.splits) & (single["variant"] == 0) & ~(yaw.abs() > FRONT_YAW)
    ].sort_values(["ok", "scan"], ascending=[False, True], kind="stable")
    return chosen.drop_duplicates("subject").sort_values("subject").assign(dataset=dataset)


class _Work:
    """Picklable work on a range of people."""

    def __init__(
        self,
        people: pd.DataFrame,
        inputs: dict[str, Path],
        params: ReconstructParams,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        self.people, self.inputs, self.params, self.dtype, self.device = people, inputs, params, dtype, device

    def __call__(self, rows: range) -> ShardResult:
        keep_freed_memory()
        models = load_models(self.inputs, self.device)
        nets, atlas = models.nets, models.surface.atlas
        rules = self.params.rules(self.dtype)
        critics = build_critics(rules, models, self.inputs.get("weights"))
        size = nets.config.texture_size
        arrays = _empty(len(rows), size)
        for dataset, lines in self._usable(rows):
            places = (lines.index - rows.start).tolist()
            photos, bodies = read_people(dataset, lines, self.inputs, models, self.params)
            names = lines["subject"].tolist()
            generator = generator_for(self.params.seed, "reconstruct", *names, device=self.device)
            made = reconstruct(
                nets, models.vqgan, models.diffusion, photos, atlas, rules,
                generator=generator, critics=critics,
            )  # fmt: skip
            tables = atlas.tables(size)
            textures = {
                "texture": made.texture,
                "partial": made.partial,
                "mirror": mirror_fill(made.texture, made.partial, tables),
                "mean_fill": mean_fill(made.texture, made.partial, tables),
            }
            for name, texture in textures.items():
                arrays[name][places] = texture.data.half().numpy(force=True)
            arrays["coverage"][places] = (made.coverage * 255 + 0.5).to(torch.uint8).numpy(force=True)
            for name, values in bodies.as_dict().items():
                arrays[name][places] = values.numpy(force=True)
        return ShardResult(arrays)

    def _usable(self, rows: range) -> Iterator[tuple[str, pd.DataFrame]]:
        """The valid people of a shard, data set by data set."""
        lines = self.people.iloc[rows.start : rows.stop]
        for dataset, group in itertools.groupby(lines[lines["ok"]].itertuples(), key=lambda p: p.dataset):
            yield dataset, lines.loc[[p.Index for p in group]]


def read_people(
    dataset: str,
    lines: pd.DataFrame,
    inputs: Mapping[str, Path],
    models: AvatarModels,
    params: ReconstructParams,
) -> tuple[PhotoInputs, BodyParams]:
    """The views that `front_views` chose, and their single-view fits."""
    views = open_store(inputs[f"views.{dataset}"], "views")
    parsing = open_store(inputs[f"parsing.{dataset}"], "parsing")
    single = open_store(inputs[f"bodies_single.{dataset}"], "bodies")
    view_rows, single_rows = lines["view_row"].tolist(), lines["single_row"].tolist()
    bodies = read_bodies(single, single_rows)
    photos = read_photos(
        views.read("rgb", view_rows),
        parsing.read("mask", view_rows),
        read_cameras(views, view_rows),
        read_crops(single, single_rows),
        bodies,
        surface=models.surface,
        image_size=models.nets.config.image_size,
        texture_size=models.nets.config.texture_size,
        occlusion=params.occlusion_contours,
        crops=params.tune_crops if params.tune_steps else 1,
        behind=params.tune_behind and params.tune_steps > 0,
    )
    return photos, bodies


def _empty(people: int, size: int) -> dict[str, np.ndarray]:
    """Arrays of the avatars store, zero."""
    arrays = {
        name: np.zeros((people, 21, size, size), np.float16)
        for name in ("texture", "partial", "mirror", "mean_fill")
    }
    arrays["coverage"] = np.zeros((people, size, size), np.uint8)
    arrays |= {
        name: np.full((people, *spec.shape({})), spec.fill, np.float32) for name, spec in BODY_ARRAYS.items()
    }
    return arrays


STAGE = Stage(
    "reconstruct",
    ReconstructParams,
    inputs=("views.*", "parsing.*", "bodies_single.*", "body", "avatar", "vqgan?", "diffusion?", "weights?"),
    outputs=("avatars",),
    run=run,
)

if __name__ == "__main__":
    main(STAGE)
