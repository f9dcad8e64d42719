"""Columns by name, whatever the name is made of, and what can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    CalendarIntervalType,
    DataType,
    MapType,
    NullType,
    StructField,
    StructType,
    UserDefinedType,
    VariantType,
)

from lakeflow_local.errors import LakeflowError

START, END = "__START_AT", "__END_AT"
SYSTEM_START, SYSTEM_END = "__SYSTEM_START_AT", "__SYSTEM_END_AT"


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def column(name: str, alias: str = "") -> Column:
    return F.col(f"{alias}.{quoted(name)}" if alias else quoted(name))


def columns(names: Iterable[str]) -> list[Column]:
    return [column(name) for name in names]


def assign(names: Iterable[str]) -> dict[str, Column]:
    return {quoted(name): column(name, "s") for name in names}


def lacks(name: str, type: DataType) -> Column:
    """Whether a sequence or a part of it is NULL: a struct with a NULL has an order, but not one that was meant."""
    parts = [column(name)[field.name] for field in type] if isinstance(type, StructType) else []
    return reduce(or_, (part.isNull() for part in parts), column(name).isNull())


def orderable(type: DataType) -> bool:
    if isinstance(type, StructType):
        return all(orderable(field.dataType) for field in type)
    if isinstance(type, ArrayType):
        return orderable(type.elementType)
    return not isinstance(type, (MapType, VariantType, CalendarIntervalType, UserDefinedType, NullType))


def comparable(fields: Iterable[StructField], alias: str = "") -> Column:
    """The fields in one value that can be tested for equality, which maps and variants cannot."""
    values = (
        column(field.name, alias) if orderable(field.dataType) else F.to_json(column(field.name, alias))
        for field in fields
    )
    return F.struct(F.lit(0), *values)


def once(frame: DataFrame) -> DataFrame:
    """The frame, computed by the first job that needs it. A plan on a cached frame would take twice the time."""
    return frame.localCheckpoint(eager=False)


def listed(fields: Iterable[StructField]) -> str:
    return ", ".join(field.name for field in fields)


def names_of(
    names: Iterable[str], fields: Sequence[StructField], what: str, source: str = "changes"
) -> tuple[str, ...]:
    """The names as the fields write them.

    Raises:
        LakeflowError: one of them is not there.
    """
    by_name = {field.name.lower(): field.name for field in fields}
    for name in names:
        if name.strip("`").lower() not in by_name:
            raise LakeflowError(
                f"AUTO CDC: the {what} `{name}` is not a column of the {source}; there are {listed(fields)}"
            )
    return tuple(by_name[name.strip("`").lower()] for name in names)


def select(
    fields: Sequence[StructField],
    included: Sequence[str] | None,
    excluded: Sequence[str],
    what: str,
    source: str = "changes",
) -> list[StructField]:
    names = names_of(included if included is not None else excluded, fields, what, source)
    return [field for field in fields if (field.name in names) == (included is not None)]
