"""The landing zone: Parquet in object storage, a folder for each window (docs/decisions/0002-landing-paths.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Written:
    """What stands in a folder: the number of Parquet files and their bytes."""

    files: int
    bytes: int


def folder(landing_url: str, table: str, mode: str, low: datetime | None, high: datetime) -> str:
    """The folder of a run: under the day of its high mark, named by its mode and the mark that it starts from.

    The mark moves at each success and at nothing else, so that a run repeated after a failure finds the same name.
    """
    start = f"{low:%Y%m%dT%H%M%S.%fZ}" if low else "beginning"
    return f"{landing_url.rstrip('/')}/{table}/ingest_date={high:%Y-%m-%d}/{mode}-from-{start}"


def write(frame: DataFrame, path: str) -> None:
    """Puts the rows in place of whatever an earlier attempt left in the folder."""
    # The session's default may be INT96, which no other reader of Parquet expects any more.
    frame.sparkSession.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    frame.write.mode("overwrite").option("compression", "zstd").parquet(path)


def withdraw(frame: DataFrame, path: str) -> None:
    """Leaves no row in the folder."""
    write(frame.sparkSession.createDataFrame([], frame.schema), path)


def written(spark: SparkSession, path: str) -> Written:
    """Files and bytes, by listing alone."""
    found = spark.read.format("binaryFile").option("pathGlobFilter", "*.parquet").load(path)
    row = found.agg(F.count("path").alias("files"), F.coalesce(F.sum("length"), F.lit(0)).alias("bytes")).first()
    return Written(row["files"], row["bytes"])
