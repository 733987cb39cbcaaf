"""The folder of an avatar: avatar.json, its neural texture and body, and pictures of how it came about."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dinar_models.body import SIZES, BodyParams
from dinar_models.types import CHANNELS, NeuralTexture
from flows.model_folders import PLACES, ModelFolder

VERSION: Final = 1
CARD, TENSORS, TURNTABLE = "avatar.json", "texture.safetensors", "turntable.webp"
STILLS = ("front", "back")
PICTURES = (
    *("photo", "mask", "keypoints", "fit", "render", *STILLS),
    *("texture", "texture_photo", "texture_masks", "texture_generated"),
)
"""PNGs: the square around the person; its mask, keypoints and fitted body over it; the avatar in the photo's view,
from the front and from the back; its texture's colours, what the photo gave of them, B_smp and B_fill of the photo,
and the generated channels."""

PER_PHOTO = ("photo", "mask", "keypoints", "fit", "render")
"""Those of them that there are of every photo; of the second photo they are `photo-2` and so on."""

OWN_FILES = {CARD, TENSORS, TURNTABLE, "walk.webp", *(f"{name}.png" for name in PICTURES)}
MAX_TENSORS_MIB = 512


class AvatarError(ValueError):
    """A folder or file that cannot be used; the text is one sentence saying why and what to do."""


class AvatarCard(BaseModel):
    """What avatar.json says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["dinar.avatar"] = "dinar.avatar"
    version: Literal[1] = VERSION
    weights: str = Field(
        pattern=rf"^({'|'.join(PLACES)}|/.*)$",
        description="released, champion, repro, or the absolute path of a folder of weights",
    )
    digests: dict[str, str] = Field(description="of body, atlas and nets: what the texture was made for")
    seed: int = Field(description="of every random draw")
    warnings: list[str] = Field(description="what made the avatar worse, one sentence each")


@dataclass(frozen=True)
class Avatar:
    """One person.

    Attributes:
        texture: one, complete.
        body: one row, in the frame of the photo's camera.
    """

    card: AvatarCard
    texture: NeuralTexture
    body: BodyParams


def numbered(name: str, photo: int) -> str:
    """A picture's name for the photo with this number, from 0."""
    return name if photo == 0 else f"{name}-{photo + 1}"


def check_target(out: Path) -> None:
    """Refuse an output that holds anything but an avatar or nothing.

    Raises:
        AvatarError: naming what is there.
    """
    if out.exists() and not out.is_dir():
        raise AvatarError(f"{out} is a file; name a folder for the avatar")
    found = {path.name for path in out.iterdir()} if out.exists() else set()
    others = {name for name in found if not _is_own(name)} if CARD in found else found
    if others:
        raise AvatarError(f"{out} holds {min(others)!r}; name a new or empty folder, or one of an avatar")


def write_avatar(folder: Path, avatar: Avatar, pictures: Mapping[str, np.ndarray]) -> None:
    """Write all but the animations.

    Args:
        folder: exists; published by the caller.
        pictures: (h, w, 3) or (h, w) uint8 by the names in PICTURES, those PER_PHOTO `numbered`.
    """
    tensors = {"texture": avatar.texture.data, **avatar.body.as_dict()}
    data = save({name: t[0].float().contiguous().clone() for name, t in tensors.items()})
    (folder / TENSORS).write_bytes(data)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    text = json.dumps(avatar.card.model_dump(), indent=1, sort_keys=True)
    (folder / CARD).write_text(text + "\n")


def read_avatar(folder: Path) -> Avatar:
    """Read a folder that `write_avatar` wrote; nothing in it is trusted.

    Raises:
        AvatarError: one sentence on what is missing, damaged or of another version.
    """
    card = _read_card(folder / CARD)
    tensors = _read_tensors(folder / TENSORS)
    texture = NeuralTexture(tensors.pop("texture")[None])
    return Avatar(card, texture, BodyParams.from_dict({name: t[None] for name, t in tensors.items()}))


def check_models(avatar: Avatar, folder: Path, models: ModelFolder) -> None:
    """Refuse weights other than those with which the avatar was made, and any that came with it.

    smplx reads body models with pickle allowed, so a stranger's avatar must not bring its own.

    Raises:
        AvatarError: naming what differs.
    """
    if models.root.is_relative_to(folder.resolve()):
        raise AvatarError(
            f"{folder} brings its own weights, {models}; make the avatar again with `dinar avatar`"
        )
    made_for = avatar.card.digests
    for name, digest in models.digests().items():
        if made_for.get(name) != digest:
            raise AvatarError(
                f"{folder} was made for the {name} {made_for.get(name)}, but the weights {models} hold the "
                f"{name} {digest}; make the avatar again with `dinar avatar`"
            )


def _is_own(name: str) -> bool:
    return name in OWN_FILES or re.fullmatch(rf"({'|'.join(PER_PHOTO)})-\d+\.png", name) is not None


def _read_card(path: Path) -> AvatarCard:
    try:
        values: Any = json.loads(path.read_text())
    except OSError:
        raise AvatarError(f"{path.parent} is no avatar: it has no readable {CARD}") from None
    except ValueError as error:
        raise AvatarError(f"{path} is damaged ({error}); make the avatar again") from None
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise AvatarError(f"{path}: version {version!r} found, {VERSION} is read here; make the avatar again")
    try:
        return AvatarCard.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise AvatarError(f"{path}: {place}: {first['msg']}; make the avatar again") from None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """`texture` and the fields of BodyParams, each without its batch axis."""
    try:
        if path.stat().st_size > MAX_TENSORS_MIB << 20:
            raise AvatarError(f"{path} has more than {MAX_TENSORS_MIB} MiB; make the avatar again")
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise AvatarError(f"{path} cannot be read ({error}); make the avatar again") from None
    if set(tensors) != {"texture", *SIZES}:
        raise AvatarError(f"{path} holds {', '.join(sorted(tensors)) or 'nothing'}; make the avatar again")
    side = tensors["texture"].shape[-1] if tensors["texture"].ndim else 0
    shapes = {"texture": (len(CHANNELS), side, side), **{name: (size,) for name, size in SIZES.items()}}
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name] or tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise AvatarError(
                f"{path}: {name} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"finite float32 {shapes[name]} expected; make the avatar again"
            )
    return tensors
