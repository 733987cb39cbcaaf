"""`dinar avatar` and `dinar animate`: photos of a person become an avatar folder, and that folder a video."""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from dinar_models.animation import compose_white, render_frames
from dinar_models.avatar import AvatarNets
from dinar_models.body import BodyParams
from dinar_models.cameras import Camera, Crop, crop_camera, crop_image
from dinar_models.keypoints import MEDIAPIPE
from dinar_models.photos import PhotoInputs, read_photos
from dinar_models.reconstruction import ReconstructionRules, reconstruct
from dinar_models.surface import Surface
from dinar_models.types import NeuralTexture
from flows.avatar_folder import (
    STILLS,
    TURNTABLE,
    Avatar,
    AvatarCard,
    check_models,
    check_target,
    numbered,
    read_avatar,
    write_avatar,
)
from flows.avatar_pictures import skeleton_overlay, texture_pictures
from flows.find_person import SeenPerson, find_person, observe
from flows.model_folders import DATA, ModelFolder, find_models, reading
from flows.motions import Motion, find_motion
from flows.profiles import PARAMS
from flows.steps import Step, show_steps
from flows.videos import Video, check_video_path, write_video
from stages._core.memory import keep_freed_memory
from stages._core.params import parse_section, read_params
from stages._core.precision import resolve_dtype
from stages._core.publish import publish
from stages._core.seeds import generator_for
from stages._data.models import AvatarModels, build_critics, load_models, load_nets, load_surface
from stages._data.segmentation import load_parser
from stages.fit_body import FitBodyParams, fit_photos, judge, load_body
from stages.reconstruct import ReconstructParams
from stages.reporting.pictures import body_overlay
from stages.sources.photos import PhotoError

DEVICE = "cpu"
"""One photo takes a minute on two cores."""

DOUBTFUL = FitBodyParams.model_validate({})
"""Fits that the pipeline would leave out get a warning…"""

HOPELESS = FitBodyParams.model_validate({"min_iou": 0.4, "max_reprojection": 0.1, "max_excess": 1.0})
"""…and these are refused."""

LOSS_WEIGHTS = DATA / "raw/weights/lpips_vgg"

MAX_PHOTOS = 8
"""Of one person: all are rendered in every step of the tuning."""

PREVIEW_SIZE = 512

LOOKING, FITTING, RENDERING = "looking for the person", "fitting the body", "rendering"
AVATAR_STEPS = (LOOKING, FITTING, "completing the texture", "tuning the texture", RENDERING)


@dataclass(frozen=True)
class FittedPerson:
    """The person of a photo with the body.

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
    """An avatar, the pictures that `write_avatar` takes, and its turntable."""

    avatar: Avatar
    pictures: dict[str, np.ndarray]
    turntable: Video


def create_avatar(
    photos: Sequence[Path],
    out: Path,
    *,
    weights: str,
    seed: int,
    console: Console,
    rules: ReconstructionRules | None = None,
    data: Path = DATA,
) -> None:
    """Make the avatar folder `out` from one photo or several of one person.

    Args:
        photos: of the same person in the same clothes; poses and sides may differ.
        out: new, empty, or an earlier avatar; it appears whole or stays as it was.
        weights: see `find_models`.
        rules: how the texture is completed and tuned; by default as the weights were measured.
        seed: of every random draw; the same seed, photos and weights give the same avatar.
        data: the project's data folder.

    Raises:
        PhotoError: a photo shows no usable person.
        AvatarError: `out` cannot be written.
        WeightsError: weights are missing or do not belong together.
        ParamsError: params.yaml does not say how.
    """
    start = time.monotonic()
    check_target(out)
    where = find_models(weights, data)
    rules = rules or rules_of(where)
    console.print(f"weights: {where}", soft_wrap=True, markup=False)
    with show_steps(console, AVATAR_STEPS) as step:
        made = make_avatar(photos, where, seed, rules, step)
    with publish(out.resolve()) as folder:
        write_avatar(folder, made.avatar, made.pictures)
        write_video(folder / TURNTABLE, *made.turntable)
    for warning in made.avatar.card.warnings:
        console.print(warning, style="yellow", soft_wrap=True, markup=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB
    took = f"{time.monotonic() - start:.0f} s, at most {peak:.1f} GiB"
    console.print(f"written: {out} ({took})", soft_wrap=True, markup=False)


def rules_of(where: ModelFolder, path: Path = PARAMS) -> ReconstructionRules:
    """How these weights made the avatars by which they were measured, on this processor.

    Args:
        path: params.yaml, asked where the weights do not say.

    Raises:
        ParamsError: a key of the section is wrong.
        WeightsError: the weights' card is damaged.
    """
    section = where.reconstruct_section()
    values = read_params(path) if section is None else {"reconstruct": section}
    params = parse_section(ReconstructParams, "reconstruct", values)
    return params.rules(resolve_dtype(params.dtype, DEVICE))


def animate_avatar(
    folder: Path, motion: str, out: Path | None, *, frames: int | None, console: Console, data: Path = DATA
) -> Path:
    """Render an avatar in motion.

    Args:
        folder: made by `create_avatar`.
        motion: see `find_motion`.
        out: .webp or .mp4; by default a .webp in the folder, named after the motion.
        frames: see `find_motion`.

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
    write_video(path, images, moving.rate)
    return path


