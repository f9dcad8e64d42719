"""Small pipelines of tests: sources, files to land, updates, and what the tables hold afterwards."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import SparkSession

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import update
from lakeflow_local.pipelines.dry_run import dry_run
from lakeflow_local.pipelines.spec import PipelineSpec


@dataclass
class Project:
    """A pipeline of this test, in a schema of its own.

    Attributes:
        said: what the update reported, line by line.
    """

    spark: SparkSession
    folder: Path
    schema: str
    said: list[str] = field(default_factory=list)
    configuration: dict[str, str] = field(default_factory=dict)

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    @property
    def spec(self) -> PipelineSpec:
        sources = sorted((self.folder / "sources").glob("*.*"))
        return PipelineSpec(
            key="test",
            name="test",
            id=self.schema,
            catalog="spark_catalog",
            schema=self.schema,
            sources=tuple(sources),
            root_path=self.folder / "sources",
            configuration={"landing": str(self.landing), "other": f"{self.schema}_other", **self.configuration},
            storage=str(self.folder / "storage"),
        )

    def source(self, name: str, text: str) -> None:
        (self.folder / "sources" / name).write_text(textwrap.dedent(text))

    def land(self, name: str, *rows: dict | str) -> None:
        file = self.landing / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))

    def dry_run(self) -> list[LakeflowError]:
        return dry_run(self.spark, self.spec)

    def update(self, **options) -> update.UpdateResult:
        return update.run(self.spark, self.spec, progress=self.said.append, **options)

    def rows(self, table: str, *columns: str) -> list[tuple]:
        frame = self.spark.table(f"{self.schema}.{table}")
        return sorted((tuple(row) for row in frame.select(*(columns or frame.columns)).collect()), key=repr)

    def events(self, event_type: str) -> list:
        log = self.spark.table(update.event_log_table(self.spec))
        return log.where(log.event_type == event_type).orderBy("timestamp").collect()
