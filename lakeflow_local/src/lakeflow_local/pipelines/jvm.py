"""Classes of Spark's own JVM."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession


def java_class(spark: SparkSession, name: str) -> Any:
    """A class or object by its whole name, such as `scala.Option`.

    `spark._jvm.scala.Option` would ask for each package, which Java looks for in all jars: some milliseconds a time.
    """
    return getattr(spark._jvm, name)
