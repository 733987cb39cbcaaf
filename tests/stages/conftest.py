"""The small world that the tests of the later stages share, and what some stages make of it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from stages import evaluate, merge_textures, reconstruct
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._core.store import open_store
from tests.stages.tiny_world import IMAGE, TEXTURE, World, make_world, save_store


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_body: Path) -> World:
    """Stores and untrained models of four people; read-only."""
    return make_world(tmp_path_factory.mktemp("world"), tiny_body)


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """One process, and folders of its own."""
    return Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")


@pytest.fixture(scope="session")
def avatars(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The avatars of gate person c and test person d."""
    root = tmp_path_factory.mktemp("avatars")
    params = reconstruct.ReconstructParams(seed=2, datasets=["tiny"], steps=2, tune_steps=2, dtype="float32")
    names = ("views.tiny", "parsing.tiny", "bodies_single.tiny", "body", "avatar", "vqgan", "diffusion")
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    reconstruct.run(params, world.inputs(*names), Paths({"avatars": root / "avatars"}), runtime)
    return root / "avatars"


@dataclass(frozen=True)
class Measured:
    """What `evaluate` wrote (metrics, gate, renders) and said."""

    outputs: Paths
    summary: dict


@pytest.fixture(scope="session")
def measured(world: World, avatars: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The avatars against their people, of whom d has no fit in the third view."""
    root = tmp_path_factory.mktemp("measured")
    single = open_store(world.paths["bodies_single"], "bodies")
    index = single.index.copy()
    index.loc[6, "ok"], index.loc[6, "reason"] = False, "the fit diverged"
    save_store(root / "single", "bodies", index, {n: single[n][:] for n in single.schema.arrays})
    params = evaluate.EvaluateParams(
        seed=2, image_size=IMAGE, datasets=["tiny"], kid_subset=4, kid_draws=2, kid_reference=8
    )
    names = [f"{name}.tiny" for name in ("views", "parsing", "bodies", "truth")]
    made = {"avatars": avatars, "bodies_single.tiny": root / "single"}
    outputs = Paths({name: root / name for name in evaluate.STAGE.outputs})
    runtime = Runtime(work_root=root / "work", runs_root=root / "runs")
    inputs = world.inputs(*names, "body", "avatar", "parser", **made)
    return Measured(outputs, evaluate.run(params, inputs, outputs, runtime))


@pytest.fixture(scope="session")
def merged(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merged textures of train person a and val person b."""
    root = tmp_path_factory.mktemp("merged")
    params = merge_textures.MergeTexturesParams(seed=1, texture_size=TEXTURE, dtype="float32")
    chosen = world.inputs(*merge_textures.STAGE.inputs)
    merge_textures.run(params, chosen, Paths({"merged": root / "merged"}), Runtime(work_root=root / "work"))
    return root / "merged"
