"""glTF 2.0 and GLB files as scans, rigged ones in their default pose.

trimesh decodes accessors and walks the nodes. What it leaves out is done here by the glTF 2.0 specification:
skins (§3.7.3.3), materials, and what a file may name. Every attribute is handed to trimesh under a name of
our own, `_NAME`: such attributes come back as they are in the file.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from trimesh.exchange.gltf import load_gltf

from stages.sources.mesh import Limits, Material, RawMesh, ScanError, file_beside, read_bounded
from stages.sources.textures import TextureReader, linear_to_srgb, srgb_to_linear, to_bytes

TRIANGLES, TRIANGLE_STRIP = 4, 5
UNDERSTOOD = ("KHR_mesh_quantization", "KHR_texture_transform", "EXT_texture_webp", "KHR_lights_punctual")
"""Extensions that a file may require; so may it those on materials, whose base colour is all that counts."""

Json = dict[str, Any]


@dataclass(frozen=True)
class _Gltf:
    """A file's JSON and the bytes of its buffers."""

    header: Json
    buffers: list[bytes]
    folder: Path

    def bytes_of(self, item: Json, limit: int) -> bytes:
        """What an image or buffer with a `uri` or a `bufferView` holds."""
        if "uri" in item:
            return _uri_bytes(item["uri"], self.folder, limit)
        view = self.header["bufferViews"][item["bufferView"]]
        start = view.get("byteOffset", 0)
        return self.buffers[view["buffer"]][start : start + view["byteLength"]]


@dataclass(frozen=True)
class _Piece:
    """One primitive at one node, in the scene's frame; faces count from 0."""

    vertices: np.ndarray
    faces: np.ndarray
    corner_uv: np.ndarray
    rgb: np.ndarray | None
    material: int


def read_gltf(path: Path, limits: Limits) -> RawMesh:
    """A .glb or .gltf file: its default scene, skins in their default pose, morph targets left out.

    Raises:
        ScanError: one sentence on why the scan cannot be used.
    """
    try:
        file = _open(path, limits)
        _check_header(file.header, limits)
        pieces = list(_pieces(file, limits))
        materials = _materials(file, limits)
    except ScanError:
        raise
    except Exception as error:  # trimesh and lookups in a damaged JSON raise whatever they meet
        raise ScanError(f"{path.name} is damaged or no glTF 2.0 ({type(error).__name__})") from None
    if not pieces:
        raise ScanError(f"{path.name} shows no triangles in its scene")
    first = np.cumsum([0, *(len(p.vertices) for p in pieces)])
    return RawMesh(
        vertices=np.concatenate([p.vertices for p in pieces]),
        faces=np.concatenate([p.faces + start for p, start in zip(pieces, first, strict=False)]),
        corner_uv=np.concatenate([p.corner_uv for p in pieces]),
        face_material=np.concatenate([np.full(len(p.faces), p.material) for p in pieces]),
        materials=materials,
        vertex_rgb=_vertex_rgb(pieces, file.header),
    )


def _open(path: Path, limits: Limits) -> _Gltf:
    """Header and buffers, whether inside the file, beside it, or written into the header."""
    data = read_bounded(path, limits.file_bytes)
    chunk = b""
    if data[:4] == b"glTF":
        size = int.from_bytes(data[12:16], "little")
        text, rest = data[20 : 20 + size], data[20 + size :]
        chunk = rest[8 : 8 + int.from_bytes(rest[:4], "little")]
        if int.from_bytes(data[8:12], "little") > len(data):
            raise ScanError(f"{path.name} is cut off")
    else:
        text = data
    header = json.loads(text)
    buffers = []
    left = limits.file_bytes
    for item in header.get("buffers", []):
        buffers.append(_uri_bytes(item["uri"], path.parent, left) if "uri" in item else chunk)
        if len(buffers[-1]) < item["byteLength"]:
            raise ScanError(f"{path.name} is cut off: a buffer is shorter than it should be")
        left -= len(buffers[-1])
    return _Gltf(header, buffers, path.parent)


