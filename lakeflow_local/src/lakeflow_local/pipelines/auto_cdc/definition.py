"""What an AUTO CDC flow means for the columns that it reads and the table that it writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, StringType, StructField, StructType

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.auto_cdc.columns import (
    END,
    START,
    SYSTEM_END,
    SYSTEM_START,
    listed,
    names_of,
    orderable,
    quoted,
    select,
)
from lakeflow_local.pipelines.graph import AutoCdc
from lakeflow_local.pipelines.jvm import empty


def target_schema(changes: StructType, cdc: AutoCdc, spark: SparkSession) -> StructType:
    """The columns of the target for changes of this schema; a history has `__START_AT` and `__END_AT` last,
    and where it is bitemporal `__SYSTEM_START_AT` and `__SYSTEM_END_AT` after them.

    Raises:
        LakeflowError: a column or an expression of `cdc` does not fit `changes`; the message names it.
        UnsupportedError: `cdc` asks for what this module does not do.
    """
    return Definition.of(empty(spark, changes), cdc).schema


@dataclass(frozen=True)
class Definition:
    """`AutoCdc` with its names and expressions resolved against the changes.

    Attributes:
        system: the system sequence, of a bitemporal history.
        updates: the column that names the columns which a change writes.
    """

    cdc: AutoCdc
    keys: tuple[str, ...]
    schema: StructType
    sequence: StructField
    tracked: tuple[str, ...] | None
    ignored: tuple[str, ...]
    system: StructField | None
    updates: str | None

    @classmethod
    def of(cls, changes: DataFrame, cdc: AutoCdc) -> Definition:
        fields = changes.schema.fields
        reserved = {START, END} if cdc.system_sequence_by is None else {START, END, SYSTEM_START, SYSTEM_END}
        for field in fields:
            if field.name.upper() in reserved or field.name.lower().startswith("__cdc_"):
                raise LakeflowError(f"AUTO CDC: the column `{field.name}` has a reserved name; rename it in the source")
        if cdc.columns is not None and cdc.except_columns:
            raise LakeflowError("AUTO CDC: give either the columns to keep or the columns to leave out, not both")
        keys = names_of(cdc.keys, fields, "key")
        if not keys:
            raise LakeflowError("AUTO CDC: it needs at least one key column")
        kept = select(fields, cdc.columns, cdc.except_columns, "column list")
        kept_names = {field.name for field in kept}
        for key in keys:
            if key not in kept_names:
                raise LakeflowError(f"AUTO CDC: the key `{key}` is not among the columns that the target keeps")
            if not orderable(changes.schema[key].dataType):
                raise LakeflowError(
                    f"AUTO CDC: the key `{key}` has the type {changes.schema[key].dataType.simpleString()},"
                    " which cannot be compared"
                )
        sequence = _sequence(changes, cdc.sequence_by, "sequence_by")
        system = None
        if cdc.system_sequence_by is not None:
            if cdc.scd_type != 2:
                raise LakeflowError("AUTO CDC: system_sequence_by is for a bitemporal table alone; leave it out")
            system = _sequence(changes, cdc.system_sequence_by, "system_sequence_by")
        for what in ("apply_as_deletes", "apply_as_truncates"):
            predicate = getattr(cdc, what)
            if predicate is not None and not isinstance(_type_of(changes, predicate, what), BooleanType):
                raise LakeflowError(f"AUTO CDC: {what} {predicate} is not a condition")
        values = [field for field in kept if field.name not in keys]
        ignored = ()
        if cdc.ignore_null_updates or cdc.ignore_null_columns is not None or cdc.ignore_null_except:
            chosen = select(values, cdc.ignore_null_columns, cdc.ignore_null_except, "ignore_null_updates list")
            for field in chosen:
                if isinstance(field.dataType, StructType):
                    raise UnsupportedError(
                        f"AUTO CDC: ignore_null_updates on the struct column `{field.name}` is not supported,"
                        " since it would have to keep nested fields one by one; leave it out by"
                        " ignore_null_updates_except_column_list"
                    )
            ignored = tuple(field.name for field in chosen)
        updates = _updates(cdc, fields)
        if updates and (ignored or system):
            other = "ignore_null_updates" if ignored else "a bitemporal table"
            raise LakeflowError(
                f"AUTO CDC: columns_to_update does not go together with {other}, as on Databricks; leave one out"
            )
        tracked = None
        if cdc.track_history is not None or cdc.track_history_except:
            if cdc.scd_type != 2:
                raise LakeflowError("AUTO CDC: track_history_column_list needs SCD type 2")
            tracked = tuple(
                field.name
                for field in select(values, cdc.track_history, cdc.track_history_except, "track history list")
            )
        if cdc.apply_as_truncates is not None:
            if cdc.scd_type != 1:
                raise UnsupportedError("AUTO CDC: apply_as_truncates is for SCD type 1 only, as on Databricks")
            if ignored or updates:
                other = "columns_to_update" if updates else "ignore_null_updates"
                raise UnsupportedError(
                    f"AUTO CDC: apply_as_truncates together with {other} is not supported; leave one out"
                )
        columns = [StructField(field.name, field.dataType) for field in kept]
        if cdc.scd_type == 2:
            columns += [StructField(START, sequence.dataType), StructField(END, sequence.dataType)]
        if system:
            columns += [StructField(SYSTEM_START, system.dataType), StructField(SYSTEM_END, system.dataType)]
        return cls(cdc, keys, StructType(columns), sequence, tracked, ignored, system, updates)


def _sequence(changes: DataFrame, expression: str, what: str) -> StructField:
    sequence = StructField(expression, _type_of(changes, expression, what))
    if not orderable(sequence.dataType):
        kind = sequence.dataType.simpleString()
        raise LakeflowError(f"AUTO CDC: {what} {expression} has the type {kind}, which has no order")
    return sequence


def _updates(cdc: AutoCdc, fields: list[StructField]) -> str | None:
    if cdc.columns_to_update is None:
        return None
    (name,) = names_of([cdc.columns_to_update], fields, "columns_to_update")
    (kind,) = (field.dataType for field in fields if field.name == name)
    if not isinstance(kind, ArrayType) or not isinstance(kind.elementType, StringType):
        raise LakeflowError(
            f"AUTO CDC: columns_to_update `{name}` has the type {kind.simpleString()}, and not that of a list of names,"
            " array<string>"
        )
    return name


def _type_of(changes: DataFrame, expression: str, what: str) -> DataType:
    try:
        return changes.select(F.expr(expression)).schema[0].dataType
    except AnalysisException as error:
        reason = error.getCondition() or "it is not an expression"
        raise LakeflowError(
            f"AUTO CDC: {what} {expression} cannot be read from the changes ({reason});"
            f" there are {listed(changes.schema)}"
        ) from None


def evolve(spark: SparkSession, target: str, wanted: StructType) -> None:
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
            yield from _additions(here.dataType, field.dataType, f"{parent}{quoted(here.name)}.")
