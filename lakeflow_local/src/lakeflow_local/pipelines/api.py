"""The Python module of Lakeflow pipelines: `from pyspark import pipelines as dp`, and `import dlt`.

Its functions declare; nothing runs until an update calls the functions that they were given. Signatures are those of
the Databricks reference (2026). What is not supported is noted, and refused by name in an update.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from pyspark.sql import Column, DataFrame

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import registry as declared
from lakeflow_local.pipelines.graph import (
    Action,
    AutoCdc,
    Dataset,
    Expectation,
    Flow,
    Hook,
    Kind,
    Place,
    Sink,
    Snapshot,
)
from lakeflow_local.pipelines.names import without_live

__all__ = [
    "append_flow",
    "apply_changes",
    "apply_changes_from_snapshot",
    "create_auto_cdc_flow",
    "create_auto_cdc_from_snapshot_flow",
    "create_sink",
    "create_streaming_live_table",
    "create_streaming_table",
    "create_table",
    "create_target_table",
    "create_view",
    "expect",
    "expect_all",
    "expect_all_or_drop",
    "expect_all_or_fail",
    "expect_or_drop",
    "expect_or_fail",
    "foreach_batch_sink",
    "materialized_view",
    "on_event_hook",
    "read",
    "readStream",
    "read_stream",
    "replace_flow",
    "table",
    "temporary_view",
    "update_flow",
    "view",
]


# What Databricks' module has besides its functions.
TYPES = {"Column": Column, "DataFrame": DataFrame}
# What sources import it as; the last two are names of a preview, which sources still have.
MODULES = ("dlt", "pyspark.pipelines", "databricks.pipelines", "databricks.declarative_pipelines")


def _texts(values: Any) -> tuple[str, ...]:
    if values is None:
        return ()
    return (values,) if isinstance(values, str) else tuple(str(v) for v in values)


def _properties(values: Mapping[str, Any] | None) -> dict[str, str]:
    def text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    return {str(k): text(v) for k, v in (values or {}).items()}


def _sql(expression: Any) -> str:
    """A column or SQL text as SQL text."""
    if isinstance(expression, str):
        return expression
    if hasattr(type(expression), "__sql__"):
        return expression.__sql__()
    if hasattr(expression, "_jc"):
        return expression._jc.node().sql() if hasattr(expression._jc, "node") else expression._jc.toString()
    raise LakeflowError(f"expected a column or SQL text, not {type(expression).__name__}", **_here())


def _here() -> dict[str, Any]:
    place = declared.caller()
    return {"file": place.file, "line": place.line}


def _refused(function: str, options: Mapping[str, Any]) -> str | None:
    """The arguments that an update cannot do, for `refused` of a flow or a dataset."""
    given = [name for name, value in options.items() if value is not None]
    return f"the argument {', '.join(given)} of {function}()" if given else None


def _idle(declare: Callable, function_name: str, place: Place) -> Callable:
    """`declare`, of which the registry knows that it decorates nothing until it does."""
    idle = declared.active().idle
    idle[place] = function_name

    def decorate(function: Callable) -> Callable:
        idle.pop(place, None)
        return declare(function)

    return decorate


def _declares(kind: Kind | None, function_name: str) -> Callable:
    """A dataset decorator, to be used bare or with arguments."""

    def decorator(
        query_function: Callable | None = None,
        *,
        name: str | None = None,
        comment: str | None = None,
        spark_conf: Mapping[str, Any] | None = None,
        table_properties: Mapping[str, Any] | None = None,
        path: str | None = None,
        partition_cols: Iterable[str] | None = None,
        cluster_by_auto: bool | None = None,
        cluster_by: Iterable[str] | None = None,
        schema: Any = None,
        row_filter: str | None = None,
        private: bool | None = None,
        temporary: bool | None = None,
        format: str | None = None,
        # How a materialized view is brought up to date is the engine's choice here.
        refresh_policy: str | None = None,
        **unknown: Any,
    ) -> Callable:
        place = declared.caller()
        if format is not None and format.lower() != "delta":
            # Tables are Delta tables.
            unknown["format"] = format

        def declare(function: Callable) -> Callable:
            if not callable(function):
                raise LakeflowError(
                    f"@{function_name} decorates a function that returns a DataFrame; give the name as name=…",
                    file=place.file,
                    line=place.line,
                )
            where = declared.place_of(_unwrapped(function), place)
            dataset = Dataset(
                name=without_live(function.__name__ if name is None else name),
                # A flow that replaces rows writes a streaming table, also from a batch.
                kind=kind if not {"replace_where", "replace_using"} & unknown.keys() else Kind.STREAMING_TABLE,
                place=where,
                comment=comment,
                private=bool(private or temporary),
                schema_ddl=schema,
                partition_cols=_texts(partition_cols),
                cluster_by=_texts(cluster_by),
                cluster_by_auto=bool(cluster_by_auto),
                properties=_properties(table_properties),
                path=path,
                row_filter=row_filter,
                spark_conf=_properties(spark_conf),
                refused=_refused(function_name, unknown),
            )
            flow = Flow(
                name=dataset.name, target=dataset.name, place=where, function=function, spark_conf=dataset.spark_conf
            )
            declared.active().add(dataset, [flow], function)
            return function

        return _idle(declare, function_name, place) if query_function is None else declare(query_function)

    decorator.__name__ = decorator.__qualname__ = function_name
    return decorator


def _unwrapped(function: Callable) -> Callable:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function.func if isinstance(function, functools.partial) else function


# Whether `table` makes a streaming table or a materialized view depends on its DataFrame, not on its name.
table = _declares(None, "table")
materialized_view = _declares(Kind.MATERIALIZED_VIEW, "materialized_view")
temporary_view = _declares(Kind.TEMPORARY_VIEW, "temporary_view")
view = _declares(Kind.TEMPORARY_VIEW, "view")
# Their names in older pipelines.
create_view = view


def _called_alone(function: Callable) -> Callable:
    """A function that declares by its call alone; what it gives refuses to decorate anything."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Callable:
        function(*args, **kwargs)
        place = _here()

        def decorate(_: Any) -> NoReturn:
            raise LakeflowError(
                f"{function.__name__}() is not a decorator; call it without @, above no function", **place
            )

        return decorate

    return call


