"""An update of a pipeline: load the sources, resolve the graph, set up the tables, run the flows, keep the event log.

Everything that an update does is safe to repeat. A streaming flow resumes from its checkpoint, a materialized view is
replaced as a whole, a change feed is applied by key and order; so an update that was killed is mended by the next one.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import api, auto_cdc
from lakeflow_local.pipelines.auto_loader import AutoLoader
from lakeflow_local.pipelines.event_log import EventLog
from lakeflow_local.pipelines.expectations import VIOLATION, Result
from lakeflow_local.pipelines.graph import Kind
from lakeflow_local.pipelines.names import Namespace, quoted
from lakeflow_local.pipelines.reads import seen_by
from lakeflow_local.pipelines.registry import Registry
from lakeflow_local.pipelines.resolve import Node, Resolved, Resolver, flow_key
from lakeflow_local.pipelines.sources import Imports, causes, describe, load
from lakeflow_local.pipelines.spec import PipelineSpec
from lakeflow_local.pipelines.storage import Storage
from lakeflow_local.pipelines.tables import Tables, declared_columns

_RESET = "reset.json"
_ONCE = "once.json"
_NULL_IS_VIOLATION = "lakeflow_local.expectations.nullIsViolation"


@dataclass
class FlowResult:
    """What one flow did.

    Attributes:
        status: COMPLETED, FAILED or SKIPPED.
        rows: rows written, None where the flow applies changes.
        upserted, deleted: rows of the target that changes touched.
        dropped: rows that a dropping expectation refused, each counted once.
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


@dataclass
class UpdateResult:
    """What an update did."""

    update_id: str
    succeeded: bool = False
    flows: list[FlowResult] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0

    @property
    def expectations(self) -> list[Result]:
        return [result for flow in self.flows for result in flow.expectations]


def event_log_table(spec: PipelineSpec) -> str:
    """Full name of the table of the pipeline's event log."""
    return Namespace(spec.catalog, spec.schema).full(spec.event_log or f"event_log_{spec.id.replace('-', '_')}")


def run(
    spark: SparkSession,
    spec: PipelineSpec,
    *,
    full_refresh: bool | Collection[str] = False,
    progress: Callable[[str], None] = print,
) -> UpdateResult:
    """Runs one triggered update.

    Args:
        full_refresh: forget the rows and the checkpoints of all streaming tables, or of those named; read all again.
        progress: told line by line what happens.

    Returns:
        The result, also where flows failed: then `succeeded` is False, `error` says why, and flows that did not
        depend on them have run.

    Raises:
        LakeflowError: the sources cannot be loaded or the graph cannot be resolved; nothing was run.
    """
    with _one_at_a_time(spec, progress):
        return _Update(spark, spec, full_refresh, progress).run()


