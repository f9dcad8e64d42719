"""The same project in Apache Spark's own engine (`spark-pipelines`) and in `lakeflow_local`: the same tables.

Both are given the project's files as they are; Spark's engine is a server in the Java of the tests, on Delta as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.pipelines import cli
from pyspark.sql import DataFrame, SparkSession

from lakeflow_local.home import Home
from lakeflow_local.pipelines import folder, update

SOURCES = {
    "spark-pipeline.yml": """
        name: oracle
        storage: file://{folder}/storage
        database: {database}
        configuration: {{oracle.least: "0"}}
        libraries:
          - glob: {{include: transformations/**}}
    """,
    "transformations/a.py": """
        from pyspark import pipelines as dp
        from pyspark.sql import functions as F

        SCHEMA = "id INT, day DATE, amount DECIMAL(10,2), note STRING"

        @dp.table(comment="as they came")
        def oracle_bronze():
            return spark.readStream.format("json").schema(SCHEMA).load("{folder}/landing")

        @dp.temporary_view
        def oracle_positive():
            least = F.lit(spark.conf.get("oracle.least")).cast("int")
            return spark.readStream.table("oracle_bronze").where(F.col("amount") > least)

        @dp.materialized_view
        def oracle_by_day():
            rows = spark.read.table("oracle_bronze").groupBy("day")
            return rows.agg(F.sum("amount").alias("amount"), F.count("*").alias("n"))

        dp.create_streaming_table("oracle_both")

        for name, sign in (("plus", 1), ("minus", -1)):
            @dp.append_flow(target="oracle_both", name=f"from_{{name}}")
            def half(sign=sign):
                return spark.readStream.table("oracle_bronze").where(F.col("amount") * sign > 0).select("id")
    """,
    "transformations/b.sql": """
        CREATE STREAMING TABLE oracle_silver AS SELECT id, upper(note) AS note, day FROM STREAM oracle_positive;
        CREATE MATERIALIZED VIEW oracle_notes AS
        SELECT note, count(DISTINCT day) AS days, max(s.id) AS last
        FROM oracle_silver s JOIN oracle_by_day USING (day) GROUP BY note;
    """,
}
SCHEMAS = ("oracle_of_spark", "oracle_of_lakeflow")
TABLES = ("oracle_bronze", "oracle_by_day", "oracle_both", "oracle_silver", "oracle_notes")
LANDED = (
    [(1, "2026-01-01", "1.50", "a"), (2, "2026-01-01", "-2.00", "b"), (3, "2026-01-02", "0.10", None)],
    [(4, "2026-01-02", "7.00", "a"), (4, "2026-01-03", None, "c"), (5, None, "3.30", "b")],
)


def made(root: Path, database: str) -> Path:
    for name, text in SOURCES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).format(folder=root, database=database))
    (root / "landing").mkdir()
    (root / "to_land").mkdir()
    for number, rows in enumerate(LANDED):
        lines = [json.dumps(dict(zip(("id", "day", "amount", "note"), row, strict=True))) for row in rows]
        (root / "to_land" / f"{number}.json").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def connect(spark: SparkSession) -> Iterator[str]:
    """The URL of a Spark Connect server in the Java of this process: Spark's own engine, with the same Delta."""
    context = spark._jsc.sc()
    context.conf().set("spark.connect.grpc.binding.address", "127.0.0.1").set("spark.connect.grpc.binding.port", "0")
    service, none = (
        getattr(getattr(spark._jvm, f"{name}$"), "MODULE$")
        for name in ("org.apache.spark.sql.connect.service.SparkConnectService", "scala.None")
    )
    service.start(context)
    yield f"sc://127.0.0.1:{service.localPort()}"
    service.stop(none, none)


def rows_of(table: DataFrame) -> list[str]:
    return sorted(repr(tuple(row)) for row in table.collect())


def test_both_engines_give_the_same_tables_after_each_update(
    spark: SparkSession, connect: str, worker_home: Home, tmp_path: Path
):
    theirs, ours = (made(tmp_path / schema, schema) for schema in SCHEMAS)
    spec = folder.spec(ours, worker_home, schema=SCHEMAS[1], configuration={})
    # What `spark-pipelines run` runs in its second process, after it has made the server that `connect` is.
    command = [sys.executable, cli.__file__, "run", "--spec", str(theirs / "spark-pipeline.yml")]
    try:
        for schema in SCHEMAS:
            spark.sql(f"CREATE SCHEMA {schema}")
        for number in range(len(LANDED)):
            for root in (theirs, ours):
                (root / "to_land" / f"{number}.json").rename(root / "landing" / f"{number}.json")
            environment = {**os.environ, "SPARK_REMOTE": connect}
            done = subprocess.run(command, cwd=theirs, env=environment, capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
            assert update.run(spark, spec, progress=lambda _: None).succeeded
            for name in TABLES:
                expected, found = (rows_of(spark.table(f"{schema}.{name}")) for schema in SCHEMAS)
                assert expected == found and expected, (number, name)
    finally:
        for schema in SCHEMAS:
            spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
