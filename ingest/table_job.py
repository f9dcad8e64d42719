"""`ingest-table`: the task of a job that lands one declared table, and `run`, the same for a caller with a session."""

from __future__ import annotations

import argparse
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import SparkSession

from ingest import cli, declarations, extract, job, landing
from ingest.job import Plan
from ingest.run_log import Run, checked_run_id
from ingest.source import DEFAULT_REFERENCE, Source

EXIT_CODES = """exit codes: 0 landed and logged; 1 a fault that needs a person; 2 a wrong option; 75 a fault that may be
gone later, or another run of the table is under way: give the same command again; 130 interrupted"""


def run(argv: Sequence[str], spark: SparkSession | None = None, *, table: str | None = None) -> Run | Plan:
    """Lands a table as the options say, or says what it would land.

    Args:
        argv: the options of `ingest-table`.
        spark: None is the active session, or the one that the environment gives.
        table: the declared table of a command that has no `--table`.

    Raises:
        IngestError: with one line for the user.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv, table), spark)


def main(table: str | None = None) -> None:
    """The entry point; its exit codes are those of `EXIT_CODES`."""
    cli.main(lambda argv: _parse(argv, table), _run)


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Run | Plan:
    table = declarations.table(options.table, options.sources)
    settings = job.Settings(
        mode=options.mode,
        landing_url=options.landing_url,
        catalog=options.catalog,
        ops_schema=options.ops_schema,
        silver_schema=options.silver_schema,
        run_id=options.run_id,
        lag=timedelta(seconds=options.lag_seconds),
        overlap=timedelta(seconds=options.overlap_seconds),
        partitions=options.partitions,
        rows_per_file=options.rows_per_file,
        reader=options.reader,
        check=options.check,
        since=options.since,
        until=options.until,
    )
    source = Source.of(options.source)
    act = job.plan if options.dry_run else job.run
    return act(spark or SparkSession.builder.getOrCreate(), table, source, settings)


def _parse(argv: Sequence[str], table: str | None = None) -> argparse.Namespace:
    name = f"ingest-{table or 'table'}"
    parser = argparse.ArgumentParser(
        prog=name, description=f"Lands {table or 'a declared table'} of MySQL as Parquet.", epilog=EXIT_CODES
    )
    cli.add_common(parser, DEFAULT_REFERENCE)
    if table is None:
        parser.add_argument("--table", required=True, help="its name in the file of declarations")
    else:
        parser.set_defaults(table=table)
    parser.add_argument("--sources", help="YAML file of declarations; the one of this package by default")
    parser.add_argument(
        "--mode",
        choices=job.MODES,
        default="incremental",
        help="what changed since the last success; everything; what differs from silver, deletes among it; or what "
        "changed between --from and --to, once more",
    )
    parser.add_argument("--from", dest="since", type=moment, help="backfill: first moment, UTC, such as 2026-01-31")
    parser.add_argument("--to", dest="until", type=moment, help="backfill: first moment that is not meant any more")
    parser.add_argument("--dry-run", action="store_true", help="say what would be read and where it would land")
    parser.add_argument("--landing-url", type=landing_url, required=True, help="such as s3://bucket/prefix")
    parser.add_argument("--catalog", type=identifier, required=True)
    parser.add_argument("--ops-schema", type=identifier, default="ops", help="where ingest_runs is (%(default)s)")
    parser.add_argument(
        "--silver-schema", type=identifier, default="silver", help="what reconcile compares with (%(default)s)"
    )
    parser.add_argument(
        "--lag-seconds",
        type=cli.at_least(0),
        default=0,
        help="end the window so long before the server's clock (%(default)s)",
    )
    parser.add_argument(
        "--overlap-seconds",
        type=cli.at_least(0),
        default=300,
        help="look so far before the last mark for late commits; longer than any transaction (%(default)s)",
    )
    parser.add_argument(
        "--partitions", type=cli.at_least(1), default=2, help="tasks that read at once, about one a core (%(default)s)"
    )
    parser.add_argument(
        "--rows-per-file", type=cli.at_least(1), default=landing.ROWS_PER_FILE, help="at most (%(default)s)"
    )
    parser.add_argument(
        "--reader",
        choices=(extract.AUTO, *extract.READERS),
        default=extract.AUTO,
        help="Spark's JDBC source, or DuckDB in Spark's tasks where it is installed, which is faster (%(default)s)",
    )
    parser.add_argument(
        "--check",
        choices=job.CHECKS,
        default="rows",
        help="have MySQL hash rows as it sends them, or the whole window in a pass of its own as well (%(default)s)",
    )
    parser.add_argument(
        "--run-id", type=checked_run_id, default=None, help="a name for logs and rows; a random one by default"
    )
    options = parser.parse_args(argv)
    if (options.mode == "backfill") != bool(options.since and options.until):
        parser.error("--mode backfill needs --from and --to, and no other mode takes them")
    options.run_id = options.run_id or uuid.uuid4().hex
    return options


def moment(text: str) -> datetime | None:
    """An argparse type: a day or a moment in ISO 8601, UTC where it names no other zone; None for a job parameter that
    was left empty."""
    if not text:
        return None
    value = datetime.fromisoformat(text)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


def identifier(text: str) -> str:
    """An argparse type: a catalog or schema name, which SQL is built from."""
    if "`" in text or not text.isprintable() or not text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name")
    return text


def landing_url(text: str) -> str:
    """An argparse type: a folder's URL that names no password."""
    if re.match(r"[^/]+://[^/]*:[^/]*@", text):
        raise argparse.ArgumentTypeError("a URL must hold no password; give the session its access instead")
    return text
