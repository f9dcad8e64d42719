"""`ingest-members`: the task of the job that lands members, and `run`, the same for a caller with a session."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Sequence
from datetime import timedelta

from pyspark.sql import SparkSession

from ingest import cli, job
from ingest.members.table import MEMBERS
from ingest.run_log import Run
from ingest.source import DEFAULT_REFERENCE, Source


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Run:
    """Lands members as the options say.

    Args:
        argv: the options of `ingest-members`.
        spark: None is the active session, or the one that the environment gives.

    Raises:
        IngestError: with one line for the user.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point; exit code 0, or 1 with one line on stderr, or 2 after a wrong option."""
    options = _parse(sys.argv[1:])
    cli.command(lambda: _run(options), run_id=options.run_id, show_traceback=options.traceback)


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Run:
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
    )
    source = Source.of(options.source)
    return job.run(spark or SparkSession.builder.getOrCreate(), MEMBERS, source, settings)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ingest-members", description="Lands the members of MySQL as Parquet.")
    cli.add_common(parser, DEFAULT_REFERENCE)
    parser.add_argument(
        "--mode",
        choices=job.MODES,
        default="incremental",
        help="what changed since the last success; everything; or what differs from silver, deletes among it",
    )
    parser.add_argument("--landing-url", required=True, help="such as s3://bucket/prefix")
    parser.add_argument("--catalog", required=True)
    parser.add_argument("--ops-schema", default="ops", help="where ingest_runs is (%(default)s)")
    parser.add_argument("--silver-schema", default="silver", help="what reconcile compares with (%(default)s)")
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
    parser.add_argument("--run-id", default=None, help="a name for logs and rows; a random one by default")
    options = parser.parse_args(argv)
    options.run_id = options.run_id or uuid.uuid4().hex
    return options
