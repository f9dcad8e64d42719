"""Schemas of files: merged, hinted, widened, and what they hold beyond the columns that are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from functools import cache
from typing import cast
from urllib.parse import unquote

from pyspark.sql.types import (
    ArrayType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    NullType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from lakeflow_local.errors import LakeflowError

_INTEGERS = (ByteType, ShortType, IntegerType, LongType)
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-?\d*\.?\d+([eE][+-]?\d+)?")


def field(schema: StructType, name: str) -> StructField | None:
    """The field of that name, in any case."""
    return next((f for f in schema.fields if f.name.lower() == name.lower()), None)


def merge(kept: StructType, new: StructType, *, widen: bool = False) -> StructType:
    """`kept` with the fields that only `new` has, nested ones too; a field that both have keeps its type.

    Args:
        widen: types become wider where no value is lost by it, as Delta's type widening allows.
    """
    fields = []
    for part in kept.fields:
        other = field(new, part.name)
        kind = part.dataType if other is None else _merged(part.dataType, other.dataType, widen)
        fields.append(StructField(part.name, kind, True, part.metadata))
    return StructType([*fields, *(f for f in new.fields if field(kept, f.name) is None)])


def _merged(kept: DataType, new: DataType, widen: bool) -> DataType:
    if isinstance(kept, StructType) and isinstance(new, StructType):
        return merge(kept, new, widen=widen)
    if isinstance(kept, ArrayType) and isinstance(new, ArrayType):
        return ArrayType(_merged(kept.elementType, new.elementType, widen))
    return (widened(kept, new) or kept) if widen else kept


def widened(old: DataType, new: DataType) -> DataType | None:
    """The type that holds the values of both, where Delta can change a column of type `old` to it."""
    if old == new:
        return old
    if isinstance(old, _INTEGERS) and isinstance(new, _INTEGERS):
        return max(old, new, key=lambda kind: next(i for i, k in enumerate(_INTEGERS) if isinstance(kind, k)))
    if isinstance(old, ByteType | ShortType | IntegerType | FloatType) and isinstance(new, FloatType | DoubleType):
        return DoubleType()
    if isinstance(old, DecimalType) and isinstance(new, DecimalType):
        scale = max(old.scale, new.scale)
        digits = max(old.precision - old.scale, new.precision - new.scale)
        return DecimalType(digits + scale, scale) if digits + scale <= 38 else None
    if isinstance(old, DateType) and isinstance(new, TimestampNTZType):
        return new
    return None


def common(one: DataType, other: DataType) -> DataType:
    """A type for values of both, STRING at last."""
    if isinstance(one, NullType) or isinstance(other, NullType):
        return one if isinstance(other, NullType) else other
    if isinstance(one, LongType | DoubleType) and isinstance(other, LongType | DoubleType) and one != other:
        return DoubleType()
    return widened(one, other) or widened(other, one) or StringType()


def readable_as(kind: DataType, wanted: DataType) -> bool:
    """Whether Spark reads a column of a Parquet file of type `kind` as `wanted`."""
    if isinstance(kind, StructType) and isinstance(wanted, StructType):
        pairs = ((f, field(wanted, f.name)) for f in kind.fields)
        return all(other is None or readable_as(f.dataType, other.dataType) for f, other in pairs)
    if isinstance(kind, ArrayType) and isinstance(wanted, ArrayType):
        return readable_as(kind.elementType, wanted.elementType)
    if isinstance(kind, MapType) and isinstance(wanted, MapType):
        return readable_as(kind.keyType, wanted.keyType) and readable_as(kind.valueType, wanted.valueType)
    if isinstance(kind, TimestampType | TimestampNTZType) and isinstance(wanted, TimestampType | TimestampNTZType):
        return True
    return widened(kind, wanted) == wanted


def without_void(kind: DataType) -> DataType:
    """The type, STRING where there were only NULLs."""
    if isinstance(kind, NullType):
        return StringType()
    if isinstance(kind, StructType):
        return StructType([StructField(f.name, without_void(f.dataType)) for f in kind.fields])
    if isinstance(kind, ArrayType):
        return ArrayType(without_void(kind.elementType))
    return kind


def struct(ddl: str) -> StructType:
    """The columns that SQL declares, such as `a INT, b STRING`."""
    return StructType.fromJson(json.loads(_parsed(ddl)))


@cache
def _parsed(ddl: str) -> str:
    # Each call looks for its class in a dozen packages, and each of those in all jars.
    return cast(StructType, StructType.fromDDL(ddl)).json()


def as_strings(kind: DataType) -> DataType:
    """The same shape with STRING at every leaf, which keeps what a text file says as it is said."""
    if isinstance(kind, StructType):
        return StructType([StructField(f.name, as_strings(f.dataType)) for f in kind.fields])
    if isinstance(kind, ArrayType):
        return ArrayType(as_strings(kind.elementType))
    return StringType()


def beyond(kept: DataType, found: DataType) -> DataType | None:
    """What `found` has and `kept` has not: a struct of those fields only, in structs and arrays too; None for none."""
    if isinstance(kept, StructType) and isinstance(found, StructType):
        fields = []
        for part in found.fields:
            own = field(kept, part.name)
            rest = part.dataType if own is None else beyond(own.dataType, part.dataType)
            if rest is not None:
                fields.append(StructField(part.name if own is None else own.name, rest))
        return StructType(fields) if fields else None
    if isinstance(kept, ArrayType) and isinstance(found, ArrayType):
        rest = beyond(kept.elementType, found.elementType)
        return ArrayType(rest) if rest is not None else None
    return None


def one_case(schema: StructType, kept: StructType, prefix: str = "$") -> tuple[StructType, list[str]]:
    """The schema with one field for names that differ in case only, and the JSON paths of the others.

    The spelling of `kept` wins, then the first.
    """
    fields: dict[str, StructField] = {}
    others: list[str] = []
    for part in sorted(schema.fields, key=lambda f: f.name not in kept.names):
        path = f"{prefix}['{part.name}']"
        own = field(kept, part.name)
        if part.name.lower() in fields or (own is not None and own.name != part.name):
            others.append(path)
            continue
        kind = part.dataType
        if isinstance(kind, StructType):
            inner = own.dataType if own is not None and isinstance(own.dataType, StructType) else StructType()
            kind, nested = one_case(kind, inner, path)
            others += nested
        fields[part.name.lower()] = StructField(part.name, kind)
    order = [f.name.lower() for f in schema.fields]
    return StructType(sorted(fields.values(), key=lambda f: order.index(f.name.lower()))), others


def apply_hints(schema: StructType, hints: str | None) -> StructType:
    """Gives columns the types that hints say: `a INT, b.c DATE, list.element.d STRING, m.value INT`.

    A hint for a column that no file has adds it; one for a nested field of such a column is passed over.
    """
    for name, kind in _split(hints or ""):
        schema = _with_type(schema, name.split("."), struct(f"hinted {kind}")["hinted"].dataType)
    return schema


def hinted_inside(hints: str | None) -> set[str]:
    """Columns, in lower case, that have a hint for a part of theirs, so that they must not become one STRING."""
    return {name.split(".")[0].strip("`").lower() for name, _ in _split(hints or "") if "." in name}


def _split(hints: str) -> list[tuple[str, str]]:
    parts, depth, start = [], 0, 0
    for i, character in enumerate(hints + ","):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            parts.append(hints[start:i].strip())
            start = i + 1
    found = [re.match(r"((?:`[^`]*`|[^\s`])+)\s+(.+)", p, re.DOTALL) for p in parts if p]
    if None in found:
        raise LakeflowError(f"cloudFiles.schemaHints needs a name and a type for each column: {hints}")
    return [(m[1], m[2]) for m in found]


def _with_type(schema: StructType, name: Sequence[str], kind: DataType) -> StructType:
    head = name[0].strip("`")
    fields = list(schema.fields)
    for i, part in enumerate(fields):
        if part.name.lower() == head.lower():
            fields[i] = StructField(part.name, _replaced(part.dataType, name[1:], kind), True, part.metadata)
            return StructType(fields)
    return StructType([*fields, StructField(head, kind)]) if len(name) == 1 else schema


def _replaced(kind: DataType, name: Sequence[str], hinted: DataType) -> DataType:
    if not name:
        return hinted
    if isinstance(kind, StructType):
        return _with_type(kind, name, hinted)
    if isinstance(kind, ArrayType) and name[0].lower() == "element":
        return ArrayType(_replaced(kind.elementType, name[1:], hinted))
    if isinstance(kind, MapType) and name[0].lower() == "value":
        return MapType(kind.keyType, _replaced(kind.valueType, name[1:], hinted))
    return kind


def partitions(files: Iterable[str], bases: Sequence[str], wanted: Sequence[str] | None) -> StructType:
    """The hive-style columns of paths below one of `bases`; none where the folders disagree about them.

    Args:
        wanted: the columns to take, None for all.
    """
    values: dict[str, list[str]] = {}
    shapes: set[tuple[str, ...]] = set()
    for file in files:
        below = next((file[len(b) :] for b in bases if file.startswith(b)), file)
        pairs = [part.split("=", 1) for part in below.split("/")[:-1] if "=" in part]
        shapes.add(tuple(name for name, _ in pairs))
        for name, value in pairs:
            values.setdefault(name, []).append(unquote(value))
    if wanted is None and len(shapes) > 1:
        return StructType()
    names = values if wanted is None else [n for n in wanted if n]
    return StructType([StructField(name, _of_values(values.get(name, ()))) for name in names])


def _of_values(values: Iterable[str]) -> DataType:
    given = {v for v in values if v != _NO_PARTITION}
    readings: list[tuple[DataType, Callable[[str], object]]] = [
        (IntegerType(), lambda v: _WHOLE.fullmatch(v) and -(2**31) <= int(v) < 2**31),
        (LongType(), lambda v: _WHOLE.fullmatch(v) and -(2**63) <= int(v) < 2**63),
        (DoubleType(), _NUMBER.fullmatch),
        (DateType(), date.fromisoformat),
        (TimestampType(), datetime.fromisoformat),
    ]
    for kind, read in readings:
        if given and all(_reads(read, v) for v in given):
            return kind
    return StringType()


def _reads(read: Callable[[str], object], value: str) -> bool:
    try:
        return bool(read(value))
    except ValueError:
        return False
