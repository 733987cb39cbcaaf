import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from stages.sources.card import Card
from stages.sources.gltf import read_gltf
from stages.sources.mesh import Limits, RawMesh, ScanError, check_mesh
from stages.sources.scans import load_scan
from tests.stages.sources.box_person import PARTS, BoxPerson, GltfFile, assert_is_the_person, colours

CARD = Card(adapter="scans", path="data/raw/x", licence="CC0-1.0")
PERSON = BoxPerson.make()


def read(tmp_path: Path, file: GltfFile, name: str = "a.glb") -> RawMesh:
    mesh = read_gltf(file.save(tmp_path / name), Limits())
    check_mesh(mesh, Limits())
    return mesh


def test_nodes_move_their_meshes(tmp_path: Path) -> None:
    """z-up centimetres, as some exporters leave them below a root that turns and scales."""
    file = GltfFile.of_person(BoxPerson.make(100 * np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])))
    half = float(np.sqrt(0.5))
    file.json["nodes"] = [
        {"mesh": 0, "translation": [0, 0, 100]},
        {"children": [0], "rotation": [-half, 0, 0, half], "scale": [0.01] * 3},
    ]
    file.json["scenes"] = [{"nodes": [1]}]
    mesh = read(tmp_path, file)
    np.testing.assert_allclose(mesh.vertices, np.array([0, 1, 0]) + PERSON.vertices, atol=1e-6)


def test_a_mirroring_node_keeps_the_outside_outside(tmp_path: Path) -> None:
    file = GltfFile.of_person(BoxPerson.make(np.diag([-1, 1, 1])))
    file.json["nodes"] = [{"mesh": 0, "scale": [-1, 1, 1]}]
    mesh = read(tmp_path, file)
    np.testing.assert_allclose(mesh.vertices, PERSON.vertices, atol=1e-6)
    assert mesh.faces.tolist() == PERSON.faces[:, ::-1].tolist()
    np.testing.assert_allclose(mesh.corner_uv, PERSON.uv[mesh.faces], atol=1e-6)


def rigged(bind: bool = True) -> GltfFile:
    """Two joints in a row: the root stands at y = 1, its child 0.5 m higher; the skin is bound there.

    In the file the child is bent by 90° about z, and the mesh's own node is moved, which must not matter.
    """
    file = GltfFile.of_person()
    half = float(np.sqrt(0.5))
    file.json["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [50, 60, 70], "scale": [3, 3, 3]},
        {"children": [2], "translation": [0, 1, 0]},
        {"translation": [0, 0.5, 0], "rotation": [0, 0, half, half]},
    ]
    file.json["scenes"] = [{"nodes": [0, 1]}]
    file.json["skins"] = [{"joints": [1, 2]}]
    if bind:
        inverse = np.tile(np.eye(4, dtype="<f4"), (2, 1, 1))
        inverse[:, 1, 3] = (-1.0, -1.5)
        file.json["skins"][0]["inverseBindMatrices"] = file.array(inverse)
    head = PERSON.part == 0
    joints = np.zeros((len(head), 4), "u1")
    joints[head, 1] = 1
    weights = np.zeros((len(head), 4), "u1")
    weights[np.arange(len(head)), head.astype(int)] = 255
    file.primitive["attributes"]["JOINTS_0"] = file.array(joints)
    file.primitive["attributes"]["WEIGHTS_0"] = file.array(weights, normalized=True)
    return file


def test_a_skin_stands_in_its_default_pose_wherever_its_node_is(tmp_path: Path) -> None:
    mesh = read(tmp_path, rigged())
    head = PERSON.part == 0
    np.testing.assert_allclose(mesh.vertices[~head], PERSON.vertices[~head], atol=1e-6)
    x, y, z = (PERSON.vertices[head] - (0, 1.5, 0)).T  # about the child: x → y, y → −x
    np.testing.assert_allclose(mesh.vertices[head], np.stack([-y, x + 1.5, z], axis=1), atol=1e-6)


def test_a_skin_without_bind_matrices_has_identities(tmp_path: Path) -> None:
    body = PERSON.part > 0
    mesh = read(tmp_path, rigged(bind=False))
    np.testing.assert_allclose(mesh.vertices[body], np.array([0, 1, 0]) + PERSON.vertices[body], atol=1e-6)


