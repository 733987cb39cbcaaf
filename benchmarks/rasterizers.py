"""Embree against PyTorch3D on the CPU: one frame of the body, `python -m benchmarks.rasterizers`."""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from dinar_models.body import BodyModel, BodyParams
from dinar_models.cameras import Camera, orbit_camera
from dinar_models.rasterize.base import Fragments, make_rasterizer

BODY = Path("data/models/body")


def frame(vertices: torch.Tensor, size: int) -> Camera:
    """A camera that sees the whole body, a little from the side and from above."""
    low, high = vertices.amin(dim=(0, 1)), vertices.amax(dim=(0, 1))
    return orbit_camera(0.4, 0.1, 4.0, target=(low + high) / 2, size=size, fov=math.radians(30))


def seconds(call: Callable[[], Fragments], repeats: int) -> tuple[float, Fragments]:
    """Shortest of some runs, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def compare(vertices: torch.Tensor, faces: torch.Tensor, size: int) -> dict[str, float]:
    """Times of both, and how far their results agree."""
    camera = frame(vertices, size)
    embree, torch3d = make_rasterizer("embree"), make_rasterizer("pytorch3d")
    fast, ours = seconds(lambda: embree.rasterize(vertices, faces, camera), repeats=10)
    slow, theirs = seconds(lambda: torch3d.rasterize(vertices, faces, camera), repeats=1)
    both = (ours.face_id == theirs.face_id) & ours.covered
    return {
        "faces": len(faces),
        "size": size,
        "embree_s": fast,
        "pytorch3d_s": slow,
        "ratio": slow / fast,
        "same_face": float((ours.face_id == theirs.face_id).float().mean()),
        "barycentric_difference": float((ours.barycentric - theirs.barycentric)[both].abs().max()),
    }


def measure(folder: Path = BODY, size: int = 512) -> dict[str, float]:
    """Compare both on the body that `dvc repro build_body` makes.

    Raises:
        SystemExit: saying so when there is none.
    """
    if not folder.is_dir():
        raise SystemExit(f"no body at {folder}: run `dvc repro build_body` first")
    body = BodyModel.load(folder)
    return compare(body(BodyParams.zeros(1)).vertices.detach(), body.faces, size)


def main() -> None:
    """Print the comparison as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--body", type=Path, default=BODY)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    print(json.dumps(measure(args.body, args.size), indent=1))


if __name__ == "__main__":
    main()
