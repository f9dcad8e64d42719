"""AUTO CDC on Delta: a batch of changes, in any order, becomes the current rows (type 1) or the history (type 2) of a table.

A target is a function of the *set* of events that were ever applied to it, so the order in which they come, how they are cut into
batches, duplicates, and a batch that is applied again after a kill at any point make no difference. Of several events of one key
at one sequence value one counts: a delete before an upsert, then the upsert whose content has the greatest digest.

* Type 1: a row is the last upsert of its key, unless a delete (or truncation) is as late or later.
* Type 2: consecutive upserts that agree on the tracked columns are a *run*, and a run is a row: `__START_AT` of its first event,
  content of its last, `__END_AT` of the next event that is not in it, NULL if there is none. A delete only ends a run. A delete
  that follows another is a row of its own with the keys and `__END_AT` alone, as was measured on Databricks
  (https://github.com/ivanvyd/lakeflow-auto-cdc-torture-test shows the other cases); one before the first upsert of its key is not
  shown.
* `ignore_null_updates`: a NULL leaves the value that the column had since the key's last delete.

What the target cannot tell of the events is kept beside it, in a Delta table by path that is only ever appended to, and written
before the target. It is compacted now and then, and nothing in it expires: Databricks forgets deletes after
`pipelines.cdc.tombstoneGCThresholdInSeconds`, here a late event never revives a deleted key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_

from delta.tables import DeltaMergeBuilder, DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    CalendarIntervalType,
    DataType,
    LongType,
    MapType,
    StructField,
    StructType,
    UserDefinedType,
    VariantType,
)

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.graph import AutoCdc

START, END = "__START_AT", "__END_AT"

# With deletion vectors a MERGE writes the rows that change and not the files that they are in, and one that changes nothing
# makes no commit.
TARGET_PROPERTIES = {"delta.enableDeletionVectors": "true"}

_SEQUENCE, _DELETED, _DIGEST = "__cdc_sequence", "__cdc_deleted", "__cdc_digest"
_TRUNCATES, _RANK, _AT = "__cdc_truncates", "__cdc_rank", "__cdc_at"
_COMPACT_ABOVE_FILES = 64


@dataclass(frozen=True)
class Counts:
    """Rows of the target that one batch inserted or updated, and deleted; of a history, rows of the history."""

    upserted: int = 0
    deleted: int = 0


def target_schema(changes: StructType, cdc: AutoCdc, spark: SparkSession) -> StructType:
    """The columns of the target of `cdc` for changes of this schema; with type 2, `__START_AT` and `__END_AT` come last.

    Raises:
        LakeflowError: a column or an expression of `cdc` does not fit `changes`; the message names it and the columns there are.
        UnsupportedError: `cdc` asks for what this module does not do.
    """
    return _Definition.of(spark.createDataFrame([], changes), cdc).schema


def apply_batch(
    spark: SparkSession,
    changes: DataFrame,
    *,
    target: str,
    state: str,
    cdc: AutoCdc,
    generated: Collection[str] = (),
) -> Counts:
    """Applies one batch of changes to `target`. Flows that share a target share `state`, and take turns.

    A column that the target lacks is added to it. One that the changes lack is NULL in what they write, unless it is in
    `generated` or has a default, and then it is Delta's to fill. A batch that changes nothing makes no commit in the target
    if the target was made with `TARGET_PROPERTIES`.

    Args:
        target: qualified name of a Delta table that has the columns of `target_schema`.
        state: path or URL of the ordering state; the same for the life of the target, removed with the target's rows.
        generated: columns of the target that Delta computes.

    Raises:
        LakeflowError: a key or the sequence is NULL in some rows, or the state was made by another definition.
    """
    definition = _Definition.of(changes, cdc)
    _evolve(spark, target, definition.schema)
    batch = _Batch(spark, definition, changes, target, state, generated)
    try:
        return batch.apply()
    finally:
        batch.release()


@dataclass(frozen=True)
class _Definition:
    """`AutoCdc` with its names and expressions resolved against the changes."""

    cdc: AutoCdc
    keys: tuple[str, ...]
    schema: StructType
    sequence: StructField
    tracked: tuple[str, ...] | None
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, changes: DataFrame, cdc: AutoCdc) -> _Definition:
        fields = changes.schema.fields
        for field in fields:
            if field.name.upper() in (START, END) or field.name.lower().startswith("__cdc_"):
                raise LakeflowError(f"AUTO CDC: the column `{field.name}` has a reserved name; rename it in the source")
        if cdc.columns is not None and cdc.except_columns:
            raise LakeflowError("AUTO CDC: give either the columns to keep or the columns to leave out, not both")
        if cdc.scd_type not in (1, 2):
            raise UnsupportedError(f"AUTO CDC: stored as SCD type {cdc.scd_type} is not supported; types 1 and 2 are")
        keys = _names(cdc.keys, fields, "key")
        if not keys:
            raise LakeflowError("AUTO CDC: it needs at least one key column")
        kept = _select(fields, cdc.columns, cdc.except_columns, "column list")
        kept_names = {field.name for field in kept}
        for key in keys:
            if key not in kept_names:
                raise LakeflowError(f"AUTO CDC: the key `{key}` is not among the columns that the target keeps")
            if not _orderable(changes.schema[key].dataType):
                raise LakeflowError(f"AUTO CDC: the key `{key}` has the type {changes.schema[key].dataType.simpleString()},"
                                    " which cannot be compared")
        sequence = StructField(cdc.sequence_by, _type_of(changes, cdc.sequence_by, "sequence_by"))
        if not _orderable(sequence.dataType):
            raise LakeflowError(f"AUTO CDC: sequence_by {cdc.sequence_by} has the type {sequence.dataType.simpleString()},"
                                " which has no order")
        for what in ("apply_as_deletes", "apply_as_truncates"):
            predicate = getattr(cdc, what)
            if predicate is not None and not isinstance(_type_of(changes, predicate, what), BooleanType):
                raise LakeflowError(f"AUTO CDC: {what} {predicate} is not a condition")
        values = [field for field in kept if field.name not in keys]
        ignored = ()
        if cdc.ignore_null_updates or cdc.ignore_null_columns is not None or cdc.ignore_null_except:
            chosen = _select(values, cdc.ignore_null_columns, cdc.ignore_null_except, "ignore_null_updates list")
            for field in chosen:
                if isinstance(field.dataType, StructType):
                    raise UnsupportedError(f"AUTO CDC: ignore_null_updates on the struct column `{field.name}` is not supported,"
                                           " since it would have to keep nested fields one by one; leave it out by"
                                           " ignore_null_updates_except_column_list")
            ignored = tuple(field.name for field in chosen)
        tracked = None
        if cdc.track_history is not None or cdc.track_history_except:
            if cdc.scd_type != 2:
                raise LakeflowError("AUTO CDC: track_history_column_list needs SCD type 2")
            tracked = tuple(field.name for field in _select(values, cdc.track_history, cdc.track_history_except, "track history list"))
        if cdc.apply_as_truncates is not None:
            if cdc.scd_type != 1:
                raise UnsupportedError("AUTO CDC: apply_as_truncates is for SCD type 1 only, as on Databricks")
            if ignored:
                raise UnsupportedError("AUTO CDC: apply_as_truncates together with ignore_null_updates is not supported")
        columns = [StructField(field.name, field.dataType) for field in kept]
        if cdc.scd_type == 2:
            columns += [StructField(START, sequence.dataType), StructField(END, sequence.dataType)]
        return cls(cdc, keys, StructType(columns), sequence, tracked, ignored)


class _Batch:
    """One batch on its way into the target.

    Events are rows of the keys, the values, `_SEQUENCE`, `_DELETED` and `_DIGEST`; the values of a delete are NULL.
    """

    def __init__(
        self,
        spark: SparkSession,
        definition: _Definition,
        changes: DataFrame,
        target: str,
        state: str,
        generated: Collection[str],
    ):
        self.spark = spark
        self.definition = definition
        self.cdc = definition.cdc
        self.state_path = state
        self.target_name = target
        self.target = DeltaTable.forName(spark, target)
        self.cached: list[DataFrame] = []

        fields = {field.name.lower(): field for field in self.target.toDF().schema}
        given = {field.name.lower() for field in definition.schema}
        by_delta = {name.lower() for name in generated}
        self.key_fields = [fields[key.lower()] for key in definition.keys]
        self.keys = [field.name for field in self.key_fields]
        self.value_fields = [
            field
            for name, field in fields.items()
            if field.name not in (*self.keys, START, END)
            and (name in given or not (name in by_delta or "CURRENT_DEFAULT" in field.metadata))
        ]
        self.values = [field.name for field in self.value_fields]
        self.sequence_type = fields[START.lower()].dataType if self.cdc.scd_type == 2 else definition.sequence.dataType
        # The rows of the target tell their order themselves if they keep the sequence as it came.
        plain = fields.get(self.cdc.sequence_by.strip("`").lower())
        kept = plain is not None and plain.name in self.values and plain.name.lower() in given
        self.sequence_column = plain.name if kept and plain.dataType == self.sequence_type else None
        self.changes = self._events_of(changes, given)

    def apply(self) -> Counts:
        per_event = self.cdc.scd_type == 2 or bool(self.definition.ignored)
        truncates = self.cdc.apply_as_truncates is not None
        changes = self.changes.where(~F.col(_TRUNCATES)) if truncates else self.changes
        last = self._cache(
            changes.groupBy(*_columns(self.keys), *([_SEQUENCE] if per_event else [])).agg(
                F.max_by(F.struct(_SEQUENCE, *self._content), _ORDER).alias("event"),
                F.count("*").alias("rows"),
                F.count_if(_lacks(_SEQUENCE, self.sequence_type)).alias("unordered"),
            )
        )
        has_rows, has_deletes, self.range = self._inspect(last)
        has_truncation = truncates and self._record_truncation()
        if not has_rows and not has_truncation:
            return Counts()
        events = last.select(*_columns(self.keys), "event.*")
        if self.cdc.scd_type == 2:
            return self._apply_to_history(events)
        if self.definition.ignored:
            return self._apply_sparse(events)
        if self.sequence_column:
            return self._apply_by_target(events, has_deletes, has_truncation)
        return self._apply_by_state(events, has_truncation)
