"""A dashboard as one page that needs no server and no network: its rows, its Vega-Lite and Vega itself are in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from lakeflow_local.dashboard import charts
from lakeflow_local.dashboard.document import FILTERS_PAGE, Dashboard, Widget
from lakeflow_local.dashboard.lint import FILTERS
from lakeflow_local.dashboard.rows import MOST_ROWS, Rows
from lakeflow_local.errors import UnsupportedError


def page(dashboard: Dashboard, rows: Mapping[str, Rows], *, title: str, made: datetime | None = None) -> str:
    """The HTML of a dashboard.

    Args:
        rows: of each dataset; a dataset with an error shows it in its tiles.
        title: of the page.
        made: when the rows were read, for the page's head; now by default.
    """
    import jinja2
    import vl_convert

    filters = charts.filters(dashboard)
    tiles: list[dict[str, Any]] = []
    pages = [
        {"name": item.name, "title": item.title, "columns": item.columns, "tiles": shown}
        for item in dashboard.pages
        if item.type != FILTERS_PAGE
        and (shown := [_tile(widget, rows, filters, tiles) for widget in item.widgets if widget.type not in FILTERS])
    ]
    asked = {tile["spec"]["data"]["name"] for tile in tiles}
    content = {"datasets": {name: rows[name].rows for name in sorted(asked)}, "tiles": tiles}
    cut = [name for name in sorted(asked) if rows[name].more]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_text("page.html.j2")).render(
        title=title,
        made=f"{made or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        note=f"Of {', '.join(cut)} the first {MOST_ROWS} rows are here." if cut else "",
        pages=pages,
        filters=[_choices(item, rows) for item in filters],
        style=_text("page.css"),
        # `<` could end the script element
        data=json.dumps(content, ensure_ascii=False).replace("<", "\\u003c"),
        # Its stub wants the snippet that it has a default for.
        library=vl_convert.javascript_bundle().replace("</script", "<\\/script"),  # type: ignore[call-arg]
        script=_text("page.js"),
    )


def _text(name: str) -> str:
    return resources.files("lakeflow_local.dashboard").joinpath(name).read_text(encoding="utf-8")


def _tile(
    widget: Widget, rows: Mapping[str, Rows], filters: list[charts.Filter], tiles: list[dict[str, Any]]
) -> dict[str, Any]:
    tile: dict[str, Any] = {
        **widget.position,
        "type": widget.type,
        "title": widget.title,
        "description": widget.description,
        "text": widget.text if widget.type == "text" else (),
        "number": None,
        "fault": None,
    }
    if widget.type == "text":
        return tile
    try:
        drawn: dict[str, Any] = {"type": widget.type, "spec": charts.spec(widget, filters)}
        if widget.type in ("counter", "table"):
            drawn["columns"] = charts.columns(widget)
    except UnsupportedError as error:
        return {**tile, "fault": f"Not shown: {error.message}."}
    if (fault := rows[drawn["spec"]["data"]["name"]].error) is not None:
        return {**tile, "fault": f"Not shown: {fault}"}
    tiles.append(drawn)
    return {**tile, "number": len(tiles) - 1}


def _choices(item: charts.Filter, rows: Mapping[str, Rows]) -> dict[str, Any]:
    values = {str(row[column]) for name, column in item.columns.items() if name in rows for row in rows[name].rows}
    return {"signal": item.signal, "title": item.title, "kind": item.kind, "choices": sorted(values)}
