"""An update of a pipeline: load the sources, resolve the graph, set up the tables, run the flows, keep the event log.

Everything that an update does is safe to repeat. A streaming flow resumes from its checkpoint, a materialized view is
replaced as a whole, a change feed is applied by key and order; so an update that was killed is mended by the next one.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import api, schedule, sinks
from lakeflow_local.pipelines.auto_loader import AutoLoader
from lakeflow_local.pipelines.event_log import EventLog
from lakeflow_local.pipelines.expectations import VIOLATION, Result
from lakeflow_local.pipelines.flows import ONCE, FlowResult, Flows, explain, results_of
from lakeflow_local.pipelines.freshness import Freshness, Inputs
from lakeflow_local.pipelines.graph import Hook, Kind
from lakeflow_local.pipelines.hooks import Hooks
from lakeflow_local.pipelines.jvm import make_active
from lakeflow_local.pipelines.prepare import event_log_table, loaded, null_is_violation, session, settings, then
from lakeflow_local.pipelines.reads import seen_by
from lakeflow_local.pipelines.registry import Registry
from lakeflow_local.pipelines.resolve import Node, Resolved, Resolver, flow_key
from lakeflow_local.pipelines.selection import Selection
from lakeflow_local.pipelines.sources import Imports, causes, line_in
from lakeflow_local.pipelines.spec import PipelineSpec
from lakeflow_local.pipelines.storage import Storage
from lakeflow_local.pipelines.tables import Tables

_RESET = "reset.json"
_PARALLEL = "lakeflow_local.maxParallelFlows"
_FLOW_RETRIES = "pipelines.maxFlowRetryAttempts"
_INTERVAL = "pipelines.trigger.interval"
_UPDATE_RETRIES = "pipelines.numUpdateRetryAttempts"

__all__ = ["FlowResult", "UpdateResult", "event_log_table", "explain", "run"]


@dataclass
class UpdateResult:
    """What an update did; its flows in the order of the graph."""

    update_id: str
    succeeded: bool = False
    flows: list[FlowResult] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0

    @property
    def expectations(self) -> list[Result]:
        return [result for flow in self.flows for result in flow.expectations]


def run(
    spark: SparkSession,
    spec: PipelineSpec,
    *,
    refresh: Collection[str] = (),
    full_refresh: bool | Collection[str] = False,
    reset_checkpoint: Collection[str] = (),
    until: threading.Event | None = None,
    progress: Callable[[str], None] = print,
) -> UpdateResult:
    """Runs one update: triggered, or continuous where it is told what ends it.

    Args:
        refresh: update these datasets alone.
        full_refresh: forget the rows and the checkpoints of all streaming tables and read all again; or of those
            named, and update these alone, with those of `refresh`.
        reset_checkpoint: datasets or flows whose checkpoints are forgotten; their rows are kept.
        until: the update is continuous: its flows run again, each at its `pipelines.trigger.interval` (of the table,
            else of the configuration; 5 s, and 60 s for materialized views), until this is set or all have failed.
        progress: told line by line what happens.

    Returns:
        The result, also where flows failed: then `succeeded` is False, `error` says why, and flows that did not
        depend on them have run. Where `pipelines.numUpdateRetryAttempts` is set, it is that of the last attempt.

    Raises:
        LakeflowError: the sources cannot be loaded, the graph cannot be resolved, or a name in a selection is
            unknown; nothing was run.
    """
    with _one_at_a_time(spec, progress):
        update = _Update(spark, spec, progress, until=until)
        result = update.run(refresh=refresh, full_refresh=full_refresh, reset_checkpoint=reset_checkpoint)
        for attempt in range(_number(spec, _UPDATE_RETRIES, 0)):
            if result.succeeded or not update.may_succeed_again or (until is not None and until.is_set()):
                break
            progress(f"update {result.update_id[:8]} failed; attempt {attempt + 2} follows")
            named = refresh if isinstance(full_refresh, bool) else [*refresh, *full_refresh]
            # What had to be forgotten is forgotten.
            update = _Update(spark, spec, progress, cause="RETRY_ON_FAILURE", until=until)
            result = update.run(refresh=named, full_refresh=False, reset_checkpoint=())
        return result


def _number(spec: PipelineSpec, key: str, default: int) -> int:
    given = spec.configuration.get(key)
    if given is None:
        return default
    try:
        number = int(given)
    except ValueError:
        number = -1
    if number < 0:
        raise LakeflowError(f"{key} is {given!r} in the configuration of {spec.name}; give a number from 0")
    return number


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


class _Update:
    def __init__(
        self,
        spark: SparkSession,
        spec: PipelineSpec,
        progress: Callable[[str], None],
        *,
        until: threading.Event | None,
        cause: str = "USER_ACTION",
    ):
        self._until = until
        self._again = False
        self._spark = spark
        self._spec = spec
        self._saying = threading.Lock()
        self._silent = False
        self._say = progress
        self._cause = cause
        self._workers = _number(spec, _PARALLEL, 0) or min(16, max(2, os.cpu_count() or 2))
        self._flow_retries = _number(spec, _FLOW_RETRIES, 0)
        self._storage = Storage(spark, spec.storage)
        self._tables = Tables(spark, self._storage, spec.id)
        self._flows = Flows(spark, self._storage, self._tables, spec.id)
        self._freshness = Freshness(spark, self._storage, self._tables)
        self._selection = Selection()
        self._result = UpdateResult(str(uuid.uuid4()))
        self._log = EventLog(
            spark,
            event_log_table(spec),
            self._storage.path("events"),
            pipeline_id=spec.id,
            pipeline_name=spec.name,
            update_id=self._result.update_id,
            listener=lambda event: self._hooks.tell(event),
        )
        self._hooks = Hooks((), self._hook_failed)
        self.may_succeed_again = False

    def run(self, **selected: Any) -> UpdateResult:
        started = time.monotonic()
        self._log.create_update(self._cause, **selected)
        with then(self._log.close), then(self._end_hooks):
            try:
                self._update(selected)
            except Exception as error:
                self._log.update_progress("FAILED", level="ERROR", error=error)
                raise
        self._result.seconds = time.monotonic() - started
        return self._result

    def _update(self, selected: dict[str, Any]) -> None:
        with (
            session(self._spark, self._spec, may_create=True),
            api.installed(),
            Imports(self._spec.root_path) as imports,
        ):
            self._log.update_progress("INITIALIZING")
            resolver = self._resolver(
                loaded(self._spark, self._spec, imports, lambda said: self._report("INFO", said), _raise)
            )
            self._selection = Selection.of(resolver, **selected)
            with seen_by(resolver):
                if self._selection.all_anew or self._selection.full_refresh:
                    self._log.update_progress("RESETTING")
                self._log.update_progress("SETTING_UP_TABLES")
                order = resolver.resolve_all()
                self._publish(resolver, order)
                self._describe(order)
                self._log.update_progress("RUNNING")
                self._run_flows(resolver, order)
        failed = [f for f in self._result.flows if f.status == "FAILED"]
        self._result.succeeded = not failed
        if failed:
            self._result.error = f"{failed[0].dataset}: {failed[0].error}"
            self._log.update_progress("FAILED", level="ERROR", error=self._result.error)
        elif self._until is not None:
            self._log.update_progress("CANCELED")
        else:
            self._log.update_progress("COMPLETED")

    def _hook_failed(self, hook: Hook, in_a_row: int, error: BaseException, ended: bool) -> None:
        what = f"the event hook {hook.name} failed ({in_a_row} in a row): {type(error).__name__}"
        if ended:
            what += "; it is not called any more in this update"
        line = line_in(error, hook.place.file) or hook.place.line
        self._log.hook_failed(hook.name, what, in_a_row, ended)
        self._progress(f"warning: {LakeflowError(what, file=hook.place.file, line=line)}")

    def _end_hooks(self) -> None:
        if not self._hooks.close():
            self._progress("warning: an event hook still runs; the update does not wait for it any longer")

    def _resolver(self, registry: Registry) -> Resolver:
        datasets, flows = registry.close()
        if registry.hooks:
            self._hooks = Hooks(registry.hooks, self._hook_failed)
            self._log.replay()
        if not datasets:
            raise LakeflowError(f"pipeline {self._spec.name} defines no dataset; check its libraries in the bundle")
        resolver = Resolver(
            self._spark,
            self._spec,
            datasets,
            flows,
            auto_loader=AutoLoader(self._spark, self._storage, self._report),
            set_up=lambda node: self._set_up(resolver, node),
            event_log=lambda _streaming: self._log.readable(),
            null_is_violation=null_is_violation(self._spec),
        )
        return resolver

    def _progress(self, line: str) -> None:
        with self._saying:
            if not self._silent:
                self._say(line)

    def _report(self, level: str, message: str) -> None:
        self._log.write("user_action" if level == "INFO" else "operation_progress", message, level=level)
        self._progress(message if level == "INFO" else f"warning: {message}")

    def _set_up(self, resolver: Resolver, node: Node) -> None:
        if node.is_sink:
            sinks.check(self._spark, node)
            self._reset_checkpoints(node)
            return
        if not self._selection.takes(node) and self._tables.exists(node):
            return
        if self._selection.spared(node):
            self._report("WARN", f"{node.full} keeps its rows: pipelines.reset.allowed is false")
        marked = set(self._storage.read_json(_RESET) or ())
        reset = self._selection.anew(node) or node.full in marked
        if reset:
            # Rows and checkpoints go together: the mark lets the next update finish a reset that a kill cut short.
            self._storage.write_json(sorted(marked | {node.full}), _RESET)
            for resolved in node.resolved:
                self._storage.delete("checkpoints", resolved.key)
            self._storage.delete("cdc", flow_key(node.full))
            once = self._storage.read_json(ONCE) or {}
            self._storage.write_json({**once, node.full: once.get(node.full, 0) + 1}, ONCE)
            # The columns of files are kept with the checkpoint, so they are inferred anew.
            node.resolved = [resolver.resolve_again(node, r.flow) if r.reads_files else r for r in node.resolved]
        else:
            self._reset_checkpoints(node)
        self._tables.set_up(node, replace=reset)
        if reset:
            self._storage.write_json(sorted(marked - {node.full}), _RESET)

    def _reset_checkpoints(self, node: Node) -> None:
        # What is read again is added to a sink: its rows are not the pipeline's.
        every = node.is_sink and self._selection.asks_anew(node)
        for resolved in node.resolved:
            if every or {node.full, node.flow_name(resolved.flow)} & self._selection.reset_checkpoint:
                self._storage.delete("checkpoints", resolved.key)

    def _publish(self, resolver: Resolver, order: list[Node]) -> None:
        for node in order:
            if node.is_published_view and (reason := resolver.publish(node)) is not None:
                self._report("INFO", f"the view {node.dataset.name} is not in the catalog: {reason}")

    def _describe(self, order: list[Node]) -> None:
        for node in order:
            self._log.definition(node)

    def _run_flows(self, resolver: Resolver, order: list[Node]) -> None:
        nodes = [node for node in order if not node.is_view]
        for node in nodes:
            for resolved in node.resolved:
                status = "QUEUED" if self._selection.takes(node) else "EXCLUDED"
                self._log.flow_progress(node.flow_name(resolved.flow), node.full, status)
        intervals = {node: _interval(self._spec, node) for node in nodes} if self._until is not None else {}
        results: dict[str, list[FlowResult]] = {}
        self._run_once(resolver, nodes, results)
        if self._until is not None:
            self._run_on(resolver, intervals, results, self._until)
        self._result.flows = [result for node in nodes for result in results[node.full]]

    def _run_on(
        self,
        resolver: Resolver,
        intervals: dict[Node, float],
        results: dict[str, list[FlowResult]],
        until: threading.Event,
    ) -> None:
        """Runs the flows again and again, each dataset at its interval, those that failed and their readers aside."""
        self._again, self._selection = True, self._selection.once_more()
        due = {node: time.monotonic() + interval for node, interval in intervals.items()}
        while True:
            due = {n: t for n, t in due.items() if all(r.status == "COMPLETED" for r in results[n.full])}
            if not due or until.wait(max(0.0, min(due.values()) - time.monotonic())):
                break
            chosen = [node for node, at in due.items() if at <= time.monotonic()]
            for node in chosen:
                node.resolved = [resolver.resolve_again(node, resolved.flow) for resolved in node.resolved]
            self._run_once(resolver, chosen, results)
            due |= {node: time.monotonic() + intervals[node] for node in chosen}
        self._log.update_progress("STOPPING")

    def _run_once(self, resolver: Resolver, nodes: list[Node], results: dict[str, list[FlowResult]]) -> None:
        by_name = {node.full: node for node in nodes}

        def work(node: Node) -> None:
            blocked = sorted(i for i in node.inputs if any(_stops_readers(r) for r in results.get(i, ())))
            done = [self._run_flow(resolver, node, resolved, blocked) for resolved in node.resolved]
            earlier = results.get(node.full)
            results[node.full] = [was.then(now) for was, now in zip(earlier, done, strict=True)] if earlier else done

        try:
            schedule.run(
                nodes,
                needs=lambda node: [by_name[i] for i in node.inputs if i in by_name],
                work=work,
                workers=self._workers,
                # Settings belong to the session, which all flows share.
                alone=lambda node: any(_settings(node, resolved) for resolved in node.resolved),
                enter=lambda: make_active(self._spark),
            )
        except BaseException:
            # An interrupt does not wait for the threads; what ends in them now is no news.
            self._silent = True
            raise

    def _run_flow(self, resolver: Resolver, node: Node, resolved: Resolved, blocked: list[str]) -> FlowResult:
        name = node.flow_name(resolved.flow)
        result = FlowResult(name, node.full, "COMPLETED")
        if not self._selection.takes(node):
            result.status = "EXCLUDED"
            return result
        if blocked:
            result.status = "SKIPPED"
            result.error = f"{blocked[0]} failed"
            self._log.flow_progress(name, node.full, "SKIPPED", level="WARN", error=result.error, fatal=False)
            self._progress(str(result))
            return result
        started = time.monotonic()
        if not self._again:
            self._log.flow_progress(name, node.full, "STARTING")
        attempt = 1
        while True:
            if not self._again:
                self._log.flow_progress(name, node.full, "RUNNING")
            try:
                with settings(self._spark, _settings(node, resolved)):
                    ran = self._run_until_readable(resolver, node, resolved, result)
            except Exception as error:
                result.status = "FAILED"
                result.error = explain(error, name)
                again = _may_succeed_again(error)
                retry = again and attempt <= self._flow_retries
                level = "WARN" if retry else "ERROR"
                self._log.flow_progress(name, node.full, "FAILED", level=level, error=result.error, fatal=not retry)
                if not retry:
                    if again:
                        self.may_succeed_again = True
                    break
                self._progress(f"{node.full}: failed: {result.error}; attempt {attempt + 1} follows")
                attempt += 1
                resolved = resolver.resolve_again(node, resolved.flow)
                result = FlowResult(name, node.full, "COMPLETED")
            else:
                results_of(ran.metrics, result)
                if self._again and not result.did_something:
                    return result
                self._log.flow_progress(
                    name,
                    node.full,
                    "RUNNING" if self._again else "COMPLETED",
                    metrics=result.counts,
                    expectations=result.expectations,
                    dropped=result.dropped,
                )
                break
        result.seconds = time.monotonic() - started
        self._progress(str(result))
        return result

    def _run_until_readable(self, resolver: Resolver, node: Node, resolved: Resolved, result: FlowResult) -> Resolved:
        if resolved.reads_files:
            resolved = self._looked_at_again(resolver, node, resolved)
        view = node.kind is Kind.MATERIALIZED_VIEW
        # Versions are read before the rows: what changes in between makes the view be computed once more.
        inputs = self._freshness.inputs(node, resolved) if view else None
        if inputs is not None and not self._selection.asks_anew(node) and self._freshness.is_current(node, inputs):
            result.unchanged, result.rows = True, 0
            if not self._again:
                self._planned(node, inputs, "NO_OP")
            return resolved
        if view:
            self._planned(node, inputs, "COMPLETE_RECOMPUTE")
        read = self._freshness.streamed(resolved)
        if read is not None and self._freshness.has_read(resolved, read) and not resolver.has_files_for(resolved.key):
            if resolved.flow.cdc is None:
                result.rows = 0
            else:
                result.upserted = result.deleted = 0
            return resolved
        while True:
            try:
                self._flows.write(node, resolved, result)
                if view:
                    self._freshness.note(node, inputs)
                self._freshness.note_read(resolved, read)
                return resolved
            except Exception as error:
                if not (resolved.reads_files and resolver.note_unreadable(resolved.key, "\n".join(causes(error)))):
                    raise
                resolved = resolver.resolve_again(node, resolved.flow)

    def _planned(self, node: Node, inputs: Inputs | None, technique: str) -> None:
        technique = f"MAINTENANCE_TYPE_{technique}"
        sources = sorted(inputs.versions.items()) if inputs is not None else []
        self._log.write(
            "planning_information",
            f"Flow '{node.full}' has been planned to be executed as {technique}.",
            {
                "technique_information": [{"maintenance_type": technique, "is_chosen": True}],
                "source_table_information": [{"path": s.split(" ")[0], "version": v} for s, v in sources],
            },
            flow_name=node.full,
            dataset_name=node.full,
        )

    def _looked_at_again(self, resolver: Resolver, node: Node, resolved: Resolved) -> Resolved:
        """Files that arrived since the graph was resolved may have brought columns."""
        again = resolver.resolve_again(node, resolved.flow)
        if again.frame.schema != resolved.frame.schema and not node.is_sink:
            node.resolved = [again if r is resolved else r for r in node.resolved]
            self._tables.set_up(node, replace=False)
        return again


def _interval(spec: PipelineSpec, node: Node) -> float:
    """Seconds between two runs of a dataset's flows in a continuous update."""
    given = {**spec.configuration, **node.dataset.spark_conf, **node.dataset.properties}.get(_INTERVAL)
    if given is None:
        return 60.0 if node.kind is Kind.MATERIALIZED_VIEW else 5.0
    match = re.fullmatch(r"\s*(\d+)\s*(second|minute|hour|day)s?\s*", given, re.IGNORECASE)
    if match is None:
        place = node.dataset.place
        raise LakeflowError(
            f"{_INTERVAL} of {node.dataset.name} is {given!r}; write a number and a unit, as in '10 seconds'",
            file=place.file,
            line=place.line,
        )
    return int(match[1]) * {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}[match[2].lower()]


def _raise(error: LakeflowError) -> None:
    raise error


def _stops_readers(result: FlowResult) -> bool:
    return result.status in ("FAILED", "SKIPPED")


def _settings(node: Node, resolved: Resolved) -> dict[str, str]:
    """Spark's settings for a flow; others are the sources' own, and are read when the graph is resolved."""
    given = {**node.dataset.spark_conf, **resolved.flow.spark_conf}
    return {key: value for key, value in given.items() if key.startswith("spark.")}


def _may_succeed_again(error: Exception) -> bool:
    """Whether another attempt may end otherwise: not where the definition or a row is at fault."""
    if isinstance(error, LakeflowError | AnalysisException):
        return False
    return VIOLATION not in "\n".join(causes(error))
