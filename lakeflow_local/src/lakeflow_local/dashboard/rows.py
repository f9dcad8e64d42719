"""The rows of a dashboard's datasets, from local tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lakeflow_local.bundle import sql_files
from lakeflow_local.dashboard.document import Dashboard
from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.names import quoted
from lakeflow_local.pipelines.sql.tokens import Source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MOST_ROWS = 10_000


@dataclass(frozen=True)
class Rows:
    """What a dataset returned.

    Attributes:
        rows: values as JSON has them; days and moments in ISO 8601, decimals as numbers.
        more: whether there were more than MOST_ROWS.
        error: why there are none; None if the query ran.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    more: bool = False
    error: str | None = None


def fetch(
    spark: SparkSession, dashboard: Dashboard, parameters: Mapping[str, str], schema: str | None = None
) -> dict[str, Rows]:
    """Runs every dataset. One that fails has an error and leaves the others alone.

    Args:
        parameters: in place of the datasets' default values.
        schema: what table names without one are looked for in.

    Raises:
        LakeflowError: no dataset has such a parameter, or there is no such schema.
    """
    known = {name for dataset in dashboard.datasets for name in dataset.parameters}
    if unknown := sorted(set(parameters) - known):
        raise LakeflowError(
            f"no dataset has the parameter {unknown[0]}; there are: {', '.join(sorted(known)) or 'none'}"
        )
    if schema and not spark.catalog.databaseExists(schema):
        raise LakeflowError(f"there is no schema {schema}; run what makes its tables first")
    before = spark.catalog.currentDatabase()
    if schema:
        spark.sql(f"USE {quoted(schema)}")
    try:
        return {
            dataset.name: _rows(spark, dataset.query, {**dataset.parameters, **_of(dataset.parameters, parameters)})
            for dataset in dashboard.datasets
        }
    finally:
        spark.sql(f"USE {quoted(before)}")


def _of(known: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name in known}


def _rows(spark: SparkSession, query: str, parameters: Mapping[str, Any]) -> Rows:
    try:
        results = sql_files.run_text(spark, Source(query), parameters, most_rows=MOST_ROWS)
    except LakeflowError as error:
        # A catalog of that name is in every workspace, and Spark's own words for its absence help nobody.
        table = re.search(r"`system`(\.`\w+`)+", error.message)
        return Rows(error=f"only a workspace has {table[0].replace('`', '')}" if table else error.message)
    if not results:
        return Rows(error="the query returns no rows; write a SELECT")
    columns = results[-1].columns
    rows = tuple({name: _plain(value) for name, value in zip(columns, row, strict=True)} for row in results[-1].rows)
    return Rows(columns, rows, results[-1].more)


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return float(value)
        case datetime():
            return value.isoformat(timespec="seconds")
        case date():
            return value.isoformat()
    return str(value)
