"""Draws the tasks of a job from left to right, as the page of the job does: as text, Mermaid or SVG."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from html import escape

from lakeflow_local import drawing
from lakeflow_local.bundle import jobs, tasks
from lakeflow_local.bundle.load import Bundle, Resource
from lakeflow_local.bundle.tree import Value

# Arms of a box-drawing character, and the character of each set of them.
_UP, _RIGHT, _DOWN, _LEFT = 1, 2, 4, 8
_LINES = " ╵╶└╷│┌├╴┘─┴┐┤┬┼"


@dataclass(frozen=True)
class Box:
    """One task: its key and what it does, a line each."""

    key: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """The tasks of a job.

    Attributes:
        layers: the boxes of each column, every one to the right of what it depends on.
        edges: key of the earlier task, key of the later one, and the outcome that leads there, or "".
    """

    job: Resource
    layers: tuple[tuple[Box, ...], ...]
    edges: tuple[tuple[str, str, str], ...]


def graph(bundle: Bundle, job: Resource) -> Graph:
    """The graph of a job.

    Raises:
        LakeflowError: the tasks do not make a graph.
    """
    entries = {str(task.plain("task_key")): task for task in job.value.sequence("tasks")}
    depth: dict[str, int] = {}
    edges = []
    for key in jobs.sorted_tasks(job):
        earlier = [(str(d.plain("task_key")), d.plain("outcome")) for d in entries[key].sequence("depends_on")]
        depth[key] = max((depth[other] + 1 for other, _ in earlier), default=0)
        edges += [(other, key, "" if outcome is None else str(outcome).lower()) for other, outcome in earlier]
    layers = tuple(
        tuple(Box(key, _describe(bundle, entries[key])) for key in depth if depth[key] == number)
        for number in range(max(depth.values(), default=-1) + 1)
    )
    return Graph(job, layers, tuple(edges))


def _describe(bundle: Bundle, task: Value) -> tuple[str, ...]:
    kind = tasks.type_of(task)
    value = task[kind]
    match kind:
        case "pipeline_task":
            pipeline = bundle.by_id("pipelines", value.plain("pipeline_id"))
            what = f"pipeline {pipeline.key if pipeline else value.plain('pipeline_id')}"
        case "run_job_task":
            job = bundle.by_id("jobs", value.plain("job_id"))
            what = f"job {job.key if job else value.plain('job_id')}"
        case "alert_task":
            alert = bundle.by_id("alerts", value.plain("alert_id"))
            what = f"alert {alert.key if alert else value.plain('alert_id')}"
        case "python_wheel_task":
            what = f"wheel {value.plain('entry_point')}"
        case "spark_python_task":
            what = f"python {str(value.plain('python_file')).rpartition('/')[2]}"
        case "sql_task" if "file" in value:
            what = f"sql {str(value.plain('file', 'path')).rpartition('/')[2]}"
        case "condition_task":
            what = f"{value.plain('left')} {value.plain('op')} {value.plain('right')}"
        case _:
            what = kind.removesuffix("_task").replace("_", " ")
    lines = [what]
    if (condition := task.plain("run_if", default="ALL_SUCCESS")) != "ALL_SUCCESS":
        lines.append(f"runs if {condition}")
    if retries := task.plain("max_retries"):
        lines.append(f"{retries} {'retry' if retries == 1 else 'retries'}")
    if task.plain("disabled"):
        lines.append("disabled")
    return tuple(lines)


def mermaid(drawn: Graph) -> str:
    """The graph as a Mermaid flowchart."""
    names = {box.key: f"t{number}" for number, box in enumerate(box for layer in drawn.layers for box in layer)}
    lines = ["flowchart LR"]
    for layer in drawn.layers:
        for box in layer:
            text = "<br/>".join(escape(line, quote=True) for line in (box.key, *box.lines))
            lines.append(f'  {names[box.key]}["{text}"]')
    for start, end, outcome in drawn.edges:
        lines.append(f"  {names[start]} -->{f'|{outcome}|' if outcome else ''} {names[end]}")
    return "\n".join(lines)


def svg(drawn: Graph) -> str:
    """The graph as a picture."""
    return drawing.svg(drawn.job.name, nodes(drawn), drawn.edges)


def nodes(drawn: Graph) -> list[drawing.Node]:
    """The boxes as they are drawn."""
    return [drawing.Node(box.key, (box.key, *box.lines)) for layer in drawn.layers for box in layer]


def text(drawn: Graph) -> str:
    """The graph in box-drawing characters."""
    return _Canvas(drawn).draw()


class _Canvas:
    """Boxes in columns; an edge that passes a column goes through a row of its own there."""

    def __init__(self, drawn: Graph):
        self._columns: list[list[Box | str]] = [list(layer) for layer in drawn.layers]
        self._gutters: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
        column = {box.key: number for number, layer in enumerate(drawn.layers) for box in layer}
        for number, (start, end, outcome) in enumerate(drawn.edges):
            at = start
            for passed in range(column[start] + 1, column[end]):
                self._columns[passed].append(via := f"{number} {passed}")
                self._gutters[passed - 1].append((at, via, ""))
                at = via
            self._gutters[column[end] - 1].append((at, end, outcome))
        self._arms: dict[tuple[int, int], int] = defaultdict(int)
        self._text: dict[tuple[int, int], str] = {}

    def draw(self) -> str:
        left = 0
        ends: dict[str, tuple[int, int]] = {}
        for number, column in enumerate(self._columns):
            boxes = [item for item in column if isinstance(item, Box)]
            width = max((len(line) for box in boxes for line in (box.key, *box.lines)), default=0) + 4
            row, begins = 0, {}
            for item in column:
                if isinstance(item, Box):
                    self._box(item, left, row, width)
                    begins[item.key], ends[item.key] = (left, row + 1), (left + width - 1, row + 1)
                    row += len(item.lines) + 4
                else:
                    self._horizontal(row, left, left + width - 1)
                    begins[item], ends[item] = (left, row), (left + width - 1, row)
                    row += 2
            if number:
                self._edges(self._gutters[number - 1], ends, begins, left)
            # a lane for each task that something depends on, and room for the outcome and the arrow
            after = self._gutters[number]
            lanes = len({start for start, _, _ in after})
            left += width + lanes + 4 + max((len(outcome) for *_, outcome in after), default=0)
        return self._rows()

    def _edges(
        self,
        edges: list[tuple[str, str, str]],
        ends: dict[str, tuple[int, int]],
        begins: dict[str, tuple[int, int]],
        left: int,
    ) -> None:
        starts = sorted({start for start, _, _ in edges}, key=lambda start: ends[start][1])
        labels = max((len(outcome) for *_, outcome in edges), default=0)
        for start, end, outcome in edges:
            x, y = ends[start]
            to_x, to_y = begins[end]
            lane = left - 3 - labels - (len(starts) - starts.index(start))
            self._horizontal(y, x, lane)
            self._vertical(lane, y, to_y)
            self._horizontal(to_y, lane, to_x)
            if " " not in end:
                self._text[to_x - 1, to_y] = "▶"
            for offset, letter in enumerate(outcome):
                self._text[to_x - 1 - len(outcome) + offset, to_y] = letter

    def _box(self, box: Box, x: int, y: int, width: int) -> None:
        lines = (box.key, *box.lines)
        right, bottom = x + width - 1, y + len(lines) + 1
        for row in (y, bottom):
            self._horizontal(row, x, right)
        for column in (x, right):
            self._vertical(column, y, bottom)
        for number, line in enumerate(lines):
            for offset, letter in enumerate(line):
                self._text[x + 2 + offset, y + 1 + number] = letter

    def _horizontal(self, y: int, x: int, to: int) -> None:
        for at in range(x, to):
            self._arms[at, y] |= _RIGHT
            self._arms[at + 1, y] |= _LEFT

    def _vertical(self, x: int, y: int, to: int) -> None:
        for at in range(min(y, to), max(y, to)):
            self._arms[x, at] |= _DOWN
            self._arms[x, at + 1] |= _UP

    def _rows(self) -> str:
        places = [*self._arms, *self._text]
        width, height = (max((place[axis] for place in places), default=-1) + 1 for axis in (0, 1))
        return "\n".join(
            "".join(self._text.get((x, y)) or _LINES[self._arms.get((x, y), 0)] for x in range(width)).rstrip()
            for y in range(height)
        )