@_called_alone
def create_streaming_table(
    name: str,
    comment: str | None = None,
    spark_conf: Mapping[str, Any] | None = None,
    table_properties: Mapping[str, Any] | None = None,
    path: str | None = None,
    partition_cols: Iterable[str] | None = None,
    cluster_by_auto: bool | None = None,
    cluster_by: Iterable[str] | None = None,
    schema: Any = None,
    expect_all: Mapping[str, str] | None = None,
    expect_all_or_drop: Mapping[str, str] | None = None,
    expect_all_or_fail: Mapping[str, str] | None = None,
    row_filter: str | None = None,
    private: bool | None = None,
    temporary: bool | None = None,
    **unknown: Any,
) -> None:
    """Declares a streaming table that flows declared elsewhere write."""
    place = declared.caller()
    expectations = [
        Expectation(str(rule), _sql(predicate), action)
        for rules, action in (
            (expect_all, Action.WARN),
            (expect_all_or_drop, Action.DROP),
            (expect_all_or_fail, Action.FAIL),
        )
        for rule, predicate in (rules or {}).items()
    ]
    declared.active().add(
        Dataset(
            name=without_live(name),
            kind=Kind.STREAMING_TABLE,
            place=place,
            comment=comment,
            private=bool(private or temporary),
            schema_ddl=schema,
            expectations=tuple(expectations),
            partition_cols=_texts(partition_cols),
            cluster_by=_texts(cluster_by),
            cluster_by_auto=bool(cluster_by_auto),
            properties=_properties(table_properties),
            path=path,
            row_filter=row_filter,
            spark_conf=_properties(spark_conf),
            refused=_refused("create_streaming_table", unknown),
        )
    )


