"""One run of ingest: what to read, that it was read rightly, where it lands, and its row in the log."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from mysql.connector.abstracts import MySQLConnectionAbstract
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from ingest import arrow, drift, extract, landing, objects
from ingest.errors import BusyError, IngestError, explained, retry
from ingest.progress import Progress
from ingest.run_log import Run, RunLog, Success
from ingest.source import Source
from ingest.tables import HASH, NUMBER, Table, Totals, Window

MODES = ("incremental", "snapshot", "reconcile", "backfill")
CHECKS = ("rows", "window")
"""What MySQL counts and hashes: rows as it sends them, or the whole window in a pass of its own as well."""
ATTEMPTS, FIRST_WAIT = 5, 1.0
"""Of what is transient: 15 seconds of waiting in all, in which a server starts again."""
LOCK_WAIT = 10
"""Seconds in which the server sees that the connection of a former attempt is gone, and its lock with it."""
COUNTED_BESIDE = 500_000
"""From about so many rows on MySQL counts them while they are read already, in a view of before."""

_MICROSECOND = timedelta(microseconds=1)
log = logging.getLogger("ingest")


@dataclass(frozen=True)
class Settings:
    """How a run is to be done.

    Attributes:
        mode: one of `MODES`.
        landing_url: the landing zone, such as `s3://bucket/prefix`.
        catalog, ops_schema, silver_schema: where the run log is, and what reconcile compares with.
        lag: how far behind the server's clock the window ends.
        overlap: how far before the last mark it looks for rows that were committed late.
        partitions: the most tasks that read at once, each with a connection and a file of its own.
        rows_per_file: the most rows of one file.
        reader: one of `extract.READERS`, or `extract.AUTO`.
        check: one of `CHECKS`.
        since, until: of a backfill, UTC: the cursor's first moment, and the first that is no longer meant.
    """

    mode: str
    landing_url: str
    catalog: str
    ops_schema: str
    silver_schema: str
    run_id: str
    lag: timedelta = timedelta(0)
    overlap: timedelta = timedelta(minutes=5)
    partitions: int = 2
    rows_per_file: int = landing.ROWS_PER_FILE
    reader: str = extract.AUTO
    check: str = "rows"
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Plan:
    """What a run would read and where it would land it; rows and bytes are MySQL's estimates."""

    source_table: str
    mode: str
    window: Window
    overlap: Window | None
    rows: int
    bytes: int
    ranges: int
    path: str
    drift: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.source_table} {self.mode}: window {self.window}, about {self.rows} rows, {self.bytes} bytes, in "
            f"{self.ranges} ranges of the key",
            f"would land in {self.path}",
        ]
        if self.overlap:
            lines.append(f"would look for late commits in {self.overlap}")
        return "\n".join([*lines, *(f"differs from its declaration: {line}" for line in self.drift)])


def run(spark: SparkSession, table: Table, source: Source, settings: Settings) -> Run:
    """Lands what the mode asks for and logs it; safe to repeat after any failure.

    Raises:
        IngestError: nothing counts as landed, the run is logged as failed, and the same command may be given again.
    """
    started = Run(
        run_id=settings.run_id,
        source_table=f"{source.database}.{table.name}",
        mode=settings.mode,
        started_at=datetime.now(UTC),
    )
    run_log = RunLog(spark, settings.catalog, settings.ops_schema)
    latest = _Attempt(spark, table, source, settings, run_log, started)
    attempts = itertools.count()

    def attempt() -> _Attempt:
        nonlocal latest
        latest = _Attempt(spark, table, source, settings, run_log, replace(started))
        try:
            latest.land(LOCK_WAIT if next(attempts) else 0)
        except Exception as error:
            if isinstance(error, IngestError):
                raise
            log.debug("the attempt failed", exc_info=True)
            raise explained(error, source=source, landing=settings.landing_url) from error
        return latest

    try:
        done = retry(attempt, attempts=ATTEMPTS, first_wait=FIRST_WAIT)
    except IngestError as error:
        _log_failure(run_log, latest, error)
        raise
    done.run.status, done.run.ended_at = "succeeded", datetime.now(UTC)
    run_log.append(done.run)
    done.unmark()
    return done.run