def _uri_bytes(uri: str, folder: Path, limit: int) -> bytes:
    """A data URI's bytes, or those of a file in the folder; nothing else is opened."""
    if uri.startswith("data:"):
        try:
            return base64.b64decode(uri.partition("base64,")[2], validate=True)
        except binascii.Error:
            raise ScanError("a data URI is not base64") from None
    return read_bounded(file_beside(folder, unquote(uri)), limit)


def _check_header(header: Json, limits: Limits) -> None:
    """Refuse what would be read wrongly, or would take more memory than its file suggests."""
    if not str(header["asset"]["version"]).startswith("2."):
        raise ScanError(f"glTF {header['asset']['version']} is not read, only 2.0")
    strange = [
        name
        for name in header.get("extensionsRequired", [])
        if name not in UNDERSTOOD and not name.startswith("KHR_materials_")
    ]
    if strange:
        raise ScanError(f"the file needs the glTF extension {strange[0]}, which is not read")
    largest = max((a["count"] for a in header.get("accessors", [])), default=0)
    if largest > 12 * limits.vertices:  # three indices a face, four faces a vertex
        raise ScanError(f"the file has an accessor of {largest} elements, at most {12 * limits.vertices}")
    for primitive in _primitives(header):
        if primitive.get("mode", TRIANGLES) not in (TRIANGLES, TRIANGLE_STRIP):
            raise ScanError("the mesh has lines, points or fans, only triangles and strips are read")
        used = [
            *primitive["attributes"].values(),
            *([primitive["indices"]] if "indices" in primitive else []),
        ]
        if any("sparse" in header["accessors"][number] for number in used):
            raise ScanError("the mesh has sparse accessors, which are not read")


def _primitives(header: Json) -> Iterator[Json]:
    for mesh in header.get("meshes", []):
        yield from mesh["primitives"]


def _pieces(file: _Gltf, limits: Limits) -> Iterator[_Piece]:
    """Every primitive at every node of the scene."""
    scene = load_gltf(
        BytesIO(json.dumps(_for_trimesh(file.header)).encode()),
        resolver={f"buffer{i}": data for i, data in enumerate(file.buffers)},
        skip_materials=True,
        process=False,
    )
    world = {scene["base_frame"]: np.eye(4)}
    placed: list[tuple[str, str]] = []
    for edge in scene["graph"]:  # parents come before their children
        world[edge["frame_to"]] = world[edge["frame_from"]] @ edge["matrix"]
        if "geometry" in edge:
            placed.append((edge["frame_to"], edge["geometry"]))
    total = sum(len(scene["geometry"][name]["vertices"]) for _, name in placed)
    if total > limits.vertices:
        raise ScanError(f"the mesh has {total} vertices, at most {limits.vertices} are read")
    primitives = dict(zip(scene["geometry"], _primitives(file.header), strict=True))
    for frame, name in placed:
        node = file.header["nodes"][int(frame.removeprefix("node").partition("_")[0])]
        yield _piece(file.header, node, world, frame, scene["geometry"][name], primitives[name])


def _for_trimesh(header: Json) -> Json:
    """The header with names of our own for nodes, attributes and buffers, without what trimesh need not see.

    A skin's inverse bind matrices ride along as an attribute of every primitive: trimesh gives no other
    access to accessors.
    """
    binds = {
        f"_BIND{number}": skin["inverseBindMatrices"]
        for number, skin in enumerate(header.get("skins", []))
        if "inverseBindMatrices" in skin
    }
    meshes = []
    for mesh in header.get("meshes", []):
        primitives = []
        for primitive in mesh["primitives"]:
            given = primitive["attributes"]
            named = {"POSITION": given["POSITION"], **{f"_{key}": value for key, value in given.items()}}
            kept = {key: primitive[key] for key in ("indices", "mode") if key in primitive}
            primitives.append({**kept, "attributes": {**named, **binds}})
        meshes.append({"primitives": primitives})
    keep = ("children", "matrix", "translation", "rotation", "scale", "mesh")
    nodes = [
        {"name": f"node{number}", **{key: node[key] for key in keep if key in node}}
        for number, node in enumerate(header.get("nodes", []))
    ]
    buffers = [{**item, "uri": f"buffer{number}"} for number, item in enumerate(header.get("buffers", []))]
    same = ("asset", "scene", "scenes", "bufferViews", "accessors")
    unchanged: Json = {key: header[key] for key in same if key in header}
    return {**unchanged, "meshes": meshes, "nodes": nodes, "buffers": buffers}


