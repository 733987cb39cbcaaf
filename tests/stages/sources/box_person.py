"""A person of boxes whose every part has a colour of its own, and files of it in the layouts that people have."""

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from stages._core.scan_store import Scan
from stages.render_views import RenderViewsParams, render_scan

CELL = 16
"""Texels a side of one colour in the texture."""

PARTS = {  # low and high corner in metres, y up, facing +z: the left arm is at +x
    "head": ((-0.1, 1.5, -0.1), (0.1, 1.75, 0.1), (200, 60, 60)),
    "chest": ((-0.2, 0.85, 0.0), (0.2, 1.5, 0.12), (60, 160, 60)),
    "back": ((-0.2, 0.85, -0.12), (0.2, 1.5, 0.0), (160, 60, 160)),
    "left_arm": ((0.2, 0.9, -0.05), (0.32, 1.45, 0.05), (220, 200, 40)),
    "right_arm": ((-0.32, 0.9, -0.05), (-0.2, 1.45, 0.05), (40, 80, 220)),
    "left_leg": ((0.03, 0.07, -0.07), (0.17, 0.85, 0.07), (120, 120, 120)),
    "right_leg": ((-0.17, 0.07, -0.07), (-0.03, 0.85, 0.07), (120, 120, 120)),
    "left_foot": ((0.04, 0.0, -0.07), (0.16, 0.07, 0.19), (30, 30, 30)),
    "right_foot": ((-0.16, 0.0, -0.07), (-0.04, 0.07, 0.19), (30, 30, 30)),
}
HEIGHT = 1.75
FRONT = ("head", "chest", "left_arm", "right_arm", "left_leg", "right_leg", "left_foot", "right_foot")
BACK = ("head", "back", "left_arm", "right_arm", "left_leg", "right_leg", "left_foot", "right_foot")

BOX = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
_QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
BOX_FACES = np.concatenate([_QUADS[:, [0, 1, 2]], _QUADS[:, [0, 2, 3]]])


@dataclass(frozen=True)
class BoxPerson:
    """Arrays of the person: vertices of each part are its own, so they can have the part's colour.

    Attributes:
        vertices: (V, 3); faces: (F, 3); part: (V,) number of the part.
    """

    vertices: np.ndarray
    faces: np.ndarray
    part: np.ndarray

    @staticmethod
    def make(matrix: np.ndarray | None = None) -> "BoxPerson":
        """The person, its points taken through a 3 × 3 matrix."""
        low, high = (np.array([p[i] for p in PARTS.values()]) for i in (0, 1))
        vertices = (low[:, None] + BOX * (high - low)[:, None]).reshape(-1, 3)
        faces = (BOX_FACES + 8 * np.arange(len(PARTS))[:, None, None]).reshape(-1, 3)
        turned = vertices if matrix is None else vertices @ np.asarray(matrix).T
        return BoxPerson(turned, faces, np.repeat(np.arange(len(PARTS)), 8))

    @property
    def rgb(self) -> np.ndarray:
        """(V, 3) uint8 colours of the vertices."""
        return colours()[self.part]

    @property
    def uv(self) -> np.ndarray:
        """(V, 2) the middle of the part's cell in `picture()`, v down."""
        return np.stack([(self.part + 0.5) / len(PARTS), np.full(len(self.part), 0.5)], axis=1)


def colours() -> np.ndarray:
    """(parts, 3) uint8."""
    return np.array([p[2] for p in PARTS.values()], np.uint8)


def picture() -> Image.Image:
    """The texture: a row of cells, one a part."""
    return Image.fromarray(np.repeat(np.repeat(colours()[None], CELL, axis=0), CELL, axis=1))


