"""Applies one batch of changes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    AtomicType,
    BooleanType,
    DateType,
    DecimalType,
    IntegralType,
    LongType,
    StringType,
    StructField,
    VariantType,
)

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.auto_cdc.columns import (
    END,
    START,
    SYSTEM_END,
    SYSTEM_START,
    column,
    columns,
    comparable,
    lacks,
    once,
)
from lakeflow_local.pipelines.auto_cdc.definition import Definition, evolve
from lakeflow_local.pipelines.auto_cdc.state import State
from lakeflow_local.pipelines.auto_cdc.target import (
    AT,
    BROADCAST_ROWS,
    DELETED,
    DOUBT,
    HERE,
    SMALL_BATCH_ROWS,
    Counts,
    Target,
    plan_for,
    session_of_its_own,
)
from lakeflow_local.pipelines.graph import AutoCdc

_SEQUENCE, _SYSTEM, _DIGEST, _UPDATES = "__cdc_sequence", "__cdc_system", "__cdc_digest", "__cdc_updates"
_TRUNCATES, _RANK, _HELD = "__cdc_truncates", "__cdc_rank", "__cdc_held"
_MOMENT, _NTH, _UNTIL, _ROW = "__cdc_moment", "__cdc_nth", "__cdc_until", "__cdc_row"
_JSON = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"}
_NAMES = ArrayType(StringType())
_PRUNED_BY = (StringType, IntegralType, DecimalType, DateType)
# Which account of an event is right: the state's, then that of the visible row that starts there, then the end of one.
_FROM_END, _FROM_START, _FROM_STATE, _FROM_BATCH = range(4)


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
        state: path or URL of the folder of the ordering state; the same for the life of the target, removed with the
            target's rows.
        generated: columns of the target that Delta computes.

    Raises:
        LakeflowError: a key or the sequence is NULL in some rows, or the state was made by another definition.
    """
    session, changes = session_of_its_own(spark, changes)
    plan_for(session, small=True)
    definition = Definition.of(changes, cdc)
    evolve(session, target, definition.schema)
    return _Batch(session, definition, changes, Target(session, target), state, generated).apply()