def plan(spark: SparkSession, table: Table, source: Source, settings: Settings) -> Plan:
    """What `run` would do now; it reads no row and writes nothing.

    Raises:
        IngestError: `run` would fail for what is known before it reads.
    """
    source_table = f"{source.database}.{table.name}"
    run_log = RunLog(spark, settings.catalog, settings.ops_schema)
    attempt = _Attempt(
        spark, table, source, settings, run_log, Run(settings.run_id, source_table, settings.mode, datetime.now(UTC))
    )
    with closing(source.connect()) as connection:
        return attempt.plan(connection)


def _log_failure(run_log: RunLog, attempt: _Attempt, error: IngestError) -> None:
    failed = attempt.run
    failed.status, failed.ended_at, failed.error = "failed", datetime.now(UTC), str(error)
    failed.rows_landed = failed.rows_deleted = 0
    try:
        run_log.append(failed)
        if not isinstance(error, BusyError):
            attempt.unmark()
    except Exception as second:
        log.warning("the failure could not be written to %s: %s", run_log.name, explained(second))


class _Attempt:
    """One attempt; it fills `run`."""

    def __init__(
        self, spark: SparkSession, table: Table, source: Source, settings: Settings, run_log: RunLog, run: Run
    ):
        self.spark, self.table, self.source, self.settings = spark, table, source, settings
        self.run_log, self.run = run_log, run
        self.marker: landing.Marker | None = None

    def land(self, lock_wait: int = 0) -> None:
        self.reader = extract.reader(self.settings.reader, self.source)
        with closing(self.source.connect(attempts=1)) as connection:
            self._lock(connection, lock_wait)
            self._mark()
            self._examine(connection)
            if self.nothing_new:
                self.run.low = self.run.high
                self.run.rows_source = 0
            elif self.settings.mode == "incremental":
                self._incremental(connection)
            elif self.settings.mode == "reconcile":
                self._reconcile(connection)
            else:
                self._rows(connection, self.window)

    def plan(self, connection: MySQLConnectionAbstract) -> Plan:
        self._examine(connection)
        window = Window(self.run.high, self.run.high) if self.nothing_new else self.window
        whole = self.settings.mode in ("snapshot", "reconcile")
        rows = self.rows_of_table if whole else extract.estimated_rows(connection, self.source, self.table, window)
        overlap = None
        if self.settings.mode == "incremental" and self.mark and self.settings.overlap:
            overlap = Window(self.mark - self.settings.overlap, self.mark)
        return Plan(
            self.run.source_table,
            self.settings.mode,
            window,
            overlap,
            rows,
            rows * self.row_bytes,
            self._partitions(rows),
            self.path,
            tuple(filter(None, (self.run.drift or "").split("\n"))),
        )

    def unmark(self) -> None:
        """The run is in the log: there is nothing left to find of it."""
        if self.marker:
            self.marker.remove()

    def _mark(self) -> None:
        """Logs the run before this one as abandoned if it was killed, and says that this one is under way."""
        marker = landing.Marker(self.spark, self.settings.landing_url, self.run.source_table)
        left = marker.read()
        if left and left["run_id"] != self.run.run_id and self.run_log.find(left["run_id"]) is None:
            started = datetime.fromisoformat(left["started_at"])
            lost = Run(left["run_id"], self.run.source_table, left["mode"], started, status="abandoned")
            lost.error = "the run was killed; the next one started anew from the same mark"
            lost.ended_at = self.run.started_at
            self.run_log.append(lost)
            log.warning("the run %s was abandoned", lost.run_id)
        marker.write({"run_id": self.run.run_id, "mode": self.run.mode, "started_at": f"{self.run.started_at}"})
        self.marker = marker

    def _examine(self, connection: MySQLConnectionAbstract) -> None:
        """Settles the columns, the window and the folder."""
        mode = self.settings.mode
        cursor_needed = mode in ("incremental", "backfill")
        checked = drift.check(connection, self.source, self.table, cursor_needed=cursor_needed)
        self.table, self.rows_of_table, self.row_bytes = checked.table, checked.rows, checked.row_bytes
        self.run.drift = "\n".join(checked.changes) or None
        self.now = extract.clock(connection, self.source)
        high = self.now - self.settings.lag
        self.nothing_new = False
        self.successes: list[Success] = []
        self.mark: datetime | None = None
        if mode == "backfill":
            self._examine_backfill(high)
            return
        self.successes = self.run_log.successes(self.run.source_table)
        self.mark = self.successes[0].high if self.successes else None
        if self.mark and high <= self.mark:
            if mode != "incremental":
                raise IngestError(
                    f"the last run reached {self.mark}, which the clock of {self.source} less --lag-seconds has not "
                    "passed; wait that long, or correct the clock"
                )
            self.nothing_new, high = True, self.mark
        self.run.high = high
        self.window = Window(self.mark, high) if mode == "incremental" else Window()
        self.path = landing.folder(self.settings.landing_url, self.table.folder, mode, self.mark, high)

    def _examine_backfill(self, high: datetime) -> None:
        since, until = self.settings.since, self.settings.until
        if since is None or until is None:
            raise IngestError("a backfill needs --from and --to")
        if since >= until:
            raise IngestError("--to must be later than --from")
        if until - _MICROSECOND > high:
            raise IngestError(
                f"--to is later than {high}, the clock of {self.source} less --lag-seconds; give an earlier one"
            )
        self.window = Window(since - _MICROSECOND, until - _MICROSECOND)
        self.run.high = self.window.high
        self.path = landing.backfill_folder(self.settings.landing_url, self.table.folder, since, until)

    def _lock(self, connection: MySQLConnectionAbstract, seconds: int) -> None:
        """Keeps out a second run of the table into the same landing zone; the lock ends with the connection."""
        purpose = f"{self.settings.landing_url}\n{self.run_log.name}\n{self.run.source_table}"
        with self.source.readable_errors(), connection.cursor() as cursor:
            name = f"ingest-{hashlib.md5(purpose.encode()).hexdigest()}"
            cursor.execute("SELECT GET_LOCK(%s, %s)", (name, seconds))
            (taken,) = cursor.fetchone()
        if taken != 1:
            raise BusyError(f"another ingest of {self.run.source_table} is running; wait until it ends")

    def _incremental(self, connection: MySQLConnectionAbstract) -> None:
        if not self.mark:
            return self._rows(connection, self.window)
        overlooked = extract.without_cursor(connection, self.source, self.table)
        if overlooked:
            log.warning("%d rows have no %s; only --mode reconcile sees their changes", overlooked, self.table.cursor)
        overlap = Window(self.mark - self.settings.overlap, self.mark)
        if self.settings.overlap:
            in_overlap = extract.count(connection, self.source, self.table, overlap)
            if in_overlap.rows:
                landed = self._landed(overlap, [s.path for s in self.successes if s.path and s.high > overlap.low])
                late = self._late(overlap, in_overlap, landed)
                if late:
                    log.info("%d rows were committed late, before the mark of the last run", late)
                    return self._rows(connection, Window(overlap.low, self.window.high), landed)
        self._rows(connection, self.window)

    def _landed(self, window: Window, paths: list[str]) -> DataFrame | None:
        """Key, cursor and hash of the window's rows that earlier runs landed; None where no file is left of them."""
        if not paths:
            return None
        names = (*self.table.key, self.table.cursor, HASH)
        try:
            files = self.spark.read.schema(self.table.schema).parquet(*paths)
        except AnalysisException as error:
            if error.getCondition() == "PATH_NOT_FOUND":
                return None
            raise
        return files.where(F.col(self.table.cursor) > F.lit(window.low)).select(*names)

    def _late(self, window: Window, there: Totals, landed: DataFrame | None) -> int:
        if landed is None:
            return there.rows
        keys = self._read(extract.keys, window, there)
        return keys.join(landed, landed.columns, "left_anti").count()

    def _rows(self, connection: MySQLConnectionAbstract, window: Window, landed: DataFrame | None = None) -> None:
        """Lands the rows of a window, less those that had landed."""
        self.run.low = window.low
        if landed is None and self.reader == "arrow":
            folder = objects.folder(self.spark, self.path)
            if folder:
                return self._objects(connection, window, folder)
        expected = self._expect(connection, window)
        if not expected.rows:
            return
        seen = Observation(f"read by {self.run.run_id}")
        # The tasks of the other reader look at each hash themselves.
        altered = [self._altered()] if self.reader == "jdbc" else []
        frame = self._read(extract.rows, window, expected).observe(seen, *self._totals(), *altered)
        written = seen
        if landed is not None:
            frame = frame.join(landed, [*self.table.key, self.table.cursor, HASH], "left_anti").coalesce(
                self._partitions(expected.rows)
            )
            written = None
        changed_at = F.coalesce(F.col(self.table.cursor), F.lit(self.now)) if self.table.cursor else F.lit(self.now)
        with Progress(self.spark, expected.rows, self.row_bytes):
            frame = self._write(frame.withColumn("_op", F.lit("U")), changed_at, written)
        try:
            self._verify(expected, seen.get, lambda: self._count(connection, window))
        except IngestError:
            landing.withdraw(frame, self.path)
            raise

    def _objects(self, connection: MySQLConnectionAbstract, window: Window, folder: objects.Folder) -> None:
        """Lands the rows of a window by the tasks that read them, in the form of `_write`."""
        rows = extract.estimated_rows(connection, self.source, self.table, window)
        # The ranges of a number are those of what was counted.
        beside = rows >= COUNTED_BESIDE and not self.table.numbered
        extract.view(connection, self.source)
        with ThreadPoolExecutor(2) as pool:
            expected, within = pool.submit(self._expect, connection, window, viewed=True), None
            # Java has little to do while Python's workers write.
            made = pool.submit(self.run_log.make) if beside else None
            if not beside:
                within = expected.result()
                rows = within.rows
                if not rows:
                    return
            landing.clear(self.spark, self.path)
            folder.clear()
            target = arrow.Target(folder, self.settings.rows_per_file, self.now, self.run.run_id)
            try:
                with Progress(self.spark, rows, self.row_bytes, arrow.ROWS_PER_WRITE):
                    written = extract.write(
                        self.spark, self.source, self.table, window, self._partitions(rows), within, target
                    )
                if made is not None:
                    made.result()
                read = {"rows": written.totals.rows, "checksum": written.totals.checksum}
                self._verify(expected.result(), read, lambda: self._count(connection, window))
            except BaseException:
                # Of tasks that ended well, too, though what they wrote is not told where another failed.
                folder.clear()
                raise
        if not written.pending:
            return
        folder.commit(written.pending)
        self.run.checksum_landed = written.totals.checksum
        self._landed_now(written.totals.rows)

    def _reconcile(self, connection: MySQLConnectionAbstract) -> None:
        """Lands the rows that silver lacks or has otherwise, and a delete for each that the source lacks."""
        held = self._held()
        if held is None:
            return self._rows(connection, Window())
        expected = self._expect(connection, Window())
        seen = Observation(f"compared by {self.run.run_id}")
        if expected.rows:
            keys = self._read(extract.keys, Window(), expected).observe(seen, *self._totals())
            both = keys.join(held, [*self.table.key], "full_outer")
        else:
            # Spark drops an empty side from the running query, and the observation with it.
            both = held.withColumn(HASH, F.lit(None).cast("string"))
        gone = F.col(HASH).isNull() & F.col("current")
        unknown = F.col(HASH).isNotNull() & ~F.coalesce(F.array_contains("hashes", F.col(HASH)), F.lit(False))
        changes = both.where(gone | unknown).select(*self.table.key, F.col(HASH).isNull().alias("gone")).persist()
        try:
            with Progress(self.spark, expected.rows, self.row_bytes):
                count = changes.count()
            if expected.rows:
                # Before anything is written: a scan that missed a row would land it as deleted.
                self._verify(expected, seen.get, lambda: self._count(connection, Window()))
            if count:
                rows = extract.fetched(changes.coalesce(self._partitions(count)), self.source, self.table)
                altered = Observation(f"fetched by {self.run.run_id}")
                rows = rows.observe(altered, self._altered(F.col("gone")))
                frame = rows.withColumn("_op", F.when(F.col("gone"), "D").otherwise("U"))
                frame = self._write(frame, F.lit(self.now))
                if altered.get["altered"]:
                    landing.withdraw(frame, self.path)
                    raise self._mismatch("rows changed on their way")
        finally:
            changes.unpersist()

    def _held(self) -> DataFrame | None:
        """Per key: the hashes that silver or its quarantine hold, and whether silver has it; None without silver."""
        silver = self._table(self.table.folder)
        if silver is None:
            return None
        held = silver.select(*self.table.key, HASH, F.lit(True).alias("current"))
        quarantine = self._table(f"{self.table.folder}_quarantine")
        if quarantine is not None:
            held = held.unionByName(quarantine.select(*self.table.key, HASH, F.lit(False).alias("current")))
        return held.groupBy(*self.table.key).agg(F.collect_set(HASH).alias("hashes"), F.max("current").alias("current"))

    def _table(self, name: str) -> DataFrame | None:
        try:
            return self.spark.table(f"`{self.settings.catalog}`.`{self.settings.silver_schema}`.`{name}`")
        except AnalysisException as error:
            if error.getCondition() in ("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND"):
                return None
            raise

    def _expect(self, connection: MySQLConnectionAbstract, window: Window, *, viewed: bool = False) -> Totals:
        expected = self._count(connection, window, viewed=viewed)
        self.run.rows_source, self.run.checksum_source = expected.rows, expected.checksum
        log.info("%d rows in the window %s", expected.rows, window)
        return expected

    def _count(self, connection: MySQLConnectionAbstract, window: Window, *, viewed: bool = False) -> Totals:
        count = extract.totals if self.settings.check == "window" else extract.count
        return count(connection, self.source, self.table, window, viewed=viewed)

    def _read(self, read: Callable[..., DataFrame], window: Window, within: Totals) -> DataFrame:
        partitions = self._partitions(within.rows)
        return read(self.spark, self.source, self.table, window, partitions, within, self.reader)

    def _totals(self) -> list[Column]:
        """Rows and checksum of what is read, by the hashes that MySQL computed."""
        return self.table.spark_totals(F.col(NUMBER))

    def _partitions(self, rows: int) -> int:
        return max(1, min(self.settings.partitions, rows // extract.ROWS_PER_PARTITION))

    def _altered(self, gone: Column | None = None) -> Column:
        """Counts the rows whose values, as Spark has them, do not give the hash that MySQL computed of them."""
        same = self.table.spark_hash().eqNullSafe(F.col(HASH))
        return F.count_if(~same if gone is None else ~same & ~gone).alias("altered")

    def _write(self, frame: DataFrame, changed_at: Column, written: Observation | None = None) -> DataFrame:
        """Writes the rows in the form of the landing zone and returns the frame that was written.

        Args:
            written: what counts them on their way, where all that is counted is written.
        """
        frame = frame.select(
            *self.table.names,
            "_op",
            changed_at.alias("_changed_at"),
            HASH,
            F.lit(self.now).alias("_extracted_at"),
            F.lit(self.run.run_id).alias("_run_id"),
        )
        counted = frame
        if written is None:
            written = Observation(f"written by {self.run.run_id}")
            deleted = F.count_if(F.col("_op") == "D").alias("deleted")
            totals = self.table.spark_totals(self.table.spark_number(F.col(HASH)))
            counted = frame.observe(written, *totals, deleted)
        landing.write(counted, self.path, self.settings.rows_per_file)
        self.run.rows_deleted = written.get.get("deleted", 0)
        self.run.checksum_landed = written.get["checksum"]
        self._landed_now(written.get["rows"])
        return frame

    def _landed_now(self, rows: int) -> None:
        self.run.path, self.run.rows_landed = self.path, rows
        stands = landing.written(self.spark, self.path)
        self.run.files, self.run.bytes = stands.files, stands.bytes
        log.info("%d rows landed in %d files, %d bytes", self.run.rows_landed, stands.files, stands.bytes)

    def _verify(self, expected: Totals, seen: dict, again: Callable[[], Totals]) -> None:
        """Compares what MySQL counted with what Spark read.

        The ranges are read one by one and rows may leave the window meanwhile, for the next one, or be deleted. So a
        difference counts as an error if the source stood still, if a value was altered on the way, or if the rows
        read are not between those of before and after.
        """
        if seen.get("altered"):
            raise self._mismatch(f"{seen['altered']} rows changed on their way")
        # No hash that Spark computed differs from MySQL's, so that they have one sum.
        read = Totals(seen["rows"], seen["checksum"])
        self.run.checksum_read = read.checksum
        if expected.checksum is None:
            self.run.checksum_source = read.checksum
        if read.rows == expected.rows and expected.checksum in (None, read.checksum):
            return
        after = again()
        fewest, most = sorted((expected.rows, after.rows))
        if after == expected or not fewest <= read.rows <= most:
            raise self._mismatch(f"MySQL counts {expected.rows} rows and Spark read {read.rows}")
        log.info(
            "the source changed during the read: %d rows before, %d read, %d after",
            expected.rows,
            read.rows,
            after.rows,
        )

    def _mismatch(self, what: str) -> IngestError:
        return IngestError(
            f"the check of {self.run.source_table} failed: {what}, or their checksums differ; nothing counts as "
            "landed; run again, and if it fails again compare the column types with the table's declaration"
        )