def test_vertices_without_weights_hang_on_the_first_joint(tmp_path: Path) -> None:
    file = rigged()
    file.primitive["attributes"]["WEIGHTS_0"] = file.array(np.zeros((len(PERSON.part), 4), "<f4"))
    np.testing.assert_allclose(read(tmp_path, file).vertices, PERSON.vertices, atol=1e-6)


def test_a_joint_outside_the_scene_is_refused(tmp_path: Path) -> None:
    file = rigged()
    file.json["scenes"] = [{"nodes": [0]}]
    with pytest.raises(ScanError, match="joint of the skin"):
        read(tmp_path, file)


def test_base_colour_factors_are_linear(tmp_path: Path) -> None:
    """0.2159 in linear light is 128 of 255; the head's 200 of 255 is 0.5776, times 0.2159 is 99 of 255."""
    file = GltfFile.of_person()
    base = file.json["materials"][0]["pbrMetallicRoughness"]
    base["baseColorFactor"] = [0.21586, 1, 0, 1]
    texture = read(tmp_path, file).materials[0].texture
    assert texture is not None
    assert texture[8, 8].tolist() == [99, PARTS["head"][2][1], 0, 255]
    del base["baseColorTexture"]
    assert read(tmp_path, file).materials[0].rgba == (128, 255, 0, 255)


@pytest.mark.parametrize(
    ("mode", "expected"), [({}, 255), ({"alphaMode": "MASK"}, 0), ({"alphaMode": "BLEND"}, 100)]
)
def test_alpha_goes_by_the_mode(tmp_path: Path, mode: dict, expected: int) -> None:
    file = GltfFile.of_person()
    file.json["images"] = [{"uri": "a.png"}]
    Image.new("RGBA", (4, 4), (9, 9, 9, 100)).save(tmp_path / "a.png")
    file.json["materials"][0] |= mode
    assert read(tmp_path, file).materials[0].texture[0, 0, 3] == expected  # type: ignore[index]
    if expected == 0:
        file.json["materials"][0]["alphaCutoff"] = 0.3
        assert read(tmp_path, file).materials[0].texture[0, 0, 3] == 255  # type: ignore[index]


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "floats"])
def test_vertex_colours_of_any_kind(tmp_path: Path, kind: str) -> None:
    """8 bits hold sRGB, as scanners write it; 16 bits and floats hold linear light, as glTF says."""
    file = GltfFile.of_person()
    linear = ((PERSON.rgb / 255 + 0.055) / 1.055) ** 2.4
    values, normalized = {
        "8 bits": (PERSON.rgb, True),
        "16 bits": ((linear * 65535 + 0.5).astype("<u2"), True),
        "floats": (linear.astype("<f4"), False),
    }[kind]
    file.primitive["attributes"]["COLOR_0"] = file.array(values, normalized)
    file.json["materials"] = [{}]
    scan = load_scan(file.save(tmp_path / "a.glb"), CARD, Limits())
    assert not scan.textures
    assert_is_the_person(scan, atol=2)


