"""The Delta tables of the local warehouse, read without Spark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home

if TYPE_CHECKING:
    from deltalake import DeltaTable

_LOG = "_delta_log"


@dataclass(frozen=True)
class Column:
    """One column of a table; `type` as SQL writes it."""

    name: str
    type: str
    nullable: bool
    comment: str


@dataclass(frozen=True)
class Commit:
    """One version of a table; `time` in UTC, `metrics` as Delta names them."""

    version: int
    time: datetime
    operation: str
    metrics: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A managed table.

    Attributes:
        schema: of the catalog, not its columns.
        path: its folder.
    """

    schema: str
    name: str
    path: Path

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"


def every(home: Home) -> list[Table]:
    """The managed tables of the warehouse by name. What begins with `__` is private to its pipeline and left out."""
    found = [
        Table(log.parent.parent.name.removesuffix(".db"), log.parent.name, log.parent)
        for log in home.warehouse.glob(f"*.db/*/{_LOG}")
    ]
    found += [Table("default", log.parent.name, log.parent) for log in home.warehouse.glob(f"*/{_LOG}")]
    return sorted((t for t in found if not t.full.startswith("__")), key=lambda table: table.full)


def find(home: Home, schema: str, name: str) -> Table | None:
    return next((table for table in every(home) if (table.schema, table.name) == (schema.lower(), name.lower())), None)


def opened(table: Table) -> DeltaTable:
    """The table as it is now.

    Raises:
        LakeflowError: it needs what its reader does not know.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return DeltaTable(str(table.path))
    except DeltaError:
        raise LakeflowError(f"{table.full} cannot be read without Spark; query it on the page SQL") from None


def columns(delta: DeltaTable) -> list[Column]:
    fields = json.loads(delta.schema().to_json())["fields"]
    return [
        Column(f["name"], _sql_type(f["type"]), f["nullable"], str(f["metadata"].get("comment", ""))) for f in fields
    ]


def _sql_type(type: Any) -> str:
    if isinstance(type, str):
        return type.upper()
    match type["type"]:
        case "array":
            return f"ARRAY<{_sql_type(type['elementType'])}>"
        case "map":
            return f"MAP<{_sql_type(type['keyType'])}, {_sql_type(type['valueType'])}>"
        case _:
            fields = (f"{field['name']}: {_sql_type(field['type'])}" for field in type["fields"])
            return f"STRUCT<{', '.join(fields)}>"


def history(delta: DeltaTable, most: int) -> Iterator[Commit]:
    """The last commits, newest first; without their parameters, which may hold values of rows."""
    for number, entry in enumerate(delta.history(most)):
        yield Commit(
            int(entry.get("version", delta.version() - number)),
            datetime.fromtimestamp(entry["timestamp"] / 1000, UTC),
            entry.get("operation", ""),
            {key: str(value) for key, value in (entry.get("operationMetrics") or {}).items()},
        )


def rows(delta: DeltaTable, query: str) -> list[dict[str, Any]]:
    """What `query` gives of the table `t`; in the SQL of DataFusion, which reads deletion vectors as well.

    Raises:
        LakeflowError: the table has what its reader does not know.
    """
    import pyarrow
    from deltalake import QueryBuilder

    try:
        return pyarrow.table(QueryBuilder().register("t", delta).execute(query)).to_pylist()
    except Exception as error:  # DataFusion raises bare exceptions
        first = str(error).strip().splitlines()[:1]
        raise LakeflowError(f"these rows cannot be read without Spark: {''.join(first)[:200]}") from None
