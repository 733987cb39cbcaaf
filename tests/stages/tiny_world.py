"""Four people about whom everything is known, as the stores and untrained models that the later stages read.

A person is the tiny body with one random texture, standing; views are its renders, the fits are the bodies
that were rendered, and the keypoints are where the joints are. So a stage has answers known beforehand.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from dinar_models.animation import standing
from dinar_models.avatar import AvatarConfig, AvatarNets
from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, orbit_camera
from dinar_models.diffusion import DiffusionConfig, LatentDiffusion
from dinar_models.keypoints import MEDIAPIPE, SMPLX_NAMES
from dinar_models.parser import build_parser
from dinar_models.rasterize.embree import EmbreeRasterizer
from dinar_models.surface import Surface
from dinar_models.texture import rasterise_texture
from dinar_models.uv_atlas import Atlas
from dinar_models.vqgan import VQGAN, VQGANConfig
from stages import sample_textures
from stages._core.runtime import Runtime
from stages._core.schemas import SCHEMAS
from stages._core.shards import ShardResult, build_store
from stages._core.stage import Paths
from stages._core.weights import read_body_digests, save_weights
from stages._data.offers import offer_of, write_offer
from stages.people.truth import BodyTruth, write_truth

IMAGE, TEXTURE, VIEWS = 64, 32, 4
SCANS = (
    ("a", "a0", "train"),
    ("a", "a1", "train"),
    ("b", "b0", "val"),
    ("c", "c0", "gate"),
    ("d", "d0", "test"),
)
"""Subject, scan, split. The second scan of `a` has another pose."""

SHIRT = 5
"""CIHP's upper clothes: every pixel of a person."""


@dataclass(frozen=True)
class World:
    """Paths by the stages' input names, and the bodies that were rendered, one row per scan."""

    paths: dict[str, Path]
    bodies: BodyParams

    def inputs(self, *names: str, **more: Path) -> Paths:
        """Some of the paths; `views.tiny` is the same as `views`."""
        return Paths({**{name: self.paths[name.removesuffix(".tiny")] for name in names}, **more})


def make_world(root: Path, body_folder: Path, image: int = IMAGE, texture: int = TEXTURE) -> World:
    """Write all stores and models below `root`; models have the small sizes, whatever the images'."""
    surface = load_surface(body_folder)
    model = surface.body
    bodies = scan_bodies()
    index = views_index()
    every_row = bodies.select(torch.arange(len(bodies)).repeat_interleave(VIEWS))
    fits = {name: values.numpy() for name, values in every_row.as_dict().items()}
    fits["residuals"] = np.zeros((len(index), 4), np.float32)
    images, points = render_scans(surface, bodies, image, texture)
    parsing = {"parts": images["parts"], "mask": images["mask"]}
    fitted = index.assign(crop_x=0.0, crop_y=0.0, crop_side=float(image), verdict="plausible")
    held_out = index["split"].isin(["gate", "test"]).to_numpy()
    alone = fitted[held_out].reset_index(names="view_row")
    save_store(root / "views", "views", index, images)
    save_store(root / "parsing", "parsing", index, parsing)
    save_store(root / "keypoints", "keypoints", index, points, attrs={"layout": MEDIAPIPE.name})
    save_store(root / "bodies", "bodies", fitted, fits)
    save_store(root / "bodies_single", "bodies", alone, {k: v[held_out] for k, v in fits.items()})
    paths = {name: root / name for name in ("views", "parsing", "keypoints", "bodies", "bodies_single")}
    paths["body"] = body_folder
    offer_stores(root, body_folder, root / "data" / "tiny.json", texture)
    write_bodies_truth(root / "truth", model, bodies)
    save_models(root, body_folder)
    return World(
        {
            **paths,
            **{n: root / n for n in ("textures", "data", "truth", "avatar", "vqgan", "diffusion", "parser")},
        },
        bodies,
    )


def load_surface(body_folder: Path) -> Surface:
    """The built body with its atlas."""
    atlas = Atlas.load(body_folder / "atlas.npz")
    return Surface(BodyModel.load(body_folder), atlas, EmbreeRasterizer())


