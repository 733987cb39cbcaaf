"""The pipeline's graph with the time of each stage, drawn from dvc.yaml as SVG."""

import html
import re
from collections.abc import Mapping
from typing import Any

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 148, 38, 34, 14

_PATH = re.compile(r"--(input|output) \S+?=(\S+)")


def stage_edges(graph: Mapping[str, Any]) -> dict[str, set[str]]:
    """Stage → the stages whose outputs it reads. check_params, on which all depend, is left out."""
    made: dict[str, str] = {}
    read: dict[str, list[str]] = {}
    for name, entry in graph["stages"].items():
        paths = _PATH.findall(entry.get("do", entry)["cmd"])
        read[name] = [path for kind, path in paths if kind == "input"]
        for kind, path in paths:
            if kind == "output":
                made[_generic(path)] = name
                made.setdefault(path, name)
    return {
        name: {maker for p in paths for maker in _makers(_generic(p), made)} - {name}
        for name, paths in read.items()
        if name != "check_params"
    }


def graph_svg(graph: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    """Boxes in columns by the longest way from a source, with lines between them."""
    edges = stage_edges(graph)
    column = _columns(edges)
    place: dict[str, tuple[int, int]] = {}
    filled: dict[int, int] = {}
    for name in edges:
        row = filled.get(column[name], 0)
        filled[column[name]] = row + 1
        place[name] = (column[name] * (BOX_WIDTH + GAP_X) + 4, row * (BOX_HEIGHT + GAP_Y) + 4)
    width = (max(column.values()) + 1) * (BOX_WIDTH + GAP_X)
    height = max(filled.values()) * (BOX_HEIGHT + GAP_Y) + 8
    lines = [_line(place[source], place[name]) for name, needs in edges.items() for source in sorted(needs)]
    boxes = [_box(name, place[name], seconds.get(name)) for name in edges]
    return f'<svg viewBox="0 0 {width} {height}" width="{width}">{"".join(lines)}{"".join(boxes)}</svg>'


def _makers(path: str, made: Mapping[str, str]) -> set[str]:
    """The stages that write a path, or files below it."""
    return {maker for output, maker in made.items() if output == path or output.startswith(f"{path}/")}


def _generic(path: str) -> str:
    """Per-data-set paths as one: data/stores/NAME/x and data/stores/${item}/x are the same place."""
    parts = path.split("/")
    if parts[:2] == ["data", "stores"] and len(parts) == 4:
        parts[2] = "*"
    if parts[:2] == ["data", "raw"] and parts[2] in ("${item}", "synthetic"):
        parts[2] = "*"
    return "/".join(parts)


def _columns(edges: Mapping[str, set[str]]) -> dict[str, int]:
    found: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((depth(n) for n in edges[name]), default=-1)
        return found[name]

    return {name: depth(name) for name in edges}


def _line(source: tuple[int, int], target: tuple[int, int]) -> str:
    x0, y0 = source[0] + BOX_WIDTH, source[1] + BOX_HEIGHT // 2
    x1, y1 = target[0], target[1] + BOX_HEIGHT // 2
    bend = max((x1 - x0) // 2, 12)
    return (
        f'<path d="M{x0} {y0} C{x0 + bend} {y0} {x1 - bend} {y1} {x1} {y1}" '
        'fill="none" stroke="#bbb" stroke-width="1"/>'
    )


def _box(name: str, place: tuple[int, int], seconds: float | None) -> str:
    x, y = place
    time = "–" if seconds is None else f"{seconds:.0f} s"
    return (
        f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" '
        'fill="#eef3fb" stroke="#7a93bd"/>'
        f'<text x="{x + 8}" y="{y + 16}" font-size="12">{html.escape(name)}</text>'
        f'<text x="{x + 8}" y="{y + 31}" font-size="11" fill="#667">{time}</text>'
    )
