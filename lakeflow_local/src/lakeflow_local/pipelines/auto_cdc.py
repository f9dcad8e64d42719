"""AUTO CDC on Delta: changes in any order become the current rows (type 1) or the history (type 2) of a table.

A target is a function of the *set* of events that were ever applied to it, so the order in which they come, how they
are cut into batches, duplicates, and a batch that is applied again after a kill at any point make no difference. Of
several events of one key at one sequence value one counts: a delete before an upsert, then the upsert whose content
has the greatest digest.

* Type 1: a row is the last upsert of its key, unless a delete (or truncation) is as late or later.
* Type 2: consecutive upserts that agree on the tracked columns are a *run*, and a run is a row: `__START_AT` of its
  first event, content of its last, `__END_AT` of the next event that is not in it, NULL if there is none. A delete only
  ends a run. A delete that follows another is a row of its own with the keys and `__END_AT` alone, as was measured on
  Databricks; one before the first upsert of its key is not shown.
* `ignore_null_updates`: a NULL leaves the value that the column had since the key's last delete.

What the target cannot tell of the events is kept beside it, in a Delta table by path that is only ever appended to, and
written before the target. It is compacted now and then, and nothing in it expires: Databricks forgets deletes after
`pipelines.cdc.tombstoneGCThresholdInSeconds`, here a late event never revives a deleted key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

from delta.tables import DeltaMergeBuilder, DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    CalendarIntervalType,
    DataType,
    DateType,
    DecimalType,
    IntegralType,
    LongType,
    MapType,
    NullType,
    StringType,
    StructField,
    StructType,
    UserDefinedType,
    VariantType,
)

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.graph import AutoCdc

START, END = "__START_AT", "__END_AT"

# With deletion vectors a MERGE writes the rows that change and not the files that they are in, and one that changes
# nothing makes no commit.
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
    """The columns of the target for changes of this schema; with type 2, `__START_AT` and `__END_AT` come last.

    Raises:
        LakeflowError: a column or an expression of `cdc` does not fit `changes`; the message names it.
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
    `generated` or has a default, and then it is Delta's to fill. A batch that changes nothing makes no commit in a
    target that was made with `TARGET_PROPERTIES`.

    Args:
        target: qualified name of a Delta table that has the columns of `target_schema`.
        state: path or URL of the ordering state; the same for the life of the target, removed with the target's rows.
        generated: columns of the target that Delta computes.

    Raises:
        LakeflowError: a key or the sequence is NULL in some rows, or the state was made by another definition.
    """
    definition = _Definition.of(changes, cdc)
    _evolve(spark, target, definition.schema)
    return _Batch(spark, definition, changes, target, state, generated).apply()


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
                raise LakeflowError(
                    f"AUTO CDC: the key `{key}` has the type {changes.schema[key].dataType.simpleString()},"
                    " which cannot be compared"
                )
        sequence = StructField(cdc.sequence_by, _type_of(changes, cdc.sequence_by, "sequence_by"))
        if not _orderable(sequence.dataType):
            raise LakeflowError(
                f"AUTO CDC: sequence_by {cdc.sequence_by} has the type {sequence.dataType.simpleString()},"
                " which has no order"
            )
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
                    raise UnsupportedError(
                        f"AUTO CDC: ignore_null_updates on the struct column `{field.name}` is not supported,"
                        " since it would have to keep nested fields one by one; leave it out by"
                        " ignore_null_updates_except_column_list"
                    )
            ignored = tuple(field.name for field in chosen)
        tracked = None
        if cdc.track_history is not None or cdc.track_history_except:
            if cdc.scd_type != 2:
                raise LakeflowError("AUTO CDC: track_history_column_list needs SCD type 2")
            tracked = tuple(
                field.name
                for field in _select(values, cdc.track_history, cdc.track_history_except, "track history list")
            )
        if cdc.apply_as_truncates is not None:
            if cdc.scd_type != 1:
                raise UnsupportedError("AUTO CDC: apply_as_truncates is for SCD type 1 only, as on Databricks")
            if ignored:
                raise UnsupportedError(
                    "AUTO CDC: apply_as_truncates together with ignore_null_updates is not supported"
                )
        columns = [StructField(field.name, field.dataType) for field in kept]
        if cdc.scd_type == 2:
            columns += [StructField(START, sequence.dataType), StructField(END, sequence.dataType)]
        return cls(cdc, keys, StructType(columns), sequence, tracked, ignored)


class _Batch:
    """One batch on its way into the target.

    Events are rows of the keys, `_SEQUENCE`, `_DELETED`, `_DIGEST` and the values; the values of a delete are NULL.
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
        self.target_name = target
        self.target = DeltaTable.forName(spark, target)
        self.state_path = state

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
        self.content = [_DELETED, _DIGEST, *self.values]
        self.sequence_type = fields[START.lower()].dataType if self.cdc.scd_type == 2 else definition.sequence.dataType
        self.keeps_events = self.cdc.scd_type == 2 or bool(definition.ignored)
        # The rows of the target tell their order themselves if they keep the sequence as it came.
        plain = fields.get(self.cdc.sequence_by.strip("`").lower())
        kept = plain in self.value_fields and plain.name.lower() in given and plain.dataType == self.sequence_type
        self.sequence_column = plain.name if kept and not self.keeps_events else None
        self.changes = self._events_of(changes, given)

    def apply(self) -> Counts:
        truncates = self.cdc.apply_as_truncates is not None
        if truncates:
            _once(self.changes)
        last = (
            self.changes.where(~F.col(_TRUNCATES))
            .groupBy(*_columns([*self.keys, *([_SEQUENCE] if self.keeps_events else [])]))
            .agg(
                F.max_by(F.struct(*_columns([_SEQUENCE, *self.content])), _order()).alias("__cdc_event"),
                F.count("*").alias("__cdc_rows"),
                F.count_if(_lacks(_SEQUENCE, self.sequence_type)).alias("__cdc_unordered"),
            )
        )
        last = _once(last)
        any_rows, any_deletes = self._inspect(last)
        truncation = self._last_truncation() if truncates else None
        if not any_rows and truncation is None:
            return Counts()
        self._open_state()
        events = last.select(
            *_columns(self.keys), *(F.col("__cdc_event")[name].alias(name) for name in (_SEQUENCE, *self.content))
        )
        if self.cdc.scd_type == 2:
            return self._apply_to_history(events)
        if self.definition.ignored:
            return self._apply_sparse(events)
        if truncation is not None:
            self._append(truncation)
        if truncates:
            until = F.broadcast(self._truncated_until())
            survives = F.col(_DELETED) | F.col(_AT).isNull() | (F.col(_SEQUENCE) > F.col(_AT))
            events = events.crossJoin(until).where(survives).drop(_AT)
        if self.sequence_column:
            return self._apply_by_target(events, any_deletes, truncation is not None)
        return self._apply_by_state(events, truncation is not None)

    def _events_of(self, changes: DataFrame, given: set[str]) -> DataFrame:
        def holds(predicate: str | None) -> Column:
            return F.lit(False) if predicate is None else F.coalesce(F.expr(predicate), F.lit(False))

        deleted = holds(self.cdc.apply_as_deletes)
        typed = changes.select(
            *(_column(field.name).cast(field.dataType).alias(field.name) for field in self.key_fields),
            F.expr(self.cdc.sequence_by).cast(self.sequence_type).alias(_SEQUENCE),
            deleted.alias(_DELETED),
            holds(self.cdc.apply_as_truncates).alias(_TRUNCATES),
            *(
                F.when(~deleted, _column(field.name) if field.name.lower() in given else F.lit(None))
                .cast(field.dataType)
                .alias(field.name)
                for field in self.value_fields
            ),
        )
        return typed.withColumn(_DIGEST, self._digest())

    def _digest(self, alias: str = "") -> Column:
        """Orders contents. The place of a column, and one that is NULL, have no part in it: columns may be added."""
        names = sorted(self.values)
        if not names:
            return F.lit(0).cast(LongType())
        return F.xxhash64(F.to_json(F.struct(*(_column(name, alias) for name in names)), _JSON))

    def _inspect(self, last: DataFrame) -> tuple[bool, bool]:
        """Whether there are events, and deletes among them; refuses NULL keys and sequences, learns the keys' range."""
        ranged = [field.name for field in self.key_fields if isinstance(field.dataType, _PRUNED_BY)]
        found = last.agg(
            F.count("*").alias("events"),
            F.count_if("__cdc_event." + _DELETED).alias("deletes"),
            F.sum("__cdc_unordered").alias("__cdc_unordered"),
            F.array(*(F.sum(F.when(_column(key).isNull(), F.col("__cdc_rows"))) for key in self.keys)).alias("lacking"),
            F.struct(F.lit(0), *(F.min(_column(key)) for key in ranged)).alias("low"),
            F.struct(F.lit(0), *(F.max(_column(key)) for key in ranged)).alias("high"),
        ).first()
        for key, lacking in zip(self.keys, found["lacking"], strict=True):
            if lacking:
                raise self._null("key", key, lacking)
        if found["__cdc_unordered"]:
            raise self._null("sequence_by", self.cdc.sequence_by, found["__cdc_unordered"])
        self.range = [
            (key, F.lit(low), F.lit(high))
            for key, low, high in zip(ranged, found["low"][1:], found["high"][1:], strict=True)
            if low is not None
        ]
        return found["events"] > 0, found["deletes"] > 0

    def _null(self, what: str, name: str, rows: int) -> LakeflowError:
        return LakeflowError(
            f"AUTO CDC into {self.target_name}: the {what} {name} is NULL in {rows} change{'s' if rows > 1 else ''};"
            " drop such rows before, for example by an expectation"
        )

    def _within_range(self, alias: str = "") -> Column:
        """Confines a scan to the range of the batch's keys, so that Delta can skip files."""
        return reduce(and_, (_column(key, alias).between(low, high) for key, low, high in self.range), F.lit(True))

    def _same_keys(self) -> Column:
        return reduce(and_, (_column(key, "t") == _column(key, "s") for key in self.keys))

    # The state

    def _open_state(self) -> None:
        fields = [*self.key_fields, StructField(_SEQUENCE, self.sequence_type), StructField(_DELETED, BooleanType())]
        if self.keeps_events:
            fields += self.value_fields
        elif self.sequence_column is None:
            fields.append(StructField(_DIGEST, LongType()))
        self.state_columns = [field.name for field in fields]
        schema = StructType([StructField(field.name, field.dataType) for field in fields])
        if not DeltaTable.isDeltaTable(self.spark, self.state_path):
            if self.target.toDF().inputFiles():
                raise LakeflowError(
                    f"AUTO CDC into {self.target_name}: the table has rows, but the state that orders them is gone;"
                    " run a full refresh"
                )
            DeltaTable.createIfNotExists(self.spark).location(self.state_path).addColumns(schema).execute()
        known = {field.name: field.dataType for field in DeltaTable.forPath(self.spark, self.state_path).toDF().schema}
        fixed = fields[: len(self.keys) + 2] if self.keeps_events else fields
        if any(known.get(field.name) != field.dataType for field in fixed) or (
            len(known) > len(fixed) and not self.keeps_events
        ):
            raise LakeflowError(
                f"AUTO CDC into {self.target_name}: its keys, sequence_by or columns are not those that its state was"
                " made with; run a full refresh"
            )

    def _whole_state(self) -> DataFrame:
        return DeltaTable.forPath(self.spark, self.state_path).toDF()

    def _state(self) -> DataFrame:
        return self._whole_state().where(self._within_range())

    def _append(self, events: DataFrame) -> None:
        """Adds events to the state, which does not mind having them already."""
        known = [name for name in self.state_columns if name in events.columns]
        events.select(*_columns(known)).write.format("delta").mode("append").option("mergeSchema", True).save(
            self.state_path
        )
        state = self._whole_state()
        if len(state.inputFiles()) > _COMPACT_ABOVE_FILES:
            by = [*self.keys, _SEQUENCE] if self.keeps_events else self.keys
            tie = self._digest() if self.keeps_events else F.lit(0) if self.sequence_column else F.col(_DIGEST)
            compact = _winners(state, by, F.struct(_SEQUENCE, _DELETED, tie))
            compact.write.format("delta").mode("overwrite").save(self.state_path)

    # Truncation

    def _last_truncation(self) -> DataFrame | None:
        """The last truncation of the batch as an event without keys, if there is one."""
        marks = self.changes.where(F.col(_TRUNCATES))
        found = marks.agg(
            F.count("*").alias("__cdc_rows"), F.count_if(_lacks(_SEQUENCE, self.sequence_type)).alias("__cdc_unordered")
        ).first()
        if found["__cdc_unordered"]:
            raise self._null("sequence_by", self.cdc.sequence_by, found["__cdc_unordered"])
        if not found["__cdc_rows"]:
            return None
        keys = (F.lit(None).cast(field.dataType).alias(field.name) for field in self.key_fields)
        return marks.agg(F.max(_SEQUENCE).alias(_SEQUENCE)).select(*keys, _SEQUENCE, F.lit(True).alias(_DELETED))

    def _truncated_until(self) -> DataFrame:
        return self._whole_state().where(_column(self.keys[0]).isNull()).agg(F.max(_SEQUENCE).alias(_AT))

    # Type 1

    def _apply_by_target(self, events: DataFrame, any_deletes: bool, truncated: bool) -> Counts:
        """The target keeps the sequence: the state only has to remember the deletes."""
        if any_deletes:
            self._append(events.where(_DELETED))
        gone = self._state().select(
            *(_column(key).alias(f"{_AT}_{key}") for key in self.keys), F.col(_SEQUENCE).alias(_AT)
        )
        superseded = reduce(and_, (_column(key) == _column(f"{_AT}_{key}") for key in self.keys))
        events = events.join(gone, superseded & ~F.col(_DELETED) & (F.col(_AT) >= F.col(_SEQUENCE)), "left_anti")
        deleted = 0
        current = _column(self.sequence_column, "t")
        if truncated:
            merge = self.target.alias("t").merge(self._truncated_until().alias("s"), current <= F.col(f"s.{_AT}"))
            deleted = merge.whenMatchedDelete().execute().first()["num_deleted_rows"]
        sequence = _column(_SEQUENCE, "s")
        newer = (sequence > current) | ((sequence == current) & (_column(_DIGEST, "s") > self._digest("t")))
        counts = self._merge(events, deletes=sequence >= current, updates=newer)
        return Counts(counts.upserted, counts.deleted + deleted)

    def _apply_by_state(self, events: DataFrame, truncated: bool) -> Counts:
        """The target does not keep the sequence: the state has that of every key, with a digest that decides ties."""
        known = (
            self._state()
            .join(events.select(*_columns(self.keys)), self.keys, "left_semi")
            .groupBy(*_columns(self.keys))
            .agg(F.max(_order()).alias("__cdc_known"))
        )
        # An event that the state has may not be in the target: the batch before was killed in between.
        fresh = events.join(known, self.keys, "left").where(
            F.col("__cdc_known").isNull() | (_order() >= F.col("__cdc_known"))
        )
        fresh = _once(fresh.withColumn("__cdc_new", F.col("__cdc_known").isNull() | (_order() > F.col("__cdc_known"))))
        new = fresh.where("__cdc_new")
        if truncated:
            last = _winners(self._whole_state().where(_column(self.keys[0]).isNotNull()), self.keys, _order())
            gone = last.crossJoin(F.broadcast(self._truncated_until())).where(F.col(_SEQUENCE) <= F.col(_AT))
            gone = gone.join(fresh.select(*_columns(self.keys)), self.keys, "left_anti")
            fresh = fresh.unionByName(
                gone.select(*_columns(self.keys), F.lit(True).alias(_DELETED)), allowMissingColumns=True
            )
            self.range = []
        if not new.isEmpty():
            self._append(new)
        return self._merge(fresh, deletes=F.lit(True), updates=self._differs())

    def _apply_sparse(self, events: DataFrame) -> Counts:
        by_key = Window.partitionBy(*_columns(self.keys)).orderBy(F.desc(_SEQUENCE))
        rows = (
            self._filled(self._remember(events))
            .withColumn("__cdc_nth", F.row_number().over(by_key))
            .where("__cdc_nth = 1")
        )
        return self._merge(rows, deletes=F.lit(True), updates=self._differs())

    def _differs(self) -> Column:
        source, target = (self._comparable(self.values, lambda name, side=side: _column(name, side)) for side in "st")
        return ~source.eqNullSafe(target)

    def _merge(self, rows: DataFrame, *, deletes: Column, updates: Column) -> Counts:
        merge = self.target.alias("t").merge(rows.alias("s"), self._same_keys() & self._within_range("t"))
        deleted = _column(_DELETED, "s")
        merge = merge.whenMatchedDelete(deleted & deletes)
        if self.values:
            merge = merge.whenMatchedUpdate(~deleted & updates, _assign(self.values))
        return _execute(merge.whenNotMatchedInsert(~deleted, _assign([*self.keys, *self.values])))

    # Type 2

    def _apply_to_history(self, events: DataFrame) -> Counts:
        affected = events.select(*_columns(self.keys)).distinct()
        shown = _once(self.target.toDF().where(self._within_range()).join(affected, self.keys, "left_semi"))
        if self.definition.ignored:
            return self._replace(shown, self._timeline(self._filled(self._remember(events))).where("__cdc_shown"))
        past = self._past(events, shown, self._state().join(affected, self.keys, "left_semi"))
        timeline = _once(self._timeline(past))
        in_state = F.col(_RANK).eqNullSafe(F.lit(_FROM_STATE))
        unseen = timeline.where(F.when(in_state, F.col("__cdc_new")).otherwise(F.col("__cdc_hidden")))
        if not unseen.isEmpty():
            self._append(unseen)
        return self._replace(shown, timeline.where("__cdc_shown"))

    def _past(self, events: DataFrame, shown: DataFrame, state: DataFrame) -> DataFrame:
        """Every event that the batch, the state and the visible rows of its keys know of, one for a sequence value.

        The event at the head of a longer run is in the state, as it was: the row shows another's content. A row's end
        is a delete unless another row starts there.
        """
        event = F.struct(*_columns(self.content))
        rows = [
            shown.where(F.col(END).isNotNull()).select(
                *_columns(self.keys),
                F.col(END).alias(_SEQUENCE),
                F.struct(
                    F.lit(True).alias(_DELETED),
                    F.lit(None).cast(LongType()).alias(_DIGEST),
                    *(F.lit(None).cast(field.dataType).alias(field.name) for field in self.value_fields),
                ).alias("__cdc_event"),
                F.lit(_FROM_END).alias(_RANK),
            ),
            shown.where(F.col(START).isNotNull())
            .withColumn(_DELETED, F.lit(False))
            .withColumn(_DIGEST, self._digest())
            .select(
                *_columns(self.keys),
                F.col(START).alias(_SEQUENCE),
                event.alias("__cdc_event"),
                F.lit(_FROM_START).alias(_RANK),
            ),
            state.select(
                "*",
                *(
                    F.lit(None).cast(field.dataType).alias(field.name)
                    for field in self.value_fields
                    if field.name not in state.columns
                ),
            )
            .withColumn(_DIGEST, F.when(~F.col(_DELETED), self._digest()))
            .select(*_columns([*self.keys, _SEQUENCE]), event.alias("__cdc_event"), F.lit(_FROM_STATE).alias(_RANK)),
            events.select(
                *_columns([*self.keys, _SEQUENCE]), event.alias("__cdc_event"), F.lit(_FROM_BATCH).alias(_RANK)
            ),
        ]
        order = F.struct(F.col("__cdc_event")[_DELETED], F.col("__cdc_event")[_DIGEST])
        from_batch = F.col(_RANK) == _FROM_BATCH
        merged = (
            reduce(DataFrame.unionByName, rows)
            .groupBy(*_columns([*self.keys, _SEQUENCE]))
            .agg(
                F.max_by("__cdc_event", F.when(from_batch, order)).alias("__cdc_batch"),
                F.max_by("__cdc_event", F.when(~from_batch, F.struct(_RANK, order))).alias("__cdc_known"),
                F.max(F.when(~from_batch, F.col(_RANK))).alias(_RANK),
            )
        )

        def rank(name: str) -> Column:
            return F.struct(F.col(name)[_DELETED], F.col(name)[_DIGEST])

        merged = merged.withColumn(
            "__cdc_new",
            F.col("__cdc_batch").isNotNull()
            & (F.col("__cdc_known").isNull() | (rank("__cdc_batch") > rank("__cdc_known"))),
        ).withColumn("__cdc_event", F.when(F.col("__cdc_new"), F.col("__cdc_batch")).otherwise(F.col("__cdc_known")))
        return merged.select(
            *_columns([*self.keys, _SEQUENCE, _RANK, "__cdc_new"]),
            *(F.col("__cdc_event")[name].alias(name) for name in (_DELETED, *self.values)),
        )

    def _timeline(self, events: DataFrame) -> DataFrame:
        """The events in their order, those that end a run with its row in their place.

        Adds `shown`, with `START` and `END` of the row, and `hidden`: the visible rows do not give the event back.
        """
        by_key = Window.partitionBy(*_columns(self.keys)).orderBy(_SEQUENCE)
        so_far = by_key.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        tracked = self._comparable(self.values if self.definition.tracked is None else self.definition.tracked)
        upsert, after_upsert = ~F.col(_DELETED), ~F.coalesce(F.lag(_DELETED).over(by_key), F.lit(True))
        events = events.withColumn(
            "__cdc_continues", upsert & after_upsert & tracked.eqNullSafe(F.lag(tracked).over(by_key))
        ).withColumns(
            {
                "__cdc_continued": F.coalesce(F.lead("__cdc_continues").over(by_key), F.lit(False)),
                "__cdc_head": F.last(
                    F.when(upsert & ~F.col("__cdc_continues"), F.col(_SEQUENCE)), ignorenulls=True
                ).over(so_far),
                "__cdc_next": F.lead(_SEQUENCE).over(by_key),
                "__cdc_repeated": F.col(_DELETED) & ~after_upsert,
            }
        )
        ends_run, lived = upsert & ~F.col("__cdc_continued"), F.col("__cdc_head").isNotNull()
        return events.select(
            "*",
            (ends_run | (F.col("__cdc_repeated") & lived)).alias("__cdc_shown"),
            F.when(upsert, F.col("__cdc_continues") | F.col("__cdc_continued")).otherwise(~lived).alias("__cdc_hidden"),
            F.when(ends_run, F.col("__cdc_head")).alias(START),
            F.when(ends_run, F.col("__cdc_next")).otherwise(F.col(_SEQUENCE)).alias(END),
        )

    def _replace(self, old: DataFrame, new: DataFrame) -> Counts:
        """Makes the rows `old` of the target the rows `new`, and touches none that is in both."""
        names = [START, END, *self.values]
        at = F.coalesce(F.col(START), F.col(END))
        row = F.struct(*_columns(names))
        before, after = (
            self._comparable(names, lambda name, side=side: F.col(side)[name]) for side in ("__cdc_old", "__cdc_new")
        )
        rows = (
            old.select(*_columns(self.keys), at.alias(_AT), row.alias("__cdc_old"))
            .join(
                new.select(*_columns(self.keys), at.alias(_AT), row.alias("__cdc_new")), [*self.keys, _AT], "full_outer"
            )
            .where(F.col("__cdc_old").isNull() | F.col("__cdc_new").isNull() | ~before.eqNullSafe(after))
            .select(*_columns([*self.keys, _AT]), F.col("__cdc_new").isNull().alias(_DELETED), "__cdc_new.*")
        )
        same_row = F.coalesce(_column(START, "t"), _column(END, "t")) == _column(_AT, "s")
        merge = self.target.alias("t").merge(rows.alias("s"), self._same_keys() & same_row & self._within_range("t"))
        deleted = _column(_DELETED, "s")
        return _execute(
            merge.whenMatchedDelete(deleted)
            .whenMatchedUpdate(~deleted, _assign(names))
            .whenNotMatchedInsert(~deleted, _assign([*self.keys, *names]))
        )

    # Both types

    def _comparable(self, names: Sequence[str], of: Callable[[str], Column] = lambda name: _column(name)) -> Column:
        """The named columns in one value that can be tested for equality, which maps and variants cannot."""
        opaque = {field.name for field in self.value_fields if not _orderable(field.dataType)}
        return F.struct(F.lit(0), *(F.to_json(of(name)) if name in opaque else of(name) for name in names))

    def _remember(self, events: DataFrame) -> DataFrame:
        """Adds the events to the state, and gives all that it has of their keys."""
        self._append(events)
        past = self._state().join(events.select(*_columns(self.keys)), self.keys, "left_semi")
        return _winners(past, [*self.keys, _SEQUENCE], F.struct(_DELETED, self._digest()))

    def _filled(self, events: DataFrame) -> DataFrame:
        """The events with the value before, since the last delete, in the place of a NULL that is to be ignored."""
        by_key = Window.partitionBy(*_columns(self.keys)).orderBy(_SEQUENCE)
        in_life = Window.partitionBy(*_columns([*self.keys, _AT])).orderBy(_SEQUENCE)
        return (
            events.withColumn(_AT, F.sum(F.col(_DELETED).cast("int")).over(by_key))
            .withColumns(
                {name: F.last(_column(name), ignorenulls=True).over(in_life) for name in self.definition.ignored}
            )
            .withColumns({name: F.when(~F.col(_DELETED), _column(name)) for name in self.definition.ignored})
            .drop(_AT)
        )


