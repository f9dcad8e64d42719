"""Reads of a source: by Spark's JDBC reader over ranges of the key, and single rows by key from inside tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pyarrow as pa
from mysql.connector.abstracts import MySQLConnectionAbstract
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ingest.errors import IngestError
from ingest.source import Source
from ingest.tables import HASH, Table, Totals, Window

ROWS_PER_PARTITION = 5_000
"""Below this a further task, connection and file cost more than they save."""

_KEYS_PER_QUERY = 1_000
_RANGE = "_range"


def check(connection: MySQLConnectionAbstract, source: Source, table: Table, *, cursor_needed: bool) -> Table:
    """The table as it is there: without its cursor where the source has none and the mode needs none.

    Raises:
        IngestError: the table or a column is missing.
    """
    with source.readable_errors(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s",
            (table.name,),
        )
        present = {name.lower() for (name,) in cursor.fetchall()}
    if not present:
        raise IngestError(
            f"{source} has no table {table.name!r} that the user {source.user!r} may read; load it, grant SELECT "
            f"on it, or correct the database in {source.reference}"
        )
    missing = [name for name in table.names if name.lower() not in present]
    if missing == [table.cursor] and not cursor_needed:
        return Table(table.name, table.key, table.columns, cursor=None)
    if missing == [table.cursor]:
        raise IngestError(
            f"{source}: table {table.name!r} has no column {table.cursor!r}; add it, or use "
            "--mode snapshot, which needs none"
        )
    if missing:
        raise IngestError(
            f"{source}: table {table.name!r} lacks {', '.join(missing)}; add what is missing to the table"
        )
    return table


def clock(connection: MySQLConnectionAbstract, source: Source) -> datetime:
    """The server's time, UTC, to the microsecond."""
    with source.readable_errors(), connection.cursor() as cursor:
        cursor.execute("SELECT UTC_TIMESTAMP(6)")
        (now,) = cursor.fetchone()
    return now.replace(tzinfo=UTC)


def totals(connection: MySQLConnectionAbstract, source: Source, table: Table, window: Window) -> Totals:
    """Rows and checksum of a window, computed by MySQL in a view of this moment."""
    with source.readable_errors(), connection.cursor() as cursor:
        # A new view: in REPEATABLE READ a second look within one transaction would see the first one's.
        connection.rollback()
        cursor.execute(f"SELECT {table.mysql_totals()} FROM `{table.name}` WHERE {table.condition(window)}")
        rows, checksum = cursor.fetchone()
    return Totals(rows, checksum)


def rows(spark: SparkSession, source: Source, table: Table, window: Window, partitions: int) -> DataFrame:
    """The rows of a window with `table.schema`; the hash is MySQL's."""
    return _read(spark, source, table, table.schema, window, partitions)


def keys(spark: SparkSession, source: Source, table: Table, window: Window, partitions: int) -> DataFrame:
    """Key, cursor and hash of the rows of a window."""
    schema = T.StructType([f for f in table.schema if f.name in (table.key, table.cursor, HASH)])
    return _read(spark, source, table, schema, window, partitions)


def fetched(changes: DataFrame, source: Source, table: Table) -> DataFrame:
    """The rows of some keys as they are now, read by the tasks that hold the keys.

    Args:
        changes: the key and the boolean `gone`; a key that is gone is passed on with nothing else.

    Returns:
        `table.schema` and `gone`. A key that is not gone and has no row any more is left out.
    """
    text = [*table.columns, HASH]
    at = table.cursor or "_at"
    cursor_sql = f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', `{table.cursor}`)" if table.cursor else "NULL"
    select = (
        f"SELECT {', '.join(map(_text, table.columns))}, "
        f"{table.mysql_hash()}, {cursor_sql} FROM `{table.name}` WHERE `{table.key}` IN "
    )
    arrow = pa.schema([*((name, pa.string()) for name in text), (at, pa.int64()), ("gone", pa.bool_())])

    def fetch(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        connection = None
        try:
            for batch in batches:
                found: list[tuple] = []
                events = list(zip(*(batch.column(name).to_pylist() for name in (table.key, "gone")), strict=True))
                wanted = [key for key, gone in events if not gone]
                for start in range(0, len(wanted), _KEYS_PER_QUERY):
                    some = wanted[start : start + _KEYS_PER_QUERY]
                    connection = connection or source.connect()
                    with source.readable_errors(), connection.cursor() as cursor:
                        cursor.execute(f"{select} ({', '.join(['%s'] * len(some))})", some)
                        found += [(*row, False) for row in cursor.fetchall()]
                made = [dict(zip(arrow.names, row, strict=True)) for row in found]
                made += [{table.key: key, "gone": True} for key, gone in events if gone]
                yield pa.RecordBatch.from_pylist(made, arrow)
        finally:
            if connection:
                connection.close()

    ddl = ", ".join(f"`{name}` STRING" for name in text)
    raw = changes.select(table.key, "gone").mapInArrow(fetch, f"{ddl}, `{at}` BIGINT, gone BOOLEAN")
    typed = [F.col(name).cast(kind).alias(name) for name, kind in table.columns.items()]
    moment = [F.timestamp_micros(table.cursor).alias(table.cursor)] if table.cursor else []
    return raw.select(*typed, *moment, HASH, "gone")


def _read(
    spark: SparkSession, source: Source, table: Table, schema: T.StructType, window: Window, partitions: int
) -> DataFrame:
    # Spark pads what comes from a CHAR column with blanks, even with a schema of its own, and MySQL does not: so text
    # is cast. The ranges are of the key as it is, so that MySQL finds them in its index.
    text = {f.name: _text(f.name) for f in schema if f.dataType == T.StringType()} | {HASH: table.mysql_hash()}
    select = ", ".join(f"{text.get(name, f'`{name}`')} AS `{name}`" for name in schema.names)
    query = f"SELECT `{table.key}` AS {_RANGE}, {select} FROM `{table.name}` WHERE {table.condition(window)}"
    options = source.jdbc_options()
    options["customSchema"] = ", ".join(f"`{f.name}` {f.dataType.simpleString()}" for f in schema)
    url = options.pop("url")
    read = spark.read.jdbc(url, f"({query}) AS source", predicates=_ranges(partitions), properties=options)
    return read.select(*schema.names)


def _ranges(partitions: int) -> list[str]:
    """Conditions that split hexadecimal keys into as many even ranges; the first and last are open."""
    bounds = [f"{0x10000 * n // partitions:04x}" for n in range(1, partitions)]
    lows = [f"{_RANGE} >= '{bound}'" for bound in bounds]
    highs = [f"{_RANGE} < '{bound}'" for bound in bounds]
    return [" AND ".join(filter(None, pair)) or "TRUE" for pair in zip(["", *lows], [*highs, ""], strict=True)]


def _text(column: str) -> str:
    return f"CAST(`{column}` AS CHAR CHARACTER SET utf8mb4)"