def _piece(
    header: Json, node: Json, world: dict[str, np.ndarray], frame: str, geometry: Json, primitive: Json
) -> _Piece:
    attributes = {
        name: _scaled(geometry["vertex_attributes"][f"_{name}"], header["accessors"][number])
        for name, number in primitive["attributes"].items()
    }
    vertices = attributes["POSITION"]
    faces = np.asarray(geometry["faces"], np.int64)
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ScanError(f"a face names a vertex that does not exist ({len(vertices)} are there)")
    if "skin" in node and "JOINTS_0" in attributes:
        bind = geometry["vertex_attributes"].get(f"_BIND{node['skin']}")
        transform = _skin(header["skins"][node["skin"]]["joints"], bind, world, attributes)
    else:
        transform = np.broadcast_to(world[frame], (len(vertices), 4, 4))
        if np.linalg.det(world[frame][:3, :3]) < 0:
            faces = faces[:, ::-1]  # a mirroring node turns its faces round (§3.7.4)
    homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1)
    return _Piece(
        vertices=np.einsum("vij,vj->vi", transform, homogeneous)[:, :3],
        faces=faces,
        corner_uv=_corner_uv(header, primitive, attributes, faces),
        rgb=_linear_colour(geometry["vertex_attributes"].get("_COLOR_0"), attributes.get("COLOR_0")),
        material=primitive.get("material", len(header.get("materials", []))),
    )


def _scaled(values: np.ndarray, accessor: Json) -> np.ndarray:
    """An accessor's numbers as float64; normalised integers become [0, 1] or [−1, 1] (§3.11)."""
    if not accessor.get("normalized", False):
        return values.astype(np.float64)
    return np.maximum(values / float(np.iinfo(values.dtype).max), -1.0)


def _skin(
    joints: list[int],
    bind: np.ndarray | None,
    world: dict[str, np.ndarray],
    attributes: dict[str, np.ndarray],
) -> np.ndarray:
    """(V, 4, 4) matrices that take vertices of a skinned mesh to the scene (§3.7.3.3).

    The node's own transform does not count, only those of the joints, as they stand in the file.
    """
    poses = np.stack([world.get(f"node{joint}", np.full((4, 4), np.nan)) for joint in joints])
    if np.isnan(poses).any():
        raise ScanError("a joint of the skin is no node of the scene")
    if bind is not None:
        poses = poses @ bind[: len(joints)].astype(np.float64).transpose(0, 2, 1)  # stored by columns
    sets = range(sum(name.startswith("JOINTS_") for name in attributes))
    joint = np.concatenate([attributes[f"JOINTS_{n}"] for n in sets], axis=1).astype(np.int64)
    weight = np.concatenate([attributes[f"WEIGHTS_{n}"] for n in sets], axis=1)
    weight[weight.sum(axis=1) <= 0, 0] = 1.0  # a vertex that no joint moves hangs on its first one
    weight = weight / weight.sum(axis=1, keepdims=True)
    return sum(weight[:, k, None, None] * poses[joint[:, k]] for k in range(weight.shape[1]))


def _corner_uv(
    header: Json, primitive: Json, attributes: dict[str, np.ndarray], faces: np.ndarray
) -> np.ndarray:
    """(F, 3, 2) coordinates in the base colour texture; glTF's v points down, as ours."""
    slot = _base_colour(header, primitive.get("material")).get("baseColorTexture", {})
    transform = slot.get("extensions", {}).get("KHR_texture_transform", {})
    uv = attributes.get(f"TEXCOORD_{transform.get('texCoord', slot.get('texCoord', 0))}")
    if uv is None:
        return np.full((len(faces), 3, 2), np.nan)
    if transform.get("rotation", 0.0):
        raise ScanError("a texture is rotated by KHR_texture_transform, which is not read")
    return (uv * transform.get("scale", (1.0, 1.0)) + transform.get("offset", (0.0, 0.0)))[faces]


