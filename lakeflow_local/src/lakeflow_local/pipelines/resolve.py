"""Resolves a pipeline's graph: calls dataset functions in the order of what they read, finds what cannot run."""

from __future__ import annotations

import datetime as dt
import difflib
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import auto_cdc, faults, message_buses, sql
from lakeflow_local.pipelines.auto_loader import AutoLoader
from lakeflow_local.pipelines.databricks_sql import log_of, with_json_paths
from lakeflow_local.pipelines.expectations import Metrics, check
from lakeflow_local.pipelines.graph import Dataset, Flow, Kind, Snapshot
from lakeflow_local.pipelines.names import Namespace, quoted, without_live
from lakeflow_local.pipelines.paths import PathMapping
from lakeflow_local.pipelines.prepare import use
from lakeflow_local.pipelines.sources import describe, line_in
from lakeflow_local.pipelines.spec import PipelineSpec


@dataclass(eq=False)
class Node:
    """A dataset on its way through an update.

    Attributes:
        full: `catalog.schema.table` in lower case; the own name of a temporary view or a sink.
        table: full name of the table that holds its rows; another than `full` where the dataset is private.
        inputs: full names of the datasets of this pipeline that its flows read.
        broken: a dry run has found why it cannot be updated.
    """

    dataset: Dataset
    full: str
    table: str
    flows: list[Flow]
    kind: Kind | None
    resolved: list[Resolved] = field(default_factory=list)
    inputs: set[str] = field(default_factory=set)
    ready: bool = False
    broken: bool = False

    @property
    def is_view(self) -> bool:
        return self.kind is Kind.TEMPORARY_VIEW

    @property
    def is_published_view(self) -> bool:
        """Whether it is a `CREATE VIEW`, which the catalog shows; one with expectations counts inside the pipeline."""
        sql_view = self.is_view and bool(self.flows) and self.flows[0].query is not None
        return sql_view and not self.dataset.private and not self.dataset.expectations

    @property
    def is_sink(self) -> bool:
        return self.dataset.sink is not None

    def flow_name(self, flow: Flow) -> str:
        """The name of a flow in the event log: in full where it is the dataset's own."""
        return self.full if flow.name == flow.target else flow.name


@dataclass
class Resolved:
    """A flow whose query is known.

    Attributes:
        key: names its folder among the checkpoints.
        frame: the rows that it reads, its dataset's expectations not applied yet.
        reads_files: its files have to be looked at again before it starts.
    """

    flow: Flow
    key: str
    frame: DataFrame
    metrics: Metrics
    inputs: frozenset[str]
    reads_files: bool

    def flow_type(self, node: Node) -> str:
        """As the event log names it."""
        if self.flow.snapshot is not None:
            return "SNAPSHOT_CHANGE"
        if self.flow.cdc is not None:
            return "CHANGE"
        return "MATERIALIZED_VIEW" if node.kind is Kind.MATERIALIZED_VIEW else "APPEND"


@dataclass
class _Reading:
    """What one flow has read so far."""

    key: str
    metrics: Metrics
    inputs: set[str] = field(default_factory=set)
    views: dict[str, DataFrame] = field(default_factory=dict)
    reads_files: bool = False


_reading: ContextVar[_Reading | None] = ContextVar("reading", default=None)


def flow_key(full_name: str) -> str:
    return quote(full_name, safe="")


def hidden_schema(spec: PipelineSpec) -> str:
    """The schema of the pipeline's private tables."""
    return f"__private_{re.sub(r'[^a-z0-9]', '_', spec.id.lower())}"


class _BrokenError(LakeflowError):
    """A dataset cannot be resolved since one that it reads cannot; that one's fault is told already."""


class _NotOutsideError(LakeflowError):
    """A view has no meaning outside its pipeline."""


def _not_outside(call: sql.TableFunction) -> str:
    raise _NotOutsideError(f"it calls {call.name}()")


