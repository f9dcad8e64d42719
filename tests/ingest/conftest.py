"""A database, a landing prefix and schemas of each test's own, on the servers and the session of all tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ingest import extract
from ingest.members import generator, job
from ingest.members.load import Loaded, load
from ingest.members.table import DDL, MEMBERS
from ingest.run_log import Run
from ingest.source import Source

AS_OF = date(2026, 11, 1)
REFERENCE = "env:INGEST_TEST_MYSQL_URL"


@dataclass(frozen=True)
class Lake:
    """What one test reads and writes."""

    spark: SparkSession
    source: Source
    landing_url: str
    name: str
    reader: str = "jdbc"

    @property
    def options(self) -> list[str]:
        return [
            f"--source={REFERENCE}",
            f"--landing-url={self.landing_url}",
            "--catalog=spark_catalog",
            f"--ops-schema=ops_{self.name}",
            f"--silver-schema=silver_{self.name}",
            f"--reader={self.reader}",
        ]

    def ingest(self, *options: str) -> Run:
        return job.run([*self.options, *options], self.spark)

    def load(self, rows: int, *, seed: int = 1) -> Loaded:
        return load(generator.members(self.spark, rows, seed=seed, as_of=AS_OF), self.source)

    def change(self, rows: int, **numbers: int) -> Loaded:
        return load(generator.changes(self.spark, rows, seed=1, as_of=AS_OF, **numbers), self.source)

    def sql(self, *statements: str) -> list[tuple]:
        """The rows of the last statement; all of them are one transaction."""
        with closing(self.source.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall() if cursor.with_rows else []
            connection.commit()
        return rows

    def landed(self) -> DataFrame:
        return self.spark.read.parquet(f"{self.landing_url}/members")

    def runs(self) -> DataFrame:
        return self.spark.table(f"spark_catalog.ops_{self.name}.ingest_runs").orderBy("started_at")

    def current(self) -> set[tuple]:
        """What landing says the members are: of each the last event, without those deleted."""
        last = self.landed().groupBy("member_id").agg(F.max_by(F.struct("_op", "_row_hash"), "_changed_at").alias("l"))
        return {tuple(r) for r in last.where("l._op = 'U'").select("member_id", "l._row_hash").collect()}

    def truth(self) -> set[tuple]:
        """The members of MySQL with their hashes."""
        return set(self.sql(f"SELECT member_id, {MEMBERS.mysql_hash()} FROM members"))

    def refresh(self) -> None:
        """Does what the pipeline does to silver, as far as ingest looks at it."""
        rows = [(key, hashed) for key, hashed in self.current()]
        frame = self.spark.createDataFrame(rows, "member_id STRING, _row_hash STRING")
        frame.write.format("delta").mode("overwrite").saveAsTable(f"spark_catalog.silver_{self.name}.members")


@pytest.fixture
def source(endpoints, monkeypatch) -> Iterator[Source]:
    database = f"lakehouse_{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("INGEST_TEST_MYSQL_URL", endpoints.mysql_url)
    with closing(Source.of(REFERENCE).connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {database}")
    monkeypatch.setenv("INGEST_TEST_MYSQL_URL", endpoints.mysql_url.replace("/lakehouse?", f"/{database}?"))
    source = Source.of(REFERENCE)
    yield source
    with closing(source.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {database}")


@pytest.fixture
def lake(spark, source) -> Iterator[Lake]:
    name = uuid.uuid4().hex[:12]
    for schema in (f"ops_{name}", f"silver_{name}"):
        spark.sql(f"CREATE SCHEMA spark_catalog.{schema}")
    yield Lake(spark, source, f"s3://landing/ingest-tests/{name}", name)
    for schema in (f"ops_{name}", f"silver_{name}"):
        spark.sql(f"DROP SCHEMA spark_catalog.{schema} CASCADE")


@pytest.fixture(params=extract.READERS)
def each_reader(lake, request) -> Lake:
    """The lake of `lake`, read by each reader in turn: for what a reader may get wrong."""
    return replace(lake, reader=request.param)


@pytest.fixture
def members_table(lake) -> Lake:
    """An empty table `members`."""
    lake.sql(DDL)
    return lake
