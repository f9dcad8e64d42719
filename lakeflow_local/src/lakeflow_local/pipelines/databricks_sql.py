"""SQL of Databricks outside pipelines (files, the command line, tasks of jobs): event logs and paths into JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.event_log import PIPELINE_ID, table_of
from lakeflow_local.pipelines.names import quoted

_EVENT_LOG = re.compile(r"\bevent_log\s*\(", re.IGNORECASE)
# Spark 4.2 has no message for this condition, so it comes as an internal error.
_NOT_A_VARIANT = "COLUMN_IS_NOT_VARIANT_TYPE"


def query(spark: SparkSession, text: str) -> DataFrame:
    """`spark.sql(text)`, where the text may also read `event_log(…)` and have paths into JSON, `column:a.b`.

    Raises:
        LakeflowError: `event_log(…)` of what has none.
    """
    return _run(spark, text, lambda t: spark.sql(t))


@contextmanager
def understood() -> Iterator[None]:
    """Lets `spark.sql` of this process do what `query` does, until the context ends."""
    original = SparkSession.sql

    def method(self: SparkSession, sqlQuery: str, args: Any = None, **named: Any) -> DataFrame:
        parameters = {*named, *(args if isinstance(args, dict) else ())}
        return _run(self, sqlQuery, lambda text: original(self, text, args, **named), parameters)

    SparkSession.sql = method  # type: ignore[method-assign]
    try:
        yield
    finally:
        SparkSession.sql = original  # type: ignore[method-assign]


def _run(
    spark: SparkSession, text: str, run: Callable[[str], DataFrame], parameters: Collection[str] = ()
) -> DataFrame:
    if _EVENT_LOG.search(text):
        text = sql.rewrite(text, lambda call: log_of(spark, call), functions={"event_log"})
    return with_json_paths(run, text, parameters)


def with_json_paths(run: Callable[[str], DataFrame], text: str, parameters: Collection[str] = ()) -> DataFrame:
    """`run(text)`; where that takes a path into a text for one into a VARIANT, of the text that Spark understands."""
    try:
        return run(text)
    except (PySparkException, Py4JJavaError) as error:
        if _NOT_A_VARIANT not in str(error):
            raise
        return run(sql.json_paths(text, parameters=parameters))


def log_of(spark: SparkSession, call: sql.TableFunction) -> str:
    """What is read in place of a call of `event_log`.

    Raises:
        LakeflowError: what it is given has no event log here.
    """
    of = call.arguments[0] if len(call.arguments) == 1 else None
    if isinstance(of, sql.TableArgument):
        rows = spark.sql(f"SHOW TBLPROPERTIES {of.name}").collect()
        pipeline = next((row.value for row in rows if row.key == PIPELINE_ID), None)
        if pipeline is None:
            raise LakeflowError(
                f"event_log(TABLE({of.name})): no pipeline writes this table; give one that a pipeline has"
            )
    elif isinstance(of, str):
        pipeline = of
    else:
        raise LakeflowError("event_log() takes the id of a pipeline, or TABLE(name) of one of its tables")
    table = table_of(spark, pipeline)
    if table is None:
        raise LakeflowError(f"event_log: no pipeline with the id {pipeline} has run here; run it first")
    return ("STREAM " if call.streaming else "") + quoted(table)