def obj_text(person: BoxPerson, head: str, vt: bool = True, rgb: bool = False) -> str:
    """An OBJ file, with or without texture coordinates and vertex colours."""
    colour = [" " + " ".join(f"{c / 255:.4f}" for c in row) if rgb else "" for row in person.rgb]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}{c}" for (x, y, z), c in zip(person.vertices, colour, strict=True)]
    lines += [f"vt {u:.6f} {1 - v:.6f}" for u, v in person.uv]
    corner = "{0}/{0}" if vt else "{0}"
    lines += ["f " + " ".join(corner.format(i + 1) for i in face) for face in person.faces]
    return head + "\n".join(lines) + "\n"


def write_thuman(root: Path, name: str = "0001") -> Path:
    """`NNNN/NNNN.obj`, `material0.mtl`, `material0.jpeg`."""
    folder = root / name
    folder.mkdir(parents=True)
    person = BoxPerson.make()
    (folder / f"{name}.obj").write_text(obj_text(person, "mtllib material0.mtl\nusemtl material0\n"))
    (folder / "material0.mtl").write_text(
        "newmtl material0\nKa 1 1 1\nKd 1 1 1\nTr 1\nmap_Kd material0.jpeg\n"
    )
    picture().save(folder / "material0.jpeg", quality=95)
    return folder


def write_renderpeople(root: Path, mtl: str) -> Path:
    """`rp_anna_posed_001_OBJ/` with an OBJ in centimetres in two finenesses and its pictures in `tex/`."""
    folder = root / "rp_anna_posed_001_OBJ"
    (folder / "tex").mkdir(parents=True)
    text = obj_text(
        BoxPerson.make(100 * np.eye(3)), "mtllib rp_anna_posed_001_100k.mtl\nusemtl rp_anna_mat\n"
    )
    (folder / "rp_anna_posed_001_100k.obj").write_text(text)
    (folder / "rp_anna_posed_001_30k.obj").write_text("v 0 0 0\n")
    (folder / "rp_anna_posed_001_100k.mtl").write_text(mtl)
    picture().save(folder / "tex" / "rp_anna_posed_001_dif.jpg", quality=95)
    for other in ("norm", "gloss"):
        Image.new("RGB", (8, 8), (128, 128, 255)).save(folder / "tex" / f"rp_anna_posed_001_{other}.jpg")
    return folder


def write_ply(path: Path, binary: bool, person: BoxPerson | None = None) -> Path:
    """A PLY file with vertex colours."""
    person = person or BoxPerson.make()
    kind = "binary_little_endian" if binary else "ascii"
    head = [
        *("ply", f"format {kind} 1.0", f"element vertex {len(person.vertices)}"),
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {colour}" for colour in ("red", "green", "blue")),
        *(f"element face {len(person.faces)}", "property list uchar int vertex_indices", "end_header", ""),
    ]
    if binary:
        points = np.zeros(len(person.vertices), [("p", "<f4", 3), ("c", "u1", 3)])
        points["p"], points["c"] = person.vertices, person.rgb
        faces = np.zeros(len(person.faces), [("n", "u1"), ("i", "<i4", 3)])
        faces["n"], faces["i"] = 3, person.faces
        body = points.tobytes() + faces.tobytes()
    else:
        rows = [f"{x:.5f} {y:.5f} {z:.5f}" for x, y, z in person.vertices]
        rows = [f"{row} {r} {g} {b}" for row, (r, g, b) in zip(rows, person.rgb, strict=True)]
        body = "\n".join([*rows, *(f"3 {a} {b} {c}" for a, b, c in person.faces), ""]).encode()
    path.write_bytes("\n".join(head).encode() + body)
    return path


