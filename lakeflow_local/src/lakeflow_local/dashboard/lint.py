"""Checks a dashboard without a workspace and without Spark.

Databricks publishes no schema of the format, and imports files whose tiles then stay empty; these are the faults that
make them so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from sqlglot import exp

from lakeflow_local.bundle.queries import parsed, suggest
from lakeflow_local.dashboard.document import FILTERS_PAGE, Dashboard, Dataset, Page, Query, Widget, expression
from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.sql.tokens import Source

FILTERS = ("filter-single-select", "filter-multi-select", "filter-date-range-picker")
# Widget type → versions, and the encodings without which nothing is drawn.
_KNOWN: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "counter": ((2,), ("value",)),
    "table": ((1, 2), ("columns",)),
    **dict.fromkeys(("bar", "line", "area", "scatter"), ((3,), ("x", "y"))),
    "pie": ((3,), ("angle", "color")),
    "heatmap": ((3,), ("x", "y", "color")),
    "histogram": ((3,), ("x",)),
    "pivot": ((3,), ()),
    "combo": ((1,), ("x", "y")),
    **dict.fromkeys(FILTERS, ((2,), ("fields",))),
}
_PAGES = ("PAGE_TYPE_CANVAS", FILTERS_PAGE)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
_PARAMETER = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")


def lint(dashboard: Dashboard) -> list[str]:
    """What is wrong, a line for each fault, in the order of the file."""
    columns, faults = {}, []
    for dataset in dashboard.datasets:
        if dataset.name in columns:
            faults.append(f"dataset {dataset.name}: the name is there twice")
        columns[dataset.name], found = _dataset(dataset)
        faults += [f"dataset {dataset.name}: {fault}" for fault in found]
    faults += _twice("page", [page.name for page in dashboard.pages])
    faults += _twice("widget", [widget.name for widget in dashboard.widgets])
    for page in dashboard.pages:
        faults += [f"page {page.name}: {fault}" for fault in _page(page)]
        for widget in page.widgets:
            faults += [f"widget {widget.name}: {fault}" for fault in _widget(widget, page, columns)]
    return faults


def output_columns(dataset: Dataset) -> list[str] | None:
    """The columns that a dataset's query returns, by its text; None where a `*` leaves that open.

    Raises:
        LakeflowError: a parameter is not declared, or the text is not SQL.
    """
    columns = _columns(dataset.query, tuple(dataset.parameters.items()))
    return None if columns is None else [*columns]


@cache  # every target of a bundle has the same dashboards
def _columns(query: str, parameters: tuple[tuple[str, Any], ...]) -> tuple[str, ...] | None:
    (statement,) = parsed(Source(query), dict(parameters))[:1] or (None,)
    if not isinstance(statement, exp.Query) or statement.is_star:
        return None
    return tuple(statement.named_selects)


def _dataset(dataset: Dataset) -> tuple[list[str] | None, list[str]]:
    faults = []
    used = set(_PARAMETER.findall(dataset.query))
    faults += [f"the parameter {name} is declared and not used" for name in dataset.parameters if name not in used]
    try:
        return output_columns(dataset), faults
    except LakeflowError as error:
        return None, [*faults, error.message]


def _twice(kind: str, names: list[str]) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"{kind} {name}: the name is there twice"
        if not _NAME.fullmatch(name):
            yield f"{kind} {name}: a name has 1 to 60 letters, digits, - and _"


def _page(page: Page) -> Iterator[str]:
    if page.type not in _PAGES:
        yield f"pageType is {page.type or 'missing'}; it is one of {', '.join(_PAGES)}"
    taken: dict[tuple[int, int], str] = {}
    for widget in page.widgets:
        place = widget.position
        if place["x"] < 0 or place["y"] < 0 or place["width"] < 1 or place["height"] < 1:
            yield f"{widget.name} has no place on the grid"
            continue
        if place["x"] + place["width"] > page.columns:
            yield f"{widget.name} ends beyond the {page.columns} columns of the grid"
        cells = {
            (x, y)
            for x in range(place["x"], min(place["x"] + place["width"], page.columns))
            for y in range(place["y"], place["y"] + place["height"])
        }
        for other in sorted({taken[cell] for cell in cells if cell in taken}):
            yield f"{widget.name} lies on {other}"
        taken |= dict.fromkeys(cells, widget.name)
    if page.type != FILTERS_PAGE:
        lowest = max((y for _, y in taken), default=-1)
        for y in range(lowest + 1):
            if gaps := [x for x in range(page.columns) if (x, y) not in taken]:
                yield f"row {y} of the grid is empty at column {gaps[0]}"
                break


def _widget(widget: Widget, page: Page, columns: dict[str, list[str] | None]) -> Iterator[str]:
    if not widget.spec:
        if not any(widget.text):
            yield "it has neither a spec nor a text"
        return
    if widget.type not in _KNOWN:
        yield f"the widgetType {widget.type} is not known{suggest(widget.type, _KNOWN)}"
        return
    versions, needed = _KNOWN[widget.type]
    if (version := widget.spec.get("version")) not in versions:
        yield f"a {widget.type} has version {versions[-1]}, not {version}"
    if page.type == FILTERS_PAGE and widget.type not in FILTERS:
        yield f"a {widget.type} cannot stand on a page of filters"
    encodings = widget.spec.get("encodings", {})
    yield from (f"a {widget.type} needs the encoding {name}" for name in needed if not encodings.get(name))
    for query in widget.queries:
        yield from _query(query, columns)
    yield from _encodings(widget, encodings)


def _query(query: Query, columns: dict[str, list[str] | None]) -> Iterator[str]:
    if query.dataset not in columns:
        yield f"it reads the dataset {query.dataset}, which is not there{suggest(query.dataset, columns)}"
        return
    known = columns[query.dataset]
    for name, text in query.fields.items():
        found = expression(text)
        if found is None:
            yield f"the field {name} is {text}: write `column`, SUM, AVG, COUNT, MIN, MAX, DATE_TRUNC or MEASURE of one"
        elif known is not None and found.column is not None and found.column not in known:
            yield f"the dataset {query.dataset} returns no column {found.column}{suggest(found.column, known)}"
        elif query.disaggregated and found.is_aggregate:
            yield f"the field {name} aggregates, and the query is disaggregated"


def _encodings(widget: Widget, encodings: dict) -> Iterator[str]:
    by_name = {query.name: query.fields for query in widget.queries}
    every = {field for fields in by_name.values() for field in fields}
    used = set()
    for encoding in _with_field(encodings):
        name, query = encoding["fieldName"], encoding.get("queryName")
        if query is not None and query not in by_name:
            yield f"an encoding names the query {query}, which is not there{suggest(query, by_name)}"
        elif name not in (every if query is None else by_name[query]):
            yield f"it shows {name}, which its queries do not ask for{suggest(name, every)}"
        used.add(name)
    yield from (f"it asks for {name} and does not show it" for name in sorted(every - used))
    if widget.type in FILTERS:
        bound = {encoding.get("queryName") for encoding in _with_field(encodings)}
        yield from (f"the query {name} is bound to no field" for name in by_name if name not in bound)


def _with_field(node: object) -> Iterator[dict]:
    """Every encoding that names a field, however deep."""
    if isinstance(node, dict):
        if "fieldName" in node:
            yield node
        for value in node.values():
            yield from _with_field(value)
    elif isinstance(node, list):
        for value in node:
            yield from _with_field(value)
