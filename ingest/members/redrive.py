"""`redrive-members`: lands what is in quarantine anew, for after a rule or a parser was mended.

The rows go the way of all rows, from the landing zone through bronze and the rules, so that bronze stays what was let
through and what was refused. A row keeps the time of its change: where a later change of the member has arrived since,
AUTO CDC takes the redriven one for old. A row that the *source* mended needs none of this; the ingest lands it.
"""

from __future__ import annotations

import argparse
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest import cli, landing
from ingest.errors import IngestError, explained
from ingest.members.table import MEMBERS

log = logging.getLogger("ingest")


@dataclass(frozen=True)
class Redriven:
    """Rows that were landed, and the folder they are in; None where there were none."""

    rows: int
    path: str | None


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Redriven:
    """Lands the quarantined rows that the options name; the same run id twice lands them once.

    Args:
        argv: the options of `redrive-members`.
        spark: None is the active session, or the one that the environment gives.

    Raises:
        IngestError: with one line for the user.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point; exit code 0, 2 after a wrong option, else those of `cli.command`."""
    cli.main(_parse, _run)


def waiting(quarantine: DataFrame, changes: DataFrame, rule: str | None = None) -> DataFrame:
    """The rows of quarantine that nothing newer of the same member has overtaken, each once.

    Args:
        rule: those alone that break this rule.
    """
    if rule:
        quarantine = quarantine.where(F.array_contains("failed_rules", rule))
    passed = changes.groupBy("member_id").agg(F.max("_changed_at").alias("_passed_at"))
    open_rows = quarantine.join(passed, "member_id", "left").where("_passed_at IS NULL OR _changed_at > _passed_at")
    return open_rows.drop("_passed_at").dropDuplicates(["member_id", "_changed_at", "_row_hash"])


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Redriven:
    spark = spark or SparkSession.builder.getOrCreate()
    schema = f"{options.catalog}.{options.silver_schema}"
    try:
        rows = waiting(
            spark.table(f"{schema}.members_quarantine"), spark.table(f"{schema}.members_changes"), options.rule
        ).select(
            *MEMBERS.names, "_op", "_changed_at", "_row_hash", "_extracted_at", F.lit(options.run_id).alias("_run_id")
        )
        count = rows.persist().count()
        if not count:
            return Redriven(0, None)
        day = datetime.now(UTC)
        path = f"{options.landing_url.rstrip('/')}/members/ingest_date={day:%Y-%m-%d}/redrive-{options.run_id}"
        landing.write(rows.coalesce(1), path)
        rows.unpersist()
    except AnalysisException as error:
        if error.getCondition() == "TABLE_OR_VIEW_NOT_FOUND":
            raise IngestError(f"{schema} has no quarantine of members; run the pipeline members first") from None
        raise explained(error, landing=options.landing_url) from error
    log.info("%d rows of quarantine landed anew", count)
    return Redriven(count, path)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="redrive-members", description="Lands the quarantined members anew.")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    parser.add_argument("--landing-url", required=True, help="such as s3://bucket/prefix")
    parser.add_argument("--catalog", required=True)
    parser.add_argument("--silver-schema", default="silver", help="where the quarantine is (%(default)s)")
    parser.add_argument("--rule", default=None, help="only rows that break this rule; all by default")
    parser.add_argument("--run-id", default=None, help="a name for the folder and the rows; a random one by default")
    options = parser.parse_args(argv)
    options.rule = options.rule or None
    options.run_id = options.run_id or uuid.uuid4().hex
    return options