def _linear_colour(raw: np.ndarray | None, scaled: np.ndarray | None) -> np.ndarray | None:
    """(V, 3) linear vertex colours.

    The specification says that they are linear. In 8 bits they are not: scanners and mesh tools write a
    picture's colours there, and linear ones would show steps.
    """
    if raw is None or scaled is None:
        return None
    return srgb_to_linear(scaled[:, :3]) if raw.dtype == np.uint8 else scaled[:, :3]


def _base_colour(header: Json, material: int | None) -> Json:
    return {} if material is None else header["materials"][material].get("pbrMetallicRoughness", {})


def _materials(file: _Gltf, limits: Limits) -> list[Material]:
    """The file's materials, and the default one last; those that no primitive uses stay white."""
    used = {p["material"] for p in _primitives(file.header) if "material" in p}
    reader = TextureReader(limits)
    materials = [Material()] * (len(file.header.get("materials", [])) + 1)
    for number in sorted(used):
        materials[number] = _material(file, number, reader, limits)
    return materials


def _material(file: _Gltf, number: int, reader: TextureReader, limits: Limits) -> Material:
    """Base colour (a linear factor times the texture) and alpha by the material's mode (§3.9)."""
    material = file.header["materials"][number]
    base = _base_colour(file.header, number)
    factor = np.array(base.get("baseColorFactor", (1.0, 1.0, 1.0, 1.0)), float)
    texture = None
    if "baseColorTexture" in base:
        texture = _texture(file, base["baseColorTexture"]["index"], reader, limits)
        texture = _opaque_or_cut(_tinted(texture, factor), material)
    colour = np.append(linear_to_srgb(factor[:3]), factor[3])
    red, green, blue, alpha = _opaque_or_cut(to_bytes(colour)[None, None], material)[0, 0].tolist()
    return Material(rgba=(red, green, blue, alpha), texture=texture)


def _texture(file: _Gltf, index: int, reader: TextureReader, limits: Limits) -> np.ndarray:
    texture = file.header["textures"][index]
    webp = texture.get("extensions", {}).get("EXT_texture_webp", {})
    number = webp.get("source", texture.get("source"))
    if number is None:
        raise ScanError(f"texture {index} has no image in a format that is read")
    image = file.header["images"][number]
    name = image["uri"] if "uri" in image and not image["uri"].startswith("data:") else f"image {number}"
    return reader.decode(number, file.bytes_of(image, limits.file_bytes), name)


def _tinted(texture: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """A texture times a factor: colours in linear light, alpha as it is."""
    if (factor == 1).all():
        return texture
    levels = np.arange(256) / 255
    tables = [to_bytes(linear_to_srgb(srgb_to_linear(levels) * f)) for f in factor[:3]]
    tables.append(to_bytes(levels * factor[3]))
    return np.stack([table[texture[..., c]] for c, table in enumerate(tables)], axis=-1)


def _opaque_or_cut(rgba: np.ndarray, material: Json) -> np.ndarray:
    """Alpha as the mode says: OPAQUE ignores it, MASK compares it, BLEND keeps it."""
    mode = material.get("alphaMode", "OPAQUE")
    if mode == "BLEND" or (rgba[..., 3] == 255).all():
        return rgba
    out = rgba.copy()
    out[..., 3] = 255
    if mode == "MASK":
        out[rgba[..., 3] < 255 * material.get("alphaCutoff", 0.5), 3] = 0
    return out


def _vertex_rgb(pieces: list[_Piece], header: Json) -> np.ndarray | None:
    """Vertex colours times the materials' factors; pieces without have their material's. None if all are."""
    if all(piece.rgb is None for piece in pieces):
        return None
    colours = []
    for piece in pieces:
        number = piece.material if piece.material < len(header.get("materials", [])) else None
        factor = np.array(_base_colour(header, number).get("baseColorFactor", (1.0, 1.0, 1.0, 1.0)))[:3]
        colour = np.ones((len(piece.vertices), 3)) if piece.rgb is None else piece.rgb
        colours.append(to_bytes(linear_to_srgb(colour * factor)))
    return np.concatenate(colours)
