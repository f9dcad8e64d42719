"""The alerts of the bundle and `sql/ops/` on the tables that they read, made by hand, with figures worked out here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ingest.run_log import SCHEMA as RUNS
from lakeflow_local.bundle import alerts, load, sql_files
from lakeflow_local.home import Home
from lakeflow_local.pipelines.event_log import SCHEMA as EVENTS
from quality.results import SCHEMA as CHECKED

ROOT = Path(__file__).resolve().parents[2]
OPS = "ops_of_test_sql"


def run(
    hours_ago: float, mode: str = "incremental", status: str = "succeeded", landed: int = 0, deleted: int = 0
) -> dict:
    ended = datetime.now() - timedelta(hours=hours_ago)
    return {"mode": mode, "status": status, "ended_at": ended, "rows_landed": landed, "rows_deleted": deleted}


def event(hours_ago: float, kind: str, update: str, details: dict) -> dict:
    moment = datetime.now() - timedelta(hours=hours_ago)
    return {
        "event_type": kind,
        "timestamp": moment,
        "origin": {"update_id": update},
        "details": json.dumps({kind: details}),
    }


def completed(hours_ago: float) -> dict:
    return event(hours_ago, "update_progress", "u", {"state": "COMPLETED"})


def checked(hours_ago: float, update: str, **rules: tuple[int, int]) -> dict:
    counts = [
        {"name": name, "dataset": "silver.t", "passed_records": passed, "failed_records": failed}
        for name, (passed, failed) in rules.items()
    ]
    return event(hours_ago, "flow_progress", update, {"data_quality": {"expectations": counts}})


def result(hours_ago: float, severity: str, failed: int, evaluated: int | None) -> dict:
    return {
        "checked_at": datetime.now() - timedelta(hours=hours_ago),
        "layer": "silver",
        "table_name": "t",
        "rule": f"rule {severity} {evaluated}",
        "severity": severity,
        "passed": not failed,
        "failed_records": failed,
        "evaluated_records": evaluated,
    }


@pytest.fixture(scope="module")
def schema(spark: SparkSession) -> Iterator[None]:
    spark.sql(f"CREATE SCHEMA {OPS}")
    yield
    spark.sql(f"DROP SCHEMA {OPS} CASCADE")


@pytest.fixture
def tables(spark: SparkSession, schema: None) -> Callable[..., None]:
    """Puts rows into the tables."""

    def make(runs: list[dict], events: list[dict], results: list[dict]) -> None:
        made = {"ingest_runs": (runs, RUNS), "members_event_log": (events, EVENTS), "dq_results": (results, CHECKED)}
        for name, (rows, kind) in made.items():
            frame = spark.createDataFrame(rows, kind).coalesce(1)
            frame.write.mode("overwrite").format("parquet").saveAsTable(f"{OPS}.{name}")

    return make


def test_alerts_and_queries(spark: SparkSession, tables: Callable[..., None], tmp_path: Path) -> None:
    bundle = load.load(ROOT, "local", [f"ops_schema={OPS}"], environment={})
    home = Home(ROOT, tmp_path)

    def states() -> dict[str, str]:
        return {key: str(alerts.evaluate(spark, alert, home)) for key, alert in bundle.of_type("alerts").items()}

    def query(name: str, **parameters: str) -> list[dict]:
        (result,) = sql_files.run(spark, ROOT / "sql" / "ops" / f"{name}.sql", parameters)
        return [row.asDict() for row in result.rows]

    def fresh() -> dict[str, str]:
        return {row["what"]: row["state"] for row in query("freshness", catalog="spark_catalog", ops_schema=OPS)}

    # All is well: the night's run landed rows and the pipeline has read them; rules refused 4 of 100 today.
    tables(
        [run(3, landed=10), run(2, status="failed"), run(30, "reconcile", landed=5, deleted=5)],
        [completed(2.5), checked(2.6, "u1", known=(96, 4), old=(1, 0)), checked(2.6, "u1", known=(0, 0))],
        [
            result(2, "warning", 4, 100),
            result(2, "critical", 0, 100),
            result(2, "critical", 0, None),
            result(2, "info", 9, 9),
            result(30, "critical", 9, 9),
        ],
    )
    assert states() == {
        "data_stale": "OK: hours_late -2.0 GREATER_THAN 0",
        "reconciliation_differs": "OK: members_repaired 0 GREATER_THAN 0",
        "rules_failed": "OK: refused_share 0.04 GREATER_THAN 0.05",
    }
    assert set(fresh().values()) == {"fresh"}
    log = f"spark_catalog.{OPS}.members_event_log"
    counted = query("expectations", event_log=log, update_id="")
    assert [(row["rule"], row["passed"], row["failed"]) for row in counted] == [("known", 96, 4), ("old", 1, 0)]

    # Nothing for 27 hours, what landed then was not read, the comparison before had repaired two; a rule refused
    # 1 of 10.
    tables(
        [run(27, landed=1), run(30, "reconcile", landed=7, deleted=5)],
        [completed(28), checked(28, "u1", known=(99, 1))],
        [result(1, "warning", 1, 10)],
    )
    assert states() == {
        "data_stale": "TRIGGERED: hours_late 25.0 GREATER_THAN 0",
        "reconciliation_differs": "TRIGGERED: members_repaired 2 GREATER_THAN 0",
        "rules_failed": "TRIGGERED: refused_share 0.1 GREATER_THAN 0.05",
    }
    assert fresh() == {
        "members ingested from MySQL": "STALE",
        "members compared with MySQL": "fresh",
        "landed members read by the pipeline": "STALE",
    }

    # One row at fault is enough for a critical check, also where nobody counted the rows that were looked at.
    tables([run(3)], [completed(2)], [result(1, "critical", 1, None), result(1, "warning", 1, 10)])
    assert states()["rules_failed"] == "TRIGGERED: refused_share 1.0 GREATER_THAN 0.05"
