"""Reads of MySQL as Arrow batches inside Spark's tasks, by DuckDB's MySQL extension, and what writes them from there.

Its client is MariaDB Connector/C, which streams a result and verifies a server's certificate and name; DuckDB makes
Arrow of it in C++. Why this one: docs/decisions/0010-arrow-reader.md.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from ingest.errors import IngestError, TransientError
from ingest.objects import Folder, Writer
from ingest.source import Source
from ingest.tables import HASH, INEXACT, NULL, NUMBER, SEPARATOR, Table, Totals, as_text

if TYPE_CHECKING:
    import duckdb

ROWS_PER_BATCH = 8_192
"""Of what goes to Spark."""
ROWS_PER_WRITE = 65_536
"""Of what tasks write; they tell Spark of each such batch."""
_EXTENSION = "duckdb_extension_mysql_scanner"
_MODES = ("VERIFY_IDENTITY", "DISABLED")
# What it says of a certificate that it does not accept, and of a server without TLS.
_REFUSED = re.compile(r"certificate|issuer|self.signed|Hostname|verif|support", re.IGNORECASE)
# What it says of a connection that ends: the first in the middle of a result, without a reason.
_CUT = re.compile(r"Failed to fetch result row|Lost connection|gone away|shutdown in progress|was killed|Too many conn")


def check(source: Source) -> None:
    """Refuses what this reader cannot do, before anything is read.

    Raises:
        IngestError: its packages are not installed, or the source's TLS is of a kind that its client does not have.
    """
    if not find_spec("duckdb") or not find_spec(_EXTENSION):
        raise IngestError(
            "--reader arrow needs the packages duckdb and duckdb-extension-mysql-scanner; install "
            "member-lakehouse[arrow], or use --reader jdbc"
        )
    if source.ssl_mode not in _MODES:
        raise IngestError(
            f"--reader arrow has no ssl_mode={source.ssl_mode}; set VERIFY_IDENTITY in {source.reference}, or use "
            "--reader jdbc"
        )


def read(
    spark: SparkSession, source: Source, table: Table, columns: Sequence[str], select: str, conditions: Sequence[str]
) -> DataFrame:
    """The rows of some ranges, each read by a task of its own over a connection of its own.

    Every value leaves MySQL as text. DuckDB casts it, writes it as text again, and compares the hash of that with
    MySQL's where all columns are there; `NUMBER` is what is summed of the row.

    Args:
        columns: of the table's, which `select` begins with; then come the hash and the cursor in microseconds.
        select: in MySQL's words, up to a condition.
        conditions: one for each range.

    Returns:
        the columns in their types, the cursor, `HASH`, `as_text` of inexact columns, and `NUMBER`.
    """
    typed = _typed(table, columns, numbered=True)
    inexact = [as_text(name) for name in table.inexact if name in columns]
    cursor = [f"`{table.cursor}` TIMESTAMP"] if table.cursor else []
    texts = [f"`{name}` STRING" for name in (HASH, *inexact)]
    schema = [*(f"`{name}` {table.columns[name]}" for name in columns), *cursor, *texts, f"`{NUMBER}` BIGINT"]
    queries = [f"{select} AND {condition}" for condition in conditions]

    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                for found in _unaltered(source, queries[number], typed, ROWS_PER_BATCH):
                    yield found.select(found.schema.names[:-1])

    return spark.range(0, len(queries), numPartitions=len(queries)).mapInArrow(task, ", ".join(schema))


@dataclass(frozen=True)
class Target:
    """Where and as what rows are written.

    Attributes:
        at: the moment of the extraction, UTC; also that of a change whose row has no cursor.
    """

    folder: Folder
    rows_per_file: int
    at: datetime
    run_id: str


@dataclass(frozen=True)
class Written:
    """What tasks wrote: its rows and checksum, and what `Folder.commit` takes."""

    totals: Totals
    pending: tuple[str, ...]


_TOLD = pa.schema([("rows", pa.int64()), ("checksum", pa.decimal128(38, 0)), ("pending", pa.string())])


def write(
    spark: SparkSession,
    source: Source,
    table: Table,
    select: str,
    conditions: Sequence[str],
    target: Target,
) -> Written:
    """Has the rows of some ranges written by the tasks that read them, in the columns that `job` lands.

    Nothing of it is visible before it is committed. What a task wrote that then failed is aborted by itself; of two
    attempts at one range Spark takes one.

    Args:
        select, conditions: as in `read`, with all columns of the table.
    """
    typed = _typed(table, tuple(table.columns))
    queries = [f"{select} AND {condition}" for condition in conditions]
    version, names = spark.version, table.names
    cursor, at, run_id = table.cursor, pa.scalar(target.at, pa.timestamp("us", "UTC")), target.run_id

    def constant(text: str, rows: int) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int8()), rows), [text])

    def landed(found: pa.RecordBatch) -> pa.Table:
        rows = pa.Table.from_batches([found])
        extracted = pa.repeat(at, len(rows))
        columns = {name: rows[name] for name in names} | {
            "_op": constant("U", len(rows)),
            "_changed_at": rows[cursor].fill_null(at) if cursor else extracted,
            HASH: rows[HASH],
            "_extracted_at": extracted,
            "_run_id": constant(run_id, len(rows)),
        }
        return pa.table(columns)

    def told(rows: int = 0, checksum: Decimal = Decimal(0), pending: str | None = None) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([{"rows": rows, "checksum": checksum, "pending": pending}], _TOLD)

    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                with Writer(target.folder, f"part-{number:05}", target.rows_per_file, version) as writer:
                    for found in _unaltered(source, queries[number], typed, ROWS_PER_WRITE):
                        writer.write(landed(found))
                        yield told(found.num_rows, _checksum(found, cursor))
                    for pending in writer.close():
                        yield told(pending=pending)

    ranges = spark.range(0, len(queries), numPartitions=len(queries))
    rows = ranges.mapInArrow(task, "rows BIGINT, checksum DECIMAL(38, 0), pending STRING").collect()
    totals = Totals(sum(row["rows"] for row in rows), sum((row["checksum"] for row in rows), Decimal(0)))
    return Written(totals, tuple(row["pending"] for row in rows if row["pending"]))


def _unaltered(source: Source, query: str, typed: str, rows: int) -> Iterator[pa.RecordBatch]:
    for found in stream(source, query, typed, rows):
        altered = found.num_rows - (pc.sum(found["_same"]).as_py() or 0)
        if altered:
            raise IngestError(f"{source}: {altered} rows changed on their way; run again, and report it")
        yield found


def _checksum(found: pa.RecordBatch, cursor: str | None) -> Decimal:
    """The sum of `NUMBER` over rows whose hashes are sound, which DuckDB takes four times as long to make of text."""
    digits = pc.binary_join(pa.ListArray.from_arrays([0, len(found)], found[HASH]), "")[0].as_py()
    numbers = (np.frombuffer(bytes.fromhex(digits), ">u8")[::2] >> 4).astype(np.int64)  # 15 of each 32 digits
    if cursor:
        numbers += found[cursor].cast(pa.int64()).fill_null(0).to_numpy()
    return pc.sum(pa.array(numbers).cast(pa.decimal128(38, 0))).as_py()


def _typed(table: Table, columns: Sequence[str], *, numbered: bool = False) -> str:
    """What `stream` selects: values, `NUMBER` where that is asked for, and whether the values give MySQL's hash."""
    values, texts = {}, {}
    for name in columns:
        kind, column = table.columns[name], f'"{name}"'
        values[name] = {"STRING": f"{column}::VARCHAR", "BINARY": f"unhex({column})"}.get(kind, f"{column}::{kind}")
        texts[name] = f"({values[name]})::VARCHAR"
        if kind == "BINARY":
            texts[name] = f"hex({values[name]})"
        elif kind == "TIMESTAMP":
            values[name] = f"make_timestamptz({column}::BIGINT)"
            texts[name] = f"epoch_us({values[name]})::VARCHAR"
        elif kind == "TIMESTAMP_NTZ":
            values[name] = f"{column}::TIMESTAMP"
            texts[name] = f"strftime({values[name]}, '%Y-%m-%d %H:%M:%S.%f')"
        elif kind in INEXACT:
            texts[name] = column
    listed = [f'{value} AS "{name}"' for name, value in values.items()]
    number = f"('0x' || {HASH}[1:15])::BIGINT"
    if table.cursor:
        listed.append(f'make_timestamptz("{table.cursor}") AS "{table.cursor}"')
        number += f' + coalesce("{table.cursor}", 0)'
    listed += [HASH, *(f'"{name}" AS {as_text(name)}' for name in table.inexact if name in columns)]
    if numbered:
        listed.append(f"{number} AS {NUMBER}")
    parts = ", ".join(f"coalesce({text}, chr({NULL}))" for text in texts.values())
    complete = len(columns) == len(table.columns)
    listed.append(
        f"(md5(concat_ws(chr({SEPARATOR}), {parts})) = {HASH})::BIGINT AS _same" if complete else "1 AS _same"
    )
    return ", ".join(listed)