@contextmanager
def _one_at_a_time(spec: PipelineSpec, progress: Callable[[str], None]) -> Iterator[None]:
    """Updates of one pipeline take turns; the lock ends with its process, however that ends."""
    if "://" in spec.storage:
        yield
        return
    folder = Path(spec.storage)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            progress(f"another update of {spec.name} is running (process {lock.read().strip()}); waiting for it to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def _then(restore: Callable[[], None]) -> Iterator[None]:
    """Calls `restore` at the end, after an error too, but not after an interrupt.

    An interrupt (Ctrl-C, a time limit) comes in the middle of a call to the JVM, whose answer the next call would take
    for its own. The process is about to end; the next update repairs what this one left.
    """
    try:
        yield
    except Exception:
        restore()
        raise
    restore()


class _Update:
    def __init__(
        self,
        spark: SparkSession,
        spec: PipelineSpec,
        full_refresh: bool | Collection[str],
        progress: Callable[[str], None],
    ):
        self._spark = spark
        self._spec = spec
        self._full_refresh = full_refresh
        self._progress = progress
        self._storage = Storage(spark, spec.storage)
        self._tables = Tables(spark, self._storage)
        self._result = UpdateResult(str(uuid.uuid4()))
        self._log = EventLog(
            spark,
            event_log_table(spec),
            self._storage.path("events"),
            pipeline_id=spec.id,
            pipeline_name=spec.name,
            update_id=self._result.update_id,
        )

    def run(self) -> UpdateResult:
        started = time.monotonic()
        self._log.write(
            "create_update", f"Update {self._result.update_id[:6]} started.", {"full_refresh": bool(self._full_refresh)}
        )
        with _then(self._log.close):
            try:
                self._update()
            except Exception as error:
                self._log.update_progress("FAILED", level="ERROR", error=error)
                raise
        self._result.seconds = time.monotonic() - started
        return self._result

    def _update(self) -> None:
        with self._session(), api.installed(), Imports(self._spec.root_path) as imports:
            self._log.update_progress("INITIALIZING")
            resolver = self._resolver(self._load(imports))
            with seen_by(resolver):
                self._log.update_progress("SETTING_UP_TABLES")
                order = resolver.resolve_all()
                self._describe(order)
                self._log.update_progress("RUNNING")
                self._run_flows(resolver, order)
        failed = [f for f in self._result.flows if f.status == "FAILED"]
        self._result.succeeded = not failed
        if failed:
            self._result.error = f"{failed[0].dataset}: {failed[0].error}"
            self._log.update_progress("FAILED", level="ERROR", error=self._result.error)
        else:
            self._log.update_progress("COMPLETED")

    @contextmanager
    def _session(self) -> Iterator[None]:
        """The session as the sources expect it: the pipeline's configuration, its schema in force."""
        catalog, schema = self._spark.catalog.currentCatalog(), self._spark.catalog.currentDatabase()
        settings = {
            # Properties that only Databricks knows are kept as they are.
            "spark.databricks.delta.allowArbitraryProperties.enabled": "true",
            "spark.sql.streaming.numRecentProgressUpdates": "10000",
            **self._spec.configuration,
        }
        with self._settings(settings):
            self._tables.ensure_schema(f"{self._spec.catalog}.{self._spec.schema}.t")
            self._use(self._spec.catalog, self._spec.schema)
            with _then(lambda: self._use(catalog, schema)):
                yield

    def _use(self, catalog: str, schema: str) -> None:
        self._spark.catalog.setCurrentCatalog(catalog)
        self._spark.catalog.setCurrentDatabase(schema)

    @contextmanager
    def _settings(self, settings: Any) -> Iterator[None]:
        before = {key: self._spark.conf.get(key, None) for key in settings}
        for key, value in settings.items():
            self._spark.conf.set(key, value)

        def restore() -> None:
            for key, value in before.items():
                if value is None:
                    self._spark.conf.unset(key)
                else:
                    self._spark.conf.set(key, value)

        with _then(restore):
            yield

    def _load(self, imports: Imports) -> Registry:
        registry = Registry()
        load(
            self._spec.sources,
            registry,
            configuration=self._spec.configuration,
            parameters=self._spec.parameters,
            names={"spark": self._spark},
            report=lambda message: self._report("INFO", message),
        )
        imports.send_by_value()
        return registry

    def _resolver(self, registry: Registry) -> Resolver:
        datasets, flows = registry.close()
        if not datasets:
            raise LakeflowError(f"pipeline {self._spec.name} defines no dataset; check its libraries in the bundle")
        return Resolver(
            self._spark,
            self._spec,
            datasets,
            flows,
            auto_loader=AutoLoader(self._spark, self._storage, self._report),
            set_up=self._set_up,
            event_log=event_log_table(self._spec),
            null_is_violation=self._spec.configuration.get(_NULL_IS_VIOLATION) == "true",
        )

    def _report(self, level: str, message: str) -> None:
        self._log.write("user_action" if level == "INFO" else "operation_progress", message, level=level)
        self._progress(message if level == "INFO" else f"warning: {message}")

    def _set_up(self, node: Node) -> None:
        reset = self._is_reset(node)
        if reset:
            # Rows and checkpoints go together: the mark lets the next update finish a reset that a kill cut short.
            marked = set(self._storage.read_json(_RESET) or ())
            self._storage.write_json(sorted(marked | {node.full}), _RESET)
            for resolved in node.resolved:
                self._storage.delete("checkpoints", resolved.key)
            self._storage.delete("cdc", flow_key(node.full))
            once = self._storage.read_json(_ONCE) or {}
            self._storage.write_json({**once, node.full: once.get(node.full, 0) + 1}, _ONCE)
        self._tables.set_up(node, replace=reset)
        if reset:
            self._storage.write_json(sorted(marked - {node.full}), _RESET)

    def _is_reset(self, node: Node) -> bool:
        if node.kind is not Kind.STREAMING_TABLE:
            return False
        if node.full in (self._storage.read_json(_RESET) or ()):
            return True
        if isinstance(self._full_refresh, bool):
            chosen = self._full_refresh
        else:
            names = Namespace(self._spec.catalog, self._spec.schema)
            chosen = node.full in {names.full(name) for name in self._full_refresh}
        if chosen and node.dataset.properties.get("pipelines.reset.allowed", "true").lower() == "false":
            self._report("WARN", f"{node.full} keeps its rows: pipelines.reset.allowed is false")
            return False
        return chosen

    def _describe(self, order: list[Node]) -> None:
        for node in order:
            self._log.write(
                "dataset_definition",
                f"Dataset '{node.full}' defined as {node.kind.name}.",
                {"dataset_type": node.kind.name, "expectations": _rules(node)},
                dataset_name=node.full,
            )
            for resolved in node.resolved:
                self._log.write(
                    "flow_definition",
                    f"Flow '{_flow_name(node, resolved)}' defined.",
                    {
                        "output_dataset": node.full,
                        "input_datasets": sorted(resolved.inputs),
                        "schema_json": resolved.frame.schema.json(),
                        "flow_type": _flow_type(node, resolved),
                        "once": resolved.flow.once,
                        "language": "SQL" if resolved.flow.query else "PYTHON",
                    },
                    flow_name=_flow_name(node, resolved),
                    dataset_name=node.full,
                )

    def _run_flows(self, resolver: Resolver, order: list[Node]) -> None:
        tables = [node for node in order if not node.is_view]
        for node in tables:
            for resolved in node.resolved:
                self._log.flow_progress(_flow_name(node, resolved), node.full, "QUEUED")
        unusable: set[str] = set()
        for node in tables:
            blocked = node.inputs & unusable
            for resolved in node.resolved:
                result = self._run_flow(resolver, node, resolved, blocked)
                self._result.flows.append(result)
                if result.status != "COMPLETED":
                    unusable.add(node.full)

    def _run_flow(self, resolver: Resolver, node: Node, resolved: Resolved, blocked: set[str]) -> FlowResult:
        name = _flow_name(node, resolved)
        result = FlowResult(name, node.full, "COMPLETED")
        if blocked:
            result.status = "SKIPPED"
            result.error = f"{sorted(blocked)[0]} failed"
            self._log.flow_progress(name, node.full, "SKIPPED", level="WARN", error=result.error, fatal=False)
            self._progress(f"{node.full}: skipped, since {result.error}")
            return result
        started = time.monotonic()
        self._log.flow_progress(name, node.full, "STARTING")
        self._log.flow_progress(name, node.full, "RUNNING")
        try:
            with self._settings({**node.dataset.spark_conf, **resolved.flow.spark_conf}):
                metrics = self._run_until_readable(resolver, node, resolved, result)
        except Exception as error:
            result.status = "FAILED"
            result.error = explain(error, name)
            self._log.flow_progress(name, node.full, "FAILED", level="ERROR", error=result.error)
        else:
            result.expectations = list(metrics.results())
            result.dropped = metrics.dropped()
            self._log.flow_progress(
                name,
                node.full,
                "COMPLETED",
                metrics=_counts(result),
                expectations=result.expectations,
                dropped=result.dropped,
            )
        result.seconds = time.monotonic() - started
        self._progress(_line(result))
        return result

    def _run_until_readable(self, resolver: Resolver, node: Node, resolved: Resolved, result: FlowResult) -> Any:
        if resolved.reads_files:
            resolved = self._looked_at_again(resolver, node, resolved)
        while True:
            try:
                self._write(node, resolved, result)
                return resolved.metrics
            except Exception as error:
                loader = resolver.auto_loader
                if not (resolved.reads_files and loader.note_unreadable(resolved.key, "\n".join(causes(error)))):
                    raise
                resolved = resolver.resolve_again(node, resolved.flow)

    def _looked_at_again(self, resolver: Resolver, node: Node, resolved: Resolved) -> Resolved:
        """Files that arrived since the graph was resolved may have brought columns."""
        again = resolver.resolve_again(node, resolved.flow)
        if again.frame.schema != resolved.frame.schema:
            node.resolved = [again if r is resolved else r for r in node.resolved]
            self._tables.set_up(node, replace=False)
        return again

    def _write(self, node: Node, resolved: Resolved, result: FlowResult) -> None:
        metrics = resolved.metrics
        changes = resolved.flow.cdc is not None
        frame = metrics.apply(resolved.frame, node.full, node.dataset.expectations, count_rows=not changes)
        if changes:
            self._apply_changes(node, resolved, frame, result)
        elif node.kind is Kind.MATERIALIZED_VIEW:
            location = self._tables.location(node.full)
            self._fitted(frame, node).write.format("delta").mode("overwrite").save(location)
        elif resolved.flow.once:
            if not self._append_once(node, resolved, frame):
                result.rows = 0
                return
        else:
            query = self._fitted(frame, node).writeStream.format("delta").outputMode("append")
            self._await(query, resolved, lambda writer: writer.toTable(quoted(node.full)))
        metrics.close()
        if not changes:
            result.rows = metrics.output_rows(node.full) or 0

    def _fitted(self, frame: DataFrame, node: Node) -> DataFrame:
        """The rows with the columns' declared types, where those differ from the query's."""
        table = {f.name.lower(): f.dataType for f in self._spark.table(quoted(node.full)).schema.fields}
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
        before = self._tables.version(node.full)
        generation = (self._storage.read_json(_ONCE) or {}).get(node.full, 0)
        # Delta leaves out a write that it has seen, so a kill after the commit does not add the rows twice.
        writer = self._fitted(frame, node).write.format("delta").mode("append")
        writer = writer.option("txnAppId", f"{self._spec.id}/{resolved.key}/{generation}").option("txnVersion", 1)
        writer.save(self._tables.location(node.full))
        return self._tables.version(node.full) > before

    def _apply_changes(self, node: Node, resolved: Resolved, frame: DataFrame, result: FlowResult) -> None:
        state = self._storage.path("cdc", flow_key(node.full))
        result.upserted = result.deleted = 0
        generated = [c.name for c in declared_columns(node.dataset) if c.generated]
        failures: list[Exception] = []

        def apply(batch: DataFrame, _: int) -> None:
            try:
                counts = auto_cdc.apply_batch(
                    batch.sparkSession,
                    batch,
                    target=quoted(node.full),
                    state=state,
                    cdc=resolved.flow.cdc,
                    generated=generated,
                )
            except Exception as error:
                # Spark would report it as text inside an error of its own.
                failures.append(error)
                raise
            result.upserted += counts.upserted
            result.deleted += counts.deleted

        if not frame.isStreaming:
            apply(frame, 0)
            return
        try:
            self._await(frame.writeStream, resolved, lambda writer: writer.foreachBatch(apply).start())
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
    # A stream's error tells first which query it was, by ids that nobody needs.
    stream = re.search(r"terminated with exception: ([^\n]+)", messages[0])
    said = stream.group(1).strip() if stream else describe(error)
    # The message of an inner cause may quote a value, so only its class is given.
    inner = re.findall(r"^\[([A-Z][A-Z_.]+)\]", messages[-1])
    return f"{said} (cause: {inner[0]})" if inner and inner[0] not in said else said


def _flow_name(node: Node, resolved: Resolved) -> str:
    own = resolved.flow.name
    return node.full if own == resolved.flow.target else own


def _rules(node: Node) -> list[dict[str, str]]:
    return [{"name": e.name, "predicate": e.predicate, "action": e.action.value} for e in node.dataset.expectations]


def _flow_type(node: Node, resolved: Resolved) -> str:
    if resolved.flow.cdc is not None:
        return "CHANGE"
    return "APPEND" if node.kind is Kind.STREAMING_TABLE else "MATERIALIZED_VIEW"


def _counts(result: FlowResult) -> dict[str, int]:
    if result.rows is not None:
        return {"num_output_rows": result.rows}
    return {"num_upserted_rows": result.upserted or 0, "num_deleted_rows": result.deleted or 0}


def _line(result: FlowResult) -> str:
    if result.status == "FAILED":
        return f"{result.dataset}: failed: {result.error}"
    if result.rows is not None:
        did = f"{result.rows:,} rows"
    else:
        did = f"{result.upserted or 0:,} rows upserted, {result.deleted or 0:,} deleted"
    dropped = f", {result.dropped:,} dropped" if result.dropped else ""
    return f"{result.dataset}: {did}{dropped} in {result.seconds:.1f} s"
