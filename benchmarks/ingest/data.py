"""The members that every way reads: made by their numbers, loaded once in the order of their key, and kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import duckdb
import mysql.connector
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from ingest.members import bulk
from ingest.members.table import DDL, MEMBERS
from ingest.source import Source
from lakeflow_local.home import Home

_ROWS_AT_ONCE = 500_000
# Long before any run: a table just loaded would stand in the overlap of the first one.
_CHANGED_AT = "TIMESTAMP('2026-10-01') + INTERVAL (CRC32(member_id) % 2000000) SECOND"


def name(rows: int) -> str:
    """The database that holds so many members."""
    return f"lakehouse_benchmark_{rows}"


def load(source: Source, rows: int) -> None:
    """Makes the database of `name`, unless it is there. Ten million take some minutes and 3 GB of memory."""
    with closing(
        mysql.connector.connect(
            host=source.host, port=source.port, user=source.user, password=source.password, ssl_disabled=True,
            allow_local_infile=True, charset="utf8mb4", collation="utf8mb4_bin", time_zone="+00:00", autocommit=True,
        )
    ) as connection, connection.cursor() as cursor:  # fmt: skip
        cursor.execute("SELECT 1 FROM information_schema.statistics WHERE table_schema = %s LIMIT 1", (name(rows),))
        if cursor.fetchall():
            return
        made = pa.Table.from_batches(list(_made(rows)))
        order = pc.sort_indices(made["member_id"])
        partial = f"{name(rows)}_partial"
        for statement in (f"DROP DATABASE IF EXISTS {partial}", f"CREATE DATABASE {partial}", f"USE {partial}", DDL):
            cursor.execute(statement)
        cursor.execute("ALTER TABLE members DROP INDEX members_updated_at")
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            for start in range(0, rows, _ROWS_AT_ONCE):
                some = made.take(order.slice(start, _ROWS_AT_ONCE))
                csv.write_csv(some, file.name, csv.WriteOptions(include_header=False))
                cursor.execute(
                    f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE members CHARACTER SET utf8mb4 "
                    "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' "
                    f"({', '.join(MEMBERS.columns)}) SET updated_at = {_CHANGED_AT}"
                )
        cursor.execute(f"CREATE DATABASE {name(rows)}")
        cursor.execute(f"RENAME TABLE members TO {name(rows)}.members")
        cursor.execute(f"ALTER TABLE {name(rows)}.members ADD INDEX members_updated_at (updated_at)")
        cursor.execute(f"DROP DATABASE {partial}")


def truth(home: Home, rows: int) -> tuple[int, int]:
    """`content` of what was made."""
    file = home.path / f"{name(rows)}.json"
    if not file.is_file():
        made = pa.RecordBatchReader.from_batches(next(_made(1)).schema, _made(rows))
        file.write_text(json.dumps(_content(duckdb.connect().from_arrow(made))))
    return tuple(json.loads(file.read_text()))


def content(files: list[Path]) -> tuple[int, int]:
    """Rows, and a sum over their hashes that does not depend on order, files and the way that text is stored."""
    return _content(duckdb.connect().read_parquet([str(file) for file in files]))


def _content(rows: duckdb.DuckDBPyRelation) -> tuple[int, int]:
    text = ", ".join(f"coalesce({name}::VARCHAR, chr(30))" for name in MEMBERS.columns)
    return rows.aggregate(f"count(*), sum(hash(concat_ws(chr(31), {text}))::HUGEINT)").fetchone()


def _made(rows: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, rows, _ROWS_AT_ONCE):
        numbers = np.arange(start, min(start + _ROWS_AT_ONCE, rows))
        yield bulk.made(numbers, seed=1, as_of=date(2026, 11, 1))
