"""Widgets as Vega-Lite, which does the filtering and the aggregation as well as the drawing.

Every field of a widget becomes a column `f0`, `f1`, …, since names such as `sum(amount)` are paths to Vega. A counter
and a table have no marks of their own: the page reads the rows that Vega computed for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lakeflow_local.dashboard.document import Dashboard, Expression, Query, Widget, expression
from lakeflow_local.dashboard.lint import FILTERS
from lakeflow_local.errors import UnsupportedError

_TYPES = {"categorical": "nominal", "quantitative": "quantitative", "temporal": "temporal", "ordinal": "ordinal"}
_OPERATIONS = {"avg": "average", "sum": "sum", "min": "min", "max": "max", "distinct": "distinct", "count": "valid"}
_TRUNCATIONS = {
    "year": "utcyear",
    "quarter": "utcyearquarter",
    "month": "utcyearmonth",
    "week": "utcyearweek",
    "day": "utcyearmonthdate",
    "hour": "utcyearmonthdatehours",
}
_MARKS: dict[str, dict[str, Any]] = {
    "bar": {"type": "bar", "cornerRadiusEnd": 2},
    "line": {"type": "line", "point": {"size": 50}},
    "area": {"type": "area", "opacity": 0.7},
    "scatter": {"type": "point", "filled": True},
    "pie": {"type": "arc", "innerRadius": {"expr": "min(width, height) / 4"}},
    "heatmap": {"type": "rect"},
    "histogram": {"type": "bar"},
    "counter": {"type": "text"},
    "table": {"type": "text"},
}
_BAR_WIDTH = {"expr": "min(bandwidth('x'), 72)"}  # few days are no wall
_LEGEND = {"orient": "bottom", "title": None, "columns": 3}


@dataclass(frozen=True)
class Filter:
    """A filter of the page.

    Attributes:
        signal: the Vega parameter with its value: None for all, else a list of values, or of the first and last day.
        columns: dataset → the column that is filtered.
    """

    signal: str
    title: str
    kind: str
    columns: dict[str, str]

    def predicate(self, dataset: str) -> str:
        column = f"datum[{json.dumps(self.columns[dataset])}]"
        if self.kind == "filter-date-range-picker":
            day = f"slice({column}, 0, 10)"
            test = f"{column} != null && (!{self.signal}[0] || {day} >= {self.signal}[0])"
            test += f" && (!{self.signal}[1] || {day} <= {self.signal}[1])"
        else:
            test = f"indexof({self.signal}, '' + {column}) >= 0"
        return f"{self.signal} == null || ({test})"


def filters(dashboard: Dashboard) -> list[Filter]:
    """The filters of every page; each holds for the whole dashboard."""
    found: list[Filter] = []
    for widget in dashboard.widgets:
        if widget.type in FILTERS:
            columns = {
                query.dataset: column
                for query in widget.queries
                for text in query.fields.values()
                if (column := getattr(expression(text), "column", None))
            }
            title = widget.title or next(iter(columns.values()), widget.name)
            found.append(Filter(f"filter_{len(found)}", title, widget.type, columns))
    return found


def spec(widget: Widget, filters: Iterable[Filter]) -> dict[str, Any]:
    """The Vega-Lite of a widget; its data is named as its dataset.

    Raises:
        UnsupportedError: pivots, measures, and what else has no counterpart here.
    """
    if widget.type == "combo":
        return _combo(widget, list(filters))
    if widget.type not in _MARKS:
        raise UnsupportedError(f"a {widget.type} is not drawn here")
    query = _query(widget)
    names = {name: f"f{number}" for number, name in enumerate(query.fields)}
    encoding = _encoding(widget.type, widget.spec.get("encodings", {}), names)
    mark = _MARKS[widget.type]
    if widget.type == "bar" and encoding.get("x", {}).get("type") == "ordinal":
        mark = {**mark, "width": _BAR_WIDTH}
    elif widget.type == "bar" and encoding.get("y", {}).get("type") == "nominal":
        mark = {**mark, "height": {"expr": "min(bandwidth('y'), 36)"}}
    drawn = {**_data(query, names, list(filters)), "mark": mark, "encoding": encoding}
    return _with_dates(drawn)


def columns(widget: Widget) -> list[dict[str, Any]]:
    """What a counter or a table shows: `field` of its Vega rows, `title`, and whether it is a share of 1."""
    query = _query(widget)
    names = {name: f"f{number}" for number, name in enumerate(query.fields)}
    encodings = widget.spec.get("encodings", {})
    shown = encodings.get("columns", []) if widget.type == "table" else [encodings["value"]]
    return [
        {
            "field": names[item["fieldName"]],
            "title": item.get("displayName") or item.get("title") or item["fieldName"],
            "percent": item.get("format", {}).get("type") == "number-percent",
        }
        for item in shown
    ]


def _query(widget: Widget) -> Query:
    if not widget.queries:
        raise UnsupportedError(f"the {widget.type} asks for nothing")
    return widget.queries[0]


def _data(query: Query, names: dict[str, str], filters: list[Filter]) -> dict[str, Any]:
    held = [item for item in filters if query.dataset in item.columns]
    transforms: list[dict[str, Any]] = [{"filter": item.predicate(query.dataset)} for item in held]
    groups, aggregates = [], []
    for name, text in query.fields.items():
        found, column = expression(text), names[name]
        if found is None or found.function == "measure":
            raise UnsupportedError(f"the field {name} is {text}, which only a workspace can compute")
        if found.is_aggregate:
            aggregates.append(_aggregate(found, column))
            continue
        groups.append(column)
        value = f"datum[{json.dumps(found.column)}]"
        transforms.append({"calculate": f"toDate({value})" if found.function else value, "as": column})
        if found.function:
            if found.function not in _TRUNCATIONS:
                raise UnsupportedError(f"DATE_TRUNC by {found.function} is not drawn here")
            transforms.append({"timeUnit": _TRUNCATIONS[found.function], "field": column, "as": column})
    if not query.disaggregated:
        transforms.append({"aggregate": aggregates or [{"op": "count", "as": "_rows"}], "groupby": groups})
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "params": [{"name": item.signal, "value": None} for item in held],
        "data": {"name": query.dataset},
        "transform": transforms,
    }


def _aggregate(found: Expression, column: str) -> dict[str, Any]:
    if found.column is None:
        return {"op": "count", "as": column}
    return {"op": _OPERATIONS[found.function], "field": found.column.replace(".", "\\."), "as": column}


def _encoding(kind: str, encodings: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    if kind in ("counter", "table"):
        return {}
    channels = {"angle": "theta"}
    drawn: dict[str, Any] = {
        channels.get(key, key): _channel(item, names, key)
        for key, item in encodings.items()
        if key in ("x", "y", "color", "angle", "size") and "fieldName" in item
    }
    for key in ("x", "y"):
        if key in drawn and drawn[key]["type"] == "nominal" and (other := drawn.get("y" if key == "x" else "x")):
            drawn[key]["sort"] = {"field": other["field"], "op": "sum", "order": "descending"}
    if kind == "histogram":
        drawn["x"]["bin"], drawn["y"] = True, {"aggregate": "count", "title": "Rows"}
    if kind == "line" and "y" in drawn:
        drawn["y"]["scale"] = {"zero": False}
    if kind == "bar" and drawn.get("x", {}).get("type") == "temporal":
        drawn["x"] = _in_steps(drawn["x"])
    drawn["tooltip"] = [
        {key: item[key] for key in ("field", "type", "title", "format") if key in item} for item in drawn.values()
    ]
    for item in drawn.values():
        if isinstance(item, dict):
            item.pop("format", None)
    return drawn


def _channel(item: dict[str, Any], names: dict[str, str], key: str) -> dict[str, Any]:
    kind = _TYPES.get(item.get("scale", {}).get("type", "categorical"), "nominal")
    title = item.get("displayName") or item["fieldName"]
    channel: dict[str, Any] = {"field": names[item["fieldName"]], "type": kind, "title": title}
    if kind == "temporal":
        channel["scale"] = {"type": "utc"}
    if item.get("format", {}).get("type") == "number-percent":
        channel |= {"axis": {"format": ".2~%"}, "format": ".2%"}
    if kind == "nominal" and key == "x":
        channel["axis"] = {"labelAngle": -30}
    if kind == "nominal" and key == "y":
        channel["axis"] = {"labelOverlap": "greedy"}  # of many, those that have room
    if key == "color":
        channel["legend"] = _LEGEND
    return channel


def _in_steps(x: dict[str, Any]) -> dict[str, Any]:
    """A step for each day or moment that there is; on a continuous axis a bar would be a hair."""
    label = "replace(slice(datum.value, 0, 16), 'T', ' ')"
    axis = {"labelAngle": 0, "labelOverlap": True, "labelExpr": label}
    return {key: value for key, value in x.items() if key != "scale"} | {"type": "ordinal", "axis": axis}


def _with_dates(drawn: dict[str, Any]) -> dict[str, Any]:
    """Days and moments on continuous axes as Vega's dates; rows have them as text, which filters compare."""
    layers = drawn.get("layer", [drawn])
    temporal = {
        channel["field"]
        for layer in layers
        for name, channel in layer["encoding"].items()
        if name != "tooltip" and channel.get("type") == "temporal"
    }
    for transform in drawn["transform"]:
        if transform.get("as") in temporal and "calculate" in transform and "toDate" not in transform["calculate"]:
            transform["calculate"] = f"toDate({transform['calculate']})"
    return drawn


def _combo(widget: Widget, filters: list[Filter]) -> dict[str, Any]:
    """Bars for the primary axis, lines for the secondary one."""
    query, encodings = _query(widget), widget.spec["encodings"]
    names = {name: f"f{number}" for number, name in enumerate(query.fields)}
    x = _channel(encodings["x"], names, "x")
    if x["type"] == "temporal":
        x = _in_steps(x)
    layers = []
    for axis, mark in (("primary", "bar"), ("secondary", "line")):
        for item in encodings["y"].get(axis, {}).get("fields", ()):
            y = _channel({"scale": {"type": "quantitative"}, **item}, names, "y")
            y.pop("format", None)
            drawn_as = {**_MARKS[mark], **({"width": _BAR_WIDTH} if mark == "bar" and x["type"] == "ordinal" else {})}
            color = {"datum": y["title"], "legend": _LEGEND}
            layers.append({"mark": drawn_as, "encoding": {"x": x, "y": y, "color": color}})
    drawn = {**_data(query, names, filters), "layer": layers, "resolve": {"scale": {"y": "independent"}}}
    return _with_dates(drawn)
