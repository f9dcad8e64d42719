"""Classes of Spark's own JVM."""

from __future__ import annotations

from typing import Any

from py4j.java_gateway import JavaPackage
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

_KNOWN = "lakeflow.local.KnownSnapshot"


def java_class(spark: SparkSession, name: str) -> Any:
    """A class or object by its whole name, such as `scala.Option`.

    `spark._jvm.scala.Option` would ask for each package, which Java looks for in all jars: some milliseconds a time.
    """
    return getattr(spark._jvm, name)


def latest_version(spark: SparkSession, log: Any) -> Any:
    """The latest version, Delta's `Snapshot`, of the table of a `DeltaLog`.

    Until the next one Delta itself goes on with this object, which takes from the version's checksum what Delta's own
    would compute by a query of Spark (docs/decisions/0016-what-a-checksum-tells.md).
    """
    known = java_class(spark, _KNOWN)
    if isinstance(known, JavaPackage):  # the session is not of this platform, and has not that class
        none = java_class(spark, "scala.Option").empty()
        return log.update(False, none, none)
    return known.latest(log)


def delta_log(spark: SparkSession, location: str) -> Any:
    """The `DeltaLog` of the table in a folder."""
    return java_class(spark, "org.apache.spark.sql.delta.DeltaLog").forTable(spark._jsparkSession, location)


def make_active(spark: SparkSession) -> None:
    """Makes this session the one of this thread in Java."""
    java_class(spark, "org.apache.spark.sql.classic.SparkSession").setActiveSession(spark._jsparkSession)


def empty(spark: SparkSession, schema: StructType) -> DataFrame:
    """No rows of these columns, of any type.

    Of PySpark's own empty frame nobody knows that it is empty, until a Python worker has computed that.
    """
    session = spark._jsparkSession
    rows = java_class(spark, "java.util.ArrayList")()
    return DataFrame(session.createDataFrame(rows, session.parseDataType(schema.json())), spark)
