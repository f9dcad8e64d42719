"""`ingest-reconcile`: what a past run counted against what source, landing zone and bronze hold of it now."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest import cli, declarations, drift, extract
from ingest.errors import IngestError, explained
from ingest.run_log import Run, RunLog, checked_run_id
from ingest.source import DEFAULT_REFERENCE, Source
from ingest.table_job import identifier
from ingest.tables import HASH, Table, Totals, Window


@dataclass(frozen=True)
class Reconciliation:
    """Rows and checksums of one run.

    Attributes:
        logged_source, logged_read, logged_landed: as `ops.ingest_runs` has them; None for what the run did not count.
        source: the same window now; None where the mode has none. Rows that have changed since are in later windows.
        landing: what stands in the run's folder.
        altered: landed rows whose values do not give their hash any more.
        bronze: rows of the run in bronze; None where there is no such table.
    """

    run: Run
    logged_source: Totals | None
    logged_read: Totals | None
    logged_landed: Totals
    source: Totals | None
    landing: Totals
    altered: int
    bronze: Totals | None

    @property
    def differences(self) -> tuple[str, ...]:
        """What does not agree, a sentence each."""
        found = []
        if self.run.status != "succeeded":
            found.append(f"the run {self.run.status}: {self.run.error}")
        if self.landing != self.logged_landed:
            found.append("the landing zone does not hold what was landed")
        if self.altered:
            found.append(f"{self.altered} landed rows were altered")
        if self.bronze is None or (not self.bronze.rows and self.logged_landed.rows):
            found.append("bronze has no row of the run; update the pipeline")
        elif self.bronze != self.landing:
            found.append("bronze does not hold what stands in the landing zone")
        return tuple(found)

    def __str__(self) -> str:
        named = {
            "source, at the run": self.logged_source,
            "read, at the run": self.logged_read,
            "landed, at the run": self.logged_landed,
            "landing zone, now": self.landing,
            "bronze, now": self.bronze,
            "source's window, now": self.source,
        }
        lines = [f"{self.run.source_table} {self.run.mode} {self.run.run_id}, {self.run.ended_at}: {self.run.status}"]
        for name, totals in named.items():
            lines.append(f"{name:<22}" + (f"{totals.rows:>12} rows  {totals.checksum}" if totals else "           -"))
        if self.source and self.logged_source and self.source != self.logged_source:
            lines.append("the source has changed since: those rows belong to later windows")
        return "\n".join([*lines, *(self.differences or ("all agree",))])


def reconcile(
    spark: SparkSession, table: Table, source: Source, run_log: RunLog, run: Run, bronze: str
) -> Reconciliation:
    """Counts again what a run landed, and notes what bronze has of it in the run's row of the log.

    Args:
        bronze: full name of the bronze table, with the columns `_run_id` and `_row_hash`.
    """
    with closing(source.connect()) as connection:
        window = None
        if run.status == "succeeded" and run.mode != "reconcile" and run.high:
            window = Window() if run.mode == "snapshot" else Window(run.low, run.high)
        table = drift.check(connection, source, table, cursor_needed=False).table
        if window == Window() or (window and table.cursor):
            now = extract.totals(connection, source, table, window)
        else:
            now = None
    landed = _files(spark, run)
    landing, altered = Totals(0, Decimal(0)), 0
    if landed is not None:
        landed = landed.where(F.col("_run_id") == run.run_id)
        changed = F.count_if(table.spark_hash() != F.col(HASH)) if _exact(table, landed) else F.lit(0)
        found = landed.agg(*table.spark_totals(table.spark_number(F.col(HASH))), changed.alias("altered")).first()
        landing, altered = Totals(found["rows"], found["checksum"]), found["altered"]
    in_bronze = _bronze(spark, table, run, bronze)
    if in_bronze:
        run.rows_bronze, run.checksum_bronze = in_bronze.rows, in_bronze.checksum
        run_log.note_bronze(run)

    def logged(rows: int | None, checksum: Decimal | None) -> Totals | None:
        return None if rows is None or checksum is None else Totals(rows, checksum)

    return Reconciliation(
        run=run,
        logged_source=logged(run.rows_source, run.checksum_source),
        logged_read=logged(run.rows_source, run.checksum_read),
        logged_landed=Totals(run.rows_landed, run.checksum_landed or Decimal(0)),
        source=now,
        landing=landing,
        altered=altered,
        bronze=in_bronze,
    )


def _exact(table: Table, landed: DataFrame) -> bool:
    return not table.inexact and not set(table.columns) - set(landed.columns)


def _files(spark: SparkSession, run: Run) -> DataFrame | None:
    if not run.path:
        return None
    try:
        return spark.read.parquet(run.path)
    except AnalysisException as error:
        if error.getCondition() in ("PATH_NOT_FOUND", "UNABLE_TO_INFER_SCHEMA"):
            return None
        raise


def _bronze(spark: SparkSession, table: Table, run: Run, name: str) -> Totals | None:
    try:
        rows = spark.table(name).where(F.col("_run_id") == run.run_id)
    except AnalysisException as error:
        if error.getCondition() in ("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND"):
            return None
        raise
    found = rows.agg(*table.spark_totals(table.spark_number(F.col(HASH)))).first()
    return Totals(found["rows"], found["checksum"])


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Reconciliation:
    """Reconciles the run that the options name.

    Raises:
        IngestError: there is no such run or table; what the sides hold can still differ where it returns.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point: prints the comparison; exit code 0 if all agree, 1 with one line if not or after an error."""
    options = _parse(sys.argv[1:])

    def act() -> Reconciliation:
        found = _run(options)
        if found.differences:
            print(found)
            raise IngestError(f"the run {options.run_id} does not reconcile: {'; '.join(found.differences)}")
        return found

    cli.command(act, run_id=uuid.uuid4().hex, show_traceback=options.traceback)


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Reconciliation:
    spark = spark or SparkSession.builder.getOrCreate()
    run_log = RunLog(spark, options.catalog, options.ops_schema)
    found = run_log.find(options.run_id)
    if found is None:
        raise IngestError(f"{run_log.name} has no run {options.run_id!r}; its column run_id has those there are")
    source = Source.of(options.source)
    tables = declarations.declared(options.sources)
    named = [t for t in tables.values() if f"{source.database}.{t.name}" == found.source_table]
    if not named:
        raise IngestError(
            f"the run is of {found.source_table}, which no declaration and {source} make; correct --sources or --source"
        )
    bronze = f"`{options.catalog}`.`{options.bronze_schema}`.`{named[0].folder}`"
    try:
        return reconcile(spark, named[0], source, run_log, found, bronze)
    except Exception as error:
        raise explained(error, source=source) from error


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ingest-reconcile", description="Compares source, landing zone and bronze for one past run."
    )
    cli.add_common(parser, DEFAULT_REFERENCE)
    parser.add_argument("--run-id", type=checked_run_id, required=True, help="as in ops.ingest_runs")
    parser.add_argument("--sources", help="YAML file of declarations; the one of this package by default")
    parser.add_argument("--catalog", type=identifier, required=True)
    parser.add_argument("--ops-schema", type=identifier, default="ops")
    parser.add_argument("--bronze-schema", type=identifier, default="bronze")
    return parser.parse_args(argv)
