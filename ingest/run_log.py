"""`ops.ingest_runs`: one row for each run that came to an end, and the mark that the next one starts from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ingest.errors import IngestError

_LONG, _TEXT, _TIME = T.LongType(), T.StringType(), T.TimestampType()
_SUM = T.DecimalType(38, 0)
_COLUMNS: tuple[tuple[str, T.DataType, str], ...] = (
    ("run_id", _TEXT, "identifies the run in logs and landed rows"),
    ("source_table", _TEXT, "database and table of the source"),
    ("mode", _TEXT, "incremental, snapshot or reconcile"),
    ("status", _TEXT, "succeeded or failed; a killed run leaves no row"),
    ("low", _TIME, "exclusive lower bound of the cursor; NULL is from the beginning"),
    ("high", _TIME, "inclusive upper bound; the next run starts from the greatest of a success"),
    ("started_at", _TIME, "by the clock of the machine that ran it"),
    ("ended_at", _TIME, "by the same clock"),
    ("rows_source", _LONG, "rows of the window as MySQL counts them"),
    ("rows_landed", _LONG, "rows written, deletes among them; fewer than rows_source where some had landed before"),
    ("rows_deleted", _LONG, "landed deletes"),
    ("checksum_source", _SUM, "order-independent sum over the window, by MySQL"),
    ("checksum_landed", _SUM, "the same, computed again by Spark from what it read"),
    ("files", _LONG, "Parquet files written"),
    ("bytes", _LONG, "their size"),
    ("path", _TEXT, "folder of the landing zone; NULL where nothing landed"),
    ("error", _TEXT, "one line; NULL after a success"),
)
SCHEMA = T.StructType([T.StructField(name, kind, True, {"comment": text}) for name, kind, text in _COLUMNS])


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
    checksum_landed: Decimal | None = None
    files: int = 0
    bytes: int = 0
    path: str | None = None
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
    """The log as a Delta table, made by its first row."""

    def __init__(self, spark: SparkSession, catalog: str, schema: str):
        self._spark = spark
        self._schema = f"`{catalog}`.`{schema}`"
        self.name = f"{catalog}.{schema}.ingest_runs"
        self._table = f"{self._schema}.`ingest_runs`"

    def successes(self, source_table: str) -> list[Success]:
        """The last thousand, newest first; none where there is no log yet.

        Raises:
            IngestError: the schema does not exist.
        """
        try:
            log = self._spark.table(self._table)
        except AnalysisException as error:
            if error.getCondition() != "TABLE_OR_VIEW_NOT_FOUND":
                raise
            if not self._spark.catalog.databaseExists(self._schema):
                raise IngestError(f"the schema of {self.name} does not exist; deploy the bundle or create it") from None
            return []
        found = (
            log.where((F.col("source_table") == source_table) & (F.col("status") == "succeeded"))
            .select(F.unix_micros("high").alias("high"), "path")
            .orderBy(F.desc("high"))
            .limit(1000)
            .collect()
        )
        return [Success(_moment(row["high"]), row["path"]) for row in found]

    def append(self, run: Run) -> None:
        """Adds the row, in one commit."""
        values = asdict(run)
        row = self._spark.createDataFrame([tuple(values[f.name] for f in SCHEMA)], SCHEMA)
        row.write.format("delta").mode("append").saveAsTable(self._table)


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