class Resolver:
    """The graph of one update. It is also what the sources' reads are handed to (`reads.Reader`)."""

    def __init__(
        self,
        spark: SparkSession,
        spec: PipelineSpec,
        datasets: Sequence[Dataset],
        flows: Sequence[Flow],
        *,
        auto_loader: AutoLoader,
        set_up: Callable[[Node], None],
        event_log: Callable[[bool], str],
        null_is_violation: bool = False,
        stand_in: Callable[[Node, bool], DataFrame] | None = None,
        problems: list[LakeflowError] | None = None,
    ):
        """Args:
        set_up: makes a dataset readable, once its flows are resolved.
        event_log: makes the event log readable, as a stream or not, and gives its name in SQL.
        stand_in: what is read in place of a dataset's table, which need not be there; told whether as a stream.
        problems: gathers what is wrong; where it is None, the first fault is raised.
        """
        self._spark = spark
        self._spec = spec
        self.auto_loader = auto_loader
        self._paths = PathMapping(spec.configuration)
        self._set_up = set_up
        self._event_log = event_log
        self._null_is_violation = null_is_violation
        self._stand_in = stand_in
        self._problems = problems
        self._lock = threading.RLock()
        self._path: list[Node] = []
        self._temporary = itertools.count()
        self.names = Namespace(spec.catalog, spec.schema)
        self.nodes: dict[str, Node] = {}
        self.order: list[Node] = []
        self._add(datasets, flows)

    def _add(self, datasets: Sequence[Dataset], flows: Sequence[Flow]) -> None:
        twice: set[str] = set()
        for dataset in datasets:
            local = dataset.kind is Kind.TEMPORARY_VIEW or dataset.sink is not None
            full = dataset.name.lower().strip("`") if local else self.names.full(dataset.name)
            if (other := self.nodes.get(full)) is not None:
                twice.add(full)
                with self._noting():
                    raise _at(dataset, faults.already_defined(dataset, other.dataset.place))
                continue
            table = self._hidden(full) if dataset.private and not local else full
            self.nodes[full] = Node(dataset, full, table, [], dataset.kind)
        for flow in flows:
            node = self.find(flow.target)
            if node is not None and node.full in twice and node.flows:
                continue
            with self._noting(node):
                self._check_target(flow, node)
                node.flows.append(flow)
        for node in self.nodes.values():
            with self._noting(node):
                if node.dataset.refused:
                    place = node.dataset.place
                    raise UnsupportedError(faults.refused(node.dataset), file=place.file, line=place.line)
                if not node.flows and not node.broken:
                    raise _at(node.dataset, faults.not_written(node.dataset))
                if node.is_sink and node.dataset.expectations:
                    raise _at(
                        node.dataset,
                        f"the sink {node.dataset.name} cannot have expectations; put them on what its flow reads",
                    )

    def _hidden(self, full: str) -> str:
        """Where the rows of a private dataset are: in a schema of the pipeline's own."""
        catalog, schema, table = full.split(".", 2)
        if schema != self._spec.schema.lower():
            table = f"{schema}__{table}"
        return f"{catalog}.{hidden_schema(self._spec)}.{table}"

    def _check_target(self, flow: Flow, node: Node | None) -> None:
        if node is None:
            raise _at(flow, faults.no_target(flow, self.near(flow.target)))
        if flow.refused:
            raise UnsupportedError(faults.refused(flow), file=flow.place.file, line=flow.place.line)
        if wrong := faults.written_by_its_query(node.dataset, flow):
            raise _at(flow, wrong)
        if any(f.name == flow.name for f in node.flows):
            raise _at(flow, f"{node.dataset.name} has two flows named {flow.name}; give each a name of its own")
        if node.flows and (flow.snapshot is not None or node.flows[0].snapshot is not None):
            raise _at(flow, f"{node.dataset.name} is written by AUTO CDC FROM SNAPSHOT, and by no other flow then")
        if flow.snapshot is not None and node.dataset.expectations:
            raise _at(
                flow,
                f"{node.dataset.name} is written by AUTO CDC FROM SNAPSHOT, which supports no expectations; put them on"
                " a view or a table that the snapshots are read from",
            )
        if node.flows and bool(node.flows[0].cdc) != bool(flow.cdc):
            raise _at(flow, f"{node.dataset.name} is written by AUTO CDC and by an append flow; choose one")
        if flow.output_mode == "update" and not node.is_sink:
            raise _at(flow, f"{node.dataset.name} is no sink; update flows write sinks alone")
        if node.is_sink and (flow.cdc is not None or flow.snapshot is not None or flow.once):
            what = "a flow that runs once" if flow.once else "AUTO CDC"
            raise _at(flow, f"the sink {node.dataset.name} cannot be written by {what}; append flows alone write sinks")

    def near(self, name: str) -> list[str]:
        """The names of datasets that are written nearly like `name`."""
        names = {sql.normalise(node.dataset.name)[-1]: node.dataset.name for node in self.nodes.values()}
        return [names[n] for n in difflib.get_close_matches(sql.normalise(name)[-1], names, n=3)]

    @contextmanager
    def _noting(self, node: Node | None = None) -> Iterator[None]:
        """Where problems are gathered, a fault marks the dataset as broken and what follows the block goes on."""
        try:
            yield
        except LakeflowError as error:
            if self._problems is None:
                raise
            if node is not None:
                node.broken = True
            if not isinstance(error, _BrokenError):
                self._problems.append(error)

    def find(self, name: str) -> Node | None:
        """The dataset that a name in a source means, if it is one of this pipeline."""
        parts = sql.normalise(name)
        if parts[0] == "live" and len(parts) == 2:
            parts = parts[1:]
        if len(parts) == 1 and (node := self.nodes.get(parts[0])) is not None:
            return node
        return self.nodes.get(self.names.full(".".join(f"`{p}`" for p in parts)))

    def resolve_all(self) -> list[Node]:
        """Every dataset, each after those that it reads.

        Raises:
            LakeflowError: with the file and the line of the flow that cannot run.
        """
        for node in self.nodes.values():
            with self._noting(node):
                if node.is_view and node.flows:
                    self._view(node, self._new_reading(node.flows[0], node))
                elif not node.is_view:
                    self._ensure(node)
        return self.order

    def resolve_again(self, node: Node, flow: Flow) -> Resolved:
        """The flow as it would be resolved now: files may have arrived, or been found to be bad, since."""
        # Temporary views and the schema in force belong to the session, which flows share.
        with self._lock:
            return self._resolve(node, flow)

    def publish(self, node: Node) -> str | None:
        """Makes a view of the catalog; gives the reason where it has to stay inside the pipeline.

        Raises:
            LakeflowError: the catalog refuses it.
        """
        flow, full = node.flows[0], quoted(self.names.full(node.dataset.name))
        source = sql.Source(flow.query, flow.place.file, flow.query_line or flow.place.line)
        try:
            query = sql.filled(source, self._spec.parameters) if self._spec.parameters else flow.query
            query = sql.rewrite(query, _not_outside, rename=self._outside, parameters=self._spec.parameters)
        except _NotOutsideError as error:
            return error.message
        with _placed(node), self._unqualified_names_of(flow):
            comment = (node.dataset.comment or "").replace("\\", "\\\\").replace("'", "\\'")
            self._spark.sql(f"CREATE OR REPLACE VIEW {full} COMMENT '{comment}' AS {query}")
        return None

    def _outside(self, name: str, streaming: bool) -> str | None:
        """The name by which a dataset is known outside the pipeline, where it is another."""
        node = self.find(name)
        if streaming:
            raise _NotOutsideError(f"it reads {name} as a stream")
        if node is None:
            return None
        if not node.is_view:
            return None if node.table == node.full else quoted(node.table)
        if not node.is_published_view:
            raise _NotOutsideError(f"it reads {name}, which is known inside the pipeline only")
        return quoted(self.names.full(node.dataset.name))

    def has_files_for(self, key: str) -> bool:
        with self._lock:
            return self.auto_loader.has_files_for(key)

    def note_unreadable(self, key: str, message: str) -> bool:
        """Takes the file that a failed query names out of the way; False where the failure is of another kind."""
        with self._lock:
            return self.auto_loader.note_unreadable(key, message)

    def _new_reading(self, flow: Flow, node: Node) -> _Reading:
        own_name = flow.name != flow.target
        key = flow_key(f"{node.full}/{flow.name}" if own_name else node.full)
        return _Reading(key, Metrics(null_is_violation=self._null_is_violation))

    @contextmanager
    def _entered(self, node: Node) -> Iterator[None]:
        if node in self._path:
            circle = [*self._path[self._path.index(node) :], node]
            raise _at(node.dataset, faults.circle(n.dataset.name for n in circle))
        self._path.append(node)
        try:
            yield
        finally:
            self._path.pop()

    def _ensure(self, node: Node) -> None:
        if node.ready:
            return
        self._refuse_broken(node)
        with self._entered(node):
            node.resolved = []
            for flow in node.flows:
                with self._noting(node):
                    node.resolved.append(self._resolve(node, flow))
            self._refuse_broken(node)
            node.inputs = set().union(*(r.inputs for r in node.resolved))
            if node.kind is None:
                streams = any(r.frame.isStreaming for r in node.resolved)
                node.kind = Kind.STREAMING_TABLE if streams else Kind.MATERIALIZED_VIEW
            with self._noting(node):
                self._check_kind(node)
            for resolved in node.resolved:
                self._check_rules(node, resolved.frame)
            self._refuse_broken(node)
            # A flow that reads this dataset may be waiting for it; what set-up reads is not what that flow reads.
            token = _reading.set(None)
            try:
                with self._noting(node), _placed(node):
                    self._set_up(node)
            finally:
                _reading.reset(token)
            self._refuse_broken(node)
        node.ready = True
        self.order.append(node)

    def _refuse_broken(self, node: Node) -> None:
        if node.broken:
            raise _BrokenError(
                f"{node.dataset.name} cannot be read", file=node.dataset.place.file, line=node.dataset.place.line
            )

    def _check_rules(self, node: Node, frame: DataFrame) -> None:
        for rule in node.dataset.expectations:
            with self._noting(node):
                check(frame, node.dataset.name, [rule], node.dataset.place)

    def _check_kind(self, node: Node) -> None:
        for resolved in node.resolved:
            streams = resolved.frame.isStreaming
            if node.kind is Kind.MATERIALIZED_VIEW and streams:
                raise _at(
                    resolved.flow,
                    f"{node.dataset.name} is a materialized view, but its query reads a stream; read it as a table, "
                    "or define a streaming table",
                )
            if node.is_sink and not streams:
                raise _at(
                    resolved.flow,
                    f"the flow {resolved.flow.name} of a sink reads no stream; use STREAM or readStream",
                )
            if resolved.flow.snapshot is not None:
                continue
            if node.kind is Kind.STREAMING_TABLE and not streams and not resolved.flow.once:
                raise _at(
                    resolved.flow,
                    f"{node.dataset.name} is a streaming table, but its query reads no stream; use STREAM or "
                    "readStream, or define a materialized view",
                )
            if node.kind is Kind.STREAMING_TABLE and streams and resolved.flow.once and resolved.flow.cdc is None:
                raise _at(resolved.flow, f"flow {resolved.flow.name} runs once, so its query must not read a stream")

    def _resolve(self, node: Node, flow: Flow) -> Resolved:
        reading = self._new_reading(flow, node)
        token = _reading.set(reading)
        try:
            frame = self._frame(flow, node)
        finally:
            _reading.reset(token)
        if flow.snapshot is not None and flow.snapshot.version_query is not None:
            flow = replace(flow, snapshot=replace(flow.snapshot, function=self._next_version(flow, node)))
        return Resolved(flow, reading.key, frame, reading.metrics, frozenset(reading.inputs), reading.reads_files)

    def _frame(self, flow: Flow, node: Node) -> DataFrame:
        with _reported(flow), self._unqualified_names_of(flow):
            if flow.snapshot is not None:
                frame = self._snapshot(flow.snapshot, node)
            elif flow.cdc is not None and flow.cdc.source is not None:
                reader = self._spark.readStream if self._streams(flow) else self._spark.read
                frame = reader.table(flow.cdc.source)
            elif flow.cdc is not None:
                frame = self._spark.sql(flow.cdc.source_query)
            elif flow.function is not None:
                frame = flow.function()
            else:
                source = sql.Source(flow.query, flow.place.file, flow.query_line or flow.place.line)
                parameters = self._spec.parameters
                frame = self._spark.sql(sql.filled(source, parameters) if parameters else flow.query)
            if not isinstance(frame, DataFrame):
                raise LakeflowError(
                    f"the function of {node.dataset.name} must return a DataFrame; it returned {type(frame).__name__}"
                )
            return frame

    def _streams(self, flow: Flow) -> bool:
        """Whether an AUTO CDC flow reads its source as a stream; one that runs once, if that is a streaming view."""
        if not flow.once:
            return True
        source, reading = self.find(flow.cdc.source), _reading.get()
        if source is None or not source.is_view:
            return False
        self._view(source, reading)
        return reading.views[source.full].isStreaming

    def _next_version(self, flow: Flow, node: Node) -> Callable[[Any], tuple[DataFrame, Any] | None]:
        """What gives the snapshots of a version query, one after the other, when the flow runs."""

        def next_version(latest: Any) -> tuple[DataFrame, Any] | None:
            token = _reading.set(self._new_reading(flow, node))
            try:
                with self._lock, self._unqualified_names_of(flow):
                    return auto_cdc.VersionedQuery(self._spark, flow.snapshot)(latest)
            finally:
                _reading.reset(token)

        return next_version

    def _snapshot(self, snapshot: Snapshot, node: Node) -> DataFrame:
        """A snapshot as it is written: the one of now, or the function's first, for its columns alone."""
        if snapshot.version_query is not None:
            return auto_cdc.snapshot_frame(*auto_cdc.VersionedQuery(self._spark, snapshot).columns(), snapshot)
        if snapshot.function is None:
            query = snapshot.query
            rows = self._spark.read.table(snapshot.source) if query is None else self._spark.sql(query)
            return auto_cdc.snapshot_frame(rows, dt.datetime.now(dt.UTC), snapshot)
        given = auto_cdc.next_snapshot(snapshot, None)
        if reading := _reading.get().inputs:
            raise LakeflowError(
                f"a function that gives snapshots cannot read {min(reading)} of its own pipeline, as on Databricks;"
                " name it as the source instead"
            )
        if given is not None:
            return auto_cdc.snapshot_frame(*given, snapshot)
        if self._spark.catalog.tableExists(quoted(node.table)):
            return self._spark.read.table(quoted(node.table))
        raise LakeflowError(
            f"the columns of {node.dataset.name} are not known, since its source function gave no snapshot yet"
        )

    @contextmanager
    def _unqualified_names_of(self, flow: Flow) -> Iterator[None]:
        if flow.catalog is None and flow.schema is None:
            yield
            return
        may_create = self._stand_in is None
        use(self._spark, flow.catalog or self._spec.catalog, flow.schema or self._spec.schema, may_create=may_create)
        try:
            yield
        finally:
            use(self._spark, self._spec.catalog, self._spec.schema)

    # What follows is the Reader that the sources' reads are handed to.

    def table(self, name: str, read: Callable[[str], DataFrame], *, streaming: bool = False) -> DataFrame:
        reading = _reading.get()
        node = self.find(name) if reading is not None else None
        if node is None:
            return read(without_live(name))
        self._note_input(node, reading)
        if node.is_view:
            self._view(node, reading)
            self._check_view_read(node, reading, streaming)
            return read(node.dataset.name)
        self._ensure(node)
        if self._stand_in is not None:
            return self._stand_in(node, streaming).alias(node.full.rsplit(".", 1)[-1])
        return read(quoted(node.table))

    def _note_input(self, node: Node, reading: _Reading) -> None:
        if node.is_sink:
            raise LakeflowError(f"{node.dataset.name} is a sink, which cannot be read; read what its flows read")
        reading.inputs.add(node.full)

    def _check_view_read(self, node: Node, reading: _Reading, streaming: bool) -> None:
        is_streaming = reading.views[node.full].isStreaming
        checked = str(self._spec.configuration.get(_VIEW_CHECK, "true")).lower() != "false"
        if checked and is_streaming != streaming:
            raise LakeflowError(faults.view_read(node.dataset.name, is_streaming))

    def query(self, text: str, run: Callable[[str], DataFrame]) -> DataFrame:
        reading = _reading.get()
        if reading is None:
            return run(text)
        inputs = sql.inputs(text, parameters=self._spec.parameters)
        read = [(node, i.streaming) for i in inputs if (node := self.find(i.name))]
        for node, _ in read:
            self._note_input(node, reading)
        for node, _ in read:
            if not node.is_view:
                self._ensure(node)
        for node, streaming in read:
            if node.is_view:
                self._view(node, reading)
                self._check_view_read(node, reading, streaming)
        # Resolving one view may have resolved a table that reads another of the same name, for a flow of its own.
        for name, view in reading.views.items():
            view.createOrReplaceTempView(f"`{name}`")
        metadata = "_metadata" in text.lower()
        text = sql.rewrite(
            self._paths.in_query(text),
            lambda call: self._table_function(call, reading, metadata),
            parameters=self._spec.parameters,
            rename=self._renaming(set(reading.views)),
        )
        frame = with_json_paths(run, text, self._spec.parameters)
        return _without_metadata(frame, text) if metadata else frame

    def _renaming(self, views: set[str]) -> Callable[[str, bool], str | None]:
        """Where the tables of one query are read from, if not by their own names."""
        made: dict[tuple[Node, bool], str] = {}

        def rename(name: str, streaming: bool) -> str | None:
            node = self.find(name)
            if node is None or node.is_view:
                return None
            if self._stand_in is None:
                return None if node.table == node.full else quoted(node.table)
            if (node, streaming) not in made:
                # By its own name, so that columns can be qualified with it.
                view = node.full.rsplit(".", 1)[-1]
                if view in views:
                    view = f"{view}__{len(views)}"
                views.add(view)
                made[node, streaming] = view
                self._stand_in(node, streaming).createOrReplaceTempView(f"`{view}`")
            return f"`{made[node, streaming]}`"

        return rename

    def cloud_files(self, path: str | None, options: dict[str, Any], schema: Any) -> DataFrame:
        if path is None:
            raise LakeflowError("Auto Loader needs the folder to read: load(path)")
        return self._files(_reading.get(), path, options, schema, streaming=True, is_sql=False)

    def _files(
        self,
        reading: _Reading | None,
        path: str | Sequence[str],
        options: Any,
        schema: Any,
        *,
        streaming: bool,
        is_sql: bool,
    ) -> DataFrame:
        if reading is None:
            raise LakeflowError("Auto Loader can be read inside dataset functions only")
        reading.reads_files = True
        where = [self._paths.local(p) for p in ([path] if isinstance(path, str) else path)]
        return self.auto_loader.load(reading.key, where, options, schema, streaming=streaming, sql=is_sql)

    def message_bus(self, bus: str, options: dict[str, Any], *, streaming: bool) -> DataFrame:
        reading = _reading.get()
        return message_buses.read(
            bus,
            options,
            self._spec.configuration,
            lambda folders, how, schema: self._files(reading, folders, how, schema, streaming=streaming, is_sql=False),
        )

    def local(self, path: str) -> str:
        return self._paths.local(path)

    def _table_function(self, call: sql.TableFunction, reading: _Reading, metadata: bool) -> str:
        arguments, options = list(call.arguments), dict(call.named)
        if call.name == "event_log":
            return self._event_log_of(call)
        if call.name in message_buses.TABLE_FUNCTIONS:
            bus = message_buses.TABLE_FUNCTIONS[call.name]
            frame = self.message_bus(bus, options, streaming=call.streaming)
            return self._as_view(frame, streaming=call.streaming)
        if call.name == "cloud_files":
            path, file_format = arguments[0], arguments[1]
            options = {"cloudFiles.format": file_format, **(arguments[2] if len(arguments) > 2 else {})}
            schema = options.pop("schema", None)
        else:
            path = options.pop("path", None) or (arguments[0] if arguments else None)
            schema = options.pop("schema", None)
        if not isinstance(path, str):
            raise LakeflowError(f"{call.name} needs the folder to read as its first argument")
        is_sql = call.name == "read_files"
        frame = self._files(reading, path, options, schema, streaming=call.streaming, is_sql=is_sql)
        # A view hides `_metadata`, so where a query mentions it, it becomes a column like others.
        return self._as_view(frame.select("*", "_metadata") if metadata else frame, streaming=call.streaming)

    def _as_view(self, frame: DataFrame, *, streaming: bool) -> str:
        name = f"__source_{next(self._temporary)}"
        frame.createOrReplaceTempView(name)
        return f"STREAM {name}" if streaming else name

    def _event_log_of(self, call: sql.TableFunction) -> str:
        of = call.arguments[0] if call.arguments else None
        own = (isinstance(of, sql.TableArgument) and self.find(of.name)) or of == self._spec.id
        if not own:
            return log_of(self._spark, call)
        return ("STREAM " if call.streaming else "") + self._event_log(call.streaming)

    def _view(self, node: Node, reading: _Reading) -> None:
        """Makes a temporary view for one flow, with counters of its own."""
        if node.dataset.name.lower() in reading.views:
            return
        self._refuse_broken(node)
        with self._entered(node):
            flow = node.flows[0]
            before = set(reading.inputs)
            token = _reading.set(reading)
            try:
                frame = self._frame(flow, node)
            finally:
                _reading.reset(token)
            self._check_rules(node, frame)
            self._refuse_broken(node)
            frame = reading.metrics.apply(frame, node.full, node.dataset.expectations, count_rows=False)
        node.inputs |= reading.inputs - before
        reading.views[node.full] = frame
        frame.createOrReplaceTempView(f"`{node.full}`")
        if not node.ready:
            node.ready = True
            self.order.append(node)