class GltfFile:
    """A glTF file in the making: arrays become accessors in one buffer."""

    def __init__(self) -> None:
        self.json: dict = {"asset": {"version": "2.0"}, "scene": 0, "accessors": [], "bufferViews": []}
        self.data = b""

    @staticmethod
    def of_person(person: BoxPerson | None = None) -> "GltfFile":
        """A mesh at one node, with its picture inside."""
        file = GltfFile()
        file.json["meshes"] = [{"primitives": [{**file.person(person or BoxPerson.make()), "material": 0}]}]
        file.json["nodes"] = [{"mesh": 0}]
        file.json["scenes"] = [{"nodes": [0]}]
        png = BytesIO()
        picture().save(png, "PNG")
        file.json["images"] = [{"bufferView": file.view(png.getvalue()), "mimeType": "image/png"}]
        file.json["textures"] = [{"source": 0}]
        file.json["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
        return file

    @property
    def primitive(self) -> dict:
        """The first primitive."""
        return self.json["meshes"][0]["primitives"][0]

    def view(self, data: bytes) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.json["bufferViews"].append(view)
        self.data += data
        return len(self.json["bufferViews"]) - 1

    def array(self, values: np.ndarray, normalized: bool = False) -> int:
        """An accessor of the array; (N, 4, 4) matrices are written by columns."""
        number = {"u1": 5121, "u2": 5123, "u4": 5125, "f4": 5126}[values.dtype.str[1:]]
        kind = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[values.shape[1] if values.ndim == 2 else 1]
        if values.ndim == 3:
            kind, values = "MAT4", values.transpose(0, 2, 1)
        accessor = {"bufferView": self.view(np.ascontiguousarray(values).tobytes()), "type": kind}
        accessor |= {"componentType": number, "count": len(values)}
        self.json["accessors"].append(accessor | ({"normalized": True} if normalized else {}))
        return len(self.json["accessors"]) - 1

    def person(self, person: BoxPerson) -> dict:
        """The attributes of a primitive and its indices."""
        return {
            "attributes": {
                "POSITION": self.array(person.vertices.astype("<f4")),
                "TEXCOORD_0": self.array(person.uv.astype("<f4")),
            },
            "indices": self.array(person.faces.ravel().astype("<u2")),
        }

    def save(self, path: Path) -> Path:
        """A .glb, or a .gltf with `buffer.bin` beside it."""
        buffer = {"byteLength": len(self.data)}
        if path.suffix == ".gltf":
            self.json["buffers"] = [{**buffer, "uri": "buffer.bin"}]
            (path.parent / "buffer.bin").write_bytes(self.data)
            path.write_text(json.dumps(self.json))
            return path
        self.json["buffers"] = [buffer]
        text = json.dumps(self.json).encode()
        text += b" " * (-len(text) % 4)
        data = self.data + b"\0" * (-len(self.data) % 4)
        chunks = np.array([len(text), 0x4E4F534A], "<u4").tobytes() + text
        chunks += np.array([len(data), 0x004E4942], "<u4").tobytes() + data
        path.write_bytes(b"glTF" + np.array([2, 12 + len(chunks)], "<u4").tobytes() + chunks)
        return path


def assert_is_the_person(scan: Scan, atol: int = 1) -> None:
    """Front and back views show every part where it is, in its colour; and nothing beside it."""
    params = RenderViewsParams(seed=0, image_size=96, views=2, variants=1, shading=0.0, distance=20.0)
    images = render_scan(scan, "a", "a", params)
    assert abs(np.ptp(scan.vertices[:, 1]) - HEIGHT) < 1e-3
    for view, (parts, side) in enumerate(((FRONT, 1), (BACK, 0))):
        for name in parts:
            low, high, colour = PARTS[name]
            point = (np.array(low) + high) / 2
            point[2] = (low, high)[side][2]
            x, y, depth = images["K"][view] @ (images["R"][view] @ point + images["T"][view])
            column, row = int(x / depth), int(y / depth)
            np.testing.assert_allclose(images["rgb"][view, row, column], colour, atol=atol, err_msg=name)
            assert images["mask"][view, row, column] == 255
    shown = images["mask"][0].sum() / 255 * (params.margin * HEIGHT / 96) ** 2
    boxes = {n: np.subtract(PARTS[n][1], PARTS[n][0]) for n in FRONT}
    assert abs(shown - sum(x * y for x, y, _ in boxes.values())) < 0.03
