"""What the documents name is there."""

import re
from pathlib import Path

import pytest

from flows.profiles import render_profile
from stages._core.params import parse_section, read_params
from stages._core.registry import STAGE_NAMES, load_stage

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "docs/paper.md"
NAMED_TESTS = sorted(set(re.findall(r"`(tests/\S+?)::(\w+)`", PAPER.read_text())))
NAMED_PARAMS = sorted(set(re.findall(rf"`({'|'.join(STAGE_NAMES)})\.(\w+)`", PAPER.read_text())))


@pytest.mark.parametrize(("path", "name"), NAMED_TESTS)
def test_the_tests_that_catch_the_published_codes_bugs_exist(path: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_each_of_the_18_bugs_has_a_line_with_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", PAPER.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 19))
    assert all("`tests/" in catches for _, catches in rows)


@pytest.mark.parametrize(("section", "name"), NAMED_PARAMS)
def test_the_parameters_that_decide_between_paper_and_code_exist(section: str, name: str) -> None:
    assert name in load_stage(section).params.model_fields


@pytest.mark.parametrize(
    ("section", "name", "paper", "demo"),
    [
        ("sample_textures", "occlusion_contours", True, True),
        ("reconstruct", "adjust_colour", True, True),
        ("reconstruct", "colour_steps", 64, 0),
        ("reconstruct", "steps", 200, 25),
        ("reconstruct", "clamp_known", False, False),
        ("reconstruct", "adversarial", 0.01, 0.0),
        ("finetune_avatar", "trains", "all", "renderer"),
        ("train_diffusion", "standardise", False, True),
        ("train_avatar", "colour_skip", False, True),
        ("train_vqgan", "skip", False, True),
        ("encode_latents", "guess", "none", "mirror"),
        ("merge_textures", "blending", "softmax", "softmax"),
        ("train_vqgan", "continuous_share", 0.0, 0.5),
    ],
)
def test_the_profiles_choose_as_the_page_says(
    section: str, name: str, paper: object, demo: object, tmp_path: Path
) -> None:
    for profile, expected in (("paper", paper), ("demo", demo)):
        (tmp_path / "params.yaml").write_text(render_profile(profile))
        params = parse_section(load_stage(section).params, section, read_params(tmp_path / "params.yaml"))
        assert getattr(params, name) == expected