def stream(
    source: Source, query: str, select: str = "*", rows_per_batch: int = ROWS_PER_BATCH
) -> Iterator[pa.RecordBatch]:
    """The result of a query of MySQL in batches, of which only a few are held at once.

    Args:
        select: what DuckDB makes of that result: a list of expressions over its columns.

    Raises:
        IngestError: without values of rows and without the password.
        TransientError: the server cannot be reached, or the connection was cut.
    """
    import duckdb

    try:
        with duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False}) as connection:
            _attach(connection, source)
            found = connection.execute(f"SELECT {select} FROM mysql_query('mysql', ?)", [query])
            yield from found.to_arrow_reader(rows_per_batch)
    except (duckdb.Error, OSError) as error:  # the latter from its Arrow reader
        # `from None`: its text may quote values.
        raise _explained(source, error) from None


def _attach(connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    (extension,) = Path(str(resources.files(_EXTENSION))).glob("**/*.duckdb_extension")
    connection.load_extension(str(extension))  # which has DuckDB's signature, or is refused
    connection.execute("SET mysql_session_time_zone = '+00:00'")
    connection.execute("SET TimeZone = 'UTC'")
    settings = {
        "host": source.host,
        "port": str(source.port),
        "database": source.database,
        "user": source.user,
        "password": source.password,
    }
    if source.ssl_mode != "DISABLED":
        settings["ssl_ca"] = _authority(source)
    # In a secret, since what ATTACH is given stands in its errors.
    secret = ", ".join(f"{name.upper()} {_literal(value)}" for name, value in settings.items())
    connection.execute(f"CREATE SECRET mysql (TYPE mysql, {secret})")
    # Compressed, which is its default, a result costs the server eight times the CPU.
    options = f"ssl_mode={source.ssl_mode.lower()} compression=disabled"
    connection.execute(f"ATTACH '{options}' AS mysql (TYPE mysql, READ_ONLY, SECRET mysql)")


def _authority(source: Source) -> str:
    """Its file; never none, without which the client would take any certificate."""
    file = source.ssl_ca or ssl.get_default_verify_paths().cafile
    if not file:
        raise IngestError(f"this machine has no file of authorities; name one as ssl_ca in {source.reference}")
    return file


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _explained(source: Source, error: Exception) -> IngestError:
    text = str(error)
    _, tls, why = text.partition("TLS/SSL error:")
    if _REFUSED.search(why):
        return IngestError(source.tls_refused)
    if "Access denied" in text:
        return IngestError(f"{source} refused the user {source.user!r}; check user and password in {source.reference}")
    if "Can't connect" in text:
        return TransientError(f"{source} cannot be reached; check host and port and that the server runs")
    if "Conversion Error" in text or "Invalid Input Error" in text:
        return IngestError(f"{source}: a value does not fit its declared type; correct the declaration of the table")
    if _CUT.search(text) or tls:
        return TransientError(f"{source}: the connection was cut; check that the server runs")
    return IngestError(f"{source}: DuckDB failed with {type(error).__name__}; use --reader jdbc, and report it")
