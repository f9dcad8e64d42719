"""AUTO CDC FROM SNAPSHOT: the differences between a whole snapshot and what the target holds are applied to it.

The target itself is the snapshot before, so that one that is applied again changes nothing, and a kill at any point is
mended by applying it once more; only the version that was applied last is kept beside it.

* Type 1: the target becomes the snapshot. Rows that are the same are not touched.
* Type 2: a key that is new, or differs in a tracked column, gets a row with the version as `__START_AT`; the row that
  it had, and that of a key which is missing, get it as `__END_AT`. A difference in untracked columns alone is written
  into the open row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import reduce
from operator import and_
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.auto_cdc.columns import (
    END,
    START,
    column,
    columns,
    comparable,
    names_of,
    once,
    orderable,
    select,
)
from lakeflow_local.pipelines.auto_cdc.definition import evolve
from lakeflow_local.pipelines.auto_cdc.target import DELETED, HERE, Target, session_of_its_own
from lakeflow_local.pipelines.graph import Snapshot
from lakeflow_local.pipelines.storage import Storage

_VERSION = "snapshot.json"
# How a version is kept between updates, so that a function gets back what it gave.
_KEPT_AS: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    int: (int, int),
    str: (str, str),
    float: (float, float),
    Decimal: (str, Decimal),
    dt.date: (dt.date.isoformat, dt.date.fromisoformat),
    dt.datetime: (dt.datetime.isoformat, dt.datetime.fromisoformat),
    bytes: (bytes.hex, bytes.fromhex),
}


def snapshot_frame(rows: DataFrame, version: Any, snapshot: Snapshot) -> DataFrame:
    """A snapshot with the columns of its target.

    Args:
        version: a value, or a column of its type.

    Raises:
        LakeflowError: a column of `snapshot` is not there, or the version is of no kind that has an order.
    """
    if rows.isStreaming:
        raise LakeflowError("AUTO CDC FROM SNAPSHOT: a snapshot is read as a table, not as a stream")
    fields = rows.schema.fields
    for field in fields:
        if field.name.upper() in (START, END) or field.name.lower().startswith("__cdc_"):
            raise LakeflowError(f"AUTO CDC: the column `{field.name}` has a reserved name; rename it in the source")
    keys = names_of(snapshot.keys, fields, "key", "snapshot")
    if not keys:
        raise LakeflowError("AUTO CDC: it needs at least one key column")
    for key in keys:
        if not orderable(rows.schema[key].dataType):
            raise LakeflowError(f"AUTO CDC: the key `{key}` is of a type that cannot be compared")
    values = [field for field in fields if field.name not in keys]
    if snapshot.track_history is not None or snapshot.track_history_except:
        if snapshot.scd_type != 2:
            raise LakeflowError("AUTO CDC: track_history_column_list needs SCD type 2")
        select(values, snapshot.track_history, snapshot.track_history_except, "track history list", "snapshot")
    if snapshot.scd_type == 1:
        return rows
    at = _literal(version)
    return rows.withColumns({START: at, END: F.lit(None).cast(rows.select(at).schema[0].dataType)})


def next_snapshot(snapshot: Snapshot, latest: Any) -> tuple[DataFrame, Any] | None:
    """What the function of `snapshot` gives after the version `latest`, None at the end.

    Raises:
        LakeflowError: it gave something else, or a version that is not later.
    """
    given = snapshot.function(latest)
    if given is None:
        return None
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], DataFrame)):
        raise LakeflowError(
            "AUTO CDC FROM SNAPSHOT: the source function must return (DataFrame, version) or None; it returned"
            f" {type(given).__name__}"
        )
    version = given[1]
    _kind(version)
    if latest is not None:
        try:
            later = version > latest
        except TypeError:
            raise LakeflowError(
                f"AUTO CDC FROM SNAPSHOT: a version is a {type(version).__name__}, the one before a"
                f" {type(latest).__name__}; versions must be of one type, in ascending order"
            ) from None
        if not later:
            raise LakeflowError(
                f"AUTO CDC FROM SNAPSHOT: the source function gave version {version!r} after {latest!r}; versions must"
                " ascend, and None ends them"
            )
    return given


def apply_snapshots(
    spark: SparkSession, rows: DataFrame | None, *, target: str, state: str, snapshot: Snapshot
) -> None:
    """Applies one snapshot, or all that the function of `snapshot` gives.

    Args:
        rows: the snapshot of now, where `snapshot` names a table; its version is the time at which it is applied.
        target: qualified name of a Delta table that has the columns of `snapshot_frame`.
        state: path or URL of a folder that keeps the version applied last.

    Raises:
        LakeflowError: a key is NULL or comes twice in a snapshot, or a version is not later than the one before.
    """
    storage = Storage(spark, state)
    for version, frame in _versions(storage, rows, snapshot):
        _apply(spark, frame, version, target, snapshot)
        storage.write_json({type(version).__name__: _KEPT_AS[_kind(version)][0](version)}, _VERSION)


def _versions(storage: Storage, rows: DataFrame | None, snapshot: Snapshot) -> Iterator[tuple[Any, DataFrame]]:
    latest = _latest(storage)
    if snapshot.function is None:
        now = dt.datetime.now(dt.UTC)
        yield (now if latest is None else max(now, latest + dt.timedelta(microseconds=1))), rows
        return
    while (given := next_snapshot(snapshot, latest)) is not None:
        frame, latest = given
        yield latest, frame


def _latest(storage: Storage) -> Any:
    kept = storage.read_json(_VERSION)
    if kept is None:
        return None
    ((name, text),) = kept.items()
    return next(restore for kind, (_, restore) in _KEPT_AS.items() if kind.__name__ == name)(text)


def _kind(version: Any) -> type:
    if type(version) not in _KEPT_AS:
        raise LakeflowError(
            f"AUTO CDC FROM SNAPSHOT: a version cannot be a {type(version).__name__}; give one of"
            f" {', '.join(kind.__name__ for kind in _KEPT_AS)}"
        )
    return type(version)


def _literal(version: Any) -> Column:
    if isinstance(version, Column):
        return version
    # A version that begins as an INT may grow beyond.
    return F.lit(version).cast("bigint") if _kind(version) is int else F.lit(version)


def _apply(spark: SparkSession, rows: DataFrame, version: Any, name: str, snapshot: Snapshot) -> None:
    session, rows = session_of_its_own(spark, rows)
    wanted = snapshot_frame(rows, version, snapshot).schema
    evolve(session, name, StructType([StructField(field.name, field.dataType) for field in wanted]))
    target = Target(session, name)
    fields = {field.name.lower(): field for field in target.schema}
    keys = [fields[key.strip("`").lower()] for key in snapshot.keys]
    given = {column_name.lower() for column_name in rows.columns}
    values = [field for name, field in fields.items() if name in given and field not in keys]
    rows = once(rows.select(*(column(f.name).cast(f.dataType).alias(f.name) for f in [*keys, *values])))
    key_names = [field.name for field in keys]
    _refuse_doubtful(rows, key_names, name)
    if snapshot.scd_type == 1:
        _make_current(target, rows, key_names, values)
    else:
        _add_to_history(target, rows, key_names, values, version, snapshot)


def _side_by_side(held: DataFrame, rows: DataFrame, keys: list[str]) -> DataFrame:
    """The keys, with the row of the target as `old` and that of the snapshot as `new`, NULL where there is none."""

    def packed(frame: DataFrame, name: str) -> DataFrame:
        values = columns(each for each in frame.columns if each not in keys)
        return frame.select(*columns(keys), F.struct(F.lit(True).alias("__cdc_here"), *values).alias(name))

    return packed(held, "old").join(packed(rows, "new"), keys, "full_outer")


def _differ(fields: list[StructField]) -> Column:
    return ~comparable(fields, "old").eqNullSafe(comparable(fields, "new"))


def _make_current(target: Target, rows: DataFrame, keys: list[str], values: list[StructField]) -> None:
    gone, names = F.col("new").isNull(), [field.name for field in values]
    changed = _side_by_side(target.rows(), rows, keys).where(gone | F.col("old").isNull() | _differ(values))
    here = F.when(F.col("old").isNotNull(), F.lit(True)).alias(HERE)
    changed = changed.select(*columns(keys), gone.alias(DELETED), here, *(column(name, "new") for name in names))
    target.change(changed, _same(keys), names, keys=keys)


def _add_to_history(
    target: Target, rows: DataFrame, keys: list[str], values: list[StructField], version: Any, snapshot: Snapshot
) -> None:
    tracked = values
    if snapshot.track_history is not None or snapshot.track_history_except:
        tracked = select(values, snapshot.track_history, snapshot.track_history_except, "track history list")
    at = _literal(version).cast(target.schema[START].dataType)
    opened, start = once(target.rows().where(F.col(END).isNull())), F.col("old")[START]

    def row(side: str, start: Column, end: Column) -> Column:
        return F.struct(start.alias(START), end.alias(END), *(column(f.name, side).alias(f.name) for f in values))

    never = F.lit(None).cast(target.schema[END].dataType)
    new, closed = row("new", at, never), row("old", start, at)
    gone, fresh = F.col("new").isNull(), F.col("old").isNull()
    # A row that began at this version is of an attempt that was cut short: it is corrected in place.
    now = (
        F.when(gone, F.array(closed))
        .when(fresh, F.array(new))
        .when((start == at) | ~_differ(tracked), F.array(row("new", start, never)))
        .otherwise(F.array(closed, new))
    )
    pairs = _side_by_side(opened, rows, keys).where(~gone | (start < at))
    history = pairs.select(*columns(keys), F.explode(now).alias("row")).select(*columns(keys), "row.*")
    target.replace(opened, history, values, keys=keys, same_keys=_same(keys))


def _same(keys: list[str]) -> Column:
    return reduce(and_, (column(key, "t") == column(key, "s") for key in keys))


def _refuse_doubtful(rows: DataFrame, keys: list[str], target: str) -> None:
    found = (
        rows.groupBy(*columns(keys))
        .agg(F.count("*").alias("__cdc_rows"))
        .agg(
            F.count_if(F.col("__cdc_rows") > 1).alias("twice"),
            F.array(*(F.sum(F.when(column(key).isNull(), F.col("__cdc_rows"))) for key in keys)).alias("lacking"),
        )
        .first()
    )
    for key, lacking in zip(keys, found["lacking"], strict=True):
        if lacking:
            raise LakeflowError(
                f"AUTO CDC into {target}: the key {key} is NULL in {lacking} row{'s' if lacking > 1 else ''} of the"
                " snapshot; drop such rows before"
            )
    if found["twice"]:
        raise LakeflowError(
            f"AUTO CDC into {target}: {found['twice']} key{'s come' if found['twice'] > 1 else ' comes'} more than"
            f" once in the snapshot; {', '.join(keys)} must tell its rows apart"
        )
