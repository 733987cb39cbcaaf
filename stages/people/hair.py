"""Hair: a shell over the scalp, a curtain lofted from the base mesh's hair helper, a bun or ponytail."""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp

from stages.people.anatomy import Anatomy, smoothstep
from stages.people.patches import Patch, patch_of, quads_to_triangles

HairStyle = Literal["bald", "buzz", "short", "quiff", "afro", "bob", "long", "bun", "ponytail"]

# Hairline of the neutral head: degrees from the front around a vertical axis through the ears → height, m.
_HAIRLINE = np.array([
    (0, 0.806), (30, 0.804), (45, 0.790), (58, 0.768), (66, 0.750), (70, 0.718), (76, 0.716),
    (80, 0.743), (100, 0.743), (108, 0.700), (130, 0.665), (180, 0.652),
])  # fmt: skip
_HEAD_AXIS_Z = 0.05


@dataclass(frozen=True)
class HairShape:
    """How a style is built.

    Attributes:
        top, side: thickness of the shell on the crown and around the ears, m.
        front: extra thickness above the forehead, m.
        curtain: heights on the neutral body (m) down to which hair hangs at temple, ear and back; None = none.
        tail: bun or ponytail.
    """

    top: float
    side: float
    front: float = 0.0
    curtain: tuple[float, float, float] | None = None
    tail: Literal["bun", "ponytail"] | None = None


SHAPES: dict[str, HairShape | None] = {
    "bald": None,
    "buzz": HairShape(0.004, 0.003),
    "short": HairShape(0.016, 0.008),
    "quiff": HairShape(0.018, 0.006, front=0.018),
    "afro": HairShape(0.055, 0.045),
    "bob": HairShape(0.010, 0.006, curtain=(0.63, 0.63, 0.62)),
    "long": HairShape(0.010, 0.006, curtain=(0.60, 0.58, 0.36)),
    "bun": HairShape(0.009, 0.006, tail="bun"),
    "ponytail": HairShape(0.009, 0.006, tail="ponytail"),
}


def above_hairline(anatomy: Anatomy, recession: float = 0.0) -> np.ndarray:
    """(N,) metres above the hairline of the neutral head; negative on face, ears, neck and everything below.

    Args:
        recession: metres by which the hairline of the forehead lies further back.
    """
    x, y, z = anatomy.reference.T
    degrees = np.degrees(np.arctan2(np.abs(x), z - _HEAD_AXIS_Z))
    line = np.interp(degrees, _HAIRLINE[:, 0], _HAIRLINE[:, 1])
    ragged = 0.0022 * np.sin(5.3e2 * x + 40 * z) + 0.0016 * np.sin(9.1e2 * x + 1.3e3 * z)
    return y - line - recession * smoothstep(75.0, 30.0, degrees) + ragged


def shell_thickness(anatomy: Anatomy, shape: HairShape, recession: float, clumps: np.ndarray) -> np.ndarray:
    """(N,) metres by which the shell stands off the scalp, growing from the hairline.

    Args:
        clumps: (N,) noise around 1.
    """
    above = above_hairline(anatomy, recession)
    height = smoothstep(0.74, 0.82, anatomy.reference[:, 1])
    front = smoothstep(0.07, 0.13, anatomy.reference[:, 2]) * height
    thickness = shape.side + (shape.top - shape.side) * height + shape.front * front
    return 0.0015 + thickness * clumps * smoothstep(-0.002, 0.004 + 0.6 * shape.top, above)


CURTAIN_ROWS = 16
# Columns of one side from the front to the middle of the back, as (strip, edge) pairs that are averaged.
# Strips are numbered by the helper's connected pieces on the left; edge 0 is the one nearer the front middle.
_SIDE_COLUMNS = (
    ((2, 0),),
    ((2, 1), (4, 0)),
    ((4, 1),),
    ((5, 0),),
    ((5, 1), (7, 0)),
    ((7, 1), (6, 0)),
    ((6, 1),),
)
CURTAIN_COLUMNS = 2 * len(_SIDE_COLUMNS) - 1


def curtain_patch(hair_quads: np.ndarray, base_size: int) -> Patch:
    """Loft the helper's ribbons of hair into one closed sheet around sides and back."""
    strips = [_strip_columns(q) for q in _pieces(hair_quads)]
    half = len(strips) // 2
    sides = [
        [[(strips[strip + offset], edge) for strip, edge in column] for column in _SIDE_COLUMNS]
        for offset in (0, half)
    ]
    middle = sides[0][-1] + sides[1][-1]
    columns = [*sides[0][:-1], middle, *reversed(sides[1][:-1])]
    lift = sp.lil_matrix((CURTAIN_ROWS * CURTAIN_COLUMNS, base_size))
    for c, column in enumerate(columns):
        for strip, edge in column:
            for row in range(CURTAIN_ROWS):
                lift[row * CURTAIN_COLUMNS + c, strip[row, edge]] += 1 / len(column)
    grid = grid_quads(CURTAIN_ROWS, CURTAIN_COLUMNS)
    u, v = np.meshgrid(np.linspace(0, 1, CURTAIN_COLUMNS), np.linspace(1, 0, CURTAIN_ROWS))
    fine = patch_of(CURTAIN_ROWS * CURTAIN_COLUMNS, grid, grid, np.stack([u.ravel(), v.ravel()], 1), 2)
    return Patch(fine.lift @ lift.tocsr(), fine.faces, fine.uv, fine.uv_faces)


