"""`erase-members`: removes persons from the source, the landing zone and every table, with a receipt.

Requests are rows of `ops.erasure_requests` (`request_id`, `member_id`, `requested_at`). A run has two steps, and
between them the pipeline is updated, which takes the person out of gold:

* `delete` goes along the way of the data, so that nothing comes back: MySQL, landed files, bronze, silver.
* `purge` rewrites files in which deleted rows are only marked, removes files that no current version needs, and ends
  the request. Files younger than `--retain-hours` stay; then the request stays open, and a later purge ends it.

Each part can be repeated, so that a run that died is simply run again. Rows of `ops.erasure_receipts` say what was
removed where, by `request_id` alone: a receipt names nobody. No update of the pipeline may run at the same time.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest import cli
from ingest.errors import IngestError, explained
from ingest.source import DEFAULT_REFERENCE, Source

log = logging.getLogger("ingest")

_REQUESTS = "request_id STRING, member_id STRING, requested_at TIMESTAMP"
_RECEIPTS = "request_ids ARRAY<STRING>, step STRING, place STRING, items BIGINT, done_at TIMESTAMP"
# Statistics of a column stand in the transaction log, which no purge rewrites.
_NO_STATISTICS = "TBLPROPERTIES ('delta.dataSkippingStatsColumns' = '{}')"
_KEYS_PER_STATEMENT = 500


@dataclass
class Erased:
    """What a step did: items by place; `open` requests are left for a later purge."""

    requests: int = 0
    items: dict[str, int] = field(default_factory=dict)
    open: int = 0


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Erased:
    """Does one step for all open requests.

    Args:
        argv: the options of `erase-members`.
        spark: None is the active session, or the one that the environment gives.

    Raises:
        IngestError: with one line for the user; run the same command again after mending the cause.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point; exit code 0, 2 after a wrong option, else those of `cli.command`."""
    cli.main(_parse, _run)


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Erased:
    erasure = _Erasure(spark or SparkSession.builder.getOrCreate(), options)
    try:
        return erasure.delete() if options.step == "delete" else erasure.purge()
    except IngestError:
        raise
    except Exception as error:
        log.debug("the step failed", exc_info=True)
        raise explained(error, landing=options.landing_url) from error


class _Erasure:
    def __init__(self, spark: SparkSession, options: argparse.Namespace):
        self.spark, self.options = spark, options
        self.done = Erased()
        self.landing = options.landing_url.rstrip("/")
        ops = f"{options.catalog}.{options.ops_schema}"
        self.requests_table, self.receipts_table = f"{ops}.erasure_requests", f"{ops}.erasure_receipts"
        for name, columns, known in (
            (self.requests_table, _REQUESTS, "requested_at"),
            (self.receipts_table, _RECEIPTS, "done_at"),
        ):
            spark.sql(f"CREATE TABLE IF NOT EXISTS {name} ({columns}) USING DELTA {_NO_STATISTICS.format(known)}")
        rows = spark.table(self.requests_table).select("request_id", "member_id").distinct().collect()
        if any(not row.member_id or not row.request_id for row in rows):
            raise IngestError(f"{self.requests_table} has a row without request_id or member_id; complete or remove it")
        self.ids = sorted({row.request_id for row in rows})
        self.members = sorted({row.member_id for row in rows})
        self.done.requests = len(self.ids)

    def delete(self) -> Erased:
        if self.members:
            self._record("delete", "mysql", self._delete_in_mysql())
            self._record("delete", "landing", self._rewritten(f"{self.landing}/members"))
            for name in self._tables("bronze", "silver"):
                self._record("delete", name, self._delete_in(DeltaTable.forName(self.spark, name)))
            if self.options.ordering_state:
                self._record("delete", "ordering state", self._rewritten(self.options.ordering_state))
        self.done.open = len(self.ids)
        return self.done

    def purge(self) -> Erased:
        if not self.members:
            return self.done
        for name in self._tables("bronze", "silver"):
            if self.spark.table(name).join(self._wanted(), "member_id", "left_semi").take(1):
                raise IngestError(f"{name} still has a requested member; run the step delete first")
        for name in self._tables("bronze", "silver", "gold"):
            self._record("purge", name, self._purged(name))
        if self.options.retain_hours:
            self.done.open = len(self.ids)
            return self.done
        DeltaTable.forName(self.spark, self.requests_table).delete(F.lit(True))
        self._purged(self.requests_table)
        self._record("purge", "requests", len(self.ids))
        return self.done

    def _wanted(self) -> DataFrame:
        return self.spark.table(self.requests_table).select("member_id").distinct()

    def _tables(self, *layers: str) -> list[str]:
        """Delta tables of these schemas whose name begins with `members`, in the order of the data."""
        found = []
        for layer in layers:
            schema = f"{self.options.catalog}.{getattr(self.options, f'{layer}_schema')}"
            listed = self.spark.sql(f"SHOW TABLES IN {schema}").where("NOT isTemporary").collect()
            names = sorted(row.tableName for row in listed)
            tables = [f"{schema}.{name}" for name in names if name.startswith("members")]
            personal = [name for name in tables if layer == "gold" or "member_id" in self.spark.table(name).columns]
            # What feeds the others first: a stream that starts meanwhile finds nothing to bring back.
            found += sorted(personal, key=lambda name: not name.endswith("_changes"))
        return found

    def _delete_in(self, table: DeltaTable) -> int:
        # A merge and not a delete: its condition, which the log keeps, names columns and no person.
        merge = table.alias("t").merge(self._wanted().alias("r"), "t.member_id = r.member_id").whenMatchedDelete()
        return int(merge.execute().first()["num_deleted_rows"])

    def _purged(self, target: str) -> int:
        """Rewrites the files with marked rows, removes those that are needed no more; how many were rewritten."""
        metrics = self.spark.sql(f"REORG TABLE {target} APPLY (PURGE)").first()["metrics"]
        check = "spark.databricks.delta.retentionDurationCheck.enabled"
        before = self.spark.conf.get(check, "true")
        if not self.options.retain_hours:
            self.spark.conf.set(check, "false")
        try:
            self.spark.sql(f"VACUUM {target} RETAIN {self.options.retain_hours} HOURS").collect()
        finally:
            self.spark.conf.set(check, before)
        return metrics["numFilesRemoved"]

    def _delete_in_mysql(self) -> int:
        source, gone = Source.of(self.options.source), 0
        with closing(source.connect()) as connection, source.readable_errors(), connection.cursor() as cursor:
            for start in range(0, len(self.members), _KEYS_PER_STATEMENT):
                some = self.members[start : start + _KEYS_PER_STATEMENT]
                cursor.execute(f"DELETE FROM members WHERE member_id IN ({', '.join(['%s'] * len(some))})", some)
                gone += cursor.rowcount
            connection.commit()
        return gone

    def _rewritten(self, folders: str) -> int:
        """Rewrites the Parquet files in and below some folders that hold a requested member; how many there were.

        Each keeps its name, since Auto Loader has seen it and does not read it again.
        """
        files, aside = _Files(self.spark), f"{self.landing}/_erasure"
        files.delete(aside)
        if not files.exist(folders):
            return 0
        held = self.spark.read.parquet(folders).select("member_id", F.col("_metadata.file_path").alias("_file"))
        paths = held.join(self._wanted(), "member_id", "left_semi").select("_file").distinct().collect()
        for number, row in enumerate(paths):
            kept = self.spark.read.parquet(row._file).join(F.broadcast(self._wanted()), "member_id", "left_anti")
            kept.coalesce(1).write.option("compression", "zstd").parquet(f"{aside}/{number}")
            files.replace(f"{aside}/{number}", row._file)
        files.delete(aside)
        return len(paths)

    def _record(self, step: str, place: str, items: int) -> None:
        self.done.items[place] = self.done.items.get(place, 0) + items
        log.info("%s: %s: %d", step, place, items)
        row = (self.ids, step, place, items, datetime.now(UTC))
        self.spark.createDataFrame([row], _RECEIPTS).write.mode("append").saveAsTable(self.receipts_table)


class _Files:
    """Files where Hadoop reaches them."""

    def __init__(self, spark: SparkSession):
        self._hadoop = spark._jvm.org.apache.hadoop.fs
        self._configuration = spark._jsparkSession.sessionState().newHadoopConf()

    def _open(self, url: str):
        path = self._hadoop.Path(url)
        return path.getFileSystem(self._configuration), path

    def exist(self, pattern: str) -> bool:
        files, path = self._open(pattern)
        return bool(files.globStatus(path))

    def delete(self, url: str) -> None:
        files, path = self._open(url)
        files.delete(path, True)

    def replace(self, folder: str, file: str) -> None:
        """Puts the one Parquet file of a folder in the place of another; on S3 by one PUT, which is all or nothing."""
        files, path = self._open(folder)
        (made,) = [s.getPath() for s in files.listStatus(path) if s.getPath().getName().endswith(".parquet")]
        target_files, target = self._open(file)
        self._hadoop.FileUtil.copy(files, made, target_files, target, False, True, self._configuration)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="erase-members", description="Removes the members of ops.erasure_requests.")
    cli.add_common(parser, DEFAULT_REFERENCE)
    parser.add_argument("--step", choices=("delete", "purge"), required=True, help="update the pipeline between them")
    parser.add_argument("--landing-url", required=True, help="such as s3://bucket/prefix")
    parser.add_argument("--catalog", required=True)
    for layer in ("bronze", "silver", "gold", "ops"):
        parser.add_argument(f"--{layer}-schema", default=layer, help="(%(default)s)")
    parser.add_argument(
        "--retain-hours",
        type=cli.at_least(0),
        default=168,
        help="files younger than this stay, for readers of older versions; 0 while nothing reads (%(default)s)",
    )
    parser.add_argument(
        "--ordering-state",
        default="",
        help="on one's own machine: glob of the folders of events beside AUTO CDC's tables, …/members/cdc/*/events-*",
    )
    return parser.parse_args(argv)
