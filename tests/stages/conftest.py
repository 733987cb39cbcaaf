"""The small world that the tests of the later stages share."""

from pathlib import Path

import pytest

from stages._core.runtime import Runtime
from tests.stages.tiny_world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_body: Path) -> World:
    """Stores and untrained models of four people; read-only."""
    return make_world(tmp_path_factory.mktemp("world"), tiny_body)


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """One process, and folders of its own."""
    return Runtime(work_root=tmp_path / "work", runs_root=tmp_path / "runs")
