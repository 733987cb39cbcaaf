"""Profiles render with comments, are valid, and are not written over local edits."""

import pytest
import yaml

from flows.profiles import ProfileError, profile_names, render_profile, use_profile
from stages._core.params import check_all
from stages._core.registry import STAGE_NAMES, load_stage


def test_the_four_profiles_exist():
    assert set(profile_names()) == {"demo", "tiny", "small", "paper"}


@pytest.mark.parametrize("name", ["demo", "tiny", "small", "paper"])
def test_every_profile_is_valid_and_names_itself(name):
    values = yaml.safe_load(render_profile(name))
    check_all(values, {stage: load_stage(stage).params for stage in STAGE_NAMES if stage != "check_params"})
    assert values["profile"] == name


def test_comments_survive(tmp_path):
    use_profile("tiny", tmp_path / "params.yaml")
    assert "# " in (tmp_path / "params.yaml").read_text()


def test_local_edits_are_not_lost(tmp_path):
    target = tmp_path / "params.yaml"
    use_profile("tiny", target)
    use_profile("demo", target)
    target.write_text(target.read_text().replace("seed: ", "seed: 1"))
    with pytest.raises(ProfileError, match="local edits"):
        use_profile("tiny", target)
    use_profile("tiny", target, force=True)
    assert target.read_text() == render_profile("tiny")


def test_the_committed_params_are_the_demo_profile():
    from flows.profiles import PARAMS

    assert PARAMS.read_text() == render_profile("demo")
