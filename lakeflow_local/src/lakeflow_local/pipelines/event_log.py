"""The event log of a pipeline: a Delta table with the columns and event types that Databricks documents.

Events of a running update are kept in a file, line by line, and go into the table when it ends; what a killed update
left in its file goes in with the next one.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
import uuid
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from lakeflow_local.pipelines.expectations import Result
from lakeflow_local.pipelines.names import quoted
from lakeflow_local.pipelines.storage import Storage

if TYPE_CHECKING:
    from lakeflow_local.pipelines.resolve import Node

# Databricks' columns; `sequence` is JSON there too, and `details` a JSON string.
SCHEMA = """
    id STRING COMMENT 'Unique id of the event',
    sequence STRING COMMENT 'JSON: the order of the event among those of its update',
    origin STRUCT<
        cloud: STRING, region: STRING, pipeline_type: STRING, pipeline_id: STRING, pipeline_name: STRING,
        update_id: STRING, flow_id: STRING, flow_name: STRING, dataset_name: STRING, table_name: STRING,
        batch_id: BIGINT, cluster_id: STRING, host: STRING, org_id: BIGINT, request_id: STRING, sink_name: STRING,
        materialization_name: STRING, maintenance_id: STRING
    > COMMENT 'Where the event comes from',
    timestamp TIMESTAMP COMMENT 'When it happened, UTC',
    message STRING COMMENT 'For a person',
    level STRING COMMENT 'INFO, WARN, ERROR or METRICS',
    maturity_level STRING COMMENT 'STABLE, EVOLVING or DEPRECATED',
    error STRUCT<fatal: BOOLEAN, exceptions: ARRAY<STRUCT<class_name: STRING, message: STRING>>>
        COMMENT 'What went wrong, if anything did',
    details STRING COMMENT 'JSON whose one key is the event type',
    event_type STRING COMMENT 'Such as flow_progress or update_progress'
"""

# The id of the pipeline that a table belongs to, as Databricks names it.
PIPELINE_ID = "pipelines.pipelineId"
# A file for each pipeline, below the warehouse.
_INDEX = "_event_logs"
# Their form is this package's own, or may change there.
_EVOLVING = frozenset({"hook_progress", "planning_information", "operation_progress", "runtime_details"})


def table_of(spark: SparkSession, pipeline_id: str) -> str | None:
    """The full name of the table of a pipeline's event log; None where it has not run in this warehouse."""
    return _index(spark).read_json(_INDEX, f"{quote(pipeline_id, safe='')}.json")


def _index(spark: SparkSession) -> Storage:
    return Storage(spark, spark.conf.get("spark.sql.warehouse.dir"))