create_streaming_live_table = create_streaming_table
create_target_table = create_streaming_table


def create_table(query_function: Callable | None = None, **options: Any) -> Callable:
    """Declares a managed table that append flows write; as a decorator, as in older pipelines, it is `table`."""
    if query_function is not None or "name" not in options:
        return table(query_function, **options)
    create_streaming_table(**options)
    datasets = declared.active().datasets
    alone = datasets[-1]

    def declare(function: Callable) -> Callable:
        if datasets[-1] is alone:
            datasets.pop()
        return table(**options)(function)

    return declare


def _writes(function_name: str, what: str, output_mode: str = "append", refused: str | None = None) -> Callable:
    """A decorator of a flow that writes a dataset which is declared elsewhere.

    Args:
        what: what its target is, for errors.
        refused: what of it an update does not do, for `Flow.refused`.
    """

    def decorator(
        query_function: Callable | None = None,
        *,
        target: str | None = None,
        name: str | None = None,
        once: bool = False,
        spark_conf: Mapping[str, Any] | None = None,
        comment: str | None = None,
        **unknown: Any,
    ) -> Callable:
        place = declared.caller()
        if target is None:
            raise LakeflowError(f"{function_name} needs target=, the {what} it writes", **_here())

        def declare(function: Callable) -> Callable:
            declared.active().add_flow(
                Flow(
                    name=function.__name__ if name is None else str(name),
                    target=without_live(target),
                    place=declared.place_of(_unwrapped(function), place),
                    function=function,
                    once=bool(once),
                    output_mode=output_mode,
                    spark_conf=_properties(spark_conf),
                    comment=comment,
                    refused=refused or _refused(function_name, unknown),
                )
            )
            return function

        return _idle(declare, function_name, place) if query_function is None else declare(query_function)

    decorator.__name__ = decorator.__qualname__ = function_name
    return decorator


append_flow = _writes("append_flow", "streaming table")
update_flow = _writes("update_flow", "sink", output_mode="update")
replace_flow = _writes("replace_flow", "streaming table", refused="replace_flow")


def _expects(function_name: str, action: Action, many: bool) -> Callable:
    # `inv` is the argument's name in older pipelines.
    def one(name: str, constraint: Any = None, *, inv: Any = None) -> Callable:
        return attach({name: inv if constraint is None else constraint})

    def attach(expectations: Mapping[str, Any]) -> Callable:
        rules = [Expectation(str(name), _sql(predicate), action) for name, predicate in expectations.items()]

        def note(function: Callable) -> Callable:
            declared.active().expect(function, rules)
            return function

        return note

    decorator = attach if many else one
    decorator.__name__ = decorator.__qualname__ = function_name
    return decorator


expect = _expects("expect", Action.WARN, many=False)
expect_or_drop = _expects("expect_or_drop", Action.DROP, many=False)
expect_or_fail = _expects("expect_or_fail", Action.FAIL, many=False)
expect_all = _expects("expect_all", Action.WARN, many=True)
expect_all_or_drop = _expects("expect_all_or_drop", Action.DROP, many=True)
expect_all_or_fail = _expects("expect_all_or_fail", Action.FAIL, many=True)


def read(name: str) -> Any:
    """The rows of a dataset as a batch DataFrame (legacy; `spark.read.table` does the same)."""
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession().read.table(name)


def read_stream(name: str) -> Any:
    """The rows of a dataset as a streaming DataFrame (legacy; `spark.readStream.table` does the same)."""
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession().readStream.table(name)


readStream = read_stream


def _names(columns: Iterable[Any] | Any | None) -> tuple[str, ...]:
    if columns is None:
        return ()
    return tuple(
        _sql(c).strip("`")
        for c in (columns if isinstance(columns, Iterable) and not isinstance(columns, str) else [columns])
    )


def _selection(columns: Iterable[Any] | None) -> tuple[str, ...] | None:
    return _names(columns) or None


def _condition(expression: Any) -> str | None:
    """A condition as SQL text; public pipelines write False where there is none."""
    return None if expression is None or expression is False else _sql(expression)


