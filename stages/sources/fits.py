"""Fits of others: SMPL-X and AMASS `.npz`, JSON with the same names, SMPLify-X and THuman2.0 `.pkl`.

Conventions of the formats, and where they are written:

* SMPL-X (`smplx` package): vertices = model(…, transl), rotations about the pelvis. Where a file has a `scale`,
  as THuman2.1's, it multiplies these vertices, translation included.
* AMASS: `poses` (frames, 165) = root, body, jaw, both eyes, both hands, absolute; `trans`; `betas`; `gender`.
  Files with 156 are of SMPL+H, whose shape coefficients mean nothing here.
* SMPLify-X: `camera_rotation` R and `camera_translation` t, x_cam = R x + t with x right, y down, z forward, focal
  length 5000 px unless the file says otherwise; hands are 6 or 12 coefficients of SMPL-X's hand components, added
  to the mean hand.
* THuman2.0: vertices = model(…) · scale + `translation`, male model, 12 hand coefficients
  (ytrock/THuman2.0-Dataset, issues 8, 9 and 23).
* What `dinar fits export` writes says so itself (`frame`, `body_digest`).

Unknown keys are ignored. Coefficients of another body mean nothing on the body at hand: then only pose and place are
kept.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from scipy.spatial.transform import Rotation

from dinar_models.body import SIZES
from stages.sources.body_tables import SIDES, SMPLX_PELVIS, BodyTables
from stages.sources.unpickle import load_pickle

Frame = Literal["world", "camera", "ingested", ""]
"""Raw data's own axes and units; the camera's; that of stores (metres, y up, +z ahead); not told by the file."""

MAX_BYTES = 64 << 20
MAX_JSON_BYTES = 16 << 20
"""Text becomes many objects, each much larger than its digits."""

MAX_UNPACKED = 256 << 20
MAX_FRAMES = 100_000
MAX_COEFFICIENTS = 400
SMPLIFYX_FOCAL = 5000.0

BOUNDS = {"betas": 100.0, "expression": 100.0, "transl": 1e6, "translation": 1e6, "camera_translation": 1e6}
MAX_ANGLE = 100.0
"""Radians: more is no joint's rotation but a broken file."""

SCALES = (1e-5, 1e5)
GENDERS = ("neutral", "male", "female")
POSES_165 = (
    *(("global_orient", 3), ("body_pose", 63), ("jaw_pose", 3), ("leye_pose", 3), ("reye_pose", 3)),
    *(("left_hand_pose", 45), ("right_hand_pose", 45)),
)
POSES_156 = (("global_orient", 3), ("body_pose", 63), ("left_hand_pose", 45), ("right_hand_pose", 45))
WIDTHS: dict[str, range | tuple[int, ...]] = {
    **{name: (SIZES[name],) for name in ("global_orient", "body_pose", "jaw_pose", "leye_pose", "reye_pose")},
    **{f"{side}_hand_pose": range(1, 46) for side in SIDES},
    **{name: range(1, MAX_COEFFICIENTS + 1) for name in ("betas", "expression")},
    **{name: (3,) for name in ("transl", "translation", "camera_translation")},
    **{"scale": (1,), "poses": (156, 165), "camera_rotation": (9,), "focal_length": (1,)},
}
"""Numbers a frame of every array that is read."""

TEXTS = ("gender", "frame", "body_digest")
ALIASES = {"trans": "transl"}
WANTED = (*WIDTHS, *ALIASES, *TEXTS, "flat_hand_mean", "pose_embedding", "ok")


class FitError(ValueError):
    """A file that cannot be used as a fit; the text is one sentence saying why."""