class _Batch:
    """One batch on its way into the target.

    Events are rows of the keys, `_SEQUENCE`, `DELETED`, `_DIGEST` and the values; the values of a delete are NULL.
    Besides they have `_SYSTEM` in a bitemporal history, and in `_UPDATES` the columns that they write, NULL for all.
    """

    def __init__(
        self,
        spark: SparkSession,
        definition: Definition,
        changes: DataFrame,
        target: Target,
        state: str,
        generated: Collection[str],
    ):
        self.spark = spark
        self.definition = definition
        self.cdc = definition.cdc
        self.target = target
        self.state_path = state

        fields = {field.name.lower(): field for field in target.schema}
        given = {field.name.lower() for field in definition.schema}
        by_delta = {name.lower() for name in generated}
        self.key_fields = [fields[key.lower()] for key in definition.keys]
        self.keys = [field.name for field in self.key_fields]
        made_here = (START, END, *((SYSTEM_START, SYSTEM_END) if definition.system else ()))
        self.value_fields = [
            field
            for name, field in fields.items()
            if field.name not in (*self.keys, *made_here)
            and (name in given or not (name in by_delta or "CURRENT_DEFAULT" in field.metadata))
        ]
        self.values = [field.name for field in self.value_fields]
        self.noted = [StructField(_UPDATES, _NAMES)] if definition.updates else []
        if definition.system:
            self.noted.append(StructField(_SYSTEM, fields[SYSTEM_START.lower()].dataType))
        self.content = [DELETED, _DIGEST, *self.values, *(field.name for field in self.noted)]
        self.sequence_type = fields[START.lower()].dataType if self.cdc.scd_type == 2 else definition.sequence.dataType
        self.sparse = bool(definition.ignored or definition.updates)
        self.keeps_events = self.cdc.scd_type == 2 or self.sparse
        # What tells an event from the others of its key.
        self.event = [_SEQUENCE, *([_SYSTEM] if definition.system else [])] if self.keeps_events else []
        # The rows of the target tell their order themselves if they keep the sequence as it came.
        plain = fields.get(self.cdc.sequence_by.strip("`").lower())
        kept = plain in self.value_fields and plain.name.lower() in given and plain.dataType == self.sequence_type
        self.sequence_column = plain.name if kept and not self.keeps_events else None
        self.changes = self._events_of(changes, given)

    def apply(self) -> Counts:
        truncates = self.cdc.apply_as_truncates is not None
        if truncates:
            self.changes = once(self.changes)
        last = (
            self.changes.where(~F.col(_TRUNCATES))
            .groupBy(*columns([*self.keys, *self.event]))
            .agg(
                F.max_by(F.struct(*columns([_SEQUENCE, *self.content])), _order()).alias("__cdc_event"),
                F.count("*").alias("__cdc_rows"),
                F.count_if(lacks(_SEQUENCE, self.sequence_type)).alias("__cdc_unordered"),
            )
        )
        last = once(last)
        rows, deletes = self._inspect(last)
        plan_for(self.spark, small=rows <= SMALL_BATCH_ROWS)
        self.few = rows <= BROADCAST_ROWS and not self.target.small
        truncation = self._last_truncation() if truncates else None
        if not rows and truncation is None:
            return Counts()
        self.state = self._open_state()
        events = last.select(
            *columns(self.keys), *(F.col("__cdc_event")[name].alias(name) for name in (_SEQUENCE, *self.content))
        )
        if self.cdc.scd_type == 2:
            return self._apply_to_history(events)
        if self.sparse:
            return self._apply_sparse(events)
        if truncation is not None:
            self._remember(truncation)
        if truncates and not self.state.empty:
            until = F.broadcast(self._truncated_until())
            survives = F.col(DELETED) | F.col(AT).isNull() | (F.col(_SEQUENCE) > F.col(AT))
            events = events.crossJoin(until).where(survives).drop(AT)
        if self.sequence_column:
            return self._apply_by_target(events, deletes > 0, truncation is not None)
        return self._apply_by_state(events, truncation is not None)

    def _events_of(self, changes: DataFrame, given: set[str]) -> DataFrame:
        def holds(predicate: str | None) -> Column:
            return F.lit(False) if predicate is None else F.coalesce(F.expr(predicate), F.lit(False))

        deleted = holds(self.cdc.apply_as_deletes)
        typed = changes.select(
            *(column(field.name).cast(field.dataType).alias(field.name) for field in self.key_fields),
            F.expr(self.cdc.sequence_by).cast(self.sequence_type).alias(_SEQUENCE),
            deleted.alias(DELETED),
            holds(self.cdc.apply_as_truncates).alias(_TRUNCATES),
            *(
                F.when(~deleted, column(field.name) if field.name.lower() in given else F.lit(None))
                .cast(field.dataType)
                .alias(field.name)
                for field in self.value_fields
            ),
            *self._notes(deleted),
        )
        return typed.withColumn(_DIGEST, self._digest())

    def _notes(self, deleted: Column) -> Iterator[Column]:
        for field in self.noted:
            if field.name == _SYSTEM:
                yield F.expr(self.cdc.system_sequence_by).cast(field.dataType).alias(_SYSTEM)
            else:
                named = F.transform(column(self.definition.updates), lambda name: F.lower(F.trim(name)))
                yield F.when(~deleted, F.array_sort(F.array_distinct(named))).alias(_UPDATES)

    def _digest(self, alias: str = "") -> Column:
        """Orders contents. The place of a column, and one that is NULL, have no part in it: columns may be added."""
        parts: list[Column] = []
        fields = self.value_fields
        if self.definition.updates:
            fields = [*fields, StructField(_UPDATES, _NAMES)]
        for field in sorted(fields, key=lambda field: field.name):
            value = column(field.name, alias)
            if not isinstance(field.dataType, AtomicType) or isinstance(field.dataType, VariantType):
                value = F.to_json(F.struct(value), _JSON)
            # A hash passes over a NULL, so that each value comes with its column's name.
            parts += [F.when(column(field.name, alias).isNotNull(), F.lit(field.name)), value]
        return F.xxhash64(*parts) if parts else F.lit(0).cast(LongType())

    def _inspect(self, last: DataFrame) -> tuple[int, int]:
        """The number of events and of deletes among them; refuses NULL keys and sequences, learns the keys' range."""
        ranged = [
            field.name
            for field in self.key_fields
            if isinstance(field.dataType, _PRUNED_BY) and self.target.skips_files_by(field.name)
        ]
        system = self.definition.system
        found = last.agg(
            F.count("*").alias("events"),
            F.count_if("__cdc_event." + DELETED).alias("deletes"),
            F.sum("__cdc_unordered").alias("__cdc_unordered"),
            F.array(*(F.sum(F.when(column(key).isNull(), F.col("__cdc_rows"))) for key in self.keys)).alias("lacking"),
            (F.sum(F.when(lacks(_SYSTEM, system.dataType), F.col("__cdc_rows"))) if system else F.lit(0)).alias(
                "untimed"
            ),
            (F.max(self._unknown_name()) if self.definition.updates else F.lit(None)).alias("unknown"),
            F.struct(F.lit(0), *(F.min(column(key)) for key in ranged)).alias("low"),
            F.struct(F.lit(0), *(F.max(column(key)) for key in ranged)).alias("high"),
        ).first()
        for key, lacking in zip(self.keys, found["lacking"], strict=True):
            if lacking:
                raise self._null("key", key, lacking)
        if found["__cdc_unordered"]:
            raise self._null("sequence_by", self.cdc.sequence_by, found["__cdc_unordered"])
        if found["untimed"]:
            raise self._null("system_sequence_by", self.cdc.system_sequence_by, found["untimed"])
        if found["unknown"]:
            raise LakeflowError(
                f"AUTO CDC into {self.target.name}: {self.definition.updates} names `{found['unknown']}`, which is no"
                " column of the target; correct it before, or add the column to the changes"
            )
        self.range = [
            (key, F.lit(low), F.lit(high))
            for key, low, high in zip(ranged, found["low"][1:], found["high"][1:], strict=True)
            if low is not None
        ]
        return found["events"], found["deletes"]

    def _unknown_name(self) -> Column:
        known = F.array(*(F.lit(name.lower()) for name in (*self.keys, *self.values, self.definition.updates)))
        return F.array_max(F.array_except(F.col("__cdc_event")[_UPDATES], known))

    def _null(self, what: str, name: str, rows: int) -> LakeflowError:
        return LakeflowError(
            f"AUTO CDC into {self.target.name}: the {what} {name} is NULL in {rows} change{'s' if rows > 1 else ''};"
            " drop such rows before, for example by an expectation"
        )

    def _within_range(self, alias: str = "") -> Column:
        """Confines a scan to the range of the batch's keys, so that Delta can skip files."""
        return reduce(and_, (column(key, alias).between(low, high) for key, low, high in self.range), F.lit(True))

    def _same_keys(self) -> Column:
        same = (column(key, "t") == column(key, "s") for key in self.keys)
        return reduce(and_, same, self._within_range("t"))

    # The state

    def _open_state(self) -> State:
        fields = [*self.key_fields, StructField(_SEQUENCE, self.sequence_type), StructField(DELETED, BooleanType())]
        fields += self.noted
        if not self.keeps_events and self.sequence_column is None:
            fields.append(StructField(_DIGEST, LongType()))
        fixed = len(fields)
        if self.keeps_events:
            fields += self.value_fields
        return State(self.spark, self.state_path, self.target.name, fields, fixed=fixed, target_empty=self.target.empty)

    def _known(self) -> DataFrame:
        """What the state has of the batch's keys, and some others."""
        return self.state.events().where(self._within_range())

    def _known_of(self, events: DataFrame) -> DataFrame:
        return self._known().join(self._keys_of(events), self.keys, "left_semi")

    def _keys_of(self, events: DataFrame) -> DataFrame:
        """The keys, to look them up in something that may be large."""
        keys = events.select(*columns(self.keys))
        return F.broadcast(keys) if self.few else keys

    def _remember(self, events: DataFrame) -> None:
        def needed(events: DataFrame) -> DataFrame:
            by = [*self.keys, *self.event]
            tie = self._digest() if self.keeps_events else F.lit(0) if self.sequence_column else F.col(_DIGEST)
            return _winners(events, by, F.struct(_SEQUENCE, DELETED, tie))

        self.state.add(events, needed)

    # Truncation

    def _last_truncation(self) -> DataFrame | None:
        """The last truncation of the batch as an event without keys, if there is one."""
        marks = self.changes.where(F.col(_TRUNCATES))
        found = marks.agg(
            F.count("*").alias("__cdc_rows"), F.count_if(lacks(_SEQUENCE, self.sequence_type)).alias("__cdc_unordered")
        ).first()
        if found["__cdc_unordered"]:
            raise self._null("sequence_by", self.cdc.sequence_by, found["__cdc_unordered"])
        if not found["__cdc_rows"]:
            return None
        keys = (F.lit(None).cast(field.dataType).alias(field.name) for field in self.key_fields)
        return marks.agg(F.max(_SEQUENCE).alias(_SEQUENCE)).select(*keys, _SEQUENCE, F.lit(True).alias(DELETED))

    def _truncated_until(self) -> DataFrame:
        return self.state.events().where(column(self.keys[0]).isNull()).agg(F.max(_SEQUENCE).alias(AT))

    # Type 1

    def _apply_by_target(self, events: DataFrame, any_deletes: bool, truncated: bool) -> Counts:
        """The target keeps the sequence: the state only has to remember the deletes."""
        knows_deletes = not self.state.empty
        if any_deletes:
            self._remember(events.where(DELETED))
        if knows_deletes:
            gone = self._known() if self.target.small else self._known_of(events)
            gone = gone.select(*(column(key).alias(f"{AT}_{key}") for key in self.keys), F.col(_SEQUENCE).alias(AT))
            superseded = reduce(and_, (column(key) == column(f"{AT}_{key}") for key in self.keys))
            superseded &= ~F.col(DELETED) & (F.col(AT) >= F.col(_SEQUENCE))
            events = once(events.join(F.broadcast(gone) if self.few else gone, superseded, "left_anti"))
        truncation = Counts()
        if truncated:
            until = self._truncated_until().first()[AT]
            truncation = Counts(deleted=self.target.delete(column(self.sequence_column, "t") <= F.lit(until)))
        held, wins = {_HELD: self._digest("t")}, F.col(_DIGEST) > F.col(_HELD)
        at = {AT: column(self.sequence_column, "t")}
        later = F.when(F.col(HERE), F.col(_SEQUENCE) >= F.col(AT)).otherwise(~F.col(DELETED))
        tie = F.coalesce((F.col(_SEQUENCE) == F.col(AT)) & ~F.col(DELETED), F.lit(False))
        if self.target.small:
            return truncation + self._change(events, {**at, **held}, later & (~tie | wins))
        # A digest is of all columns, which a large table is read for only where it decides.
        return truncation + self._change(self._beside(events, at).where(later), held, wins, doubt=tie)

    def _apply_by_state(self, events: DataFrame, truncated: bool) -> Counts:
        """The target does not keep the sequence: the state has that of every key, with a digest that decides ties."""
        if self.state.empty:
            self._remember(events)
            return self._change(events)
        known = self._known_of(events).groupBy(*columns(self.keys)).agg(F.max(_order()).alias("__cdc_known"))
        # An event that the state has may not be in the target: the batch before was killed in between.
        never, new = F.col("__cdc_known").isNull(), _order() > F.col("__cdc_known")
        fresh = (
            events.join(F.broadcast(known) if self.few else known, self.keys, "left")
            .where(never | (_order() >= F.col("__cdc_known")))
            .withColumns({"__cdc_new": never | new, HERE: F.when(~never, F.lit(True))})
        )
        fresh = once(fresh)
        unseen = fresh.where("__cdc_new")
        if truncated:
            last = _winners(self.state.events().where(column(self.keys[0]).isNotNull()), self.keys, _order())
            gone = last.crossJoin(F.broadcast(self._truncated_until())).where(F.col(_SEQUENCE) <= F.col(AT))
            gone = gone.join(fresh.select(*columns(self.keys)), self.keys, "left_anti").select(
                *columns(self.keys), F.lit(True).alias(DELETED), F.lit(True).alias("__cdc_new"), F.lit(True).alias(HERE)
            )
            fresh = once(fresh.unionByName(gone, allowMissingColumns=True))
            self.range, self.few = [], False
        self._remember_any(unseen)
        if self.few:
            fresh = self._beside(fresh.drop(HERE), {})
        return self._change(fresh, *self._by_content(), doubt=~F.col("__cdc_new"))

    def _apply_sparse(self, events: DataFrame) -> Counts:
        by_key = Window.partitionBy(*columns(self.keys)).orderBy(F.desc(_SEQUENCE))
        rows = self._filled(self._past_and(events)).withColumn("__cdc_nth", F.row_number().over(by_key))
        return self._change(once(rows.where("__cdc_nth = 1")), *self._by_content())

    def _by_content(self) -> tuple[dict[str, Column], Column]:
        differs = F.col(DELETED) | ~comparable(self.value_fields).eqNullSafe(F.col(_HELD))
        changes = F.when(F.col(HERE), differs).otherwise(~F.col(DELETED))
        return {_HELD: comparable(self.value_fields, "t")}, changes

    def _beside(self, rows: DataFrame, held: dict[str, Column]) -> DataFrame:
        return self.target.beside(rows, self._same_keys(), held, keys=self.keys, few=self.few)

    def _change(
        self,
        rows: DataFrame,
        held: dict[str, Column] | None = None,
        changes: Column | None = None,
        *,
        doubt: Column | None = None,
    ) -> Counts:
        """Applies those of the rows that change something, as far as what the target holds tells.

        Args:
            held: expressions on the target's row `t`.
            changes: whether a row changes something, by the columns of `held`.
            doubt: only for such rows a large target has to be asked; the others change something.
        """
        settle = None
        if held and not self.target.empty:
            if self.target.small or doubt is None:
                rows = self._beside(rows.drop(HERE), held).where(changes)
            else:
                rows = rows.withColumn(DOUBT, doubt)

                def settle(rows: DataFrame) -> DataFrame:
                    asked = self._beside(rows.where(DOUBT).drop(HERE), held).where(changes).drop(*held)
                    return rows.where(~F.col(DOUBT)).unionByName(asked)

        # A commit for the rows of some keys, then one for the others: as if they had come in two batches.
        return self.target.change(
            rows, self._same_keys(), self.values, keys=self.keys, settle=settle, apart=self.few and HERE in rows.columns
        )

    # Type 2

    def _apply_to_history(self, events: DataFrame) -> Counts:
        plain = not (self.sparse or self.definition.system)
        if self.target.empty and self.state.empty and plain:
            return self._begin_history(events)
        shown = self.target.rows().where(self._within_range())
        shown = once(shown.join(self._keys_of(events), self.keys, "left_semi"))
        if self.definition.system:
            return self._replace_beliefs(shown, self._beliefs(self._past_and(events)))
        if self.sparse:
            timeline = self._timeline(self._filled(self._past_and(events)))
        else:
            timeline = once(self._timeline(self._past(events, shown, self._known_of(events))))
            in_state = F.col(_RANK).eqNullSafe(F.lit(_FROM_STATE))
            self._remember_any(timeline.where(F.when(in_state, F.col("__cdc_new")).otherwise(F.col("__cdc_hidden"))))
        return self.target.replace(
            shown,
            timeline.where("__cdc_shown"),
            self.value_fields,
            keys=self.keys,
            same_keys=self._same_keys(),
            apart=self.few,
        )

    def _begin_history(self, events: DataFrame) -> Counts:
        """What `_apply_to_history` comes to where nothing is known yet: a first load has many rows, and no past."""
        timeline = once(self._timeline(events))
        self._remember_any(timeline.where("__cdc_hidden"))
        rows = timeline.where("__cdc_shown").withColumn(DELETED, F.lit(False))
        return self.target.change(rows, F.lit(False), [START, END, *self.values], keys=self.keys)

    def _remember_any(self, events: DataFrame) -> None:
        if not events.isEmpty():
            self._remember(events)

    def _past(self, events: DataFrame, shown: DataFrame, state: DataFrame) -> DataFrame:
        """Every event that the batch, the state and the visible rows of its keys know of, one for a sequence value.

        The event at the head of a longer run is in the state, as it was: the row shows another's content. A row's end
        is a delete unless another row starts there.
        """
        event = F.struct(*columns(self.content))
        rows = [
            shown.where(F.col(END).isNotNull()).select(
                *columns(self.keys),
                F.col(END).alias(_SEQUENCE),
                F.struct(
                    F.lit(True).alias(DELETED),
                    F.lit(None).cast(LongType()).alias(_DIGEST),
                    *(F.lit(None).cast(field.dataType).alias(field.name) for field in self.value_fields),
                ).alias("__cdc_event"),
                F.lit(_FROM_END).alias(_RANK),
            ),
            shown.where(F.col(START).isNotNull())
            .withColumn(DELETED, F.lit(False))
            .withColumn(_DIGEST, self._digest())
            .select(
                *columns(self.keys),
                F.col(START).alias(_SEQUENCE),
                event.alias("__cdc_event"),
                F.lit(_FROM_START).alias(_RANK),
            ),
            state.withColumn(_DIGEST, F.when(~F.col(DELETED), self._digest())).select(
                *columns([*self.keys, _SEQUENCE]), event.alias("__cdc_event"), F.lit(_FROM_STATE).alias(_RANK)
            ),
            events.select(
                *columns([*self.keys, _SEQUENCE]), event.alias("__cdc_event"), F.lit(_FROM_BATCH).alias(_RANK)
            ),
        ]
        order = F.struct(F.col("__cdc_event")[DELETED], F.col("__cdc_event")[_DIGEST])
        from_batch = F.col(_RANK) == _FROM_BATCH
        merged = (
            reduce(DataFrame.unionByName, rows)
            .groupBy(*columns([*self.keys, _SEQUENCE]))
            .agg(
                F.max_by("__cdc_event", F.when(from_batch, order)).alias("__cdc_batch"),
                F.max_by("__cdc_event", F.when(~from_batch, F.struct(_RANK, order))).alias("__cdc_known"),
                F.max(F.when(~from_batch, F.col(_RANK))).alias(_RANK),
            )
        )

        def rank(name: str) -> Column:
            return F.struct(F.col(name)[DELETED], F.col(name)[_DIGEST])

        merged = merged.withColumn(
            "__cdc_new",
            F.col("__cdc_batch").isNotNull()
            & (F.col("__cdc_known").isNull() | (rank("__cdc_batch") > rank("__cdc_known"))),
        ).withColumn("__cdc_event", F.when(F.col("__cdc_new"), F.col("__cdc_batch")).otherwise(F.col("__cdc_known")))
        return merged.select(
            *columns([*self.keys, _SEQUENCE, _RANK, "__cdc_new"]),
            *(F.col("__cdc_event")[name].alias(name) for name in (DELETED, *self.values)),
        )

    def _timeline(self, events: DataFrame, of: Sequence[str] = ()) -> DataFrame:
        """The events in their order, those that end a run with its row in their place.

        Adds `shown`, with `START` and `END` of the row, and `hidden`: the visible rows do not give the event back.

        Args:
            of: columns that tell the timelines of one key apart.
        """
        by_key = Window.partitionBy(*columns([*self.keys, *of])).orderBy(_SEQUENCE)
        so_far = by_key.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        names = self.definition.tracked
        names = None if names is None else {name.lower() for name in names}
        tracked = comparable(field for field in self.value_fields if names is None or field.name.lower() in names)
        upsert, after_upsert = ~F.col(DELETED), ~F.coalesce(F.lag(DELETED).over(by_key), F.lit(True))
        events = events.withColumn(
            "__cdc_continues", upsert & after_upsert & tracked.eqNullSafe(F.lag(tracked).over(by_key))
        ).withColumns(
            {
                "__cdc_continued": F.coalesce(F.lead("__cdc_continues").over(by_key), F.lit(False)),
                "__cdc_head": F.last(
                    F.when(upsert & ~F.col("__cdc_continues"), F.col(_SEQUENCE)), ignorenulls=True
                ).over(so_far),
                "__cdc_next": F.lead(_SEQUENCE).over(by_key),
                "__cdc_repeated": F.col(DELETED) & ~after_upsert,
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

    # Type 2 in two times

    def _beliefs(self, events: DataFrame) -> DataFrame:
        """The rows of each key, with the system times from which and up to which they were what was known.

        What was known from a system time on is the history of the events up to it, of which the last known counts
        where several are of one business time. A row stays as long as it is in the histories that follow.
        """
        by_key = Window.partitionBy(*columns(self.keys)).orderBy(_MOMENT)
        moments = events.select(*columns(self.keys), F.col(_SYSTEM).alias(_MOMENT)).distinct()
        moments = moments.withColumns({_NTH: F.row_number().over(by_key), _UNTIL: F.lead(_MOMENT).over(by_key)})
        known = events.join(moments, self.keys).where(F.col(_SYSTEM) <= F.col(_MOMENT))
        moment = [_MOMENT, _NTH, _UNTIL]
        known = _winners(known, [*self.keys, *moment, _SEQUENCE], F.struct(_SYSTEM, DELETED, self._digest()))
        if self.sparse:
            known = self._filled(known, of=[_NTH])
        shown = self._timeline(known, of=[_NTH]).where("__cdc_shown").withColumn(_ROW, comparable(self.value_fields))
        same = [*self.keys, START, END, _ROW]
        in_turn = F.row_number().over(Window.partitionBy(*columns(same)).orderBy(_NTH))
        return (
            shown.withColumn("__cdc_stay", F.col(_NTH) - in_turn)
            .groupBy(*columns([*same, "__cdc_stay"]))
            .agg(
                F.min(_MOMENT).alias(SYSTEM_START),
                F.max_by(_UNTIL, _NTH).alias(SYSTEM_END),
                F.max_by(F.struct(F.lit(0), *columns(self.values)), _NTH).alias("__cdc_event"),
            )
            .select(*columns([*self.keys, START, END, SYSTEM_START, SYSTEM_END]), "__cdc_event.*")
        )

    def _replace_beliefs(self, shown: DataFrame, beliefs: DataFrame) -> Counts:
        system = [StructField(name, self.target.schema[name].dataType) for name in (SYSTEM_START, SYSTEM_END)]
        return self.target.replace(
            shown,
            once(beliefs),
            [*system, *self.value_fields],
            keys=self.keys,
            same_keys=self._same_keys(),
            apart=self.few,
            known_by=[SYSTEM_START],
        )

    # Changes of some columns

    def _past_and(self, events: DataFrame) -> DataFrame:
        """Adds the events to the state, and gives all that it has of their keys."""
        self._remember(events)
        return _winners(self._known_of(events), [*self.keys, *self.event], F.struct(DELETED, self._digest()))

    def _filled(self, events: DataFrame, of: Sequence[str] = ()) -> DataFrame:
        """The events with the value before, since the last delete, in the place of one that a change does not write.

        Args:
            of: as in `_timeline`.
        """
        by_key = Window.partitionBy(*columns([*self.keys, *of])).orderBy(_SEQUENCE)
        in_life = Window.partitionBy(*columns([*self.keys, *of, AT])).orderBy(_SEQUENCE)
        written = dict(self._written())
        return (
            events.withColumn(AT, F.sum(F.col(DELETED).cast("int")).over(by_key))
            .withColumns({name: F.last(value, ignorenulls=True).over(in_life) for name, value in written.items()})
            .withColumns({name: F.when(~F.col(DELETED), column(name)["value"]) for name in written})
            .drop(AT)
        )

    def _written(self) -> Iterator[tuple[str, Column]]:
        """The columns that a change need not write, with what it writes in a struct, NULL where it does not."""
        for name in self.definition.ignored:
            yield name, F.when(column(name).isNotNull(), F.struct(column(name).alias("value")))
        if self.definition.updates:
            # The order and the list itself are those of the last change.
            own = {self.definition.updates.lower(), self.cdc.sequence_by.strip("`").lower()}
            for name in self.values:
                if name.lower() not in own:
                    named = F.col(_UPDATES).isNull() | F.array_contains(_UPDATES, name.lower())
                    value = F.struct(column(name).alias("value"))
                    yield name, F.when(~F.col(DELETED) & named, value)


def _order() -> Column:
    return F.struct(_SEQUENCE, DELETED, _DIGEST)


def _winners(events: DataFrame, by: list[str], order: Column) -> DataFrame:
    rest = [name for name in events.columns if name not in by]
    last = events.groupBy(*columns(by)).agg(F.max_by(F.struct(*columns(rest)), order).alias("__cdc_event"))
    return last.select(*columns(by), "__cdc_event.*")