def _scd_type(given: str | int, place: Place) -> tuple[int, bool]:
    """The type, and whether it is bitemporal: such a table has the columns of type 2, and others."""
    if str(given).lower() == "bitemporal":
        return 2, True
    if str(given) not in ("1", "2"):
        raise LakeflowError(
            f"stored_as_scd_type={given!r} is none of 1, 2 and 'bitemporal'", file=place.file, line=place.line
        )
    return int(given), False


@_called_alone
def create_auto_cdc_flow(
    target: str,
    source: str,
    keys: Iterable[Any],
    sequence_by: Any,
    ignore_null_updates: bool = False,
    apply_as_deletes: Any = None,
    apply_as_truncates: Any = None,
    column_list: Iterable[Any] | None = None,
    except_column_list: Iterable[Any] | None = None,
    stored_as_scd_type: str | int = "1",
    track_history_column_list: Iterable[Any] | None = None,
    track_history_except_column_list: Iterable[Any] | None = None,
    name: str | None = None,
    once: bool = False,
    ignore_null_updates_column_list: Iterable[Any] | None = None,
    ignore_null_updates_except_column_list: Iterable[Any] | None = None,
    flow_name: str | None = None,
    system_sequence_by: Any = None,
    columns_to_update: Any = None,
    **unknown: Any,
) -> None:
    """Declares a flow that applies the changes of `source` to `target` by `keys`, in the order of `sequence_by`."""
    place = declared.caller()
    scd_type, bitemporal = _scd_type(stored_as_scd_type, place)
    if bitemporal != (system_sequence_by is not None):
        raise LakeflowError(
            "stored_as_scd_type='bitemporal' and system_sequence_by go together; give both, or neither",
            file=place.file,
            line=place.line,
        )
    if column_list and except_column_list:
        raise LakeflowError("give column_list or except_column_list, not both", file=place.file, line=place.line)

    target = without_live(target)
    cdc = AutoCdc(
        source=without_live(source),
        keys=_names(keys),
        sequence_by=_sql(sequence_by),
        apply_as_deletes=_condition(apply_as_deletes),
        apply_as_truncates=_condition(apply_as_truncates),
        columns=_selection(column_list),
        except_columns=_names(except_column_list),
        scd_type=scd_type,
        track_history=_selection(track_history_column_list),
        track_history_except=_names(track_history_except_column_list),
        ignore_null_updates=bool(ignore_null_updates),
        ignore_null_columns=_selection(ignore_null_updates_column_list),
        ignore_null_except=_names(ignore_null_updates_except_column_list),
        system_sequence_by=None if system_sequence_by is None else _sql(system_sequence_by),
        columns_to_update=None if columns_to_update is None else _sql(columns_to_update),
    )
    declared.active().add_flow(
        Flow(
            name=str(name or flow_name or target),
            target=target,
            place=place,
            cdc=cdc,
            once=bool(once),
            refused=_refused("create_auto_cdc_flow", unknown),
        )
    )


apply_changes = create_auto_cdc_flow


