"""Runs .sql files statement by statement with named parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlglot.tokens import TokenType

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.sql.tokens import Source, word

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession
    from rich.table import Table

_MOST_ROWS = 1000


@dataclass(frozen=True)
class Result:
    """The rows of one statement.

    Attributes:
        line: where the statement begins in its file.
        columns: their names; empty for a statement that returns nothing.
        rows: at most the number asked for.
        more: whether rows were left out.
    """

    line: int
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    more: bool = False

    def table(self) -> Table:
        """The rows for a terminal, numbers to the right."""
        from rich.table import Table
        from rich.text import Text

        table = Table(caption=f"first {len(self.rows)} rows" if self.more else None)
        for number, column in enumerate(self.columns):
            numeric = any(isinstance(row[number], int | float | Decimal) for row in self.rows)
            table.add_column(Text(column), justify="right" if numeric else "left")
        for row in self.rows:
            table.add_row(*(Text("NULL" if value is None else str(value)) for value in row))
        return table


def statements(source: Source) -> Iterator[Source]:
    """The statements of a script, without the semicolons between them; empty ones are left out.

    Raises:
        UnsupportedError: the script has a `BEGIN … END` block.
    """
    start = 0
    for token in [*source.tokens, None]:
        if token is not None and token.token_type is not TokenType.SEMICOLON:
            continue
        end = token.start if token is not None else len(source.text)
        inside = [item for item in source.tokens if start <= item.start < end]
        if inside:
            # From the first token on, so that its line is the statement's and not a comment's before it.
            statement = source.slice(inside[0].start, end)
            if word(inside[0]) == "BEGIN":
                statement.fail("BEGIN … END scripts are not supported; write plain statements", 0, UnsupportedError)
            yield statement
        start = end + 1


def run(
    spark: SparkSession, path: Path, parameters: Mapping[str, object] | None = None, *, most_rows: int = _MOST_ROWS
) -> list[Result]:
    """Runs the statements of a file one after the other.

    Args:
        parameters: by name; `:name` and `{{name}}` stand for a literal of the value, as in a SQL task;
            `{{name}}` inside a string for its text.
        most_rows: how many rows of each statement are fetched.

    Returns:
        The results of the statements that return rows.

    Raises:
        LakeflowError: the file cannot be read, a parameter is missing or a statement failed, with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LakeflowError("there is no such file", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LakeflowError(f"cannot be read as UTF-8 text: {error}", file=path) from None
    return run_text(spark, Source(text, path), parameters, most_rows=most_rows)


def run_text(
    spark: SparkSession, source: Source, parameters: Mapping[str, object] | None = None, *, most_rows: int = _MOST_ROWS
) -> list[Result]:
    """As `run`, for text that is not a file of its own."""
    results = [_run_one(spark, statement, dict(parameters or {}), most_rows) for statement in statements(source)]
    return [result for result in results if result.columns]


def _run_one(spark: SparkSession, statement: Source, parameters: dict[str, Any], most_rows: int) -> Result:
    from pyspark.errors import PySparkException

    from lakeflow_local.pipelines import databricks_sql
    from lakeflow_local.pipelines.sources import describe

    text = _local(sql.filled(statement, parameters))
    try:
        frame = databricks_sql.query(spark, text)
        rows = frame.limit(most_rows + 1).collect() if frame.columns else []
    except PySparkException as error:
        message, condition = describe(error), error.getCondition()
        if condition and condition not in message:
            message = f"[{condition}] {message}"
        statement.fail(message, 0)
    except LakeflowError as error:
        statement.fail(error.message, 0)
    return Result(statement.first_line, tuple(frame.columns), tuple(rows[:most_rows]), len(rows) > most_rows)


def _local(text: str) -> str:
    """Databricks' `USE CATALOG x` is Spark's `SET CATALOG x`."""
    return re.sub(r"^\s*USE\s+CATALOG\b", "SET CATALOG", text, flags=re.IGNORECASE)
