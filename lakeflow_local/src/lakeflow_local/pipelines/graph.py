"""The vocabulary of a pipeline: datasets, the flows that write them, expectations, and where each was declared."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """A line of a source file, counted from 1."""

    file: Path
    line: int


class Action(enum.StrEnum):
    """What happens to a row that violates an expectation."""

    WARN = "warn"
    DROP = "drop"
    FAIL = "fail"


@dataclass(frozen=True)
class Expectation:
    name: str
    predicate: str
    action: Action


class Kind(enum.StrEnum):
    STREAMING_TABLE = "streaming_table"
    MATERIALIZED_VIEW = "materialized_view"
    TEMPORARY_VIEW = "temporary_view"
    SINK = "sink"


@dataclass(frozen=True)
class Column:
    """One column of a declared column list; everything but the name may be left to the query.

    Attributes:
        type: DDL text such as `DECIMAL(18,2)`.
        generated: the expression of `GENERATED ALWAYS AS (…)`.
    """

    name: str
    type: str | None = None
    not_null: bool = False
    comment: str | None = None
    generated: str | None = None
    default: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class ForeignKey:
    columns: tuple[str, ...]
    references: str
    referenced_columns: tuple[str, ...] = ()
    name: str | None = None
    rely: bool = False


@dataclass(frozen=True)
class PrimaryKey:
    columns: tuple[str, ...]
    name: str | None = None
    rely: bool = False


@dataclass(frozen=True)
class Dataset:
    """A table or view that the pipeline keeps.

    Attributes:
        name: as written, with 1 to 3 parts.
        kind: None while it depends on whether the DataFrame streams (`@dlt.table`).
        private: known inside the pipeline only, not published to the catalog.
        schema_ddl: the columns as DDL text where the source gave a whole schema in that form.
        cluster_by_auto: the layout is left to the platform; accepted, has no effect here.
        refused: as of `Flow`.
    """

    name: str
    kind: Kind | None
    place: Place
    comment: str | None = None
    private: bool = False
    columns: tuple[Column, ...] = ()
    schema_ddl: Any = None
    expectations: tuple[Expectation, ...] = ()
    primary_key: PrimaryKey | None = None
    foreign_keys: tuple[ForeignKey, ...] = ()
    partition_cols: tuple[str, ...] = ()
    cluster_by: tuple[str, ...] = ()
    cluster_by_auto: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None
    row_filter: str | None = None
    spark_conf: Mapping[str, str] = field(default_factory=dict)
    sink: Sink | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Sink:
    """Where the rows of a sink's flows go, outside the pipeline's tables.

    Attributes:
        format: of Spark's stream writer, such as `kafka` or `delta`; None for a function.
        options: of that writer.
        function: called with each micro-batch and its number instead (`foreach_batch_sink`).
    """

    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    function: Callable[[Any, int], None] | None = None


@dataclass(frozen=True)
class Hook:
    """A function that is told of the event log's events (`on_event_hook`).

    Attributes:
        max_failures: so many failures in a row end the calls; None never ends them.
    """

    name: str
    function: Callable[[dict[str, Any]], None]
    place: Place
    max_failures: int | None = None


@dataclass(frozen=True)
class AutoCdc:
    """A change feed that is applied to a target by key and order (`AUTO CDC`, formerly `APPLY CHANGES`).

    Attributes:
        source: name of the table or view that the changes are read from, as a stream.
        source_query: the query that gives them instead, if the source is one (`FROM STREAM(…)` forms
            that are more than a name).
        sequence_by: SQL expression that orders the changes of one key.
        apply_as_deletes: SQL predicate that marks a change as a delete.
        apply_as_truncates: SQL predicate that marks a change as a truncation of the target.
        columns: the columns that the target keeps, None for all but `except_columns`.
        scd_type: 1 keeps the last state of a key, 2 its history in `__START_AT` and `__END_AT`.
        system_sequence_by: SQL expression that says when a change became known; with it the history is bitemporal.
        columns_to_update: the column of the changes that names the columns which a change writes.
        track_history: with type 2, the columns whose change makes a new row; None for all but
            `track_history_except`.
    """

    source: str | None
    keys: tuple[str, ...]
    sequence_by: str
    source_query: str | None = None
    apply_as_deletes: str | None = None
    apply_as_truncates: str | None = None
    columns: tuple[str, ...] | None = None
    except_columns: tuple[str, ...] = ()
    scd_type: int = 1
    track_history: tuple[str, ...] | None = None
    track_history_except: tuple[str, ...] = ()
    ignore_null_updates: bool = False
    ignore_null_columns: tuple[str, ...] | None = None
    ignore_null_except: tuple[str, ...] = ()
    system_sequence_by: str | None = None
    columns_to_update: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """Whole snapshots whose differences are applied to a target by key (`AUTO CDC FROM SNAPSHOT`).

    One of `source`, `function` and `query` is given.

    Attributes:
        source: name of a table or view; what it holds at an update is that update's snapshot.
        function: takes the version that was applied last, or None, and gives the next snapshot as
            `(DataFrame, version)`, or None where there is none.
        query: SQL text that gives the snapshot of a version.
        version_query: SQL text that gives the next version, and no row where there is none.
        scd_type, track_history, track_history_except: as in `AutoCdc`.
    """

    keys: tuple[str, ...]
    source: str | None = None
    function: Callable[[Any], Any] | None = None
    query: str | None = None
    version_query: str | None = None
    scd_type: int = 1
    track_history: tuple[str, ...] | None = None
    track_history_except: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flow:
    """One query that writes one dataset.

    Attributes:
        name: as written, or the target's name.
        target: name of the dataset that it writes, as written.
        function: makes the DataFrame, for flows declared in Python.
        query: SQL text, for flows declared in SQL.
        query_line: the line of the file at which `query` begins.
        cdc: set where the rows are changes to be applied, not rows to be added.
        snapshot: set where whole snapshots are compared with the target.
        once: runs in one update only, until a full refresh.
        output_mode: `update` where a sink gets the rows that a batch changed, as a stream's writer names it.
        schema: the schema that `USE` put in force for unqualified names of this flow, if any.
        refused: what of it Databricks does and an update here refuses, as it is written; the graph has it.
    """

    name: str
    target: str
    place: Place
    function: Callable[[], Any] | None = None
    query: str | None = None
    query_line: int | None = None
    cdc: AutoCdc | None = None
    snapshot: Snapshot | None = None
    once: bool = False
    output_mode: str = "append"
    spark_conf: Mapping[str, str] = field(default_factory=dict)
    comment: str | None = None
    catalog: str | None = None
    schema: str | None = None
    refused: str | None = None