_JSON = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"}
_PRUNED_BY = (StringType, IntegralType, DecimalType, DateType)
# Which account of an event is right: the state's, then that of the visible row that starts there, then the end of one.
_FROM_END, _FROM_START, _FROM_STATE, _FROM_BATCH = range(4)


def _once(frame: DataFrame) -> DataFrame:
    """The frame, computed by the first job that needs it. A plan on a cached frame would take twice the time."""
    return frame.localCheckpoint(eager=False)


def _order() -> Column:
    return F.struct(_SEQUENCE, _DELETED, _DIGEST)


def _winners(events: DataFrame, by: list[str], order: Column) -> DataFrame:
    rest = [name for name in events.columns if name not in by]
    last = events.groupBy(*_columns(by)).agg(F.max_by(F.struct(*_columns(rest)), order).alias("__cdc_event"))
    return last.select(*_columns(by), "__cdc_event.*")


def _execute(merge: DeltaMergeBuilder) -> Counts:
    done = merge.execute().first()
    return Counts(done["num_inserted_rows"] + done["num_updated_rows"], done["num_deleted_rows"])


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _column(name: str, alias: str = "") -> Column:
    return F.col(f"{alias}.{_quoted(name)}" if alias else _quoted(name))


def _columns(names: Iterable[str]) -> list[Column]:
    return [_column(name) for name in names]