@dataclass(frozen=True)
class ImportedFit:
    """Bodies of one person in F frames, in terms of the body at hand.

    Attributes:
        params: field of BodyParams → (F, n) float64; vertices = scale · model(…) + transl.
        pelvis: (F, 3) where the pelvis is at rest, at scale 1 and transl 0.
        frame: what `transl` and `global_orient` refer to.
        gender: of the model that was fitted.
        exact: whether the fit was made for the body at hand; otherwise its shape, and perhaps its hands, are
            not the file's but neutral ones.
        focal: px of the image that was fitted, where the frame is a camera's; else None.
        ok: (F,) which frames have a fit; None: all.
    """

    params: Mapping[str, np.ndarray]
    pelvis: np.ndarray
    frame: Frame
    gender: str
    exact: bool
    focal: float | None = None
    ok: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pelvis)

    def at(self, frame: int) -> dict[str, np.ndarray]:
        """(n,) float32 numbers of one frame; a still body is the same in all.

        Raises:
            FitError: a sequence without this frame, or without a fit there.
        """
        if len(self) > 1 and not 0 <= frame < len(self):
            raise FitError(f"frame {frame} is wanted, the file holds {len(self)}")
        row = frame if len(self) > 1 else 0
        if self.ok is not None and not self.ok[row]:
            raise FitError(f"frame {frame} was rejected where it was fitted")
        return {name: values[row].astype(np.float32) for name, values in self.params.items()}

    def transformed(self, rotation: np.ndarray, scale: float, shift: np.ndarray) -> "ImportedFit":
        """The bodies where x ↦ scale · rotation x + shift takes their vertices.

        Bodies turn about their pelvis, which must land where the map takes it.

        Args:
            rotation: (3, 3) proper rotation.
            scale: > 0.
            shift: (3,).
        """
        turn = Rotation.from_matrix(rotation)
        sizes = self.params["scale"] * scale
        pelvis = scale * turn.apply(self.world_pelvis()) + shift
        params = {
            **self.params,
            "global_orient": (turn * Rotation.from_rotvec(self.params["global_orient"])).as_rotvec(),
            "scale": sizes,
            "transl": pelvis - sizes * self.pelvis,
        }
        return replace(self, params=params)

    def world_pelvis(self) -> np.ndarray:
        """(F, 3) where the pelvis is."""
        return self.params["scale"] * self.pelvis + self.params["transl"]

    def seen_with(self, focal: float) -> "ImportedFit":
        """The bodies at the depth where a camera of another focal length shows them as large as theirs does.

        Args:
            focal: px of the image that was fitted.
        """
        if self.focal is None:
            return self
        moved = self.world_pelvis() * [0, 0, focal / self.focal - 1]
        return replace(self, params={**self.params, "transl": self.params["transl"] + moved}, focal=focal)


