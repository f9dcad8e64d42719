"""What a version of a Delta table says by its checksum is what Delta computes of it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakeflow_local.pipelines import jvm
from lakeflow_local.pipelines.jvm import delta_log, java_class, latest_version
from tests.lakeflow_local.project import Project

KNOWN, PLAIN = "lakeflow.local.KnownSnapshot", "org.apache.spark.sql.delta.Snapshot"


@pytest.fixture
def table(spark: SparkSession) -> Iterator[str]:
    schema = f"known_{uuid.uuid4().hex[:10]}"
    spark.sql(f"CREATE SCHEMA {schema}")
    yield f"{schema}.t"
    spark.sql(f"DROP SCHEMA {schema} CASCADE")


def location(spark: SparkSession, table: str) -> str:
    return spark.sql(f"DESCRIBE DETAIL {table}").first().location


def kind(version: Any) -> str:
    return version.getClass().getName()


def read_anew(spark: SparkSession, folder: str) -> tuple[Any, Any]:
    """The latest version as Delta has it, and as it is known."""
    java_class(spark, "org.apache.spark.sql.delta.DeltaLog").clearCache()
    log, none = delta_log(spark, folder), java_class(spark, "scala.Option").empty()
    return log.update(False, none, none), latest_version(spark, log)


def said(version: Any) -> dict[str, Any]:
    def listed(rows: Any) -> list[str]:
        # Of a file without tags a checksum says that it has none, and the log nothing.
        return sorted(str(row).replace(",Map(),", ",null,") for row in rows)

    return {
        "version": version.version(),
        "bytes": version.sizeInBytes(),
        "files": version.numOfFiles(),
        "domains": listed(java_list(version.domainMetadata())),
        "batches": listed(java_list(version.setTransactions())),
        "all": listed(version.allFiles().collectAsList()),
        "without statistics": listed(java_list(version.getAllFiles(False))),
    }


def java_list(rows: Any) -> list[Any]:
    return [rows.apply(i) for i in range(rows.size())]


def test_it_says_what_delta_computes(spark, table, tmp_path):
    properties = "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true', 'delta.columnMapping.mode' = 'name')"
    spark.sql(f"CREATE TABLE {table} (id BIGINT, s STRING, p INT) USING delta CLUSTER BY (id) {properties}")
    folder = location(spark, table)

    def stream() -> None:
        spark.range(5).selectExpr("id", "'x' AS s", "1 AS p").write.mode("append").parquet(f"{tmp_path}/in")
        read = spark.readStream.schema("id BIGINT, s STRING, p INT").parquet(f"{tmp_path}/in")
        writer = read.writeStream.option("checkpointLocation", f"{tmp_path}/c").trigger(availableNow=True)
        writer.toTable(table).awaitTermination()

    rows = "SELECT id, CAST(id AS STRING) AS s, CAST(id % 3 AS INT) AS p"
    steps = (
        [f"INSERT INTO {table} {rows} FROM range(100)", stream],
        [
            f"DELETE FROM {table} WHERE id % 7 = 0",
            f"MERGE INTO {table} t USING (SELECT id FROM range(95, 105)) s ON t.id = s.id "
            "WHEN MATCHED THEN UPDATE SET s = NULL WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)",
            stream,
            f"ALTER TABLE {table} RENAME COLUMN s TO text",
        ],
        [f"OPTIMIZE {table}", f"RESTORE TABLE {table} TO VERSION AS OF 2"],
        [f"INSERT OVERWRITE {table} {rows} FROM range(7)", f"ALTER TABLE {table} CLUSTER BY NONE"],
    )
    for some in steps:
        for step in some:
            step() if callable(step) else spark.sql(step)
        plain, known = read_anew(spark, folder)
        # That of a RESTORE has not all that is asked for.
        expected = PLAIN if str(step).startswith("RESTORE") else KNOWN
        assert (kind(plain), kind(known), plain._computedStateTriggered()) == (PLAIN, expected, False), step
        assert said(known) == said(plain), step
        assert known.equals(delta_log(spark, folder).unsafeVolatileSnapshot()), "Delta goes on with it"
    assert known.setTransactions().size() == known.domainMetadata().size() == 1


def test_what_the_checksum_does_not_have_is_computed(spark, table):
    # More files than a checksum names.
    spark.range(60).selectExpr("id", "id AS day").write.partitionBy("day").saveAsTable(table)
    folder = location(spark, table)
    plain, known = read_anew(spark, folder)
    assert kind(known) == KNOWN and known.checksumOpt().get().allFiles().isEmpty()
    assert said(known) == said(plain) and said(known)["files"] == 60
    assert spark.table(table).where("id BETWEEN 3 AND 4").count() == 2

    (checksum,) = Path(folder.removeprefix("file:")).glob("_delta_log/0*.crc")
    content = checksum.read_text()
    for left in ("", content[: len(content) // 2]):
        checksum.write_text(left)
        checksum.with_name(f".{checksum.name}.crc").unlink(missing_ok=True)  # that of Hadoop
        _, found = read_anew(spark, folder)
        assert kind(found) == PLAIN and found.numOfFiles() == 60
        assert spark.table(table).count() == 60


def test_a_session_of_another_platform_has_delta_s_own(spark, table, monkeypatch):
    monkeypatch.setattr(jvm, "_KNOWN", "lakeflow.local.NotThere")
    spark.range(3).write.saveAsTable(table)
    found = latest_version(spark, delta_log(spark, location(spark, table)))
    assert (kind(found), found.version()) == (PLAIN, 0)


def test_files_are_skipped_and_what_others_commit_is_read(spark, table):
    for day in range(3):
        rows = spark.range(day * 10, day * 10 + 10, numPartitions=1).selectExpr("id", f"{day} AS day")
        rows.write.partitionBy("day").mode("append").saveAsTable(table)
    folder = location(spark, table)
    _, known = read_anew(spark, folder)
    ours = delta_log(spark, folder)
    plan = "spark_catalog." + table
    assert spark.table(plan).where("day = 1").count() == 10
    assert [row.id for row in spark.table(plan).where("id = 25 OR id = 3").orderBy("id").collect()] == [3, 25]
    assert len(spark.table(plan).where("id = 25").select("_metadata.file_name").distinct().collect()) == 1

    # Another process has a log of its own.
    java_class(spark, "org.apache.spark.sql.delta.DeltaLog").clearCache()
    spark.sql(f"DELETE FROM {table} WHERE day = 1")
    assert not ours.equals(delta_log(spark, folder)) and ours.unsafeVolatileSnapshot().version() == known.version()
    after = latest_version(spark, ours)
    assert (kind(after), after.version(), after.numOfFiles()) == (KNOWN, known.version() + 1, 2)


def test_writers_at_once_lose_nothing(spark, table):
    spark.sql(f"CREATE TABLE {table} (id BIGINT) USING delta")
    log, failures = delta_log(spark, location(spark, table)), []

    def write(first: int) -> None:
        try:
            for number in range(first, first + 4):
                latest_version(spark, log)
                spark.range(number, number + 1).write.mode("append").saveAsTable(table)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert spark.table(table).count() <= 8
    assert failures == [] and [row.id for row in spark.table(table).orderBy("id").collect()] == list(range(8))
    assert latest_version(spark, log).numOfFiles() == 8


def test_an_update_has_nothing_of_it_computed(project: Project):
    project.source(
        "a.sql",
        """
        CREATE STREAMING TABLE events AS SELECT * FROM STREAM read_files('${landing}', format => 'json');
        CREATE MATERIALIZED VIEW totals AS SELECT k, sum(v) AS total FROM events GROUP BY k;
        """,
    )
    for number in range(3):
        project.land(f"{number}.json", {"k": "a", "v": number}, {"k": f"b{number}", "v": number})
        assert project.update().succeeded
        for name in ("events", "totals"):
            log = delta_log(project.spark, location(project.spark, f"{project.schema}.{name}"))
            assert not log.unsafeVolatileSnapshot()._computedStateTriggered(), (number, name)
