"""The names of all stages, and their declarations by name."""

import importlib

from stages._core.stage import Stage

STAGE_NAMES = (
    "check_params",
    "build_body",
    "synthesize_people",
    "ingest",
    "ingest_images",
    "render_views",
    "train_parser",
    "segment",
    "detect_keypoints",
    "fit_body",
    "sample_textures",
    "offer_part",
    "gather_parts",
    "train_avatar",
    "train_vqgan",
    "finetune_avatar",
    "merge_textures",
    "encode_latents",
    "train_diffusion",
    "reconstruct",
    "evaluate",
    "report",
)
"""What dvc.yaml runs."""

ABLATION_NAMES = (
    "vary_params",
    "sample_textures",
    "offer_part",
    "train_avatar",
    "train_vqgan",
    "finetune_avatar",
    "merge_textures",
    "encode_latents",
    "train_diffusion",
    "reconstruct",
    "evaluate",
    "measure_diversity",
    "report_ablation",
)
"""What pipelines/ablation/dvc.yaml runs."""


def load_stage(name: str) -> Stage:
    """The declaration of one stage. Imported by name, because a stage must not depend on another's code.

    Raises:
        ValueError: unknown name.
    """
    known = dict.fromkeys((*STAGE_NAMES, *ABLATION_NAMES))
    if name not in known:
        raise ValueError(f"no stage named {name!r}; there are {', '.join(known)}")
    stage = importlib.import_module(f"stages.{name}").STAGE
    assert isinstance(stage, Stage)
    return stage