def read_fit(path: Path, tables: BodyTables) -> ImportedFit:
    """Read a fit of any known format, by the file's suffix.

    Raises:
        FitError: one sentence naming the file and what is wrong with it.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise FitError(f"{path}: fits are read from {', '.join(READERS)} files")
    try:
        return _interpret(reader(path), tables, pickled=path.suffix.lower() == ".pkl")
    except OSError as error:
        raise FitError(f"{path} cannot be read ({error.strerror or 'damaged'})") from None
    except (ValueError, *DAMAGES) as error:  # PickleRefused names the file already
        text = str(error)[:300] or type(error).__name__
        raise FitError(text if text.startswith(str(path)) else f"{path}: {text}") from None


DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    LookupError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RecursionError,
)
"""What damaged and hostile archives and texts raise."""


def _read_npz(path: Path) -> dict[str, Any]:
    """The arrays that are wanted, each no larger than its entry."""
    _check_size(path, MAX_BYTES)
    values = {}
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        wanted = {name: entry for name, entry in entries.items() if name in WANTED}
        if sum(entry.file_size for entry in wanted.values()) > MAX_UNPACKED:
            raise FitError(f"it unpacks to more than {MAX_UNPACKED >> 20} MiB")
        for name, entry in wanted.items():
            with archive.open(entry) as member:
                _check_claim(member, name, entry.file_size)
            with archive.open(entry) as member:
                values[name] = np.lib.format.read_array(member, allow_pickle=False)
    return values


def _check_claim(member: Any, name: str, size: int) -> None:
    """NumPy makes room for what a header claims before it reads."""
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(member)
    if version not in headers:
        raise FitError(f"`{name}` has the array format {version}, 1.0 or 2.0 is expected")
    shape, _, dtype = headers[version](member)
    if dtype.hasobject:
        raise FitError(f"`{name}` holds pickled objects, which are refused; plain numbers are expected")
    if math.prod(shape) * dtype.itemsize > size:
        raise FitError(f"`{name}` claims the shape {shape}, more than the file holds")


def _read_json(path: Path) -> dict[str, Any]:
    _check_size(path, MAX_JSON_BYTES)
    values = json.loads(path.read_bytes())
    if not isinstance(values, dict):
        raise FitError("an object of named arrays is expected")
    return values


def _read_pickle(path: Path) -> dict[str, Any]:
    """A dict, which some programs put into `result`, `smplx` or both."""
    values = load_pickle(path, MAX_BYTES)
    for name in ("result", "smplx"):
        if isinstance(values, dict) and isinstance(values.get(name), dict):
            values = values[name]
    if not isinstance(values, dict):
        raise FitError(f"it holds a {type(values).__name__}, a dict of named arrays is expected")
    return values


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": _read_npz,
    ".json": _read_json,
    ".pkl": _read_pickle,
}
"""By the suffix of the file."""


def _check_size(path: Path, limit: int) -> None:
    if path.stat().st_size > limit:
        raise FitError(f"it is larger than {limit >> 20} MiB")


def _interpret(values: dict[str, Any], tables: BodyTables, *, pickled: bool) -> ImportedFit:
    """What the named arrays mean, whatever the file format."""
    texts = {name: _text(name, values[name]) for name in TEXTS if values.get(name) is not None}
    found = _arrays({ALIASES.get(name, name): value for name, value in values.items()})
    smplx_shape = _split_poses(found)
    for name in ("global_orient", "body_pose"):
        if name not in found:
            raise FitError(_missing_pose(name, values))
    thuman = "translation" in found and "scale" in found
    gender = _choice("gender", texts.get("gender", "male" if thuman else "neutral"), GENDERS)
    frame = _choice("frame", texts.get("frame", ""), get_args(Frame))
    own = texts.get("body_digest", "")
    exact = own == tables.digest if own else tables.licensed and gender == tables.gender and smplx_shape
    found = _same_length({"scale": np.ones((1, 1)), **found})
    params = _shape_and_pose(found, tables, exact=exact, relative=_relative(values, pickled))
    pelvis = tables.rest_pelvis(params["betas"], params["expression"])
    params["transl"] = _translation(found, np.zeros(3) if exact else SMPLX_PELVIS - pelvis)
    fit = ImportedFit(params, pelvis, cast(Frame, frame), gender, exact, ok=_fitted(values, len(pelvis)))
    return _before_camera(fit, found) if "camera_translation" in found else fit


def _shape_and_pose(
    found: Mapping[str, np.ndarray], tables: BodyTables, *, exact: bool, relative: bool | None
) -> dict[str, np.ndarray]:
    """The fields of BodyParams but `transl`: coefficients cut or filled to ten, rotations absolute."""
    frames = len(found["body_pose"])
    params = {"body_pose": _wrapped(found["body_pose"]), "scale": found["scale"]}
    for name in ("global_orient", "jaw_pose", "leye_pose", "reye_pose"):
        params[name] = _wrapped(found.get(name, np.zeros((frames, 3))))
    for name in ("betas", "expression"):
        given = found[name][:, :10] if exact and name in found else np.zeros((frames, 0))
        params[name] = np.pad(given, ((0, 0), (0, 10 - given.shape[1])))
    for side in SIDES:
        params[f"{side}_hand_pose"] = _hand(found.get(f"{side}_hand_pose"), side, frames, relative, tables)
    return params


def _arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """(F, n) float64 of every known array, checked."""
    found = {}
    for name, widths in WIDTHS.items():
        if values.get(name) is None:
            continue
        array = np.asarray(values[name])
        if array.dtype.kind not in "iuf":
            raise FitError(f"`{name}` holds {array.dtype}, numbers are expected")
        found[name] = _rows(name, array.astype(np.float64), widths)
        _check_values(name, found[name])
    return found


def _rows(name: str, array: np.ndarray, widths: range | tuple[int, ...]) -> np.ndarray:
    """As (frames, numbers a frame): joints may have an axis of their own, one frame may have none."""
    if name.endswith("hand_pose") and array.shape == (15, 3):
        return array.reshape(1, 45)
    width = math.prod(array.shape[1:])
    sequence = array.ndim >= 2 or (array.ndim == 1 and name in ("scale", "focal_length"))
    if sequence and width in widths and 0 < len(array) <= MAX_FRAMES:
        return array.reshape(len(array), width)
    if array.size in widths:
        return array.reshape(1, -1)
    if name == "body_pose" and 32 in (width, array.size):
        raise FitError(VPOSER)
    expected = f"{widths[0]} to {widths[-1]}" if len(widths) > 2 else " or ".join(map(str, widths))
    raise FitError(f"`{name}` has the shape {array.shape}, (frames, {expected}) is expected")


VPOSER = (
    "the body pose is VPoser's 32 numbers, which need that network; save the decoded pose (63 axis-angles)"
)


def _check_values(name: str, array: np.ndarray) -> None:
    if name in ("scale", "focal_length"):
        fine = (array >= SCALES[0]) & (array <= SCALES[1])
    else:
        fine = np.abs(array) <= BOUNDS.get(name, MAX_ANGLE)
    if not fine.all():  # NaN compares false
        raise FitError(f"`{name}` holds {array[~fine][0]:g}, which is out of range")


def _split_poses(found: dict[str, np.ndarray]) -> bool:
    """AMASS's `poses` as the named fields. Returns whether shape coefficients are SMPL-X's."""
    poses = found.pop("poses", None)
    if poses is None:
        return True
    parts = POSES_165 if poses.shape[1] == 165 else POSES_156
    edges = np.cumsum([width for _, width in parts])[:-1]
    found.update(zip([name for name, _ in parts], np.split(poses, edges, axis=1), strict=True))
    return parts is POSES_165


def _missing_pose(name: str, values: dict[str, Any]) -> str:
    if name == "body_pose" and "pose_embedding" in values:
        return VPOSER
    return f"`{name}` is missing; `poses` (AMASS) or `global_orient` and `body_pose` (SMPL-X) are expected"


def _same_length(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Single rows repeated to the length of the others."""
    lengths = {name: len(array) for name, array in found.items() if len(array) > 1}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise FitError(f"arrays differ in their numbers of frames: {told}")
    frames = max(lengths.values(), default=1)
    return {name: np.repeat(a, frames // len(a), axis=0) for name, a in found.items()}


def _wrapped(poses: np.ndarray) -> np.ndarray:
    """Axis-angles of more than one turn as the same rotations of at most half a turn."""
    vectors = poses.reshape(len(poses), -1, 3)
    angle = np.linalg.norm(vectors, axis=2, keepdims=True)
    turned = np.remainder(angle + np.pi, 2 * np.pi) - np.pi
    many = angle > 2 * np.pi
    return np.where(many, vectors * turned / np.where(many, angle, 1), vectors).reshape(poses.shape)


def _hand(
    given: np.ndarray | None, side: str, frames: int, relative: bool | None, tables: BodyTables
) -> np.ndarray:
    """(F, 45) absolute axis-angles. Coefficients mean nothing to other components: then the hand is relaxed.

    Args:
        relative: whether numbers are added to the mean hand; None: coefficients are, 45 axis-angles are not.
    """
    mean = tables.hand_means[side]
    if given is None or (given.shape[1] < 45 and not tables.licensed):
        return np.tile(mean, (frames, 1))
    turned = given @ tables.hand_components[side][: given.shape[1]] if given.shape[1] < 45 else given
    if relative or (relative is None and given.shape[1] < 45):
        turned = turned + mean
    return _wrapped(turned)


def _relative(values: Mapping[str, Any], pickled: bool) -> bool | None:
    """What the file says of its hands, else what its kind does: `smplx` adds the mean unless told otherwise."""
    if "flat_hand_mean" in values:
        return not np.asarray(values["flat_hand_mean"]).all()
    return True if pickled else None


def _translation(found: Mapping[str, np.ndarray], offset: np.ndarray) -> np.ndarray:
    """(F, 3) to be added after scaling.

    Args:
        offset: (F, 3) from the pelvis of the body at hand to that of the body that was fitted, both at rest.
    """
    if "translation" in found:
        moved = found["translation"]
    elif "transl" in found:
        moved = found["scale"] * found["transl"]
    elif "camera_translation" in found:
        moved = np.zeros_like(found["camera_translation"])
    else:
        raise FitError("it does not say where the body is; `transl` (SMPL-X) or `trans` (AMASS) is expected")
    return moved + found["scale"] * offset


def _before_camera(fit: ImportedFit, found: Mapping[str, np.ndarray]) -> ImportedFit:
    """Where SMPLify-X's camera sees the body."""
    turn = found.get("camera_rotation", np.tile(np.eye(3).reshape(1, 9), (len(fit), 1))).reshape(-1, 3, 3)
    if (
        not np.allclose(turn @ turn.transpose(0, 2, 1), np.eye(3), atol=1e-3)
        or (np.linalg.det(turn) < 0).any()
    ):
        raise FitError("`camera_rotation` is no rotation")
    focal = float(found["focal_length"][0, 0]) if "focal_length" in found else SMPLIFYX_FOCAL
    return replace(fit.transformed(turn, 1.0, found["camera_translation"]), frame="camera", focal=focal)


def _fitted(values: Mapping[str, Any], frames: int) -> np.ndarray | None:
    """Which frames of an exported sequence have a fit."""
    if "ok" not in values:
        return None
    ok = np.asarray(values["ok"]).reshape(-1)
    if ok.dtype.kind != "b" or len(ok) != frames:
        raise FitError(f"`ok` has the shape {ok.shape} of {ok.dtype}, a truth value a frame is expected")
    return ok


def _text(name: str, value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    value = value.decode("latin1") if isinstance(value, bytes) else value
    if not isinstance(value, str) or len(value) > 64:
        raise FitError(f"`{name}` is no short text")
    return value.strip().lower()


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise FitError(f"`{name}` is {value!r}, one of {', '.join(filter(None, allowed))} is expected")
    return value
