"""Reads of a source over ranges of the key, by Spark's JDBC reader or as Arrow, and single rows by key from tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from mysql.connector.abstracts import MySQLConnectionAbstract
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest import arrow
from ingest.errors import IngestError
from ingest.source import Source
from ingest.tables import HASH, NUMBER, Table, Totals, Window, as_text

ROWS_PER_PARTITION = 5_000
"""Below this a further task, connection and file cost more than they save."""

READERS = ("jdbc", "arrow")
"""What reads rows: Spark's JDBC source, or DuckDB's MySQL extension in Spark's tasks (`ingest.arrow`)."""

AUTO = "auto"
"""The second where it is installed and knows the source's TLS, else the first."""

_KEYS_PER_QUERY = 1_000
_RANGE = "_range"
_MICROSECOND = timedelta(microseconds=1)
log = logging.getLogger("ingest")


def reader(wanted: str, source: Source) -> str:
    """The one of `READERS` that reads a source.

    Args:
        wanted: one of them, or `AUTO`.

    Raises:
        IngestError: it cannot read that source.
    """
    if wanted == AUTO:
        try:
            arrow.check(source)
        except IngestError as refused:
            log.info("Spark's JDBC source reads: %s", refused)
            return "jdbc"
        return "arrow"
    if wanted == "arrow":
        arrow.check(source)
    return wanted


def clock(connection: MySQLConnectionAbstract, source: Source) -> datetime:
    """The server's time, UTC, to the microsecond."""
    with source.readable_errors(), connection.cursor() as cursor:
        cursor.execute("SELECT UTC_TIMESTAMP(6)")
        (now,) = cursor.fetchone()
    return now.replace(tzinfo=UTC)


def view(connection: MySQLConnectionAbstract, source: Source) -> None:
    """Begins a view of this moment. In REPEATABLE READ a second look within one transaction sees what the first saw."""
    with source.readable_errors():
        connection.rollback()
        connection.start_transaction(consistent_snapshot=True)


def totals(
    connection: MySQLConnectionAbstract, source: Source, table: Table, window: Window, *, viewed: bool = False
) -> Totals:
    """Rows and checksum of a window, computed by MySQL in a view of this moment; where `viewed`, in that of `view`."""
    if not viewed:
        view(connection, source)
    with source.readable_errors(), connection.cursor() as cursor:
        cursor.execute(f"SELECT {table.mysql_totals()} FROM `{table.name}` WHERE {table.condition(window)}")
        return Totals(*cursor.fetchone())


def count(
    connection: MySQLConnectionAbstract, source: Source, table: Table, window: Window, *, viewed: bool = False
) -> Totals:
    """As `totals` without a checksum: what an index of the cursor tells, where `totals` reads every row."""
    if not viewed:
        view(connection, source)
    with source.readable_errors(), connection.cursor() as cursor:
        cursor.execute(f"SELECT {table.mysql_count()} FROM `{table.name}` WHERE {table.condition(window)}")
        rows, first, last = cursor.fetchone()
        return Totals(rows, None if rows else Decimal(0), first, last)


def without_cursor(connection: MySQLConnectionAbstract, source: Source, table: Table) -> int:
    """Rows that no window with a beginning has."""
    if not table.cursor_nullable:
        return 0
    with source.readable_errors(), connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM `{table.name}` WHERE `{table.cursor}` IS NULL")
        (rows,) = cursor.fetchone()
    return rows


def estimated_rows(connection: MySQLConnectionAbstract, source: Source, table: Table, window: Window) -> int:
    """How many rows MySQL's optimiser expects in a window, without reading them."""
    with source.readable_errors(), connection.cursor(dictionary=True) as cursor:
        cursor.execute(
            f"EXPLAIN SELECT `{table.key[0]}` FROM `{table.name}` WHERE {table.condition(window)}",
        )
        return int(cursor.fetchone()["rows"] or 0)


def rows(
    spark: SparkSession,
    source: Source,
    table: Table,
    window: Window,
    partitions: int,
    within: Totals | None = None,
    reader: str = "jdbc",
) -> DataFrame:
    """The rows of a window with `table.schema`, `as_text` of inexact columns, and `NUMBER`; the hash is MySQL's.

    Args:
        within: of the same window; it splits a key that is a number. Without it such a key is read in one range.
        reader: one of `READERS`; their rows are the same.
    """
    return _read(spark, source, table, tuple(table.columns), window, partitions, within, reader)


def write(
    spark: SparkSession,
    source: Source,
    table: Table,
    window: Window,
    partitions: int,
    within: Totals | None,
    target: arrow.Target,
) -> arrow.Written:
    """Has the rows of a window written as they land, by the tasks that read them; nobody sees them yet."""
    select, _ = _select(table, tuple(table.columns), window, "arrow")
    return arrow.write(spark, source, table, select, _conditions(table, partitions, within), target)


def keys(
    spark: SparkSession,
    source: Source,
    table: Table,
    window: Window,
    partitions: int,
    within: Totals | None = None,
    reader: str = "jdbc",
) -> DataFrame:
    """Key, cursor, hash and `NUMBER` of the rows of a window."""
    return _read(spark, source, table, table.key, window, partitions, within, reader)


