"""Islands into the unit square: largest first, free rectangles, quarter turns, the largest scale that fits."""

import numpy as np

Rectangle = tuple[float, float, float, float]
"""x, y, width, height."""


def pack(sizes: np.ndarray, gutter: float, steps: int = 24) -> tuple[np.ndarray, np.ndarray, float]:
    """Place rectangles in the unit square.

    Args:
        sizes: (N, 2) width and height, in any one unit.
        gutter: free border around each, in units of the square.
        steps: halvings of the search for the scale.

    Returns:
        corners (N, 2) of the islands themselves (without gutter); turned (N,) bool; scale from the unit of
        `sizes` to the square's.
    """
    low, high = 0.0, 1.0 / float(sizes.max())
    best = None
    for _ in range(steps):
        scale = (low + high) / 2
        placed = _place(sizes * scale + 2 * gutter)
        if placed is None:
            high = scale
        else:
            low, best = scale, (*placed, scale)
    if best is None:
        raise ValueError(f"{len(sizes)} islands with a gutter of {gutter} do not fit into the square")
    corners, turned, scale = best
    return corners + gutter, turned, scale


def _place(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Best short side fit into maximal free rectangles; None if something does not fit."""
    free: list[Rectangle] = [(0.0, 0.0, 1.0, 1.0)]
    corners, turned = np.zeros((len(sizes), 2)), np.zeros(len(sizes), bool)
    for i in np.argsort(-sizes.max(axis=1), kind="stable"):
        choice = _best_fit(free, float(sizes[i, 0]), float(sizes[i, 1]))
        if choice is None:
            return None
        x, y, width, height, turn = choice
        corners[i], turned[i] = (x, y), turn
        free = _cut_out(free, (x, y, width, height))
    return corners, turned


def _best_fit(
    free: list[Rectangle], width: float, height: float
) -> tuple[float, float, float, float, bool] | None:
    options = []
    for x, y, w, h in free:
        for turn, (a, b) in enumerate(((width, height), (height, width))):
            if a <= w and b <= h:
                options.append((min(w - a, h - b), max(w - a, h - b), y, x, turn, a, b))
    if not options:
        return None
    _, _, y, x, turn, a, b = min(options)
    return x, y, a, b, bool(turn)


def _cut_out(free: list[Rectangle], used: Rectangle) -> list[Rectangle]:
    """The maximal free rectangles after `used` is taken away."""
    ux, uy, uw, uh = used
    pieces: list[Rectangle] = []
    for x, y, w, h in free:
        if ux >= x + w or ux + uw <= x or uy >= y + h or uy + uh <= y:
            pieces.append((x, y, w, h))
            continue
        pieces += [
            (x, y, ux - x, h),
            (ux + uw, y, x + w - ux - uw, h),
            (x, y, w, uy - y),
            (x, uy + uh, w, y + h - uy - uh),
        ]
    pieces = [p for p in pieces if p[2] > 1e-9 and p[3] > 1e-9]
    return [
        p
        for i, p in enumerate(pieces)
        if not any(_inside(p, q, i > j) for j, q in enumerate(pieces) if i != j)
    ]


def _inside(p: Rectangle, q: Rectangle, later: bool) -> bool:
    """p lies in q; of two equal ones only the later counts as inside."""
    within = q[0] <= p[0] and q[1] <= p[1] and p[0] + p[2] <= q[0] + q[2] and p[1] + p[3] <= q[1] + q[3]
    return within and (p != q or later)
