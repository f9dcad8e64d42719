"""Runs SQL on a warehouse and gives its rows."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.sql import (
    ExecuteStatementRequestOnWaitTimeout,
    StatementParameterListItem,
    StatementState,
)
from rich.table import Table
from rich.text import Text

from ops.errors import OpsError

# What the bundle makes; a dev target puts the user's name before it.
WAREHOUSE = "member_lakehouse operations"
_NUMBERS = {"BYTE", "SHORT", "INT", "LONG", "FLOAT", "DOUBLE", "DECIMAL"}
# Beside the code in a wheel, in the repository under sql/.
_FOLDERS = (Path(__file__).parent / "sql", Path(__file__).parents[1] / "sql" / "ops")


@dataclass(frozen=True)
class Rows:
    """The answer to a statement, its values as text, NULL as None."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]

    def table(self, title: str | None = None) -> Table:
        """For a terminal, numbers to the right."""
        table = Table(title=title, title_justify="left")
        for name, type in zip(self.columns, self.types, strict=True):
            table.add_column(Text(name), justify="right" if type in _NUMBERS else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text("NULL" if value is None else value) for value in row))
        return table

    def dicts(self) -> list[dict[str, str | None]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def save(self, file: Path) -> None:
        """Writes CSV or JSON, by the name's ending.

        Raises:
            OpsError: another ending, or the file cannot be written.
        """
        if file.suffix == ".json":
            text = json.dumps(self.dicts(), indent=1, ensure_ascii=False) + "\n"
        elif file.suffix == ".csv":
            made = io.StringIO()
            csv.writer(made, lineterminator="\n").writerows([self.columns, *self.rows])
            text = made.getvalue()
        else:
            raise OpsError(f"{file}: rows are saved as .csv or .json")
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OpsError(f"{file} cannot be written: {error.strerror}") from None


def warehouse_id(client: WorkspaceClient, name: str | None) -> str:
    """The id of a warehouse by its name or its id; by default of the one that the bundle makes.

    Raises:
        OpsError: there is none, or several.
    """
    found = [w for w in client.warehouses.list() if name in (w.name, w.id) or (not name and w.name.endswith(WAREHOUSE))]
    if len(found) == 1:
        return found[0].id
    names = ", ".join(sorted(w.name for w in found)) or "none"
    raise OpsError(f"name one warehouse by --warehouse; matching {name or WAREHOUSE!r}: {names}")


def named(name: str) -> str:
    """The text of one of our own queries, `sql/ops/<name>.sql`."""
    return next(folder / f"{name}.sql" for folder in _FOLDERS if folder.is_dir()).read_text(encoding="utf-8")


def run(
    client: WorkspaceClient,
    warehouse: str,
    statement: str,
    parameters: Mapping[str, str] | None = None,
    *,
    poll: float = 2.0,
) -> Rows:
    """Runs one statement to its end and fetches all its rows.

    Args:
        warehouse: the id.
        parameters: what `:name` stands for.
        poll: seconds between two looks.

    Raises:
        OpsError: the statement failed, with the warehouse's message.
    """
    answer = client.statement_execution.execute_statement(
        statement,
        warehouse,
        parameters=[StatementParameterListItem(name=name, value=value) for name, value in (parameters or {}).items()],
        wait_timeout="30s",
        on_wait_timeout=ExecuteStatementRequestOnWaitTimeout.CONTINUE,
    )
    while answer.status.state in (StatementState.PENDING, StatementState.RUNNING):
        time.sleep(poll)
        answer = client.statement_execution.get_statement(answer.statement_id)
    if answer.status.state is not StatementState.SUCCEEDED:
        error = answer.status.error
        raise OpsError(f"the statement {answer.status.state.value.lower()}: {error.message if error else ''}")
    columns = answer.manifest.schema.columns or [] if answer.manifest else []
    chunk, rows = answer.result, list[list[str]]()
    while chunk is not None:
        rows += chunk.data_array or []
        following = chunk.next_chunk_index
        chunk = (
            client.statement_execution.get_statement_result_chunk_n(answer.statement_id, following)
            if following is not None
            else None
        )
    return Rows(
        tuple(column.name for column in columns),
        tuple(column.type_name.value if column.type_name else "" for column in columns),
        tuple(map(tuple, rows)),
    )
