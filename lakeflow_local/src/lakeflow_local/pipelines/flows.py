"""Runs the flows of an update: rows into tables and sinks, counted on their way; changes into AUTO CDC targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import auto_cdc
from lakeflow_local.pipelines.expectations import VIOLATION, Metrics, Result
from lakeflow_local.pipelines.graph import Kind, Sink, Snapshot
from lakeflow_local.pipelines.names import quoted
from lakeflow_local.pipelines.resolve import Node, Resolved, flow_key
from lakeflow_local.pipelines.sources import causes, describe
from lakeflow_local.pipelines.storage import Storage
from lakeflow_local.pipelines.tables import Tables, declared_columns

ONCE = "once.json"


@dataclass
class FlowResult:
    """What one flow did.

    Attributes:
        status: COMPLETED, FAILED, SKIPPED (what it reads failed) or EXCLUDED (not selected).
        rows: rows written, None where the flow applies changes or its rows cannot be counted.
        upserted, deleted: rows of the target that changes touched.
        dropped: rows that a dropping expectation refused, each counted once.
        unchanged: a materialized view that was not computed again, since nothing that it reads has changed.
    """

    name: str
    dataset: str
    status: str
    seconds: float = 0.0
    rows: int | None = None
    upserted: int | None = None
    deleted: int | None = None
    dropped: int = 0
    expectations: list[Result] = field(default_factory=list)
    error: str | None = None
    unchanged: bool = False

    @property
    def did_something(self) -> bool:
        return bool(self.rows or self.upserted or self.deleted or self.dropped)

    def then(self, later: FlowResult) -> FlowResult:
        """Both runs of a flow as one: their rows added up, the later outcome."""

        def total(first: int | None, second: int | None) -> int | None:
            return None if first is None and second is None else (first or 0) + (second or 0)

        return replace(
            later,
            seconds=self.seconds + later.seconds,
            rows=total(self.rows, later.rows),
            upserted=total(self.upserted, later.upserted),
            deleted=total(self.deleted, later.deleted),
            dropped=self.dropped + later.dropped,
            expectations=_added(self.expectations, later.expectations),
            unchanged=self.unchanged and later.unchanged,
        )

    @property
    def counts(self) -> dict[str, int]:
        """The metrics of the event log."""
        if self.upserted is not None:
            return {"num_upserted_rows": self.upserted, "num_deleted_rows": self.deleted or 0}
        return {} if self.rows is None else {"num_output_rows": self.rows}

    def __str__(self) -> str:
        if self.status == "FAILED":
            return f"{self.dataset}: failed: {self.error}"
        if self.status == "SKIPPED":
            return f"{self.dataset}: skipped, since {self.error}"
        if self.unchanged:
            return f"{self.dataset}: unchanged, as is all that it reads"
        if self.upserted is not None:
            did = f"{self.upserted:,} rows upserted, {self.deleted or 0:,} deleted"
        else:
            did = "done" if self.rows is None else f"{self.rows:,} rows"
        dropped = f", {self.dropped:,} dropped" if self.dropped else ""
        return f"{self.dataset}: {did}{dropped} in {self.seconds:.1f} s"


def _added(earlier: Sequence[Result], later: Sequence[Result]) -> list[Result]:
    found = {(r.dataset, r.name): r for r in earlier}
    for r in later:
        was = found.get((r.dataset, r.name))
        found[r.dataset, r.name] = (
            r
            if was is None
            else replace(r, passed=was.passed + r.passed, failed=was.failed + r.failed, nulls=was.nulls + r.nulls)
        )
    return list(found.values())


class Flows:
    """Writes what flows read. Flows of several datasets may be written at once, those of one take turns."""

    def __init__(self, spark: SparkSession, storage: Storage, tables: Tables, pipeline_id: str):
        self._spark = spark
        self._storage = storage
        self._tables = tables
        self._pipeline_id = pipeline_id

    def write(self, node: Node, resolved: Resolved, result: FlowResult) -> None:
        """Runs one flow to the end of what its sources hold and adds what it did to `result`."""
        metrics = resolved.metrics
        if node.dataset.sink is None:
            self._tables.look_at(node.table)
        if resolved.flow.snapshot is not None:
            self._apply_snapshots(node, resolved, resolved.flow.snapshot)
            metrics.close()
            return
        changes = resolved.flow.cdc is not None
        frame = metrics.apply(resolved.frame, node.full, node.dataset.expectations, count_rows=not changes)
        if changes:
            if not self._apply_changes(node, resolved, frame, result):
                return
        elif node.dataset.sink is not None:
            self._to_sink(node.dataset.sink, resolved, frame)
        elif node.kind is Kind.MATERIALIZED_VIEW:
            self._replace(node, frame)
        elif resolved.flow.once:
            if not self._append_once(node, resolved, frame):
                result.rows = 0
                return
        else:
            query = self._fitted(frame, node).writeStream.format("delta").outputMode("append")
            self._await(query, resolved, lambda writer: writer.toTable(quoted(node.table)))
        metrics.close()
        if not changes:
            result.rows = metrics.output_rows(node.full) or 0

    def _replace(self, node: Node, frame: DataFrame) -> None:
        """Writes the rows of a materialized view in place of those that it has.

        Those of a clustered one are sorted in each task and cut into files, so that a file holds a small range of the
        clustering columns. That is no shuffle, which a small table would pay for, and no second reading of a query that
        may be dear, which a range partitioner takes to find its bounds.
        """
        rows = self._fitted(frame, node)
        columns = [f"`{name}`" for name in node.dataset.cluster_by]
        writer = (rows.sortWithinPartitions(*columns) if columns else rows).write.format("delta").mode("overwrite")
        if columns:
            writer = writer.option("maxRecordsPerFile", self._tables.rows_of_a_file(node, rows))
            # Delta 4.4 takes the clustering columns off a table that is overwritten, unless it is for a condition.
            writer = writer.option("replaceWhere", "true")
        writer.save(self._tables.location(node.table))

    def _fitted(self, frame: DataFrame, node: Node) -> DataFrame:
        """The rows with the columns' declared types, where those differ from the query's, and their defaults."""
        table = {f.name.lower(): f.dataType for f in self._spark.table(quoted(node.table)).schema.fields}
        given = {name.lower() for name in frame.columns}
        # Delta fills what an INSERT leaves out, and a MERGE, but not what a stream does.
        defaults = {c.name: F.expr(c.default) for c in declared_columns(node.dataset) if c.default}
        missing = {name: value for name, value in defaults.items() if name.lower() not in given}
        if missing:
            frame = frame.withColumns(missing)
        if all(table.get(f.name.lower()) == f.dataType for f in frame.schema.fields):
            return frame
        return frame.select(
            *(
                frame[f"`{f.name}`"]
                if table[f.name.lower()] == f.dataType
                else frame[f"`{f.name}`"].cast(table[f.name.lower()]).alias(f.name)
                for f in frame.schema.fields
            )
        )

    def _append_once(self, node: Node, resolved: Resolved, frame: DataFrame) -> bool:
        """Adds the rows, unless an earlier update did; whether it did so now."""
        before = self._tables.version(node.table)
        generation = (self._storage.read_json(ONCE) or {}).get(node.full, 0)
        # Delta leaves out a write that it has seen, so a kill after the commit does not add the rows twice.
        writer = self._fitted(frame, node).write.format("delta").mode("append")
        writer = writer.option("txnAppId", f"{self._pipeline_id}/{resolved.key}/{generation}").option("txnVersion", 1)
        writer.save(self._tables.location(node.table))
        return self._tables.version(node.table) > before

    def _to_sink(self, sink: Sink, resolved: Resolved, frame: DataFrame) -> None:
        writer = frame.writeStream.outputMode(resolved.flow.output_mode)
        if sink.function is not None:
            self._for_each_batch(writer, resolved, sink.function)
            return
        options = dict(sink.options)
        table = options.pop("tableName", None)
        writer = writer.format(sink.format).options(**options)
        self._await(writer, resolved, lambda w: w.start() if table is None else w.toTable(table))

    def _apply_changes(self, node: Node, resolved: Resolved, frame: DataFrame, result: FlowResult) -> bool:
        """Applies what the flow reads; whether it did so now, or in an earlier update and runs once."""
        state = self._storage.path("cdc", flow_key(node.full))
        result.upserted = result.deleted = 0
        generated = [c.name for c in declared_columns(node.dataset) if c.generated]

        def apply(batch: DataFrame, _: int) -> None:
            counts = auto_cdc.apply_batch(
                batch.sparkSession,
                batch,
                target=quoted(node.table),
                state=state,
                cdc=resolved.flow.cdc,
                generated=generated,
            )
            result.upserted += counts.upserted
            result.deleted += counts.deleted

        # Goes with the rest of the target's state at a full refresh.
        done = ("cdc", flow_key(node.full), f"once-{resolved.key}.json")
        if self._storage.exists(*done):
            return False
        if frame.isStreaming:
            self._for_each_batch(frame.writeStream, resolved, apply)
        else:
            # Computed here, where observations of its rows are awaited, and not in the session that applies them.
            apply(frame.localCheckpoint(), 0)
        if resolved.flow.once:
            self._storage.write_json(True, *done)
        return True

    def _apply_snapshots(self, node: Node, resolved: Resolved, snapshot: Snapshot) -> None:
        rows = None
        if snapshot.function is None:
            # Computed here, where observations of its rows are awaited, and not in the session that applies them.
            rows = resolved.frame.drop(auto_cdc.START, auto_cdc.END).localCheckpoint()
        state = self._storage.path("cdc", flow_key(node.full))
        auto_cdc.apply_snapshots(self._spark, rows, target=quoted(node.table), state=state, snapshot=snapshot)

    def _for_each_batch(self, writer: Any, resolved: Resolved, function: Callable[[DataFrame, int], None]) -> None:
        failures: list[Exception] = []

        def noting(batch: DataFrame, number: int) -> None:
            try:
                function(batch, number)
            except Exception as error:
                # Spark would report it as text inside an error of its own.
                failures.append(error)
                raise

        try:
            self._await(writer, resolved, lambda w: w.foreachBatch(noting).start())
        except StreamingQueryException:
            if failures:
                raise failures[0] from None
            raise

    def _await(self, writer: Any, resolved: Resolved, start: Callable[[Any], Any]) -> None:
        writer = writer.option("checkpointLocation", self._storage.path("checkpoints", resolved.key))
        query = start(writer.trigger(availableNow=True))
        query.awaitTermination()
        for batch in query.recentProgress:
            resolved.metrics.add_progress(batch.observedMetrics)


def results_of(metrics: Metrics, result: FlowResult) -> None:
    """Adds what the expectations of a flow that ran have counted."""
    result.expectations = list(metrics.results())
    result.dropped = metrics.dropped()


# What Spark and Delta say where a query was changed under its checkpoint, or a source under its reader.
_CHECKPOINT = re.compile(
    r"STREAMING_STATEFUL_OPERATOR_\w+|STATE_STORE_\w*SCHEMA\w*|DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE"
    r"|sources in the checkpoint offsets|STREAMING_CHECKPOINT_\w+|operator name does not match"
)
_NO_APPEND = re.compile(r"DELTA_SOURCE_TABLE_IGNORE_CHANGES|DELTA_SOURCE_IGNORE_DELETE\w*")


def explain(error: BaseException, flow: str) -> str:
    """Why a flow failed, in one line, with no row of data in it."""
    if isinstance(error, LakeflowError):
        return error.message
    messages = causes(error)
    text = "\n".join(messages)
    violated = re.search(rf"\[USER_RAISED_EXCEPTION\] \[{VIOLATION}\] violated expectations: '([^']*)'", text)
    if violated:
        return (
            f"[{VIOLATION}] Flow '{flow}' failed to meet the expectation. Violated expectations: "
            f"'{violated.group(1)}'. Nothing was written; mend the source, or let the expectation drop or warn"
        )
    if (changed := _CHECKPOINT.search(text)) is not None:
        return (
            f"the query of {flow} does not fit its checkpoint, since its sources or stateful operators were changed "
            f"({changed.group(0)}); run a full refresh of its table, or reset its checkpoint (--reset-checkpoint)"
        )
    if (commit := _NO_APPEND.search(text)) is not None:
        return (
            f"a table that {flow} reads as a stream was changed otherwise than by new rows ({commit.group(0)}); read "
            "it with the option skipChangeCommits, or run a full refresh of the table that this flow writes"
        )
    # A stream's error tells first which query it was, by ids that nobody needs.
    stream = re.search(r"terminated with exception: ([^\n]+)", messages[0])
    said = stream.group(1).strip() if stream else describe(error)
    # The message of an inner cause may quote a value, so only its class is given.
    inner = re.findall(r"^\[([A-Z][A-Z_.]+)\]", messages[-1])
    return f"{said} (cause: {inner[0]})" if inner and inner[0] not in said else said