_VIEW_CHECK = "pipelines.incompatibleViewCheck.enabled"


def _at(declared: Dataset | Flow, message: str) -> LakeflowError:
    return LakeflowError(message, file=declared.place.file, line=declared.place.line)


@contextmanager
def _placed(node: Node) -> Iterator[None]:
    """Gives an error of a dataset's set-up the place of its declaration, or of the flow that it comes from."""
    try:
        yield
    except LakeflowError as error:
        if error.file is not None:
            raise
        place = node.flows[0].place
        message = f"{node.dataset.name}: {error.message}"
        raise type(error)(message, file=place.file, line=place.line) from error
    except (PySparkException, Py4JJavaError) as error:
        raise _at(node.dataset, f"{node.dataset.name}: {describe(error)}") from error


@contextmanager
def _reported(flow: Flow) -> Iterator[None]:
    """Gives an error of a flow's query the file and the line at which it stands."""
    try:
        yield
    except LakeflowError as error:
        if error.file is None:
            raise type(error)(error.message, file=flow.place.file, line=flow.query_line or flow.place.line) from error
        raise
    except Exception as error:
        line = line_in(error, flow.place.file) or flow.place.line
        if flow.query is not None and flow.query_line is not None:
            match = re.search(r"\bline (\d+),? pos \d+", str(error))
            line = flow.query_line + int(match.group(1)) - 1 if match else flow.query_line
        raise LakeflowError(describe(error), file=flow.place.file, line=line) from error


_BARE_METADATA = re.compile(r"(?<![\w.`])`?_metadata`?\s*(,|\bFROM\b)", re.IGNORECASE)


def _without_metadata(frame: DataFrame, text: str) -> DataFrame:
    """Takes away the `_metadata` that a star brought along, which Databricks' star does not bring."""
    positions = [i for i, name in enumerate(frame.columns) if name == "_metadata"]
    if _BARE_METADATA.search(text):
        positions = positions[:-1]
    if not positions:
        return frame
    kept = [i for i in range(len(frame.columns)) if i not in positions]
    unique = frame.toDF(*(f"c{i}" for i in range(len(frame.columns))))
    return unique.select(*(unique[f"c{i}"].alias(frame.columns[i]) for i in kept))
