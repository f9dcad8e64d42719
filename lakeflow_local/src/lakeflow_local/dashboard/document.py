"""A dashboard's file as objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakeflow_local.errors import LakeflowError

FILTERS_PAGE = "PAGE_TYPE_GLOBAL_FILTERS"
_FORMS = (
    (re.compile(r"`([^`]+)`"), ""),
    (re.compile(r"(SUM|AVG|COUNT|MIN|MAX)\(`([^`]+)`\)", re.IGNORECASE), "aggregate"),
    (re.compile(r"COUNT\(DISTINCT `([^`]+)`\)", re.IGNORECASE), "distinct"),
    (re.compile(r"COUNT\((?:\*|`\*`)\)", re.IGNORECASE), "count"),
    (re.compile(r"DATE_TRUNC\([\"'](\w+)[\"'], ?`([^`]+)`\)", re.IGNORECASE), "trunc"),
    (re.compile(r"MEASURE\(`([^`]+)`\)", re.IGNORECASE), "measure"),
)


@dataclass(frozen=True)
class Expression:
    """What a field is: `function` over `column`.

    Attributes:
        function: empty for the column itself; `sum`, `avg`, `count`, `min`, `max`, `distinct`, `measure`; or a unit of
            time such as `month` that the column is cut off at.
        column: None for a count of rows.
    """

    function: str
    column: str | None

    @property
    def is_aggregate(self) -> bool:
        return self.function in ("sum", "avg", "count", "min", "max", "distinct", "measure")


def expression(text: str) -> Expression | None:
    """An expression as dashboards write them; None for any other."""
    for pattern, form in _FORMS:
        if match := pattern.fullmatch(text.strip()):
            match form:
                case "aggregate" | "trunc":
                    return Expression(match[1].lower(), match[2])
                case "count":
                    return Expression("count", None)
            return Expression(form, match[1])
    return None


@dataclass(frozen=True)
class Dataset:
    """A query and the values that its `:parameters` have by default."""

    name: str
    query: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Query:
    """What a widget asks a dataset for; `fields` is name → expression as written."""

    name: str
    dataset: str
    fields: dict[str, str]
    disaggregated: bool


@dataclass(frozen=True)
class Widget:
    """A tile.

    Attributes:
        spec: empty for a text, whose lines are in `text`.
        position: `x`, `y`, `width`, `height` on the page's grid.
    """

    name: str
    queries: tuple[Query, ...]
    spec: dict[str, Any]
    text: tuple[str, ...]
    position: dict[str, int]

    @property
    def type(self) -> str:
        return str(self.spec.get("widgetType", "text"))

    @property
    def title(self) -> str:
        frame = self.spec.get("frame", {})
        return str(frame.get("title", "")) if frame.get("showTitle") else ""

    @property
    def description(self) -> str:
        frame = self.spec.get("frame", {})
        return str(frame.get("description", "")) if frame.get("showDescription") else ""


@dataclass(frozen=True)
class Page:
    name: str
    title: str
    type: str
    columns: int
    widgets: tuple[Widget, ...]


@dataclass(frozen=True)
class Dashboard:
    """A file; `datasets` and `pages` keep the file's order and its duplicates."""

    file: Path
    datasets: tuple[Dataset, ...]
    pages: tuple[Page, ...]

    @property
    def widgets(self) -> Iterator[Widget]:
        return (widget for page in self.pages for widget in page.widgets)


def read(file: Path) -> Dashboard:
    """Reads a .lvdash.json.

    Raises:
        LakeflowError: there is no such file, or it lacks what no dashboard can lack.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Dashboard(
            file,
            tuple(_dataset(item) for item in content["datasets"]),
            tuple(_page(item) for item in content["pages"]),
        )
    except FileNotFoundError:
        raise LakeflowError("there is no such file", file=file) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LakeflowError(f"cannot be read as UTF-8 text: {error}", file=file) from None
    except json.JSONDecodeError as error:
        raise LakeflowError(f"is no JSON: {error.msg}", file=file, line=error.lineno) from None
    except KeyError as error:
        raise LakeflowError(f"is no dashboard: {error} is missing", file=file) from None
    except (TypeError, AttributeError, ValueError, IndexError) as error:
        raise LakeflowError(f"is no dashboard: {error}", file=file) from None


def _dataset(item: dict[str, Any]) -> Dataset:
    parameters = {}
    for parameter in item.get("parameters", ()):
        values = parameter.get("defaultSelection", {}).get("values", {}).get("values", ())
        parameters[parameter["keyword"]] = values[0]["value"] if values else None
    return Dataset(item["name"], item["query"] if "query" in item else "".join(item["queryLines"]), parameters)


def _page(item: dict[str, Any]) -> Page:
    return Page(
        item["name"],
        item.get("displayName", item["name"]),
        item.get("pageType", ""),
        12 if item.get("layoutVersion") == "GRID_V1" else 6,
        tuple(_widget(entry["widget"], entry["position"]) for entry in item.get("layout", ())),
    )


def _widget(item: dict[str, Any], position: dict[str, Any]) -> Widget:
    queries = tuple(
        Query(
            entry["name"],
            entry["query"]["datasetName"],
            {field["name"]: field["expression"] for field in entry["query"].get("fields", ())},
            bool(entry["query"].get("disaggregated", False)),
        )
        for entry in item.get("queries", ())
    )
    lines = item.get("multilineTextboxSpec", {}).get("lines") or [item.get("textbox_spec", "")]
    place = {key: int(position[key]) for key in ("x", "y", "width", "height")}
    return Widget(item["name"], queries, item.get("spec", {}), tuple(lines), place)
