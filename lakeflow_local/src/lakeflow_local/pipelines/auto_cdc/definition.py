"""What an AUTO CDC flow means for the columns that it reads and the table that it writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, StructField, StructType

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.auto_cdc.columns import END, START, listed, names_of, orderable, quoted, select
from lakeflow_local.pipelines.graph import AutoCdc


def target_schema(changes: StructType, cdc: AutoCdc, spark: SparkSession) -> StructType:
    """The columns of the target for changes of this schema; with type 2, `__START_AT` and `__END_AT` come last.

    Raises:
        LakeflowError: a column or an expression of `cdc` does not fit `changes`; the message names it.
        UnsupportedError: `cdc` asks for what this module does not do.
    """
    return Definition.of(spark.createDataFrame([], changes), cdc).schema


@dataclass(frozen=True)
class Definition:
    """`AutoCdc` with its names and expressions resolved against the changes."""

    cdc: AutoCdc
    keys: tuple[str, ...]
    schema: StructType
    sequence: StructField
    tracked: tuple[str, ...] | None
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, changes: DataFrame, cdc: AutoCdc) -> Definition:
        fields = changes.schema.fields
        for field in fields:
            if field.name.upper() in (START, END) or field.name.lower().startswith("__cdc_"):
                raise LakeflowError(f"AUTO CDC: the column `{field.name}` has a reserved name; rename it in the source")
        if cdc.columns is not None and cdc.except_columns:
            raise LakeflowError("AUTO CDC: give either the columns to keep or the columns to leave out, not both")
        if cdc.scd_type not in (1, 2):
            raise UnsupportedError(f"AUTO CDC: stored as SCD type {cdc.scd_type} is not supported; types 1 and 2 are")
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
        sequence = StructField(cdc.sequence_by, _type_of(changes, cdc.sequence_by, "sequence_by"))
        if not orderable(sequence.dataType):
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
            chosen = select(values, cdc.ignore_null_columns, cdc.ignore_null_except, "ignore_null_updates list")
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
                for field in select(values, cdc.track_history, cdc.track_history_except, "track history list")
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
