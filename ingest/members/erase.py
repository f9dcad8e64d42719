"""`erase-members`: removes persons from the source, the landing zone and every table, with a receipt.

Requests are rows of `ops.erasure_requests` (`request_id`, `member_id`, `requested_at`). The job `erase_members` goes
along the way of the data, so that nothing comes back:

* `sources` deletes in MySQL and rewrites the landed files, those that tell which customer is which member as well;
* `tables` deletes in bronze and silver, in every table that has a `member_id`; it is a step of its own, since
  Databricks lets shared compute alone change streaming tables, and that reaches no private network. Then the pipelines
  are updated, which takes the person out of gold;
* `purge` rewrites files in which deleted rows are only marked, and removes files that no current version needs. Those
  younger than `--retain-hours` stay: a request ends with the purge that comes so long after its first one.

Each part can be repeated, so that a run that died is simply run again. Rows of `ops.erasure_receipts` say what was
removed where, by `request_id` alone: a receipt names nobody. No update of the pipeline may run at the same time.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest import cli
from ingest.errors import IngestError, explained
from ingest.source import DEFAULT_REFERENCE, Source

log = logging.getLogger("ingest")

_REQUESTS = "request_id STRING, member_id STRING, requested_at TIMESTAMP"
_RECEIPTS = "request_ids ARRAY<STRING>, step STRING, place STRING, items BIGINT, done_at TIMESTAMP"
# Statistics of a column stand in the transaction log, which no purge rewrites.
_PROPERTIES = (
    "TBLPROPERTIES ('delta.dataSkippingStatsColumns' = '{}', 'delta.deletedFileRetentionDuration' = 'interval 1 hours')"
)
# What a pipeline of Databricks makes is vacuumed by its own maintenance, within a day of an update, and by nobody else.
_MAINTAINED = ("STREAMING_TABLE", "MATERIALIZED_VIEW")
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
        return {"sources": erasure.sources, "tables": erasure.tables, "purge": erasure.purge}[options.step]()
    except IngestError:
        raise
    except Exception as error:
        log.debug("the step failed", exc_info=True)
        raise explained(error, landing=options.landing_url or "the landing zone") from error


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
            spark.sql(f"CREATE TABLE IF NOT EXISTS {name} ({columns}) USING DELTA {_PROPERTIES.format(known)}")
        rows = spark.table(self.requests_table).select("request_id", "member_id").distinct().collect()
        if any(not (row.member_id or "").strip() or not row.request_id for row in rows):
            raise IngestError(f"{self.requests_table} has a row without request_id or member_id; complete or remove it")
        self.ids = sorted({row.request_id for row in rows})
        self.members = sorted({row.member_id for row in rows})
        self.done.requests = len(self.ids)

    def sources(self) -> Erased:
        if self.members:
            self._record("sources", "mysql", self._delete_in_mysql())
            landed = self._rewritten(f"{self.landing}/members")
            landed += self._rewritten(f"{self.landing}/customer_members*", lines=True)
            self._record("sources", "landing", landed)
        self.done.open = len(self.ids)
        return self.done

    def tables(self) -> Erased:
        if self.members:
            if self.options.ordering_state and not _Files(self.spark).exist(self.options.ordering_state):
                raise IngestError("--ordering-state matches no folder; give that of the pipeline's storage")
            for name in self._tables("bronze", "silver"):
                self._record("tables", name, self._delete_in(name))
            if self.options.ordering_state:
                self._record("tables", "ordering state", self._rewritten(self.options.ordering_state))
        self.done.open = len(self.ids)
        return self.done

    def purge(self) -> Erased:
        deleted_from = self._tables("bronze", "silver")
        names = [*deleted_from, *self._tables("gold")]
        if self.members:
            for name in deleted_from:
                if self._of_members(self.spark.table(name)).take(1):
                    raise IngestError(f"{name} still has a requested member; run the steps sources and tables first")
            # Kept together, since a purge that died has to be repeated for all.
            self._keep(self._receipt("purge", name, self._purged(name)) for name in names)
        ended = self._ended(names)
        if ended:
            listed = ", ".join(f"'{_quoted(request)}'" for request in ended)
            self.spark.sql(f"DELETE FROM {self.requests_table} WHERE request_id IN ({listed})")
            self._record("purge", "requests", len(ended), ended)
        # Also of requests that ended before: their rows are in files that were too young then.
        self._purged(self.requests_table)
        self.done.open = len(self.ids) - len(ended)
        return self.done

    def _ended(self, names: Sequence[str]) -> list[str]:
        """The open requests whose first purge of every table is so old that no file from before it is kept."""
        receipts = self.spark.table(self.receipts_table).where("step = 'purge'")
        first = (
            receipts.where(F.col("place").isin([*names]))
            .select(F.explode("request_ids").alias("request_id"), "place", "done_at")
            .groupBy("request_id", "place")
            .agg(F.min("done_at").alias("done_at"))
            .groupBy("request_id")
            .agg(F.max("done_at").alias("done_at"))
        )
        since = datetime.now(UTC) - timedelta(hours=self.options.retain_hours)
        old = {row.request_id for row in first.where(F.col("done_at") <= F.lit(since)).collect()}
        return [request for request in self.ids if request in old]

    def _of_members(self, rows: DataFrame, how: str = "left_semi", *, lines: bool = False) -> DataFrame:
        """The rows with a requested `member_id`, in any case; of `lines`, those with it in quotes anywhere."""
        wanted = self.spark.table(self.requests_table).select(F.lower(F.trim("member_id")).alias("wanted")).distinct()
        # A line that is no JSON may name a member as well.
        named = "contains(lower(value), concat('\"', wanted, '\"'))" if lines else "lower(trim(member_id)) = wanted"
        return rows.join(F.broadcast(wanted), F.expr(named), how)

    def _tables(self, *layers: str) -> list[str]:
        """Delta tables of these schemas that have a `member_id`, or are gold's of members, in the order of the data."""
        found = []
        for layer in layers:
            schema = f"{self.options.catalog}.{getattr(self.options, f'{layer}_schema')}"
            listed = self.spark.sql(f"SHOW TABLES IN {schema}").where("NOT isTemporary").collect()
            views = {row.viewName for row in self.spark.sql(f"SHOW VIEWS IN {schema}").collect()}
            tables = sorted({row.tableName for row in listed} - views)
            personal = [
                f"{schema}.{name}"
                for name in tables
                if (layer == "gold" and name.startswith("members"))
                or "member_id" in self.spark.table(f"{schema}.{name}").columns
            ]
            # What feeds the others first: a stream that starts meanwhile finds nothing to bring back.
            found += sorted(personal, key=lambda name: not name.endswith("_changes"))
        return found

    def _delete_in(self, name: str) -> int:
        # A merge and not a delete: its condition, which the log keeps, names columns and no person.
        wanted = f"(SELECT DISTINCT lower(trim(member_id)) AS wanted FROM {self.requests_table})"
        merge = f"MERGE INTO {name} t USING {wanted} r ON lower(trim(t.member_id)) = wanted WHEN MATCHED THEN DELETE"
        return self.spark.sql(merge).collect()[0].num_deleted_rows

    def _purged(self, name: str) -> int:
        """Rewrites the files with marked rows, removes those that are needed no more; how many were rewritten."""
        rewritten = self.spark.sql(f"REORG TABLE {name} APPLY (PURGE)").collect()[0].metrics.numFilesRemoved
        described = self.spark.sql(f"DESCRIBE TABLE EXTENDED {name}").where("col_name = 'Type'").select("data_type")
        if not {row.data_type for row in described.collect()} & {*_MAINTAINED}:
            self._vacuum(name)
        return rewritten

    def _vacuum(self, name: str) -> None:
        if self.options.retain_hours:
            # Nobody reads an old version of the requests.
            hours = 1 if name == self.requests_table else self.options.retain_hours
            self.spark.sql(f"VACUUM {name} RETAIN {hours} HOURS").collect()
            return
        check = "spark.databricks.delta.retentionDurationCheck.enabled"
        before = self.spark.conf.get(check, "true") or "true"
        self.spark.conf.set(check, "false")
        try:
            self.spark.sql(f"VACUUM {name} RETAIN 0 HOURS").collect()
        finally:
            self.spark.conf.set(check, before)

    def _delete_in_mysql(self) -> int:
        source, gone = Source.of(self.options.source), 0
        with closing(source.connect()) as connection, source.readable_errors(), connection.cursor() as cursor:
            for start in range(0, len(self.members), _KEYS_PER_STATEMENT):
                some = self.members[start : start + _KEYS_PER_STATEMENT]
                cursor.execute(f"DELETE FROM members WHERE member_id IN ({', '.join(['%s'] * len(some))})", some)
                gone += cursor.rowcount
            connection.commit()
        return gone

    def _rewritten(self, folders: str, *, lines: bool = False) -> int:
        """Rewrites the files in and below some folders that hold a requested member; how many there were.

        Each keeps its name, since Auto Loader has seen it and does not read it again.

        Args:
            lines: the files are JSON lines, not Parquet.
        """
        files, aside = _Files(self.spark), f"{self.landing}/_erasure"
        files.delete(aside)
        if not files.exist(folders):
            return 0
        reader = self.spark.read.option("recursiveFileLookup", lines)
        read: Callable[[str], DataFrame] = reader.text if lines else reader.parquet
        held = read(folders).withColumn("_file", F.col("_metadata.file_path"))
        paths = self._of_members(held, lines=lines).select("_file").distinct().collect()
        for number, row in enumerate(paths):
            kept = self._of_members(read(row._file), "left_anti", lines=lines).coalesce(1).write
            if lines:
                kept.text(f"{aside}/{number}")
            else:
                kept.option("compression", "zstd").parquet(f"{aside}/{number}")
            files.replace(f"{aside}/{number}", row._file)
        files.delete(aside)
        return len(paths)

    def _record(self, step: str, place: str, items: int, requests: Sequence[str] | None = None) -> None:
        self._keep([self._receipt(step, place, items, requests)])

    def _receipt(self, step: str, place: str, items: int, requests: Sequence[str] | None = None) -> tuple:
        self.done.items[place] = self.done.items.get(place, 0) + items
        log.info("%s: %s: %d", step, place, items)
        return list(requests or self.ids), step, place, items, datetime.now(UTC)

    def _keep(self, receipts: Iterable[tuple]) -> None:
        self.spark.createDataFrame([*receipts], _RECEIPTS).write.mode("append").saveAsTable(self.receipts_table)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


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
        """Puts the one file of rows of a folder in the place of another; on S3 by one PUT, which is all or nothing."""
        files, path = self._open(folder)
        (made,) = [s.getPath() for s in files.listStatus(path) if s.getPath().getName().startswith("part-")]
        target_files, target = self._open(file)
        self._hadoop.FileUtil.copy(files, made, target_files, target, False, True, self._configuration)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="erase-members", description="Removes the members of ops.erasure_requests.")
    cli.add_common(parser, DEFAULT_REFERENCE)
    parser.add_argument("--step", choices=("sources", "tables", "purge"), required=True, help="in this order")
    parser.add_argument("--landing-url", default="", help="such as s3://bucket/prefix; not for the step purge")
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
    options = parser.parse_args(argv)
    if (options.step == "sources" or options.ordering_state) and not options.landing_url:
        parser.error("--step sources and --ordering-state need --landing-url, below which files are put aside")
    return options