def offer_stores(root: Path, body_folder: Path, offer: Path, texture: int = TEXTURE) -> None:
    """Sample the textures of the views, masks and bodies below `root`, and offer all four to training."""
    paths = {**{name: root / name for name in ("views", "parsing", "bodies")}, "body": body_folder}
    runtime = Runtime(work_root=root / ".work", runs_root=root / ".runs")
    params = sample_textures.SampleTexturesParams(texture_size=texture)
    sample_textures.run(params, Paths(paths), Paths({"textures": root / "textures"}), runtime)
    offered = {name: root / name for name in ("views", "parsing", "bodies", "textures")}
    write_offer(offer, offer_of(offer.stem, offered))


def make_video(root: Path, body_folder: Path, frames: int) -> BodyParams:
    """Stores of one train person who turns around before a still camera, bending an elbow; the bodies, a row each.

    As `ingest_images` and `fit_body` give them: one scan, frames as views, a body and a crop for each.
    """
    surface, bodies = load_surface(body_folder), standing(BodyParams.zeros(1)).select([0] * frames)
    turned = torch.arange(frames) / frames
    bodies.global_orient[:, 1] = 2 * math.pi * turned
    bodies.body_pose[:, 17 * 3 + 1] = -1.5 * turned
    camera = orbit_camera(0.0, 0.0, 4.0, target=torch.tensor([0.0, -0.3, 0.0]), size=IMAGE, fov=0.55)
    images = []
    for frame in range(frames):
        vertices = surface.body(bodies.select([frame])).vertices.detach()
        images.append(_views(surface, camera, vertices, person_texture("v", TEXTURE)))
    views = _joined(images)
    index = pd.DataFrame({"subject": "v", "scan": "v", "split": "train", "view": range(frames)})
    index = index.assign(yaw=math.nan, variant=0, source="video", ok=True, reason="")
    fits = {name: values.numpy() for name, values in bodies.as_dict().items()}
    fits["residuals"] = np.zeros((frames, 4), np.float32)
    fitted = index.assign(crop_x=4.0, crop_y=4.0, crop_side=float(IMAGE - 8), verdict="plausible")
    save_store(root / "views", "views", index, views)
    save_store(root / "parsing", "parsing", index, {"parts": views["parts"], "mask": views["mask"]})
    save_store(root / "bodies", "bodies", fitted, fits)
    offer_stores(root, body_folder, root / "data" / "video.json")
    return bodies


def views_index() -> pd.DataFrame:
    """One line per image: scan by scan, seen from the front, its left, the back and its right."""
    lines = [(*scan, view, 360.0 / VIEWS * view) for scan in SCANS for view in range(VIEWS)]
    index = pd.DataFrame(lines, columns=["subject", "scan", "split", "view", "yaw"])
    return index.assign(variant=0, source="scans", ok=True, reason="")


def scan_bodies() -> BodyParams:
    """Standing people of different shapes; in the second scan of `a` an elbow is bent."""
    people = standing(BodyParams.zeros(1)).select([0] * len(SCANS))
    number = torch.tensor([ord(subject) - ord("a") for subject, *_ in SCANS], dtype=torch.float32)
    people.betas[:, 0] = number - 1.5
    people.body_pose[1, 17 * 3 + 1] = -1.5
    return people


def person_texture(subject: str, size: int) -> torch.Tensor:
    """(1, 3, T, T) in [0, 1], smooth at the scale of a texel."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(ord(subject)))
    return F.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)


@torch.no_grad()
def render_scans(
    surface: Surface, bodies: BodyParams, size: int, texture: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The arrays of `views` and `keypoints`."""
    images: list[dict[str, np.ndarray]] = []
    points: list[dict[str, np.ndarray]] = []
    for row, (subject, _, _) in enumerate(SCANS):
        out = surface.body(bodies.select([row]))
        yaw = torch.arange(VIEWS) * (2 * math.pi / VIEWS)
        camera = orbit_camera(yaw, 0.0, 4.0, target=out.vertices.mean(dim=(0, 1)), size=size, fov=0.55)
        images.append(_views(surface, camera, out.vertices, person_texture(subject, texture)))
        points.append(_keypoints(out.joints, camera))
    return _joined(images), _joined(points)


