"""Evaluates SQL alerts as a workspace does."""

from __future__ import annotations

import json
import operator
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakeflow_local import files
from lakeflow_local.bundle import sql_files
from lakeflow_local.bundle.load import Resource
from lakeflow_local.bundle.runs import now
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.pipelines.sql.tokens import Source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakeflow_local.bundle.sql_files import Result

_MOST_ROWS = 1000
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUAL": operator.eq,
    "NOT_EQUAL": operator.ne,
    "GREATER_THAN": operator.gt,
    "GREATER_THAN_OR_EQUAL": operator.ge,
    "LESS_THAN": operator.lt,
    "LESS_THAN_OR_EQUAL": operator.le,
}
_AGGREGATIONS: dict[str, Callable[[list[Any]], Any]] = {
    "SUM": sum,
    "COUNT_DISTINCT": lambda values: len(set(values)),
    "AVG": statistics.mean,
    "MEDIAN": statistics.median,
    "MIN": min,
    "MAX": max,
    "STDDEV": lambda values: statistics.stdev(values) if len(values) > 1 else None,
}


@dataclass(frozen=True)
class Evaluation:
    """What an alert found.

    Attributes:
        state: OK, TRIGGERED, or what the alert says of an empty result.
        value: what was compared, as text; None where the result was empty or NULL.
        condition: what it was compared with.
        time: UTC, ISO 8601.
    """

    state: str
    value: str | None
    condition: str
    time: str

    def __str__(self) -> str:
        return f"{self.state}: {self.value} {self.condition}"


def evaluate(spark: SparkSession, alert: Resource, home: Home) -> Evaluation:
    """Runs the alert's query, compares, and keeps the evaluation as the alert's last one.

    Raises:
        LakeflowError: the query fails, or has no such column.
    """
    rules = alert.value["evaluation"]
    query = alert.value["query_text"]
    try:
        (result,) = sql_files.run_text(spark, Source(str(query.data)), most_rows=_MOST_ROWS)
    except ValueError:
        raise query.error(f"{alert.label}: write one query") from None
    except LakeflowError as error:
        raise query.error(f"{alert.label}: {error.message}") from None
    threshold = rules.get("threshold")
    limit = _operand(threshold, result) if threshold is not None else None
    found, name = _column(rules["source"], result), str(rules.plain("source", "name"))
    comparison = str(rules.plain("comparison_operator"))
    if not result.rows:
        state = str(rules.plain("empty_result_state", default="OK"))
    else:
        state = "TRIGGERED" if _holds(found, comparison, limit) else "OK"
    condition = comparison if threshold is None else f"{comparison} {limit}"
    made = Evaluation(
        state,
        None if found is None else f"{name} {round(found, 4) if isinstance(found, float) else found}",
        condition,
        now(),
    )
    file = _file(alert, home)
    file.parent.mkdir(parents=True, exist_ok=True)
    files.replace(file, json.dumps(asdict(made)) + "\n")
    return made


def last(alert: Resource, home: Home) -> Evaluation | None:
    """The last evaluation on this machine."""
    file = _file(alert, home)
    return Evaluation(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def _file(alert: Resource, home: Home) -> Path:
    return home.jobs / alert.key / "evaluation.json"


def _operand(value: Value, result: Result) -> Any:
    if "column" in value:
        return _column(value["column"], result)
    return next(iter(value.plain("value", default={}).values()), None)


def _column(value: Value, result: Result) -> Any:
    """The column's value in the first row, or its aggregation over all; None where there is none."""
    name = str(value.plain("name"))
    if name not in result.columns:
        raise value.error(f"the query returns no column {name}; it returns {', '.join(result.columns)}")
    values = [row[name] for row in result.rows]
    aggregation = value.plain("aggregation")
    if aggregation is None:
        return values[0] if values else None
    values = [item for item in values if item is not None]
    if aggregation == "COUNT":
        return len(values)
    return _AGGREGATIONS[aggregation](values) if values else None


def _holds(found: Any, comparison: str, limit: Any) -> bool:
    if comparison in ("IS_NULL", "IS_NOT_NULL"):
        return (found is None) == (comparison == "IS_NULL")
    if found is None or limit is None:
        return False
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        return _OPERATORS[comparison](str(found).lower(), str(limit).lower())
    return _OPERATORS[comparison](float(found), float(limit))