class EventLog:
    """Collects the events of one update."""

    def __init__(
        self,
        spark: SparkSession,
        table: str,
        folder: str,
        *,
        pipeline_id: str,
        pipeline_name: str,
        update_id: str,
        listener: Callable[[dict[str, Any]], None] = lambda _: None,
    ):
        """Args:
        table: full name of the Delta table.
        folder: where the events of a running update are kept; only a local folder is used.
        listener: is told each event, its details as a dict.
        """
        self._spark = spark
        self._table = table
        self._listener = listener
        self._lock = threading.Lock()
        self._pipeline_id = pipeline_id
        self._origin = {
            "pipeline_type": "WORKSPACE",
            "pipeline_id": pipeline_id,
            "pipeline_name": pipeline_name,
            "update_id": update_id,
        }
        self._folder = Path(folder) if "://" not in folder else None
        self._events: list[dict[str, Any]] = []
        self._file = None
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = (self._folder / f"{update_id}.jsonl").open("w", encoding="utf-8", buffering=1)

    def write(
        self,
        event_type: str,
        message: str,
        details: Any = None,
        *,
        level: str = "INFO",
        error: BaseException | str | None = None,
        fatal: bool = True,
        **origin: Any,
    ) -> None:
        """Adds an event; from any thread.

        Args:
            details: the value under the key `event_type`.
            origin: `flow_name`, `dataset_name` and the like.
        """
        with self._lock:
            sequence = {"data_plane_id": {"instance": self._origin["update_id"], "seq_no": len(self._events)}}
            event = {
                "id": str(uuid.uuid4()),
                "sequence": json.dumps(sequence),
                "origin": {**self._origin, **origin},
                "timestamp": datetime.now(UTC).isoformat(),
                "message": message,
                "level": level,
                "maturity_level": "EVOLVING" if event_type in _EVOLVING else "STABLE",
                "error": _error(error, fatal) if error else None,
                "details": json.dumps({event_type: details if details is not None else {}}),
                "event_type": event_type,
            }
            self._events.append(event)
            if self._file:
                self._file.write(json.dumps(event) + "\n")
            self._tell(event)

    def replay(self) -> None:
        """Tells the listener what was written until now, which it could not know yet."""
        with self._lock:
            for event in self._events:
                self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        parsed = {key: json.loads(event[key]) for key in ("details", "sequence")}
        self._listener({**event, **parsed})

    def hook_failed(self, name: str, message: str, in_a_row: int, ended: bool) -> None:
        details = {"name": name, "status": "DISABLED" if ended else "FAILED", "consecutive_failures": in_a_row}
        self.write("hook_progress", message, details, level="WARN")

    def create_update(
        self,
        cause: str,
        *,
        refresh: Collection[str] = (),
        full_refresh: bool | Collection[str] = False,
        reset_checkpoint: Collection[str] = (),
    ) -> None:
        version = f"lakeflow-local {metadata.version('lakeflow-local')}, Spark {self._spark.version}"
        details = {
            "cause": cause,
            "full_refresh": full_refresh is True,
            "refresh_selection": sorted(refresh),
            "full_refresh_selection": [] if isinstance(full_refresh, bool) else sorted(full_refresh),
            "reset_checkpoint_selection": sorted(reset_checkpoint),
            "runtime_version": {"dbr_version": version},
        }
        self.write("create_update", f"Update {self._origin['update_id'][:6]} started by {cause}.", details)

    def definition(self, node: Node) -> None:
        """What a dataset is, and its flows."""
        if node.is_sink:
            format = node.dataset.sink.format or "foreachBatch"
            self.write("sink_definition", f"Sink '{node.full}' defined.", {"format": format}, sink_name=node.full)
        else:
            rules = [
                {"name": e.name, "predicate": e.predicate, "action": e.action.value} for e in node.dataset.expectations
            ]
            self.write(
                "dataset_definition",
                f"Dataset '{node.full}' defined as {node.kind.name}.",
                {"dataset_type": node.kind.name, "expectations": rules},
                dataset_name=node.full,
            )
        for resolved in node.resolved:
            name = node.flow_name(resolved.flow)
            self.write(
                "flow_definition",
                f"Flow '{name}' defined as {resolved.flow_type(node)}.",
                {
                    "output_dataset": node.full,
                    "input_datasets": sorted(resolved.inputs),
                    "schema_json": resolved.frame.schema.json(),
                    "flow_type": resolved.flow_type(node),
                    "once": resolved.flow.once,
                    "comment": resolved.flow.comment,
                    "spark_conf": dict(resolved.flow.spark_conf),
                    "language": "SQL" if resolved.flow.query else "PYTHON",
                },
                flow_name=name,
                dataset_name=node.full,
            )

    def update_progress(self, state: str, **more: Any) -> None:
        self.write("update_progress", f"Update is {state}.", {"state": state}, **more)

    def flow_progress(
        self,
        flow: str,
        dataset: str,
        status: str,
        *,
        metrics: dict[str, int] | None = None,
        expectations: Iterable[Result] = (),
        dropped: int | None = None,
        **more: Any,
    ) -> None:
        details: dict[str, Any] = {"status": status}
        if metrics:
            details["metrics"] = metrics
        if results := list(expectations):
            details["data_quality"] = {
                "dropped_records": dropped,
                "expectations": [
                    {
                        "name": r.name,
                        "dataset": r.dataset,
                        "passed_records": r.passed,
                        "failed_records": r.failed,
                        "null_records": r.nulls,
                    }
                    for r in results
                ],
            }
        self.write(
            "flow_progress",
            f"Flow '{flow}' is {status}.",
            details,
            flow_name=flow,
            dataset_name=dataset,
            **more,
        )

    def readable(self) -> str:
        """The name of the log's table in SQL; the table is there afterwards."""
        if not self._spark.catalog.tableExists(self._table):
            self._spark.sql(f"CREATE SCHEMA IF NOT EXISTS {quoted(self._table.rsplit('.', 1)[0])}")
            self._spark.sql(
                f"CREATE TABLE IF NOT EXISTS {quoted(self._table)} ({SCHEMA}) USING DELTA"
                f" TBLPROPERTIES ('{PIPELINE_ID}' = '{self._pipeline_id}')"
            )
        if table_of(self._spark, self._pipeline_id) != self._table:
            _index(self._spark).write_json(self._table, _INDEX, f"{quote(self._pipeline_id, safe='')}.json")
        return quoted(self._table)

    def close(self) -> None:
        """Puts the events into the table, with those of updates that were killed before they could."""
        files = [self._folder / name for name in sorted(os.listdir(self._folder))] if self._folder else []
        events = [e for f in files if f.suffix == ".jsonl" for e in _read(f)] if files else self._events
        if self._file:
            self._file.close()
        rows = [{column: _value(event, column) for column in _COLUMNS} for event in events]
        schema = cast(StructType, StructType.fromDDL(SCHEMA))
        # Of Python's own values Spark would make rows in a Python worker.
        table = pa.Table.from_pylist(rows, to_arrow_schema(schema, timezone="UTC"))
        frame = self._spark.createDataFrame(table, schema).coalesce(1)
        self.readable()
        # Logs of earlier versions lack some of the columns.
        writer = frame.write.format("delta").mode("append").option("mergeSchema", "true")
        writer.saveAsTable(quoted(self._table))
        for file in files:
            file.unlink(missing_ok=True)


_COLUMNS = (
    "id",
    "sequence",
    "origin",
    "timestamp",
    "message",
    "level",
    "maturity_level",
    "error",
    "details",
    "event_type",
)


def _value(event: dict[str, Any], column: str) -> Any:
    return datetime.fromisoformat(event[column]) if column == "timestamp" else event[column]


def _read(file: Path) -> list[dict[str, Any]]:
    events = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            # The last line of a killed update may be cut off.
            break
    return events


def _error(error: BaseException | str, fatal: bool) -> dict[str, Any]:
    if isinstance(error, str):
        return {"fatal": fatal, "exceptions": [{"class_name": "", "message": error}]}
    chain = traceback.TracebackException.from_exception(error, compact=True)
    return {"fatal": fatal, "exceptions": [{"class_name": type(error).__name__, "message": str(chain).split("\n")[0]}]}