def _assign(names: Iterable[str]) -> dict[str, Column]:
    return {_quoted(name): _column(name, "s") for name in names}


def _lacks(name: str, type: DataType) -> Column:
    """Whether a sequence or a part of it is NULL: a struct with a NULL has an order, but not one that was meant."""
    parts = [_column(name)[field.name] for field in type] if isinstance(type, StructType) else []
    return reduce(or_, (part.isNull() for part in parts), _column(name).isNull())


def _orderable(type: DataType) -> bool:
    if isinstance(type, StructType):
        return all(_orderable(field.dataType) for field in type)
    if isinstance(type, ArrayType):
        return _orderable(type.elementType)
    return not isinstance(type, (MapType, VariantType, CalendarIntervalType, UserDefinedType, NullType))


def _listed(fields: Iterable[StructField]) -> str:
    return ", ".join(field.name for field in fields)


def _names(names: Iterable[str], fields: Sequence[StructField], what: str) -> tuple[str, ...]:
    """The names as the fields write them."""
    by_name = {field.name.lower(): field.name for field in fields}
    for name in names:
        if name.strip("`").lower() not in by_name:
            raise LakeflowError(
                f"AUTO CDC: the {what} `{name}` is not a column of the changes; there are {_listed(fields)}"
            )
    return tuple(by_name[name.strip("`").lower()] for name in names)


