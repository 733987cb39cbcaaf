"""`dinar avatar` and `dinar animate`: a photo becomes an avatar folder, and that folder a video."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from dinar_models.animation import framing_camera, render_frames
from dinar_models.avatar import AvatarNets
from dinar_models.body import BodyParams
from dinar_models.cameras import Crop, crop_camera, crop_image
from dinar_models.keypoints import MEDIAPIPE
from dinar_models.reconstruction import PhotoInputs, ReconstructionRules, read_photos, reconstruct
from dinar_models.surface import Surface
from dinar_models.types import NeuralTexture
from flows.avatar_folder import (
    TURNTABLE,
    Avatar,
    AvatarCard,
    check_models,
    check_target,
    read_avatar,
    write_avatar,
)
from flows.find_person import SeenPerson, find_person
from flows.model_folders import ModelFolder, find_models, reading
from flows.motions import Motion, find_motion
from flows.profiles import PARAMS
from flows.steps import Step, show_steps
from flows.videos import check_video_path, write_video
from stages._core.memory import keep_freed_memory
from stages._core.params import parse_section, read_params
from stages._core.precision import resolve_dtype
from stages._core.publish import publish
from stages._core.seeds import generator_for
from stages._data.models import AvatarModels, load_models, load_nets, load_surface
from stages._data.segmentation import load_parser
from stages.fit_body import FitBodyParams, fit_photos, judge, load_body
from stages.reconstruct import ReconstructParams
from stages.reporting.pictures import body_overlay, texture_image
from stages.sources.photos import PhotoError

DATA = Path(__file__).parents[1] / "data"

DEVICE = "cpu"
"""One photo takes a minute on two cores."""

DOUBTFUL = FitBodyParams.model_validate({})
"""Fits that the pipeline would leave out get a warning…"""

HOPELESS = FitBodyParams.model_validate({"min_iou": 0.4, "max_reprojection": 0.1, "max_excess": 1.0})
"""…and these are refused."""

TURNTABLE_FRAMES = 48
PREVIEW_SIZE = 512

LOOKING, FITTING, RENDERING = "looking for the person", "fitting the body", "rendering"
AVATAR_STEPS = (LOOKING, FITTING, "completing the texture", "tuning colours", RENDERING)


@dataclass(frozen=True)
class FittedPerson:
    """The one person of a photo with its body.

    Attributes:
        body: one row, in the frame of the photo's camera.
        crop: the square around the person.
        warnings: sentences on what will make the avatar worse.
    """

    seen: SeenPerson
    body: BodyParams
    crop: Crop
    warnings: list[str]


@dataclass(frozen=True)
class NewAvatar:
    """An avatar, the pictures that `write_avatar` takes, and the frames of its turntable."""

    avatar: Avatar
    pictures: dict[str, np.ndarray]
    turntable: list[np.ndarray]


def create_avatar(
    photo: Path,
    out: Path,
    *,
    weights: str,
    seed: int,
    console: Console,
    rules: ReconstructionRules | None = None,
    data: Path = DATA,
) -> None:
    """Make the avatar folder `out` from a photo of one person.

    Args:
        out: new, empty, or an earlier avatar; it appears whole or stays as it was.
        weights: see `find_models`.
        rules: how the texture is completed and tuned; by default as the pipeline does it.
        seed: of every random draw; the same seed, photo and weights give the same avatar.
        data: the project's data folder.

    Raises:
        PhotoError: the photo shows no usable person.
        AvatarError: `out` cannot be written.
        WeightsError: weights are missing or do not belong together.
        ParamsError: params.yaml does not say how.
    """
    check_target(out)
    rules = rules or pipeline_rules()
    where = find_models(weights, data)
    console.print(f"weights: {where}", soft_wrap=True, markup=False)
    with show_steps(console, AVATAR_STEPS) as step:
        made = make_avatar(photo, where, seed, rules, step)
    with publish(out.resolve()) as folder:
        write_avatar(folder, made.avatar, made.pictures)
        write_video(folder / TURNTABLE, made.turntable)
    for warning in made.avatar.card.warnings:
        console.print(warning, style="yellow", soft_wrap=True, markup=False)
    console.print(f"written: {out}", soft_wrap=True, markup=False)


def pipeline_rules(path: Path = PARAMS) -> ReconstructionRules:
    """How `reconstruct` makes the avatars that the report shows, on this processor. Raises ParamsError."""
    params = parse_section(ReconstructParams, "reconstruct", read_params(path))
    return params.rules(resolve_dtype(params.dtype, DEVICE))


def animate_avatar(
    folder: Path, motion: str, out: Path | None, *, frames: int, console: Console, data: Path = DATA
) -> Path:
    """Render an avatar in motion.

    Args:
        folder: made by `create_avatar`.
        motion: see `find_motion`.
        out: .webp or .mp4; by default a .webp in the folder, named after the motion.
        frames: of the video; of a motion's file, at most so many.

    Returns:
        Where the video is.

    Raises:
        AvatarError: the folder, the motion or `out` cannot be used.
        WeightsError: the weights with which the avatar was made are missing.
    """
    if out is not None:
        check_video_path(out)
    avatar = read_avatar(folder)
    where = find_models(avatar.card.weights, data)
    check_models(avatar, folder, where)
    moving = find_motion(motion, avatar.body, frames)
    path = out or folder / f"{moving.name}.webp"
    console.print(f"weights: {where}", soft_wrap=True, markup=False)
    with reading(where):
        nets = load_nets(where.folders["avatar"], where.folders["body"], DEVICE)
        surface = load_surface(where.folders["body"], DEVICE)
    with show_steps(console, [RENDERING]) as step:
        images = render_motion(nets, surface, avatar.texture, moving, step)
    write_video(path, images)
    return path


def make_avatar(
    photo: Path, where: ModelFolder, seed: int, rules: ReconstructionRules, step: Step
) -> NewAvatar:
    """From the photo to the turntable, in memory."""
    keep_freed_memory()
    person = fit_person(photo, where, step)
    with reading(where):
        models = load_models(where.folders, DEVICE)
    made = reconstruct(
        models.nets, models.vqgan, models.diffusion, _read_photo(person, models), models.surface.atlas, rules,
        generator=generator_for(seed, "create_avatar", device=DEVICE), progress=step,
    )  # fmt: skip
    warnings = [*person.warnings, *_resolution_warnings(person, models.nets.config.image_size)]
    card = AvatarCard(weights=where.name, digests=where.digests(), seed=seed, warnings=warnings)
    motion = find_motion("turntable", person.body, TURNTABLE_FRAMES)
    return NewAvatar(
        Avatar(card, made.texture, person.body),
        _pictures(person, models.surface, made.texture),
        render_motion(models.nets, models.surface, made.texture, motion, step),
    )


def fit_person(photo: Path, where: ModelFolder, step: Step) -> FittedPerson:
    """Find the person and fit the body.

    Raises:
        PhotoError: one sentence on why that is impossible.
    """
    with reading(where):
        parser = load_parser(where.parser, DEVICE)
        load_body(where.folders["body"])  # kept for the fit
    step(LOOKING, 0, 1)
    seen = find_person(photo, parser, DEVICE)
    step(LOOKING, 1, 1)
    step(FITTING, 0, 1)
    fits = fit_photos(where.folders["body"], MEDIAPIPE.name, seen.observations(), DOUBTFUL)
    if hopeless := judge(fits.fit, HOPELESS)[0]:
        raise PhotoError(f"{photo.name}: the body could not be fitted to the person ({hopeless})")
    doubts = [f"the fitted body is doubtful, see fit.png: {verdict}" for verdict in fits.verdicts if verdict]
    step(FITTING, 1, 1)
    return FittedPerson(seen, fits.fit.params, fits.crop, seen.warnings + doubts)


def render_motion(
    nets: AvatarNets, surface: Surface, texture: NeuralTexture, motion: Motion, step: Step
) -> list[np.ndarray]:
    """Frames (S, S, 3) uint8 on white at the networks' image size."""
    count, size = len(motion.params), nets.config.image_size
    with torch.no_grad():
        vertices = torch.cat([surface.body(motion.params.select([i])).vertices for i in range(count)])
    frames = []
    for frame in render_frames(
        nets, texture.data, motion.params, body=surface.body, atlas=surface.atlas,
        rasterizer=surface.rasterizer, size=size, camera=framing_camera(vertices, size, motion.yaw),
        dtype=resolve_dtype("auto", DEVICE),
    ):  # fmt: skip
        frames.append(frame)
        step(RENDERING, len(frames), count)
    return frames


