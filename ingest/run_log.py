"""`ops.ingest_runs`: one row for each run, and the mark that the next one starts from."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from ingest.errors import IngestError

_LONG, _TEXT, _TIME = T.LongType(), T.StringType(), T.TimestampType()
_SUM = T.DecimalType(38, 0)
_COLUMNS: tuple[tuple[str, T.DataType, str], ...] = (
    ("run_id", _TEXT, "identifies the run in logs and landed rows"),
    ("source_table", _TEXT, "database and table of the source"),
    ("mode", _TEXT, "incremental, snapshot, reconcile or backfill"),
    ("status", _TEXT, "succeeded, failed or abandoned; the last is of a killed run, found by the one after it"),
    ("low", _TIME, "exclusive lower bound of the cursor; NULL is from the beginning"),
    ("high", _TIME, "inclusive upper bound; the next run starts from the greatest of a success, backfills aside"),
    ("started_at", _TIME, "by the clock of the machine that ran it"),
    ("ended_at", _TIME, "by the same clock"),
    ("rows_source", _LONG, "rows of the window as MySQL counts them"),
    ("rows_landed", _LONG, "rows written, deletes among them; fewer than rows_source where some had landed before"),
    ("rows_deleted", _LONG, "landed deletes"),
    ("checksum_source", _SUM, "order-independent sum over the window, by MySQL"),
    ("checksum_read", _SUM, "the same, computed again by Spark from what it read"),
    ("checksum_landed", _SUM, "the same over the rows written"),
    ("files", _LONG, "Parquet files written"),
    ("bytes", _LONG, "their size"),
    ("path", _TEXT, "folder of the landing zone; NULL where nothing landed"),
    ("drift", _TEXT, "a line for each column that differed from the declaration; NULL for none"),
    ("rows_bronze", _LONG, "rows of the run in bronze when ingest-reconcile last looked"),
    ("checksum_bronze", _SUM, "their checksum"),
    ("reconciled_at", _TIME, "when that was; NULL for never"),
    ("error", _TEXT, "one line; NULL after a success"),
)
SCHEMA = T.StructType([T.StructField(name, kind, True, {"comment": text}) for name, kind, text in _COLUMNS])
_ARROW = to_arrow_schema(SCHEMA, timezone="UTC")


@dataclass
class Run:
    """One row of the log; it is filled as the run goes on. Timestamps are aware, UTC."""

    run_id: str
    source_table: str
    mode: str
    started_at: datetime
    status: str = "failed"
    low: datetime | None = None
    high: datetime | None = None
    ended_at: datetime | None = None
    rows_source: int | None = None
    rows_landed: int = 0
    rows_deleted: int = 0
    checksum_source: Decimal | None = None
    checksum_read: Decimal | None = None
    checksum_landed: Decimal | None = None
    files: int = 0
    bytes: int = 0
    path: str | None = None
    drift: str | None = None
    rows_bronze: int | None = None
    checksum_bronze: Decimal | None = None
    reconciled_at: datetime | None = None
    error: str | None = None

    def __str__(self) -> str:
        window = f"({self.low or 'beginning'}, {self.high}]" if self.high else "no window"
        return (
            f"{self.source_table} {self.mode} {self.status}: {self.rows_landed} rows landed, {self.rows_deleted} of "
            f"them deletes, {self.rows_source} in the source's window {window}, "
            f"{self.files} files, {self.bytes} bytes, {self.seconds:.1f} s, run {self.run_id}"
        )

    @property
    def seconds(self) -> float:
        return ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()


@dataclass(frozen=True)
class Success:
    """A run that counts: its high mark and the folder it wrote, if any."""

    high: datetime
    path: str | None


class RunLog:
    """The log as a Delta table, made when it is written."""

    def __init__(self, spark: SparkSession, catalog: str, schema: str):
        self._spark = spark
        self._schema = f"`{catalog}`.`{schema}`"
        self.name = f"{catalog}.{schema}.ingest_runs"
        self._table = f"{self._schema}.`ingest_runs`"

    def _rows(self) -> DataFrame | None:
        try:
            return self._spark.table(self._table)
        except AnalysisException as error:
            if error.getCondition() != "TABLE_OR_VIEW_NOT_FOUND":
                raise
            if not self._spark.catalog.databaseExists(self._schema):
                raise IngestError(f"the schema of {self.name} does not exist; deploy the bundle or create it") from None
            return None

    def successes(self, source_table: str) -> list[Success]:
        """The last thousand that moved the mark, newest first; none where there is no log yet.

        Raises:
            IngestError: the schema does not exist.
        """
        log = self._rows()
        if log is None:
            return []
        found = (
            log.where((F.col("source_table") == source_table) & (F.col("status") == "succeeded"))
            .where(F.col("mode") != "backfill")
            .select(F.unix_micros("high").alias("high"), "path")
            .orderBy(F.desc("high"))
            .limit(1000)
            .collect()
        )
        return [Success(_moment(row["high"]), row["path"]) for row in found]

    def find(self, run_id: str) -> Run | None:
        """The last row of a run; None where there is none.

        Raises:
            IngestError: the schema does not exist.
        """
        log = self._rows()
        if log is None:
            return None
        # Times as numbers: PySpark gives them in the time zone of the machine, and without it.
        times = {f.name for f in SCHEMA if f.dataType == _TIME}
        columns = [f.name for f in SCHEMA if f.name in log.columns]
        found = (
            log.where(F.col("run_id") == run_id)
            .orderBy(F.desc("ended_at"))
            .select(*(F.unix_micros(name).alias(name) if name in times else name for name in columns))
            .first()
        )
        if found is None:
            return None
        values: dict[str, Any] = found.asDict()
        values |= {name: _moment(values[name]) for name in times & values.keys() if values[name] is not None}
        return Run(**values)

    def make(self) -> None:
        """Makes the table without a row, unless it is there; its first row makes it too."""
        if self._rows() is not None:
            return
        empty = self._spark.createDataFrame(_ARROW.empty_table(), SCHEMA)
        try:
            empty.write.format("delta").mode("append").saveAsTable(self._table)
        except Exception:
            if self._rows() is None:  # else the run of another table made it at this moment
                raise

    def append(self, run: Run) -> None:
        """Adds the row, in one commit."""
        # Of Python's own values Spark would make rows in a Python worker, which has to be started for it.
        row = self._spark.createDataFrame(pa.Table.from_pylist([asdict(run)], _ARROW), SCHEMA)
        # A log that an earlier version made gains the columns that it lacks.
        row.write.format("delta").option("mergeSchema", "true").mode("append").saveAsTable(self._table)

    def note_bronze(self, run: Run) -> None:
        """Writes what bronze held into the row of the run."""
        missing = [f for f in SCHEMA if f.name not in self._spark.table(self._table).columns]
        if missing:
            columns = ", ".join(f"{f.name} {f.dataType.simpleString()}" for f in missing)
            self._spark.sql(f"ALTER TABLE {self._table} ADD COLUMNS ({columns})")
        self._spark.sql(
            f"UPDATE {self._table} SET rows_bronze = {int(run.rows_bronze)}, "
            f"checksum_bronze = {int(run.checksum_bronze)}BD, reconciled_at = current_timestamp() "
            f"WHERE run_id = '{checked_run_id(run.run_id)}'"  # Delta's UPDATE takes no parameters
        )


def checked_run_id(text: str) -> str:
    """An argparse type: a run's name, which stands in SQL and in logs.

    Raises:
        ValueError: it has other characters than letters, digits and `_.:-`.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", text):
        raise ValueError("a run id consists of letters, digits and _.:-")
    return text


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
