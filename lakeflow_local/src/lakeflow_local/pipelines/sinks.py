"""Sinks, to which append flows write rows outside the pipeline's tables; faults are found before anything runs."""

from __future__ import annotations

from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.resolve import Node

_FILES = frozenset({"parquet", "json", "csv", "orc", "avro", "text", "xml"})


def check(spark: SparkSession, node: Node) -> None:
    """Finds what a sink lacks.

    Raises:
        UnsupportedError: Spark does not know the format here.
        LakeflowError: an option that the format needs is not given.
    """
    sink, place = node.dataset.sink, node.dataset.place
    where: dict[str, Any] = {"file": place.file, "line": place.line}
    if sink.function is not None:
        return
    name, options = sink.format.lower(), {key.lower() for key in sink.options}
    if name == "delta" and not options & {"path", "tablename"}:
        raise LakeflowError(f"the delta sink {node.dataset.name} needs the option path or tableName", **where)
    if name in _FILES and "path" not in options:
        raise LakeflowError(f"the {name} sink {node.dataset.name} needs the option path", **where)
    if name == "kafka" and "kafka.bootstrap.servers" not in options:
        raise LakeflowError(
            f"the kafka sink {node.dataset.name} needs the options kafka.bootstrap.servers and topic", **where
        )
    if not _known(spark, sink.format):
        raise UnsupportedError(
            f"the sink {node.dataset.name} has the format {sink.format}, which Spark does not know here; add its jar "
            "to the session, or register the Python data source before it is used",
            **where,
        )


def _known(spark: SparkSession, format: str) -> bool:
    state = spark._jsparkSession.sessionState()
    if state.dataSourceManager().dataSourceExists(format):
        return True
    try:
        spark._jvm.org.apache.spark.sql.execution.datasources.DataSource.lookupDataSource(format, state.conf())
    except (PySparkException, Py4JJavaError):
        return False
    return True
