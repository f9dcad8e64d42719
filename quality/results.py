"""`ops.dq_results`: one row for each check of each run of the gate, whoever checked."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime

from pyspark.sql import SparkSession

SCHEMA = """
    run_id STRING COMMENT 'Run of the gate',
    checked_at TIMESTAMP COMMENT 'When the gate ran, UTC',
    checked_by STRING COMMENT 'expectation, cross-row check, reconciliation, contract or great expectations',
    layer STRING COMMENT 'bronze, silver or gold',
    table_name STRING COMMENT 'Table without its schema',
    column_name STRING COMMENT 'Column, where the check is of one',
    rule STRING COMMENT 'Name of the rule or check',
    dimension STRING COMMENT 'completeness, uniqueness, validity, consistency, timeliness or accuracy',
    severity STRING COMMENT 'critical, warning or info',
    owner STRING COMMENT 'Team that mends what it finds',
    passed BOOLEAN COMMENT 'Whether nothing is at fault',
    failed_records BIGINT COMMENT 'Rows at fault; NULL where they were not counted',
    evaluated_records BIGINT COMMENT 'Rows looked at; NULL where they were not counted',
    message STRING COMMENT 'What is wrong, without any value'
"""

CRITICAL, WARNING, INFO = "critical", "warning", "info"
# What a rule does with a row says how bad a broken one is: a dropped row is dealt with.
SEVERITY = {"fail": CRITICAL, "drop": WARNING, "warn": WARNING}


@dataclass(frozen=True)
class Result:
    """A row of `ops.dq_results`, less the run; see `SCHEMA`."""

    checked_by: str
    layer: str
    table_name: str
    column_name: str | None
    rule: str
    dimension: str
    severity: str
    owner: str
    passed: bool
    failed_records: int | None = None
    evaluated_records: int | None = None
    message: str | None = None


def append(spark: SparkSession, table: str, run_id: str | None, at: datetime, results: Iterable[Result]) -> None:
    """Adds the results of a run; one that is repeated under its id replaces what it wrote, None is a new id."""
    spark.sql(f"CREATE TABLE IF NOT EXISTS {table} ({SCHEMA}) USING DELTA")
    name = run_id or uuid.uuid4().hex
    rows = [(name, at, *astuple(result)) for result in results]
    frame = spark.createDataFrame(rows, spark.table(table).schema).coalesce(1)
    if run_id is None:
        frame.write.format("delta").mode("append").saveAsTable(table)
        return
    frame.write.format("delta").mode("overwrite").option("replaceWhere", f"run_id = '{run_id}'").saveAsTable(table)
