"""Raw scans small enough to know everything about: a box as tall as a person, red in front, blue behind."""

from pathlib import Path

import numpy as np
from PIL import Image

HALF_WIDTH, HEIGHT, HALF_DEPTH = 0.25, 1.8, 0.15
RED, BLUE, GREY = (200, 40, 40), (40, 40, 200), (120, 120, 120)
FRONT_LABEL, BACK_LABEL, SIDE_LABEL = 5, 7, 9


def write_box_scan(root: Path, name: str, scale: float = 1.0, parts: bool = True) -> Path:
    """`root/name/` with an OBJ of six quads, its MTL, a texture of three stripes and their labels.

    The texture's columns 0–15 are the front, 16–31 the back, 32–47 the sides, top and bottom.
    """
    folder = root / name
    folder.mkdir(parents=True)
    x, y, z = HALF_WIDTH * scale, HEIGHT * scale, HALF_DEPTH * scale
    corners = [(-x, 0, z), (x, 0, z), (x, y, z), (-x, y, z), (-x, 0, -z), (x, 0, -z), (x, y, -z), (-x, y, -z)]
    lines = ["mtllib material0.mtl", "usemtl material0"]
    lines += [f"v {a:.6f} {b:.6f} {c:.6f}" for a, b, c in corners]
    for stripe in range(3):
        low, high = (stripe * 16 + 1) / 48, (stripe * 16 + 15) / 48
        lines += [f"vt {u:.6f} {v:.6f}" for u, v in ((low, 0.1), (high, 0.1), (high, 0.9), (low, 0.9))]
    quads = [(1, 2, 3, 4), (6, 5, 8, 7), (2, 6, 7, 3), (5, 1, 4, 8), (4, 3, 7, 8), (5, 6, 2, 1)]
    for stripe, quad in zip((0, 1, 2, 2, 2, 2), quads, strict=True):
        lines.append("f " + " ".join(f"{v}/{stripe * 4 + i + 1}" for i, v in enumerate(quad)))
    (folder / f"{name}.obj").write_text("\n".join(lines) + "\n")
    (folder / "material0.mtl").write_text("newmtl material0\nKd 1 1 1\nmap_Kd material0.png\n")
    texture = np.repeat(np.array([[RED, BLUE, GREY]], np.uint8), 16, axis=1).repeat(48, axis=0)
    Image.fromarray(texture).save(folder / "material0.png")
    if parts:
        labels = np.repeat(np.array([[FRONT_LABEL, BACK_LABEL, SIDE_LABEL]], np.uint8), 16, axis=1)
        Image.fromarray(labels.repeat(48, axis=0)).save(folder / "material0_parts.png")
    return folder


def write_card(root: Path, adapter: str = "scans", **fields: str) -> Path:
    """A card with further fields as YAML."""
    path = root / "card.yaml"
    values = {"adapter": adapter, "path": "data/raw/boxes", "licence": "CC0-1.0", "facing": "+z", **fields}
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    return path
