"""The landing zone: Parquet in object storage, a folder for each window (docs/decisions/0002-landing-paths.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

ROWS_PER_FILE = 2_000_000
"""The most rows of one file, unless the caller says otherwise: docs/ingest.md has the arithmetic."""


@dataclass(frozen=True)
class Written:
    """What stands in a folder: the number of Parquet files and their bytes."""

    files: int
    bytes: int


def folder(landing_url: str, table: str, mode: str, low: datetime | None, high: datetime) -> str:
    """The folder of a run: under the day of its high mark, named by its mode and the mark that it starts from.

    The mark moves at each success and at nothing else, so that a run repeated after a failure finds the same name.
    """
    return f"{_day(landing_url, table, high)}/{mode}-from-{_stamp(low)}"


def backfill_folder(landing_url: str, table: str, since: datetime, until: datetime) -> str:
    """The folder of a backfill, under its last day and named by both ends: a repeat replaces what it finds there."""
    last = until - timedelta(microseconds=1)
    return f"{_day(landing_url, table, last)}/backfill-from-{_stamp(since)}-to-{_stamp(until)}"


def write(frame: DataFrame, path: str, rows_per_file: int = ROWS_PER_FILE) -> None:
    """Puts the rows in place of whatever an earlier attempt left in the folder."""
    # The session's default may be INT96, which no other reader of Parquet expects any more.
    frame.sparkSession.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    frame.write.mode("overwrite").options(compression="zstd", maxRecordsPerFile=rows_per_file).parquet(path)


def withdraw(frame: DataFrame, path: str) -> None:
    """Leaves no row in the folder."""
    write(frame.sparkSession.createDataFrame([], frame.schema), path)


def clear(spark: SparkSession, path: str) -> None:
    """Leaves nothing of an earlier attempt in the folder."""
    files, where = _file_system(spark, path)
    files.delete(where, True)


def written(spark: SparkSession, path: str) -> Written:
    """Files and bytes, by listing alone."""
    files, where = _file_system(spark, path)
    found = [s.getLen() for s in files.listStatus(where) if s.getPath().getName().endswith(".parquet")]
    return Written(len(found), sum(found))


class Marker:
    """One small object beside the tables' folders that says which run of a table is under way.

    What it says after that run is gone tells the next run that it was abandoned. Nothing that reads rows looks there.
    """

    def __init__(self, spark: SparkSession, landing_url: str, source_table: str):
        self._files, self._path = _file_system(spark, f"{landing_url.rstrip('/')}/_running/{source_table}.json")
        self._jvm = spark._jvm

    def read(self) -> dict[str, Any] | None:
        """What `write` was given last; None where no run is under way, or it was cut off while it said so."""
        if not self._files.exists(self._path):
            return None
        stream = self._files.open(self._path)
        try:
            return json.loads(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        except ValueError:
            return None
        finally:
            stream.close()

    def write(self, content: dict[str, Any]) -> None:
        stream = self._files.create(self._path, True)
        stream.write(json.dumps(content).encode())
        stream.close()

    def remove(self) -> None:
        self._files.delete(self._path, False)


def _day(landing_url: str, table: str, high: datetime) -> str:
    return f"{landing_url.rstrip('/')}/{table}/ingest_date={high:%Y-%m-%d}"


def _stamp(moment: datetime | None) -> str:
    return f"{moment:%Y%m%dT%H%M%S.%fZ}" if moment else "beginning"


def _file_system(spark: SparkSession, url: str) -> tuple[Any, Any]:
    path = spark._jvm.org.apache.hadoop.fs.Path(url)
    return path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf()), path
