"""What an update and a dry run have in common: the session as the sources expect it, and the sources loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import dbutils
from lakeflow_local.pipelines.names import Namespace, quoted
from lakeflow_local.pipelines.registry import Registry
from lakeflow_local.pipelines.sources import Imports, Loader
from lakeflow_local.pipelines.spec import PipelineSpec

_NULL_IS_VIOLATION = "lakeflow_local.expectations.nullIsViolation"


def event_log_table(spec: PipelineSpec) -> str:
    """Full name of the table of the pipeline's event log."""
    return Namespace(spec.catalog, spec.schema).full(spec.event_log or f"event_log_{spec.id.replace('-', '_')}")


def null_is_violation(spec: PipelineSpec) -> bool:
    return spec.configuration.get(_NULL_IS_VIOLATION) == "true"


def loaded(
    spark: SparkSession,
    spec: PipelineSpec,
    imports: Imports,
    report: Callable[[str], None],
    failed: Callable[[LakeflowError], None],
) -> Registry:
    """What the sources declare.

    Args:
        report: told of what is accepted and has no effect here.
        failed: told of each file that cannot be loaded; what it raises ends the loading.
    """
    registry = Registry()
    names = dbutils.names(spark, spec.configuration)
    imports.put(dbutils.modules(names))
    loader = Loader(
        registry,
        configuration=spec.configuration,
        parameters=spec.parameters,
        names=names,
        report=report,
    )
    for path in spec.sources:
        try:
            loader.load(Path(path))
        except LakeflowError as error:
            failed(error)
    imports.send_by_value()
    return registry


@contextmanager
def then(restore: Callable[[], None]) -> Iterator[None]:
    """Calls `restore` at the end, after an error too, but not after an interrupt.

    An interrupt (Ctrl-C, a time limit) comes in the middle of a call to the JVM, whose answer the next call would take
    for its own. The process is about to end; the next update repairs what this one left.
    """
    try:
        yield
    except Exception:
        restore()
        raise
    restore()


@contextmanager
def settings(spark: SparkSession, values: Mapping[str, Any]) -> Iterator[None]:
    """The session with other settings, put back at the end."""
    before = {key: spark.conf.get(key, None) for key in values}
    for key, value in values.items():
        spark.conf.set(key, value)

    def restore() -> None:
        for key, value in before.items():
            if value is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, value)

    with then(restore):
        yield


@contextmanager
def session(spark: SparkSession, spec: PipelineSpec, *, may_create: bool) -> Iterator[None]:
    """The session as the sources expect it: the pipeline's configuration, its schema in force.

    Temporary views that are made meanwhile are taken away at the end.

    Args:
        may_create: the schema is created where it is not there; else it is left out then.
    """
    catalog, schema = spark.catalog.currentCatalog(), spark.catalog.currentDatabase()
    values = {
        # Properties that only Databricks knows are kept as they are.
        "spark.databricks.delta.allowArbitraryProperties.enabled": "true",
        "spark.sql.streaming.numRecentProgressUpdates": "10000",
        **spec.configuration,
    }
    with settings(spark, values), _views_removed(spark):
        use(spark, spec.catalog, spec.schema, may_create=may_create)
        with then(lambda: use(spark, catalog, schema)):
            yield


@contextmanager
def _views_removed(spark: SparkSession) -> Iterator[None]:
    catalog = spark._jsparkSession.sessionState().catalog()

    def views() -> set[str]:
        names = catalog.listLocalTempViews("*")
        return {names.apply(i).table() for i in range(names.size())}

    before = views()

    def restore() -> None:
        for view in views() - before:
            spark.catalog.dropTempView(view)

    with then(restore):
        yield


def use(spark: SparkSession, catalog: str, schema: str, *, may_create: bool = False) -> None:
    """Puts a schema in force for names that have none; one that is not there is created, or else passed over."""
    spark.catalog.setCurrentCatalog(catalog)
    if not spark.catalog.databaseExists(schema):
        if not may_create:
            return
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {quoted(f'{catalog}.{schema}')}")
    spark.catalog.setCurrentDatabase(schema)