def test_two_primitives_one_with_vertex_colours_one_with_a_solid_material(tmp_path: Path) -> None:
    file = GltfFile.of_person()
    other = {**file.primitive, "material": 1, "attributes": dict(file.primitive["attributes"])}
    other["attributes"]["COLOR_0"] = file.array(PERSON.rgb, normalized=True)
    file.json["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1]}}, {}]
    file.json["meshes"][0]["primitives"].append(other)
    mesh = read(tmp_path, file)
    count = len(PERSON.vertices)
    assert mesh.vertex_rgb is not None
    assert (mesh.vertex_rgb[:count] == (255, 0, 0)).all()
    np.testing.assert_allclose(mesh.vertex_rgb[count:].astype(int), PERSON.rgb, atol=1)
    assert mesh.faces.max() == 2 * count - 1


def test_texture_transforms_and_second_coordinates(tmp_path: Path) -> None:
    """The coordinates of the base colour are the second set, halved: scale 2 brings them back."""
    file = GltfFile.of_person()
    slot = file.json["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
    slot["texCoord"] = 1
    slot["extensions"] = {"KHR_texture_transform": {"scale": [2, 2], "offset": [-0.5, 0]}}
    file.primitive["attributes"]["TEXCOORD_1"] = file.array(
        ((np.array([0.5, 0]) + PERSON.uv) / 2).astype("<f4")
    )
    file.json["extensionsRequired"] = ["KHR_texture_transform"]
    assert_is_the_person(load_scan(file.save(tmp_path / "a.glb"), CARD, Limits()))


def test_what_trimesh_exports(tmp_path: Path) -> None:
    mesh = trimesh.Trimesh(PERSON.vertices, PERSON.faces, vertex_colors=PERSON.rgb, process=False)
    mesh.export(tmp_path / "a.glb")
    assert_is_the_person(load_scan(tmp_path / "a.glb", CARD, Limits()), atol=2)


def _cut(file: GltfFile, path: Path) -> None:
    path.write_bytes(file.save(path).read_bytes()[:-3000])


def _no_gltf(file: GltfFile, path: Path) -> None:
    path.write_bytes(b"glTF\2\0\0\0 not really a mesh")


def _text(file: GltfFile, path: Path) -> None:
    path.write_text("not really a mesh")


def _edited(**changes: object):
    def edit(file: GltfFile, path: Path) -> None:
        file.json |= changes
        file.save(path)

    return edit


def _outside(uri: str):
    def edit(file: GltfFile, path: Path) -> None:
        text = file.save(path.with_suffix(".gltf")).read_text()
        header = json.loads(text)
        header["buffers"][0]["uri"] = uri
        path.write_text(json.dumps(header))

    return edit


def _bomb(file: GltfFile, path: Path) -> None:
    file.json["accessors"].append({"type": "MAT4", "componentType": 5126, "count": 10**12})
    file.save(path)


def _many_nodes(file: GltfFile, path: Path) -> None:
    file.json["nodes"] = [{"mesh": 0}] * 40_000
    file.json["scenes"] = [{"nodes": list(range(40_000))}]
    file.save(path)


def _face_out_of_range(file: GltfFile, path: Path) -> None:
    file.primitive["indices"] = file.array(np.array([0, 1, 500], "<u2"))
    file.save(path)


def _nan(file: GltfFile, path: Path) -> None:
    vertices = PERSON.vertices.astype("<f4")
    vertices[3, 1] = np.nan
    file.primitive["attributes"]["POSITION"] = file.array(vertices)
    file.save(path)


def _lines(file: GltfFile, path: Path) -> None:
    file.primitive["mode"] = 1
    file.save(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "cut off"),
        (_no_gltf, "cut off"),
        (_text, r"damaged or no glTF 2\.0"),
        (_edited(asset={"version": "1.0"}), "only 2.0"),
        (_edited(extensionsRequired=["KHR_draco_mesh_compression"]), "needs the glTF extension KHR_draco"),
        (_edited(scenes=[{"nodes": []}]), "no triangles in its scene"),
        (_edited(nodes=[{"mesh": 7}]), "no triangles in its scene"),
        (_edited(nodes=[{"children": [9]}]), "damaged"),
        (_edited(images=[{"uri": "gone.png"}]), "'gone.png' is missing"),
        (_edited(images=[{"uri": "../secret.png"}]), "outside the scan's folder"),
        (_edited(images=[{"uri": "https://example.org/a.png"}]), "outside the scan's folder"),
        (_edited(images=[{"uri": "data:image/png;base64,????"}]), "not base64"),
        (_outside("../secret.bin"), "outside the scan's folder"),
        (_outside("/etc/passwd"), "outside the scan's folder"),
        (_outside("%2e%2e/secret.bin"), "outside the scan's folder"),
        (_bomb, "accessor of 1000000000000 elements"),
        (_many_nodes, "vertices, at most 2000000"),
        (_face_out_of_range, "vertex that does not exist"),
        (_nan, "1 vertices are not finite"),
        (_lines, "lines, points or fans"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, damage, reason: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 100_000)
    (tmp_path / "secret.png").touch()
    (tmp_path / "scan").mkdir()
    damage(GltfFile.of_person(), tmp_path / "scan" / "a.glb")
    with pytest.raises(ScanError, match=reason) as caught:
        load_scan(tmp_path / "scan", CARD, Limits())
    assert str(tmp_path) not in str(caught.value)


def test_materials_that_share_a_picture_share_its_texels(tmp_path: Path) -> None:
    file = GltfFile.of_person()
    file.json["materials"].append(file.json["materials"][0])
    file.json["meshes"][0]["primitives"].append({**file.primitive, "material": 1})
    scan = load_scan(file.save(tmp_path / "a.glb"), CARD, Limits())
    assert len(scan.textures) == 1
    assert (scan.textures[0][0, ::16, :3] == colours()).all()