def _read_photo(person: FittedPerson, models: AvatarModels) -> PhotoInputs:
    seen, config = person.seen, models.nets.config
    return read_photos(
        seen.photo.rgb[None], seen.mask[None], seen.camera, person.crop, person.body,
        surface=models.surface, image_size=config.image_size, texture_size=config.texture_size,
    )  # fmt: skip


def _resolution_warnings(person: FittedPerson, image_size: int) -> list[str]:
    if float(person.crop.side[0]) >= image_size * person.seen.photo.frame.scale:
        return []
    return [f"the person is only {person.seen.length:.0f} px long in the photo: the avatar will be blurred"]


def _pictures(person: FittedPerson, surface: Surface, texture: NeuralTexture) -> dict[str, np.ndarray]:
    """What `write_avatar` shows of how the avatar came about."""
    rgb = torch.from_numpy(person.seen.photo.rgb).permute(2, 0, 1)[None].float()
    mask = torch.from_numpy(person.seen.mask)[None, None].float()
    photo = _bytes(crop_image(rgb, person.crop, PREVIEW_SIZE, fill=255.0)[0].permute(1, 2, 0))
    camera = crop_camera(person.seen.camera, person.crop, PREVIEW_SIZE)
    with torch.no_grad():
        vertices = surface.body(person.body).vertices
    hit = surface.rasterizer.rasterize(vertices, surface.body.faces, camera)
    return {
        "photo": photo,
        "mask": _bytes(crop_image(mask, person.crop, PREVIEW_SIZE, fill=0.0)[0, 0]),
        "fit": body_overlay(photo, hit.depth[0].numpy(), hit.face_id[0].numpy()),
        "texture": texture_image(texture.rgb[0].numpy()),
    }


def _bytes(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.round().clamp(0, 255).to(torch.uint8).numpy())