@_called_alone
def create_auto_cdc_from_snapshot_flow(
    target: str,
    source: str | Callable[[Any], Any] | tuple[Any, Any] | None = None,
    keys: Iterable[Any] = (),
    stored_as_scd_type: str | int = "1",
    track_history_column_list: Iterable[Any] | None = None,
    track_history_except_column_list: Iterable[Any] | None = None,
    name: str | None = None,
    snapshot_and_version: Callable[[Any], Any] | tuple[Any, Any] | None = None,
    once: bool = False,
    **unknown: Any,
) -> None:
    """Declares a flow that compares whole snapshots with `target` and applies their differences by `keys`.

    Args:
        source: a table or view, whose rows at an update are that update's snapshot; or a function that takes the
            version that was applied last (None at first) and gives the next `(DataFrame, version)`, or None; or such
            a pair, as older pipelines give it.
        snapshot_and_version: the name of `source` in older pipelines.
    """
    place = declared.caller()
    scd_type, bitemporal = _scd_type(stored_as_scd_type, place)
    if bitemporal:
        raise LakeflowError(
            "snapshots say nothing of a second time; store them as SCD type 1 or 2",
            file=place.file,
            line=place.line,
        )
    source = snapshot_and_version if source is None else source
    source = _of_one(*source) if isinstance(source, tuple) else source
    if source is None or not keys:
        missing = "source" if source is None else "keys"
        raise LakeflowError(f"create_auto_cdc_from_snapshot_flow needs {missing}=", file=place.file, line=place.line)
    target = without_live(target)
    snapshot = Snapshot(
        keys=_names(keys),
        source=without_live(source) if isinstance(source, str) else None,
        function=None if isinstance(source, str) else source,
        scd_type=scd_type,
        track_history=_selection(track_history_column_list),
        track_history_except=_names(track_history_except_column_list),
    )
    refused = _refused("create_auto_cdc_from_snapshot_flow", {**unknown, "once": once or None})
    declared.active().add_flow(
        Flow(name=str(name or target), target=target, place=place, snapshot=snapshot, refused=refused)
    )


def _of_one(snapshot: Any, version: Any) -> Callable[[Any], Any]:
    """What gives this snapshot, unless it was applied."""
    return lambda applied: (snapshot, version) if applied is None or applied < version else None


apply_changes_from_snapshot = create_auto_cdc_from_snapshot_flow


@_called_alone
def create_sink(name: str, format: str, options: Mapping[str, Any] | None = None) -> None:
    """Declares a sink that append flows write: the format and the options of Spark's stream writer."""
    sink = Sink(format=format, options=_properties(options))
    declared.active().add(Dataset(name=str(name), kind=Kind.SINK, place=declared.caller(), sink=sink))


def foreach_batch_sink(query_function: Callable | None = None, *, name: str | None = None) -> Callable:
    """Declares a sink whose rows the decorated function gets, as `(DataFrame, number of the batch)`."""
    place = declared.caller()

    def declare(function: Callable) -> Callable:
        where = declared.place_of(_unwrapped(function), place)
        sink = Sink(function=function)
        declared.active().add(Dataset(name=str(name or function.__name__), kind=Kind.SINK, place=where, sink=sink))
        return function

    return declare if query_function is None else declare(query_function)


def on_event_hook(
    function: Callable | None = None, *, max_allowable_consecutive_failures: int | None = None
) -> Callable:
    """Declares a function that is told of the update's events, one after the other."""
    place = declared.caller()

    def declare(function: Callable) -> Callable:
        where = declared.place_of(_unwrapped(function), place)
        declared.active().hooks.append(
            Hook(function.__name__, function, where, max_failures=max_allowable_consecutive_failures)
        )
        return function

    return declare if function is None else declare(function)


@contextmanager
def installed() -> Iterator[None]:
    """Puts the module where the sources import it from.

    `dlt` is never installed under that name: on PyPI it belongs to another project, so it exists only while sources
    are loaded and run. Apache Spark's own `pyspark.pipelines` lacks most of the names and refuses their arguments.
    """
    modules = {}
    for module_name in MODULES:
        module = types.ModuleType(module_name, __doc__)
        module.__dict__.update({name: globals()[name] for name in __all__}, dlt=module, **TYPES)
        # `from dlt import *` brings the module too.
        module.__dict__["__all__"] = [*__all__, "dlt"]
        modules[module_name] = module
    before = {name: sys.modules.get(name) for name in modules}
    parted = (name.rpartition(".") for name in modules)
    places = [(importlib.import_module(package), name) for package, _, name in parted if package]
    attributes = [getattr(package, name, None) for package, name in places]
    sys.modules.update(modules)
    for package, name in places:
        setattr(package, name, modules[f"{package.__name__}.{name}"])
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        for (package, name), attribute in zip(places, attributes, strict=True):
            if attribute is None:
                delattr(package, name)
            else:
                setattr(package, name, attribute)
