"""`ingest-members`: `ingest-table` for the declared table `members`, under a name of its own."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import SparkSession

from ingest import table_job
from ingest.job import Plan
from ingest.run_log import Run


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Run | Plan:
    """Lands members as the options say; see `table_job.run`."""
    return table_job.run(argv, spark, table="members")


def main() -> None:
    """The entry point; see `table_job.main`."""
    table_job.main("members")
