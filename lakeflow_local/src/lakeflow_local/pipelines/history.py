"""The past updates of a pipeline, out of its event log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime

from pyspark.sql import SparkSession

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.names import quoted
from lakeflow_local.pipelines.prepare import event_log_table
from lakeflow_local.pipelines.spec import PipelineSpec

_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED"})


@dataclass
class PastUpdate:
    """One update.

    Attributes:
        started: UTC.
        state: the last one that was logged; one that is no end belongs to an update that runs or was killed.
        seconds: None where it has not ended.
        rows: rows that its flows wrote, upserted or deleted.
        dropped: rows that expectations refused.
        failed_expectations: `dataset.name` of those that rows failed.
    """

    update_id: str
    started: datetime
    state: str = "CREATED"
    seconds: float | None = None
    rows: int = 0
    dropped: int = 0
    failed_expectations: list[str] = field(default_factory=list)
    error: str | None = None


def history(spark: SparkSession, spec: PipelineSpec, limit: int) -> list[PastUpdate]:
    """The last `limit` updates, the newest first.

    Raises:
        LakeflowError: the pipeline has not been updated yet.
    """
    table = quoted(event_log_table(spec))
    if not spark.catalog.tableExists(table):
        raise LakeflowError(f"{spec.name} has no update yet; start one with `lakeflow-local pipelines run`")
    events = spark.table(table).where("event_type IN ('create_update', 'update_progress', 'flow_progress')")
    latest = (
        events.where("event_type = 'create_update'")
        .selectExpr("origin.update_id AS update_id", "timestamp AS started")
        .orderBy("started", ascending=False)
        .limit(limit)
    )
    rows = (
        events.selectExpr("origin.update_id AS update_id", "timestamp", "event_type", "message", "error", "details")
        .join(latest, "update_id")
        .orderBy("timestamp")
        .collect()
    )
    updates: dict[str, PastUpdate] = {}
    for row in rows:
        one = updates.setdefault(row.update_id, PastUpdate(row.update_id, row.started))
        details = json.loads(row.details).get(row.event_type) or {}
        if row.event_type == "update_progress":
            one.state = details.get("state", one.state)
            if one.state in _ENDED:
                one.seconds = (row.timestamp - one.started).total_seconds()
            if row.error is not None and row.error.exceptions:
                one.error = row.error.exceptions[0].message
        elif row.event_type == "flow_progress":
            _add(one, details)
    return sorted(updates.values(), key=lambda one: one.started, reverse=True)


def _add(one: PastUpdate, details: dict) -> None:
    metrics, quality = details.get("metrics") or {}, details.get("data_quality") or {}
    counted = ("num_output_rows", "num_upserted_rows", "num_deleted_rows")
    one.rows += sum(int(metrics.get(key) or 0) for key in counted)
    one.dropped += int(quality.get("dropped_records") or 0)
    for expectation in quality.get("expectations") or ():
        name = f"{expectation['dataset']}.{expectation['name']}"
        if expectation.get("failed_records") and name not in one.failed_expectations:
            one.failed_expectations.append(name)