def grid_quads(rows: int, columns: int) -> np.ndarray:
    """(Q, 4) quads of a rows × columns grid of vertices."""
    number = np.arange(rows * columns).reshape(rows, columns)
    return np.stack([number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]], axis=-1).reshape(
        -1, 4
    )


def _pieces(quads: np.ndarray) -> list[np.ndarray]:
    """Connected groups of quads, in the order of their first quad."""
    size = int(quads.max()) + 1
    rows, columns = np.repeat(quads[:, 0], 3), quads[:, 1:].ravel()
    graph = sp.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    label = sp.csgraph.connected_components(graph, directed=False)[1][quads[:, 0]]
    order = label[np.sort(np.unique(label, return_index=True)[1])]
    return [quads[label == number] for number in order]


def _strip_columns(quads: np.ndarray) -> np.ndarray:
    """(rows, 2) vertex numbers of a ribbon one quad wide, from its first quad to its last."""
    shared = [np.intersect1d(a, b) for a, b in itertools.pairwise(quads)]
    start = np.setdiff1d(quads[0], shared[0])
    rows = [start, *shared, np.setdiff1d(quads[-1], shared[-1])]
    columns = [rows[0][0], rows[0][1]]
    strip = [list(columns)]
    for quad, row in zip(quads, rows[1:], strict=True):
        around = {int(v): {int(quad[i - 1]), int(quad[(i + 1) % 4])} for i, v in enumerate(quad)}
        columns = [next(int(v) for v in row if int(v) in around[int(c)]) for c in columns]
        strip.append(list(columns))
    return np.array(strip)


def curtain_length(patch: Patch, anatomy: Anatomy, shape: HairShape) -> np.ndarray:
    """(N,) metres above the curtain's lower edge; negative below it."""
    assert shape.curtain is not None
    across = np.abs(2 * patch.uv[_uv_of_vertex(patch)][:, 0] - 1)  # 0 middle of the back, 1 front edge
    low = np.interp(
        across, [0.0, 0.45, 0.62, 1.0], [shape.curtain[2], shape.curtain[2], *shape.curtain[1::-1]]
    )
    return anatomy.reference[:, 1] - low


def _uv_of_vertex(patch: Patch) -> np.ndarray:
    number = np.zeros(patch.size, int)
    number[patch.faces.ravel()] = patch.uv_faces.ravel()
    return number


TAIL_RINGS, TAIL_SIDES = 13, 12


def tail_patch(vertices: np.ndarray, normals: np.ndarray) -> Patch:
    """A tube whose vertices all start at one point on the back of the crown; `tail_shape` moves them out."""
    target = np.array([0.0, 0.80, -0.04])
    anchor = int(np.argmin(np.linalg.norm(vertices - target, axis=1) - 0.01 * normals[:, 1]))
    size = TAIL_RINGS * TAIL_SIDES
    lift = sp.csr_matrix(
        (np.ones(size), (np.arange(size), np.full(size, anchor))), shape=(size, len(vertices))
    )
    uv_quads = grid_quads(TAIL_RINGS, TAIL_SIDES + 1)
    ring, side = np.divmod(uv_quads, TAIL_SIDES + 1)
    quads = ring * TAIL_SIDES + side % TAIL_SIDES
    u, v = np.meshgrid(np.linspace(0, 1, TAIL_SIDES + 1), np.linspace(1, 0, TAIL_RINGS))
    uv = np.stack([u.ravel(), v.ravel()], axis=1)
    return Patch(lift, quads_to_triangles(quads), uv, quads_to_triangles(uv_quads))


def tail_shape(style: str, length: float) -> np.ndarray:
    """(TAIL_RINGS × TAIL_SIDES, 3) offsets from the anchor, m: a ball, or a tail that falls behind the neck."""
    t = np.linspace(0, 1, TAIL_RINGS)
    if style == "bun":
        radius = 0.036 * np.sqrt(np.clip(1 - (2 * t - 1) ** 2, 0.0, 1))
        centre = np.stack([0 * t, 0.012 - 0.01 * t, 0.014 - 0.062 * t], axis=1)
    else:
        radius = 0.026 * np.sqrt(np.clip(1 - (2 * t - 1) ** 4, 0.0, 1)) * (1 - 0.35 * t)
        fall = smoothstep(0.0, 0.35, t)
        centre = np.stack([0 * t, 0.02 * (t > 0) - length * t * fall, 0.01 - 0.055 * fall + 0.02 * t], axis=1)
    tangent = np.gradient(centre, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.array([1.0, 0.0, 0.0])
    up = np.cross(tangent, across)
    angle = np.linspace(0, 2 * np.pi, TAIL_SIDES, endpoint=False)
    ring = np.cos(angle)[None, :, None] * across - np.sin(angle)[None, :, None] * up[:, None]
    return (centre[:, None] + radius[:, None, None] * ring).reshape(-1, 3)
