"""The declaration of a table against `information_schema`, before a row is read."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mysql.connector.abstracts import MySQLConnectionAbstract

from ingest.errors import IngestError
from ingest.source import Source
from ingest.tables import WHOLE, Table

log = logging.getLogger("ingest")

_TEXT = (
    "char",
    "varchar",
    "tinytext",
    "text",
    "mediumtext",
    "longtext",
    "enum",
    "set",
    "json",
    "time",
    "uuid",
    "inet6",
)
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_TIMES = ("timestamp", "datetime")
_SIGNED = {"tinyint": "TINYINT", "smallint": "SMALLINT", "mediumint": "INT", "int": "INT", "bigint": "BIGINT"}
_UNSIGNED = {"tinyint": "SMALLINT", "smallint": "INT", "mediumint": "INT", "int": "BIGINT", "bigint": "DECIMAL(20,0)"}
_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INT": 10, "BIGINT": 19}


@dataclass(frozen=True)
class SourceColumn:
    """A column as the server describes it, such as `data_type` `bigint` and `column_type` `bigint(20) unsigned`."""

    name: str
    data_type: str
    column_type: str
    nullable: bool
    character_set: str | None = None

    @property
    def natural(self) -> str | None:
        """The Spark type that holds every value; None for a type that is not landed, such as a geometry.

        `tinyint(1)` is a number: MySQL stores -128 to 127 in it.
        """
        if self.data_type in _SIGNED:
            return (_UNSIGNED if "unsigned" in self.column_type else _SIGNED)[self.data_type]
        if self.data_type == "decimal":
            precision, scale = re.search(r"\((\d+),(\d+)\)", self.column_type).groups()
            return f"DECIMAL({precision},{scale})" if int(precision) <= 38 else "STRING"
        if self.data_type == "bit":
            return "DECIMAL(20,0)" if self.column_type == "bit(64)" else "BIGINT"
        one_to_one = {"float": "FLOAT", "double": "DOUBLE", "date": "DATE", "year": "INT"}
        times = {"timestamp": "TIMESTAMP", "datetime": "TIMESTAMP_NTZ"}
        lists = dict.fromkeys(_TEXT, "STRING") | dict.fromkeys(_BYTES, "BINARY")
        return (one_to_one | times | lists).get(self.data_type)

    @property
    def utf8(self) -> bool:
        """Whether it is text that is stored as UTF-8."""
        return self.character_set == "utf8mb4" and self.data_type in (
            "char",
            "varchar",
            "text",
            "mediumtext",
            "longtext",
        )

    def fits(self, kind: str) -> bool:
        """Whether a declared type holds every value of the column, in the form that both sides hash alike."""
        natural = self.natural
        if natural is None:
            return False
        if kind == natural or (kind == "STRING" and self.data_type not in (*_BYTES, "bit")):
            return True
        if kind == "TIMESTAMP":
            return self.data_type == "datetime"  # declared to be in UTC
        if kind == "DOUBLE":
            return natural == "FLOAT"
        if natural in WHOLE and kind in WHOLE:
            return WHOLE.index(kind) > WHOLE.index(natural)
        sizes = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
        if not sizes:
            return False
        precision, scale = map(int, sizes.groups())
        if natural in WHOLE:
            return scale == 0 and precision >= _DIGITS[natural]
        own = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", natural)
        return bool(own) and int(own[2]) == scale and int(own[1]) <= precision


@dataclass(frozen=True)
class Checked:
    """A table as its source has it.

    Attributes:
        table: the declaration with what was added, and without what is not there.
        changes: one line for each column that differs.
        rows, row_bytes: the server's estimate of the table's rows and of the length of one.
    """

    table: Table
    changes: tuple[str, ...]
    rows: int
    row_bytes: int


def check(connection: MySQLConnectionAbstract, source: Source, table: Table, *, cursor_needed: bool) -> Checked:
    """Compares a declaration with the source and answers each difference as declared.

    A cursor that the source does not have is left out where the mode needs none.

    Raises:
        IngestError: the table is missing, the cursor or the key is not what it must be, or a column differs and the
            declared answer is `fail`.
    """
    with source.readable_errors(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type, column_type, is_nullable, character_set_name "
            "FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND table_name = %s ORDER BY ordinal_position",
            (table.name,),
        )
        described = [
            SourceColumn(name, _str(kind).lower(), _str(whole).lower(), nullable == "YES", character_set)
            for name, kind, whole, nullable, character_set in cursor.fetchall()
        ]
        cursor.execute(
            "SELECT index_name, column_name FROM information_schema.statistics "
            "WHERE table_schema = DATABASE() AND table_name = %s AND non_unique = 0",
            (table.name,),
        )
        unique: dict[str, set[str]] = {}
        for index, column in cursor.fetchall():
            unique.setdefault(index, set()).add(column.lower())
        cursor.execute(
            "SELECT COALESCE(MAX(table_rows), 0), COALESCE(MAX(avg_row_length), 0) FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = %s",
            (table.name,),
        )
        rows, row_bytes = cursor.fetchone()
    if not described:
        raise IngestError(
            f"{source} has no table {table.name!r} that the user {source.user!r} may read; load it, grant SELECT "
            f"on it, or correct the database in {source.reference}"
        )
    present = {column.name.lower(): column for column in described}
    place = f"{source}: table {table.name!r}"
    found = _cursor(place, table, present, needed=cursor_needed)
    found, changes = _columns(place, found, present)
    if {name.lower() for name in found.key} not in unique.values():
        raise IngestError(
            f"{place} has no unique index of {', '.join(found.key)}; declare the columns of its primary key as key"
        )
    return Checked(found, changes, int(rows), int(row_bytes))


def _cursor(place: str, table: Table, present: Mapping[str, SourceColumn], *, needed: bool) -> Table:
    if table.cursor is None:
        if needed:
            raise IngestError(f"{place} is declared without a cursor; use --mode snapshot, which needs none")
        return table
    column = present.get(table.cursor.lower())
    if column is None and needed:
        raise IngestError(f"{place} has no column {table.cursor!r}; add it, or use --mode snapshot, which needs none")
    if column is None:
        return replace(table, cursor=None)
    if column.data_type not in _TIMES:
        raise IngestError(
            f"{place}: the cursor {table.cursor!r} is {column.column_type}; it must be a TIMESTAMP(6), or a "
            "DATETIME(6) in UTC; without one, declare cursor: null and use --mode snapshot"
        )
    return replace(table, cursor_nullable=column.nullable)


def _columns(place: str, table: Table, present: Mapping[str, SourceColumn]) -> tuple[Table, tuple[str, ...]]:
    changes: list[tuple[str, str, str]] = []
    columns, absent = dict(table.columns), set()
    for name, kind in table.columns.items():
        column = present.get(name.lower())
        if column is None:
            absent.add(name)
            changes.append(("dropped", name, "is declared and not there"))
        elif not column.fits(kind):
            wants = column.natural or "no type that can be landed"
            changes.append(("retyped", name, f"is {column.column_type}, which wants {wants}, and is declared {kind}"))
    declared = {name.lower() for name in (*table.columns, table.cursor or "")}
    for lower, column in present.items():
        if lower in declared:
            continue
        changes.append(("added", column.name, f"is {column.column_type} and not declared"))
        if table.drift.added == "add":
            if column.natural is None:
                raise IngestError(f"{place}: {column.name} is {column.column_type}, which cannot be landed; set ignore")
            columns[column.name] = column.natural
    fatal = [f"{name} {text}" for change, name, text in changes if getattr(table.drift, change) == "fail"]
    if fatal:
        raise IngestError(
            f"{place} lacks or differs: {'; '.join(fatal)}; correct the table, its declaration, or the declaration's "
            "drift"
        )
    lines = tuple(f"{change} {name}: {text}; {getattr(table.drift, change)}" for change, name, text in changes)
    for line in lines:
        log.warning("%s differs from its declaration: %s", table.name, line)
    lost_keys = absent & set(table.key)
    if lost_keys:
        raise IngestError(f"{place} has no key column {', '.join(sorted(lost_keys))}; declare its key")
    try:
        utf8 = frozenset(name for name in columns if name not in absent and present[name.lower()].utf8)
        return replace(table, columns=columns, absent=frozenset(absent), utf8=utf8), lines
    except ValueError as error:
        raise IngestError(f"{place}: {error}; set drift.added to ignore") from None


def _str(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes | bytearray) else value