def _views(
    surface: Surface, camera: Camera, vertices: torch.Tensor, texture: torch.Tensor
) -> dict[str, np.ndarray]:
    """One body as all cameras see it, on white."""
    uv = surface.uv_of(vertices, camera)
    covered = uv[..., 0].numpy() >= 0
    rgb = rasterise_texture(texture.expand(len(camera), -1, -1, -1), uv).permute(0, 2, 3, 1).numpy()
    rgb = np.where(covered[..., None], rgb, 1.0)
    return {
        "rgb": (rgb * 255 + 0.5).astype(np.uint8),
        "mask": covered.astype(np.uint8) * 255,
        "parts": covered.astype(np.uint8) * SHIRT,
        "K": camera.K.contiguous().numpy(),
        "R": camera.R.numpy(),
        "T": camera.T.numpy(),
    }


def _keypoints(joints: torch.Tensor, camera: Camera) -> dict[str, np.ndarray]:
    """What a detector without errors would find, in space too."""
    known = MEDIAPIPE.smplx_index >= 0
    seen = joints[:, MEDIAPIPE.smplx_index[known]]
    hips = joints[:, [SMPLX_NAMES.index("left_hip"), SMPLX_NAMES.index("right_hip")]].mean(
        dim=1, keepdim=True
    )
    xyc, world = np.zeros((2, VIEWS, len(MEDIAPIPE), 3), np.float32)
    xyc[:, known, :2] = camera.project(seen).numpy()
    xyc[:, known, 2] = 1
    world[:, known] = ((seen - hips) @ camera.R.mT).numpy()
    return {"xyc": xyc, "world": world}


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def save_store(
    path: Path,
    schema: str,
    index: pd.DataFrame,
    arrays: Mapping[str, np.ndarray],
    attrs: Mapping[str, object] | None = None,
) -> None:
    """Publish finished arrays as a store; the schema's letters are read off their shapes."""
    sizes = {
        dim: size
        for name, spec in SCHEMAS[schema].arrays.items()
        for dim, size in zip(spec.dims, arrays[name].shape[1:], strict=True)
        if isinstance(dim, str)
    }
    build_store(
        out=path,
        schema=schema,
        index=index,
        sizes=sizes,
        attrs=attrs or {},
        shard_rows=len(index),
        work=lambda rows: ShardResult(dict(arrays)),
        runtime=Runtime(work_root=path.parent / ".work"),
        key="test",
    )


@torch.no_grad()
def write_bodies_truth(folder: Path, model: BodyModel, bodies: BodyParams) -> None:
    """The truth table of these bodies: fits that equal them have no error."""
    folder.mkdir()
    out = model(bodies)
    index = pd.DataFrame(SCANS, columns=["subject", "scan", "split"]).assign(pose="standing")
    truths = [
        BodyTruth(np.zeros((55, 3)), np.zeros(3), out.joints[row, :55].numpy(), out.vertices[row].numpy())
        for row in range(len(bodies))
    ]
    write_truth(folder, index, truths)


def save_models(root: Path, body_folder: Path) -> None:
    """Avatar, autoencoder and diffusion as small as they go, untrained, for this body."""
    torch.manual_seed(0)
    digests = read_body_digests(body_folder)
    small = {"encoder_base": 8, "generator_base": 8, "renderer_base": 4, "renderer_blocks": 1, "style": 16}
    nets = AvatarNets(AvatarConfig(image_size=IMAGE, texture_size=TEXTURE, renderer_kernel=3, **small))
    save_weights(root / "avatar", "avatar", nets, nets.config_dict(), digests)
    vqgan = VQGAN(VQGANConfig(texture_size=TEXTURE, widths=(8, 16), layers=1, groups=4, codes=8))
    save_weights(root / "vqgan", "vqgan", vqgan, vqgan.config_dict(), digests)
    diffusion = LatentDiffusion(
        DiffusionConfig(
            latent_size=TEXTURE // 2,
            widths=(8, 16),
            attention=(False, True),
            layers=1,
            groups=4,
            head_width=8,
        )
    )
    save_weights(root / "diffusion", "diffusion", diffusion, diffusion.config_dict(), digests)
    parser = {"architecture": "unet", "size": IMAGE}
    save_weights(root / "parser", "parser", build_parser(parser), parser)
