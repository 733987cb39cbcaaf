"""Seconds of a frame: `python -m benchmarks.rendering`.

The paper's renderer at 512², untrained: as published (float32, contiguous, whole image, batch norms of their own),
and as `dinar animate` runs it, on the whole image and in the window around the body. The profile `small` at 256²
through `render_frames`, posing and rasterising included. The body stands with arms lowered, as turntables show it.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from benchmarks.plain import plain_operators, whole_images
from dinar_models.animation import framing_camera, render_frames, standing, turntable
from dinar_models.avatar import AvatarNets
from dinar_models.body import BodyModel, BodyParams
from dinar_models.folding import for_inference
from dinar_models.rasterize.base import make_rasterizer
from dinar_models.surface import Surface
from dinar_models.types import CHANNELS
from dinar_models.uv_atlas import Atlas
from flows.profiles import render_profile
from stages import train_avatar
from stages._core.memory import keep_freed_memory
from stages._core.params import parse_section
from stages._core.precision import autocast, resolve_dtype

BODY = Path("data/models/body")
MARGIN = 0.1
"""Around the body's box, of the image's side: `demo` trains with it."""

FRAMES = 16


def measure(
    folder: Path = BODY, *, paper: str = "paper", small: str = "small", rounds: int = 5
) -> dict[str, float]:
    """Least seconds of a frame of each kind, by turns.

    Args:
        folder: the built body.
        paper, small: profiles whose sizes are taken.

    Raises:
        SystemExit: saying so when there is no body.
    """
    if not folder.is_dir():
        raise SystemExit(f"no body at {folder}: run `dvc repro build_body` first")
    surface = Surface(BodyModel.load(folder), Atlas.load(folder / "atlas.npz"), make_rasterizer("embree"))
    with torch.no_grad():
        return {**_one_frame(surface, paper, rounds), **_turntable(surface, small, rounds)}


def untrained(profile: str) -> AvatarNets:
    """The nets that a profile trains, in eval mode."""
    values = yaml.safe_load(render_profile(profile))
    torch.manual_seed(0)
    return train_avatar.build(parse_section(train_avatar.TrainAvatarParams, "train_avatar", values)).eval()


def _one_frame(surface: Surface, profile: str, rounds: int) -> dict[str, float]:
    """Of the rendering network alone."""
    nets = untrained(profile)
    size, texels = nets.config.image_size, nets.config.texture_size
    person = standing(BodyParams.zeros(1))
    vertices = surface.body(person).vertices
    uv = surface.uv_of(vertices, framing_camera(vertices, size))
    texture = torch.randn(1, len(CHANNELS), texels, texels, generator=torch.Generator().manual_seed(0))
    dtype = resolve_dtype("auto", "cpu")
    fast = for_inference(nets, dtype)
    fast.config = replace(nets.config, margin=MARGIN)

    def published() -> None:
        with plain_operators(), whole_images():
            nets.render(texture, uv)

    def near() -> None:
        with autocast("cpu", dtype):
            fast.render(texture, uv)

    def whole() -> None:
        with whole_images():
            near()

    least = _least({"published": published, "whole": whole, "window": near}, rounds)
    figures = {f"{profile}_{name}_frame_s": seconds for name, seconds in least.items()}
    return figures | {f"{profile}_speedup": least["published"] / least["whole"]}


def _turntable(surface: Surface, profile: str, rounds: int) -> dict[str, float]:
    """Frames a second from poses to pictures."""
    nets = untrained(profile)
    size, texels = nets.config.image_size, nets.config.texture_size
    motion = turntable(standing(BodyParams.zeros(1)), FRAMES)
    texture = torch.rand(1, len(CHANNELS), texels, texels, generator=torch.Generator().manual_seed(0))

    def frames() -> None:
        for _ in render_frames(
            nets, texture, motion, body=surface.body, atlas=surface.atlas, rasterizer=surface.rasterizer,
            size=size, dtype=resolve_dtype("auto", "cpu"),
        ):  # fmt: skip
            pass

    return {f"{profile}_frames_per_s": FRAMES / _least({"frames": frames}, rounds)["frames"]}


def _least(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Shortest of each call's times, the calls taking turns; the first of each is not counted."""
    keep_freed_memory()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(1 + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: min(values[1:]) for name, values in times.items()}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--body", type=Path, default=BODY)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(json.dumps(measure(args.body, rounds=args.rounds), indent=1))


if __name__ == "__main__":
    main()