def make_avatar(
    photos: Sequence[Path], where: ModelFolder, seed: int, rules: ReconstructionRules, step: Step
) -> NewAvatar:
    """From the photos to the turntable, in memory; the avatar stands as in the first one."""
    keep_freed_memory()
    people = fit_people(photos, where, step)
    with reading(where):
        models = load_models(where.folders, DEVICE)
    critics = build_critics(rules, models, LOSS_WEIGHTS)
    inputs = _read_photos(people, models, rules)
    made = reconstruct(
        models.nets, models.vqgan, models.diffusion, inputs, models.surface.atlas, rules,
        generator=generator_for(seed, "create_avatar", device=DEVICE), critics=critics, progress=step,
    )  # fmt: skip
    warnings = _warnings(photos, people, models.nets.config.image_size)
    card = AvatarCard(weights=where.name, digests=where.digests(), seed=seed, warnings=warnings)
    motion = find_motion("turntable", people[0].body)
    frames = render_motion(models.nets, models.surface, made.texture, motion, step)
    pictures = {
        **texture_pictures(made.texture, made.partial),
        **dict(zip(STILLS, (frames[0], frames[len(frames) // 2]), strict=True)),
    }
    views = _render_photo_views(models.nets, made.texture, inputs)
    for number, (person, view) in enumerate(zip(people, views, strict=True)):
        shown = {**_photo_pictures(person, models.surface), "render": view}
        pictures |= {numbered(name, number): picture for name, picture in shown.items()}
    return NewAvatar(Avatar(card, made.texture, people[0].body), pictures, (frames, motion.rate))


def fit_people(photos: Sequence[Path], where: ModelFolder, step: Step) -> list[FittedPerson]:
    """Find the person in every photo and fit the bodies, which are of one shape.

    Raises:
        PhotoError: one sentence on why that is impossible.
    """
    if len(photos) > MAX_PHOTOS:
        raise PhotoError(f"{len(photos)} photos were given, at most {MAX_PHOTOS} can be used")
    with reading(where):
        parser = load_parser(where.parser, DEVICE)
        load_body(where.folders["body"])  # kept for the fit
    seen: list[SeenPerson] = []
    for photo in photos:
        step(LOOKING, len(seen), len(photos))
        seen.append(find_person(photo, parser, DEVICE))
    step(LOOKING, len(seen), len(photos))
    step(FITTING, 0, 1)
    fits = fit_photos(where.folders["body"], MEDIAPIPE.name, observe(seen), DOUBTFUL)
    for photo, hopeless in zip(photos, judge(fits.fit, HOPELESS), strict=True):
        if hopeless:
            raise PhotoError(f"{photo.name}: the body could not be fitted to the person ({hopeless})")
    step(FITTING, 1, 1)
    people = []
    for number, one in enumerate(seen):
        fit, picture = fits.select(torch.tensor([number])), numbered("fit", number)
        doubts = [f"the fitted body is doubtful, see {picture}.png: {v}" for v in fit.verdicts if v]
        people.append(FittedPerson(one, fit.fit.params, fit.crop, one.warnings + doubts))
    return people


def render_motion(
    nets: AvatarNets, surface: Surface, texture: NeuralTexture, motion: Motion, step: Step
) -> list[np.ndarray]:
    """Frames (S, S, 3) uint8 on white at the networks' image size."""
    frames = list[np.ndarray]()
    for frame in render_frames(
        nets, texture.data, motion.params, body=surface.body, atlas=surface.atlas,
        rasterizer=surface.rasterizer, size=nets.config.image_size, yaw=motion.yaw,
        dtype=resolve_dtype("auto", DEVICE),
    ):  # fmt: skip
        frames.append(frame)
        step(RENDERING, len(frames), len(motion.params))
    return frames


def _read_photos(
    people: Sequence[FittedPerson], models: AvatarModels, rules: ReconstructionRules
) -> PhotoInputs:
    seen, config = [person.seen for person in people], models.nets.config
    return read_photos(
        np.stack([one.photo.rgb for one in seen]), np.stack([one.mask for one in seen]),
        Camera.cat([one.camera for one in seen]), Crop.cat([person.crop for person in people]),
        BodyParams.cat([person.body for person in people]),
        surface=models.surface, image_size=config.image_size, texture_size=config.texture_size,
        person=torch.zeros(len(people), dtype=torch.long),
        crops=rules.tune_crops, behind=rules.tune_behind,
    )  # fmt: skip


def _warnings(photos: Sequence[Path], people: Sequence[FittedPerson], image_size: int) -> list[str]:
    """What will make the avatar worse; where there are several photos, each sentence says which it is about."""
    sentences = []
    for photo, person in zip(photos, people, strict=True):
        about = f"{photo.name}: " if len(photos) > 1 else ""
        found = [*person.warnings, *_resolution_warnings(person, image_size)]
        sentences += [about + sentence for sentence in found]
    return sentences


def _resolution_warnings(person: FittedPerson, image_size: int) -> list[str]:
    if float(person.crop.side[0]) >= image_size * person.seen.photo.frame.scale:
        return []
    return [f"the person is only {person.seen.length:.0f} px long in the photo: the avatar will be blurred"]


@torch.no_grad()
def _render_photo_views(nets: AvatarNets, texture: NeuralTexture, inputs: PhotoInputs) -> list[np.ndarray]:
    """The avatar on white as each photo saw the person."""
    whole = texture.data.expand(len(inputs.uv), -1, -1, -1)
    return list(compose_white(*nets.render(whole, inputs.uv)))


def _photo_pictures(person: FittedPerson, surface: Surface) -> dict[str, np.ndarray]:
    """What was found in a photo, over the square around the person."""
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
        "keypoints": skeleton_overlay(photo, _in_square(person), MEDIAPIPE),
        "fit": body_overlay(photo, hit.depth[0].numpy(), hit.face_id[0].numpy()),
    }


def _in_square(person: FittedPerson) -> np.ndarray:
    """(J, 3) keypoints in pixels of the pictures."""
    xyc, crop = person.seen.found.xyc.copy(), person.crop
    corner = np.array([float(crop.x[0]), float(crop.y[0])], np.float32)
    xyc[:, :2] = (xyc[:, :2] - corner) * (PREVIEW_SIZE / float(crop.side[0]))
    return xyc


def _bytes(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.round().clamp(0, 255).to(torch.uint8).numpy())