def fetched(changes: DataFrame, source: Source, table: Table) -> DataFrame:
    """The rows of some keys as they are now, read by the tasks that hold the keys.

    Args:
        changes: the key and the boolean `gone`; a key that is gone is passed on with nothing else.

    Returns:
        What `rows` returns but `NUMBER`, and `gone`. A key that is not gone and has no row any more is left out.
    """
    text = [*table.columns, HASH]
    at = table.cursor or "_at"
    select = (
        f"SELECT {', '.join(map(table.mysql_text, table.columns))}, {table.mysql_hash()}, {table.mysql_cursor()} "
        f"FROM `{table.name}` WHERE "
    )
    arrow = pa.schema([*((name, pa.string()) for name in text), (at, pa.int64()), ("gone", pa.bool_())])

    def fetch(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        connection = None
        try:
            for batch in batches:
                found: list[tuple] = []
                events = batch.to_pylist()
                wanted = [tuple(event[name] for name in table.key) for event in events if not event["gone"]]
                for start in range(0, len(wanted), _KEYS_PER_QUERY):
                    some = wanted[start : start + _KEYS_PER_QUERY]
                    connection = connection or source.connect()
                    with source.readable_errors(), connection.cursor() as cursor:
                        cursor.execute(select + _is_one_of(table, len(some)), [value for key in some for value in key])
                        found += [(*row, False) for row in cursor.fetchall()]
                made = [dict(zip(arrow.names, row, strict=True)) for row in found]
                made += [{**_key_text(table, event), "gone": True} for event in events if event["gone"]]
                yield pa.RecordBatch.from_pylist(made, arrow)
        finally:
            if connection:
                connection.close()

    ddl = ", ".join(f"`{name}` STRING" for name in text)
    raw = changes.select(*table.key, "gone").mapInArrow(fetch, f"{ddl}, `{at}` BIGINT, gone BOOLEAN")
    return _typed(raw, table, tuple(table.columns), "gone")


def _is_one_of(table: Table, keys: int) -> str:
    if len(table.key) == 1:
        return f"`{table.key[0]}` IN ({', '.join(['%s'] * keys)})"
    # Not (a, b) IN ((…), …): MariaDB 11.4 finds no text there that is not ASCII and not stored as UTF-8.
    one = " AND ".join(f"`{name}` = %s" for name in table.key)
    return " OR ".join([f"({one})"] * keys)


def _key_text(table: Table, event: dict) -> dict[str, str]:
    def text(value: Any, kind: str) -> str:
        if kind == "BINARY":
            return value.hex()
        if kind == "TIMESTAMP":
            return str((value - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND)
        return str(value)

    return {name: text(event[name], table.columns[name]) for name in table.key}


def _read(
    spark: SparkSession,
    source: Source,
    table: Table,
    columns: tuple[str, ...],
    window: Window,
    partitions: int,
    within: Totals | None,
    reader: str,
) -> DataFrame:
    select, schema = _select(table, columns, window, reader)
    if reader == "arrow":
        return arrow.read(spark, source, table, columns, select, _conditions(table, partitions, within))
    # The ranges are of the key as it is, so that MySQL finds them in its index.
    query = select.replace("SELECT ", f"SELECT `{table.key[0]}` AS {_RANGE}, ", 1)
    options = source.jdbc_options() | {"customSchema": schema}
    url = options.pop("url")
    conditions = ranges(table, partitions, within)
    read = spark.read.jdbc(url, f"({query}) AS source", predicates=conditions, properties=options)
    return _typed(read, table, columns).withColumn(NUMBER, table.spark_number(F.col(HASH)))


def _select(table: Table, columns: tuple[str, ...], window: Window, reader: str) -> tuple[str, str]:
    """Columns, hash and cursor of a window in MySQL's words, and their types in Spark's."""
    # Spark pads what comes from a CHAR column with blanks, even with a schema of its own, and MySQL does not: so text
    # is cast for it.
    select = {name: table.mysql_text(name, bare=reader == "arrow") for name in columns} | {HASH: table.mysql_hash()}
    kinds = dict.fromkeys(select, "STRING")
    if table.cursor:
        select[table.cursor], kinds[table.cursor] = table.mysql_cursor(), "BIGINT"
    listed = ", ".join(f"{text} AS `{name}`" for name, text in select.items())
    schema = ", ".join(f"`{name}` {kind}" for name, kind in kinds.items())
    return f"SELECT {listed} FROM `{table.name}` WHERE {table.condition(window)}", schema


def _conditions(table: Table, partitions: int, within: Totals | None) -> list[str]:
    return [condition.replace(_RANGE, f"`{table.key[0]}`") for condition in ranges(table, partitions, within)]


def _typed(raw: DataFrame, table: Table, columns: tuple[str, ...], *more: str) -> DataFrame:
    values = [table.spark_value(name).alias(name) for name in columns]
    cursor = [F.timestamp_micros(table.cursor).alias(table.cursor)] if table.cursor else []
    inexact = [F.col(name).alias(as_text(name)) for name in table.inexact if name in columns]
    return raw.select(*values, *cursor, HASH, *inexact, *more)


def ranges(table: Table, partitions: int, within: Totals | None = None) -> list[str]:
    """Conditions on `_range` that split the key into so many ranges; the first and last are open."""
    kind = table.columns[table.key[0]]
    if table.numbered and within and within.first is not None:
        first, length = int(within.first), int(within.last) - int(within.first) + 1
        count = min(partitions, length)
        bounds = [str(first + length * n // count) for n in range(1, count)]
    elif kind == "STRING":
        bounds = [f"'{0x10000 * n // partitions:04x}'" for n in range(1, partitions)]
    else:
        bounds = []
    lows = [f"{_RANGE} >= {bound}" for bound in bounds]
    highs = [f"{_RANGE} < {bound}" for bound in bounds]
    return [" AND ".join(filter(None, pair)) or "TRUE" for pair in zip(["", *lows], [*highs, ""], strict=True)]