def _select(
    fields: Sequence[StructField], included: Sequence[str] | None, excluded: Sequence[str], what: str
) -> list[StructField]:
    names = _names(included if included is not None else excluded, fields, what)
    return [field for field in fields if (field.name in names) == (included is not None)]


def _type_of(changes: DataFrame, expression: str, what: str) -> DataType:
    try:
        return changes.select(F.expr(expression)).schema[0].dataType
    except AnalysisException as error:
        reason = error.getCondition() or "it is not an expression"
        raise LakeflowError(
            f"AUTO CDC: {what} {expression} cannot be read from the changes ({reason});"
            f" there are {_listed(changes.schema)}"
        ) from None


def _evolve(spark: SparkSession, target: str, wanted: StructType) -> None:
    """Adds the columns, and the fields of struct columns, that the target lacks."""
    present = spark.table(target).schema
    for name in (START, END):
        if name in wanted.names and name not in present.names:
            raise LakeflowError(f"AUTO CDC: SCD type 2 needs a column {name} in {target}, of the type of sequence_by")
    added = ", ".join(_additions(present, wanted, ""))
    if added:
        spark.sql(f"ALTER TABLE {target} ADD COLUMNS ({added})")


def _additions(present: StructType, wanted: StructType, parent: str) -> Iterator[str]:
    known = {field.name.lower(): field for field in present}
    for field in wanted:
        here = known.get(field.name.lower())
        if here is None:
            yield parent + StructType([StructField(field.name, field.dataType)]).toDDL()
        elif isinstance(field.dataType, StructType) and isinstance(here.dataType, StructType):
            yield from _additions(here.dataType, field.dataType, f"{parent}{_quoted(here.name)}.")
