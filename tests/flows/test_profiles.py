"""Profiles render with comments, are valid, and are not written over local edits."""

import pytest
import torch
import yaml
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from dinar_models.diffusion import SAMPLERS, DiffusionConfig, _schedule
from dinar_models.vqgan import VQGANConfig
from flows.profiles import PROFILES, ProfileError, _lines, profile_names, render_profile, use_profile
from stages._core.params import check_all, parse_section
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


PUBLISHED = {
    "train_avatar": {
        "image_size": 512, "texture_size": 256, "steps": 100_000, "batch": 4, "rate": 2e-3, "l2": 2.2,
        "perceptual": 1.0, "distance": "lpips", "dice": 1.0, "adversarial": 0.01, "discriminator_rate": 4e-4,
        "r1": 0.1, "r1_every": 16, "style": 512, "judged": "image", "colour_skip": False, "margin": 1.0,
    },
    "train_vqgan": {
        "steps": 300_000, "codes": 8192, "widths": [64, 128, 256], "layers": 2, "groups": 16, "skip": False,
        "snap": True, "l2": 2.2, "perceptual": 1.0, "distance": "lpips", "dice": 1.0, "adversarial": 0.01,
        "continuous_share": 0.0, "restart_every": 0, "image_every": 1,
    },
    "finetune_avatar": {"steps": 20_000, "trains": "all", "distance": "lpips", "adversarial": 0.01},
    "render_views": {"views": 8, "variants": 9},
    "synthesize_people": {"train": 3333},
    "merge_textures": {"blending": "softmax", "temperature": 10.0},
    "encode_latents": {"guess": "none"},
    "sample_textures": {"occlusion_contours": True, "mask_erosion": 2, "fill_texels": 1},
    "train_diffusion": {
        "steps": 50_000, "batch": 128, "rate": 1e-6, "warmup": 1000, "final_rate": 1e-3, "dropout": 0.5,
        "ema": 0.9999, "prediction": "epsilon", "widths": [256, 512, 768, 1024], "layers": 2, "groups": 8,
        "attention": [False, True, True, True], "heads": 8, "standardise": False,
    },
    "reconstruct": {
        "sampler": "ddim", "steps": 200, "clamp_known": False, "temperature": 1.0, "adjust_colour": True,
        "colour_steps": 64, "tune_steps": 64, "tune_rate": 2e-3, "tune_crops": 1,
        "tune_behind": False, "tune_generated": 0, "mask_weight": 0, "perceptual_weight": 1.0, "adversarial": 0.01,
    },
}  # fmt: skip
"""Numbers of the paper and of the published code; see docs/paper.md."""


@pytest.mark.parametrize("section", PUBLISHED)
def test_the_papers_profile_has_its_numbers(section: str):
    params = parse_section(load_stage(section).params, section, yaml.safe_load(render_profile("paper")))
    assert {name: getattr(params, name) for name in PUBLISHED[section]} == PUBLISHED[section]


def test_latents_of_the_papers_profile_are_64_wide_and_its_schedule_is_the_published_one():
    values = yaml.safe_load(render_profile("paper"))
    vqgan = parse_section(load_stage("train_vqgan").params, "train_vqgan", values)
    config = VQGANConfig(texture_size=vqgan.texture_size, widths=tuple(vqgan.widths))
    assert config.latent_size == 64
    noise = DDIMScheduler(**_schedule(DiffusionConfig()))
    betas = torch.linspace(3e-4**0.5, 2e-2**0.5, 1000) ** 2
    torch.testing.assert_close(noise.betas, betas)
    assert float(noise.alphas_cumprod[-1]) == pytest.approx(4.85e-4, rel=0.01)
    sampler = SAMPLERS["ddim"](DiffusionConfig())
    sampler.set_timesteps(200)
    assert sampler.timesteps.tolist() == list(range(996, 0, -5))


RECALLED = {
    *(("train_avatar", key) for key in ("rate", "l2", "perceptual", "dice", "adversarial", "r1")),
    *(
        (stage, key)
        for stage in ("train_vqgan", "finetune_avatar")
        for key in ("l2", "perceptual", "dice", "adversarial", "r1")
    ),
    ("train_diffusion", "rate"),
}
"""What nobody here could look up."""


def test_recalled_numbers_are_marked_in_the_profile_and_in_what_it_renders():
    for text in ((PROFILES / "paper.yaml").read_text(), render_profile("paper")):
        comments = {place: comment for place, _, comment in _lines(text) if comment}
        assert {place for place, comment in comments.items() if comment.startswith("recalled")} == RECALLED


def test_every_number_of_the_papers_profile_says_where_it_comes_from():
    sources = ("paper", "published", "recalled", "ours")
    silent = [
        place
        for place, body, comment in _lines((PROFILES / "paper.yaml").read_text())
        if not body.endswith(":") and place != ("profile",) and not str(comment).startswith(sources)
    ]
    assert silent == []


def test_a_profiles_comments_take_the_place_of_the_bases(tmp_path):
    text = render_profile("paper")
    assert "# This is the profile `demo`" not in text
    assert "  clamp_known: false   # paper; published: true\n" in text
    assert "blotches" not in text  # demo's reason for its temperature
    assert "\n\n\n" not in text
