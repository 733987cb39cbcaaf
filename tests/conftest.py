"""Run-time shape checks of dinar_models, and the small body that many tests share."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

install_import_hook("dinar_models", "beartype.beartype")

if TYPE_CHECKING:
    from dinar_models.uv_atlas import Atlas

TINY_SUBJECTS = 120
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_body(request: pytest.FixtureRequest) -> Path:
    """Folder of a small open body with its atlas; built once per version of the code that makes it."""
    from stages import build_body
    from stages._core.runtime import Runtime
    from stages._core.stage import Paths

    cache = Path(request.config.cache.mkdir("tiny_body"))
    folder = cache / _body_code_digest()
    if not (folder / "body.json").is_file():
        shutil.rmtree(cache, ignore_errors=True)
        params = build_body.BuildBodyParams(seed=0, subjects=TINY_SUBJECTS)
        build_body.run(params, Paths({}), Paths({"body": folder}), Runtime())
    return folder


@pytest.fixture(scope="session")
def tiny_atlas(tiny_body: Path) -> "Atlas":
    """The small body's UV atlas."""
    from dinar_models.uv_atlas import Atlas

    return Atlas.load(tiny_body / "atlas.npz")


def _body_code_digest() -> str:
    from stages._core.digests import digest_bytes

    modules = [ROOT / "stages" / "build_body.py", ROOT / "dinar_models" / "body.py", Path(__file__)]
    modules += sorted((ROOT / "stages" / "makehuman").glob("*.py"))
    modules += [
        ROOT / "dinar_models" / "uv_atlas.py",
        *sorted((ROOT / "dinar_models" / "atlas").glob("*.py")),
    ]
    return digest_bytes(*(path.read_bytes() for path in modules))
