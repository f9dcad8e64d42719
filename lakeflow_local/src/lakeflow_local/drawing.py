"""Draws a graph from left to right as SVG: boxes in columns, each to the right of what it depends on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from html import escape
from importlib import resources
from itertools import pairwise
from statistics import fmean

_WIDTH, _LINE, _GAP, _COLUMN, _LANE, _MARGIN = 216, 16, 24, 262, 22, 16
_SWEEPS = 4
# What a page cannot shrink to a screen and leave readable.
_WIDE = 1600


@dataclass(frozen=True)
class Node:
    """One box.

    Attributes:
        lines: the title, then what is known of it.
        classes: of the box, for its colours; `drawing.css` knows the kinds of datasets and the states of tasks.
        link: where the box leads, if anywhere.
    """

    key: str
    lines: tuple[str, ...]
    classes: tuple[str, ...] = ()
    link: str | None = None

    @property
    def height(self) -> int:
        return 18 + _LINE * len(self.lines)


@dataclass(frozen=True)
class _Lane:
    """Where an edge passes a column."""

    key: str
    height: int = _LANE


def style() -> str:
    """The colours, for light and dark; an SVG file has them in itself, a page in its own style sheet."""
    return resources.files("lakeflow_local").joinpath("drawing.css").read_text(encoding="utf-8")


def svg(title: str, nodes: Sequence[Node], edges: Iterable[tuple[str, str, str]], *, alone: bool = True) -> str:
    """The picture.

    Args:
        nodes: in the order in which boxes of a column begin.
        edges: key of the earlier node, key of the later one, and what is written at the arrow, or "". Those that close
            a circle are left out.
        alone: a file of its own, with its colours; else for a page that has `style()` already.
    """
    forward = _acyclic([node.key for node in nodes], [edge for edge in dict.fromkeys(edges) if edge[0] != edge[1]])
    columns, paths = _columns(nodes, forward)
    _order(columns, paths)
    top = _places(columns, paths)
    height = max((top[item.key] + item.height for column in columns for item in column), default=_MARGIN) + _MARGIN
    width = 2 * _MARGIN + max(len(columns) - 1, 0) * _COLUMN + _WIDTH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph{" wide" if width > _WIDE else ""}"'
        f' role="group" aria-label="{escape(title)}"'
        f' viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{style()}</style>" if alone else "",
        f'<rect class="ground" width="{width}" height="{height}"/>' if alone else "",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="head" d="M0,0 8,4 0,8z"/></marker></defs>',
    ]
    where = {item.key: (_MARGIN + number * _COLUMN, item) for number, column in enumerate(columns) for item in column}
    middle = {key: top[key] + item.height // 2 for key, (_, item) in where.items()}
    parts += [_edge(path, where, middle) for path, _ in paths]
    parts += [_label(path, label, where, middle) for path, label in paths if label]
    for key, (x, item) in where.items():
        if isinstance(item, Node):
            parts.append(_box(item, x, top[key]))
    return "\n".join([*(part for part in parts if part), "</svg>"])


def _acyclic(keys: list[str], edges: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    while True:
        before: dict[str, set[str]] = {key: set() for key in keys}
        for start, end, _ in edges:
            before[end].add(start)
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            circle = {frozenset(pair) for pair in pairwise(error.args[1])}
            edges.remove(next(edge for edge in reversed(edges) if frozenset(edge[:2]) in circle))
        else:
            return edges


def _columns(
    nodes: Sequence[Node], edges: Sequence[tuple[str, str, str]]
) -> tuple[list[list[Node | _Lane]], list[tuple[list[str], str]]]:
    """The columns, and each edge as the keys that it passes, a lane for each column between its ends."""
    before: dict[str, set[str]] = {node.key: set() for node in nodes}
    for start, end, _ in edges:
        before[end].add(start)
    depth: dict[str, int] = {}
    for key in TopologicalSorter(before).static_order():
        depth[key] = max((depth[other] + 1 for other in before[key]), default=0)
    columns: list[list[Node | _Lane]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in nodes:
        columns[depth[node.key]].append(node)
    paths = []
    lanes: dict[tuple[str, int], str] = {}
    for start, end, label in edges:
        path = [start]
        for column in range(depth[start] + 1, depth[end]):
            # Edges of one box share their lanes.
            if (start, column) not in lanes:
                lanes[start, column] = f"{start} in column {column}"
                columns[column].append(_Lane(lanes[start, column]))
            path.append(lanes[start, column])
        paths.append(([*path, end], label))
    return columns, paths


def _neighbours(paths: Sequence[tuple[list[str], str]]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    earlier: dict[str, set[str]] = defaultdict(set)
    later: dict[str, set[str]] = defaultdict(set)
    for path, _ in paths:
        for one, other in pairwise(path):
            later[one].add(other)
            earlier[other].add(one)
    return earlier, later


def _order(columns: list[list[Node | _Lane]], paths: Sequence[tuple[list[str], str]]) -> None:
    """Sorts each column by the mean place of its neighbours, forth and back: fewer edges cross (Sugiyama's method)."""
    earlier, later = _neighbours(paths)
    for sweep in range(_SWEEPS):
        back = sweep % 2 == 1
        sides = later if back else earlier
        places: dict[str, float] = {}
        for column in reversed(columns) if back else columns:
            size = max(len(column), 1)
            own = {item.key: number / size for number, item in enumerate(column)}
            means = {
                item.key: fmean(found)
                if (found := [places[k] for k in sides[item.key] if k in places])
                else own[item.key]
                for item in column
            }
            column.sort(key=lambda item, means=means: means[item.key])  # type: ignore[misc]
            places |= {item.key: number / size for number, item in enumerate(column)}


def _places(columns: list[list[Node | _Lane]], paths: Sequence[tuple[list[str], str]]) -> dict[str, int]:
    """The upper edge of each item: beside the middle of what it depends on, where there is room."""
    earlier, _ = _neighbours(paths)
    centre: dict[str, float] = {}
    top: dict[str, float] = {}
    for column in columns:
        end = float("-inf")
        wished = {}
        for item in column:
            found = [centre[key] for key in earlier[item.key] if key in centre]
            wished[item.key] = (fmean(found) if found else max(end, 0) + item.height / 2) - item.height / 2
            top[item.key] = max(wished[item.key], end)
            end = top[item.key] + item.height + (_GAP if isinstance(item, Node) else 0)
        shift = fmean(wished[item.key] - top[item.key] for item in column) if column else 0
        for item in column:
            top[item.key] += shift
            centre[item.key] = top[item.key] + item.height / 2
    upper = min(top.values(), default=0)
    return {key: round(value - upper) + _MARGIN for key, value in top.items()}


def _edge(path: list[str], where: dict, middle: dict[str, int]) -> str:
    bend = (_COLUMN - _WIDTH) // 2
    x, y = where[path[0]][0] + _WIDTH, middle[path[0]]
    drawn = f"M{x},{y}"
    for key in path[1:]:
        to_x, to_y = where[key][0], middle[key]
        end = to_x - 2 if key == path[-1] else to_x
        drawn += f" C{x + bend},{y} {to_x - bend},{to_y} {end},{to_y}"
        if key != path[-1]:
            drawn += f" H{to_x + _WIDTH}"
        x, y = to_x + _WIDTH, to_y
    return f'<path class="edge" d="{drawn}" marker-end="url(#arrow)"/>'


def _label(path: list[str], label: str, where: dict, middle: dict[str, int]) -> str:
    """On the last bend of the edge, where no other edge is as a rule."""
    x, y = where[path[-1]][0] - (_COLUMN - _WIDTH) // 2, (middle[path[-2]] + middle[path[-1]]) // 2 + 4
    return f'<text class="label" x="{x}" y="{y}" text-anchor="middle">{escape(label)}</text>'


def _box(node: Node, x: int, y: int) -> str:
    parts = [
        f'<g class="{escape(" ".join(("box", *node.classes)))}">',
        f"<title>{escape(chr(10).join(node.lines))}</title>",
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{node.height}" rx="6"/>',
    ]
    for number, line in enumerate(node.lines):
        most = 28 if number == 0 else 32
        shown = line if len(line) <= most else line[: most - 1] + "…"
        kind = "detail" if number else "key"
        parts.append(f'<text class="{kind}" x="{x + 12}" y="{y + 21 + _LINE * number}">{escape(shown)}</text>')
    parts.append("</g>")
    drawn = "\n".join(parts)
    return f'<a href="{escape(node.link)}">\n{drawn}\n</a>' if node.link else drawn
