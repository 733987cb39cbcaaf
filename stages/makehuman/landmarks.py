"""The 51 inner face landmarks of iBUG 68 (all but the jaw line) on the base mesh.

Chosen by hand on renders of the average person: brow line, bridge and base of the nose, lid margins,
vermilion border and the line where the lips meet.
"""

import numpy as np

from stages.makehuman.vertex_order import body_faces, body_vertices, mirror_vertices

FIRST = 17
"""Number of the first inner landmark in iBUG 68."""

MIDDLE = {27: 136, 28: 135, 29: 164, 30: 5054, 33: 317, 51: 455, 57: 492, 62: 474, 66: 493}
LEFT = {
    **{22: 6983, 23: 6997, 24: 6996, 25: 6998, 26: 7031},  # brow, from the nose outwards
    **{34: 7054, 35: 7119},  # base of the nose
    **{42: 6854, 43: 6839, 44: 6791, 45: 6806, 46: 6820, 47: 6831},  # eye: inner corner, upper lid, …
    **{52: 7210, 53: 7170, 54: 7182, 55: 7166, 56: 7241},  # vermilion border
    **{63: 7226, 64: 7188, 65: 7236},  # where the lips meet
}
"""iBUG number → base-mesh vertex, on the subject's left side."""

RIGHT_OF = {
    **{22: 21, 23: 20, 24: 19, 25: 18, 26: 17, 34: 32, 35: 31},
    **{42: 39, 43: 38, 44: 37, 45: 36, 46: 41, 47: 40},
    **{52: 50, 53: 49, 54: 48, 55: 59, 56: 58, 63: 61, 64: 60, 65: 67},
}
"""iBUG number on the left → the one at its mirror image."""


def face_landmarks() -> tuple[np.ndarray, np.ndarray]:
    """(51,) face numbers and (51, 3) barycentrics of the landmarks in iBUG order, in SMPL-X numbers."""
    number = {int(base): new for new, base in enumerate(body_vertices())}
    vertices = np.zeros(51, dtype=np.int64)
    for landmark, base in (MIDDLE | LEFT).items():
        vertices[landmark - FIRST] = number[base]
    for left, right in RIGHT_OF.items():
        vertices[right - FIRST] = mirror_vertices()[vertices[left - FIRST]]
    faces = body_faces()
    on_face = [int(np.flatnonzero((faces == v).any(axis=1))[0]) for v in vertices]
    return np.array(on_face), (faces[on_face] == vertices[:, None]).astype(np.float32)
