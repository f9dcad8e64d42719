"""Auto Loader by section 1c of the sheet: each test names the fact that it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.auto_loader import AutoLoader
from lakeflow_local.pipelines.storage import Storage

Row = tuple[Any, ...]


class Loading:
    """One flow over one folder, run as often as a test likes; a new AutoLoader each time, as a new update has.

    Attributes:
        said: what the update would report.
    """

    def __init__(self, spark: SparkSession, folder: Path):
        self.spark = spark
        self.folder = folder
        self.said: list[str] = []

    @property
    def landing(self) -> Path:
        return self.folder / "in"

    def land(self, name: str, *lines: str | dict, age: int = 0) -> Path:
        file = self.landing / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
        if age:
            at = file.stat().st_mtime - age
            os.utime(file, (at, at))
        return file

    def loader(self) -> AutoLoader:
        return AutoLoader(self.spark, Storage(self.spark, str(self.folder / "storage")), self._report)

    def _report(self, level: str, message: str) -> None:
        self.said.append(f"{level} {message}")

    def frame(self, flow: str = "f", *, path: str | None = None, schema: str | None = None, **options: str) -> DataFrame:
        how = {k: options.pop(k) for k in ("sql", "streaming") if k in options}
        named = {k if how.get("sql") else f"cloudFiles.{k}" if k in _CLOUD else k: v for k, v in options.items()}
        return self.loader().load(flow, path or str(self.landing), named, schema, **how)

    def take(self, flow: str = "f", *columns: str, **options: Any) -> list[Row]:
        """The rows that one update of the flow reads."""
        frame = self.frame(flow, **options)
        taken: list[Row] = []
        self.batches: list[int] = []

        def collect(batch: DataFrame, _: int) -> None:
            rows = [tuple(r) for r in batch.collect()]
            self.batches.append(len(rows))
            taken.extend(rows)

        frame = frame.select(*columns) if columns else frame
        self.columns = frame.columns
        self.types = dict(frame.dtypes)
        checkpoint = str(self.folder / "storage" / "checkpoints" / flow)
        query = frame.writeStream.option("checkpointLocation", checkpoint).foreachBatch(collect)
        query.trigger(availableNow=True).start().awaitTermination()
        return sorted(taken, key=repr)


_CLOUD = {
    "format",
    "inferColumnTypes",
    "schemaEvolutionMode",
    "schemaHints",
    "includeExistingFiles",
    "allowOverwrites",
    "maxFilesPerTrigger",
    "maxBytesPerTrigger",
    "partitionColumns",
    "schemaLocation",
    "useNotifications",
    "nonsense",
    "validateOptions",
}


@pytest.fixture
def loading(spark: SparkSession, tmp_path: Path) -> Iterator[Loading]:
    made = Loading(spark, tmp_path)
    made.landing.mkdir()
    yield made


def rescued(value: str | None) -> dict | None:
    if value is None:
        return None
    return {k: v for k, v in json.loads(value).items() if k != "_file_path"}


def test_csv_is_read_by_the_names_of_each_files_header(loading: Loading):
    loading.land("1.csv", "k,v,d", "a,1,2026-01-02", age=30)
    loading.land("2.csv", "d,v,k", "2026-01-03,2,b", age=20)
    loading.land("3.csv", "k,d", "c,2026-01-04", age=10)
    options = {"format": "csv", "header": "true", "inferColumnTypes": "true"}
    assert [r[:3] for r in loading.take(**options)] == [
        ("a", 1, _day(2)),
        ("b", 2, _day(3)),
        ("c", None, _day(4)),
    ]
    assert loading.types == {"k": "string", "v": "int", "d": "date", "_rescued_data": "string"}
    # a further column evolves, a value of another type and one in another case are rescued
    loading.land("4.csv", "new,V,k", '"x, y",7,d')
    loading.land("5.csv", "v,k", "seven,e")
    loading.land("6.csv", "v,k", "8,f,beyond")
    rows = {r[0]: (r[1], r[3], rescued(r[4])) for r in loading.take("f", "k", "v", "d", "new", "_rescued_data", **options)}
    assert rows == {
        "d": (None, "x, y", {"V": "7"}),
        "e": (None, None, {"v": "seven"}),
        "f": (8, None, {"_corrupt_record": "8,f,beyond"}),
    }


def _day(day: int):
    from datetime import date

    return date(2026, 1, day)
