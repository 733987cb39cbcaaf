"""OBJ files as scans: the mesh with the colours of its materials, named by an MTL or found by name."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from stages.sources.mesh import Limits, Material, MissingFileError, RawMesh, ScanError, file_beside
from stages.sources.obj import MtlEntry, ObjMesh, read_mtl, read_obj
from stages.sources.textures import IMAGE_SUFFIXES, PARTS_SUFFIX, TextureReader, load_parts

COLOUR_WORD = re.compile("albedo|basecolor|col|colou?r|diff?|diffuse|tex")
"""A texture whose name ends in one of these holds colour."""

OTHER_WORD = re.compile(
    "alpha|ambientocclusion|ao|bump|disp|displacement|gloss|glossiness|height|mask|metal|metallic|metalness"
    "|nor|norm|normal|opacity|preview|render|rough|roughness|spec|specular|thumb|thumbnail|translucency"
)
"""A texture whose name ends in one of these does not."""


def read_obj_scan(path: Path, limits: Limits) -> RawMesh:
    """An OBJ file with its materials and textures.

    A material's texture is the one that its MTL names; where the MTL names none, or is not there, a texture
    is looked for by name (see `find_texture`), else the material's Kd is the colour.

    Raises:
        ScanError: one sentence on why the scan cannot be used.
    """
    mesh = read_obj(path, limits)
    if not np.isfinite(mesh.uv).all():
        raise ScanError("some texture coordinates are not finite numbers")
    missing = np.full((1, 2), np.nan)
    uv = np.concatenate([mesh.uv, missing])[mesh.uv_faces]
    return RawMesh(
        vertices=mesh.vertices,
        faces=mesh.faces,
        corner_uv=np.stack([uv[..., 0], 1.0 - uv[..., 1]], axis=-1),
        face_material=mesh.face_material,
        materials=_load_materials(path, mesh, limits),
        vertex_rgb=mesh.vertex_rgb,
    )


def find_texture(folder: Path, names: list[str], taken: set[Path], only: bool) -> Path | None:
    """A colour texture for a material that names none that is there.

    Looked for among the images in the folder and in the folders directly in it, but for those that other
    materials name and those whose own name says normals, gloss and the like: one that has one of `names`
    (upper or lower case, with or without a word for colour at its end).

    Args:
        names: of the material, of the mesh, or of the missing file.
        taken: images that some material names.
        only: the mesh has no other material; then it may also be the one whose name ends in a word for
            colour, or the only one there is.

    Raises:
        ScanError: several fit equally well.
    """
    images = [p for p in _images(folder) if p not in taken and not OTHER_WORD.fullmatch(_words(p.name)[-1])]
    wanted = {_bare(PurePosixPath(name.replace("\\", "/")).name) for name in names if name}
    choices = [[p for p in images if _bare(p.name) in wanted]]
    if only:
        choices += [[p for p in images if COLOUR_WORD.fullmatch(_words(p.name)[-1])], images]
    for found in choices:
        if len(found) > 1:
            listed = ", ".join(p.name for p in found[:3])
            raise ScanError(f"no texture is named and {len(found)} images could be it: {listed}")
        if found:
            return found[0]
    return None


def _images(folder: Path) -> list[Path]:
    """Images in a folder and in the folders directly in it, by path."""
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = (p for f in (folder, *inner) for p in sorted(f.iterdir()) if p.is_file())
    return [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.endswith(PARTS_SUFFIX)]


def _words(name: str) -> list[str]:
    """A file's name in lower case without its ending, cut at signs: `Anna_Dif.JPG` → anna, dif."""
    return re.split(r"[^a-z0-9]+", Path(name.lower()).stem)


def _bare(name: str) -> tuple[str, ...]:
    """The words of a name but for a last one that means colour."""
    words = _words(name)
    return tuple(words[:-1] if len(words) > 1 and COLOUR_WORD.fullmatch(words[-1]) else words)


@dataclass(frozen=True)
class _Library:
    """The materials of all libraries of a mesh, and the files that they name and that are there.

    Attributes:
        lost: what to say where a material has no colour.
    """

    entries: dict[str, MtlEntry]
    taken: set[Path]
    lost: str

    @staticmethod
    def of(folder: Path, libraries: list[str]) -> "_Library":
        entries: dict[str, MtlEntry] = {}
        lost = "" if libraries else "the mesh names no material file (mtllib) and has no colour of its own"
        for library in libraries:
            try:
                entries.update(read_mtl(file_beside(folder, library)))
            except MissingFileError as error:
                lost = str(error)
        named = [f for e in entries.values() for f in (e.map_colour, e.map_opacity) if f]
        taken = {folder / PurePosixPath(name.replace("\\", "/")) for name in named}
        return _Library(entries, taken, lost)


def _load_materials(path: Path, mesh: ObjMesh, limits: Limits) -> list[Material]:
    """The materials in use, textures decoded."""
    if len(mesh.materials) > limits.materials:
        raise ScanError(f"the mesh has {len(mesh.materials)} materials, at most {limits.materials} are read")
    library = _Library.of(path.parent, mesh.libraries)
    only = len(mesh.materials) == 1
    reader = TextureReader(limits)
    materials = []
    for name in mesh.materials:
        entry = library.entries.get(name, MtlEntry())
        texture = _texture_of(path, name, library, only) if mesh.uv_faces.max() >= 0 else None
        if texture is None and entry.colour is None and mesh.vertex_rgb is None:
            raise ScanError(library.lost or f"the material {name!r} has no colour: neither texture nor Kd")
        if texture is None:
            materials.append(Material(rgba=_rgba(entry.colour or (1.0, 1.0, 1.0))))
            continue
        mask = None if entry.map_opacity is None else file_beside(path.parent, entry.map_opacity)
        parts = load_parts(texture, limits) if only else None
        materials.append(Material(texture=reader.read(texture, mask), parts=parts))
    return materials


def _texture_of(path: Path, name: str, library: _Library, only: bool) -> Path | None:
    """The colour texture of a material: the file that it names, else one found by name."""
    named = library.entries.get(name, MtlEntry()).map_colour
    if named is None:
        return find_texture(path.parent, [name, path.stem], library.taken, only)
    try:
        return file_beside(path.parent, named)
    except MissingFileError:
        found = find_texture(path.parent, [named], library.taken, only)
        if found is None:
            raise
        return found


def _rgba(colour: tuple[float, float, float]) -> tuple[int, int, int, int]:
    red, green, blue = (int(255 * min(max(c, 0.0), 1.0) + 0.5) for c in colour)
    return red, green, blue, 255
