"""The same project in Apache Spark's own engine (`spark-pipelines`) and in `lakeflow_local`: the same tables.

Both are given the project's files as they are; Spark's engine runs in a process of its own, on Delta as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakeflow_local.home import Home
from lakeflow_local.pipelines import folder, update
from lakeflow_local.platform import java, session

SOURCES = {
    "spark-pipeline.yml": """
        name: oracle
        storage: file://{folder}/storage
        database: default
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
TABLES = ("oracle_bronze", "oracle_by_day", "oracle_both", "oracle_silver", "oracle_notes")
LANDED = (
    [(1, "2026-01-01", "1.50", "a"), (2, "2026-01-01", "-2.00", "b"), (3, "2026-01-02", "0.10", None)],
    [(4, "2026-01-02", "7.00", "a"), (4, "2026-01-03", None, "c"), (5, None, "3.30", "b")],
)


def made(root: Path) -> Path:
    for name, text in SOURCES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).format(folder=root))
    (root / "landing").mkdir()
    (root / "to_land").mkdir()
    for number, rows in enumerate(LANDED):
        lines = [json.dumps(dict(zip(("id", "day", "amount", "note"), row, strict=True))) for row in rows]
        (root / "to_land" / f"{number}.json").write_text("\n".join(lines) + "\n")
    return root


def command_of_spark(root: Path, home: Home) -> tuple[list[str], dict[str, str]]:
    """`spark-pipelines run` on Delta, with the environment that it wants."""
    conf = {
        "spark.driver.extraClassPath": session.class_path(home),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.sources.default": "delta",
        "spark.sql.warehouse.dir": root / "warehouse",
        # What the first run made has to be known to the second.
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.shuffle.partitions": 2,
        "spark.databricks.delta.snapshotPartitions": 1,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -Dderby.system.home={root}",
    }
    (root / "conf").mkdir()
    (root / "conf" / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in conf.items()))
    bin_folder = Path(sys.executable).parent
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("SPARK", "PYSPARK"))},
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "SPARK_CONF_DIR": str(root / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "JAVA_HOME": str(java.find(home).home),
    }
    return [str(bin_folder / "spark-pipelines"), "run", "--spec", str(root / "spark-pipeline.yml")], environment


def rows_of(table: DataFrame) -> list[str]:
    return sorted(repr(tuple(row)) for row in table.collect())


@pytest.mark.timeout(900)
def test_both_engines_give_the_same_tables_after_each_update(spark: SparkSession, worker_home: Home, tmp_path: Path):
    theirs, ours = made(tmp_path / "theirs"), made(tmp_path / "ours")
    command, environment = command_of_spark(theirs, worker_home)
    schema = "oracle_of_spark"
    spec = folder.spec(ours, worker_home, schema=schema, configuration={})
    try:
        for number in range(len(LANDED)):
            for root in (theirs, ours):
                (root / "to_land" / f"{number}.json").rename(root / "landing" / f"{number}.json")
            done = subprocess.run(command, cwd=theirs, env=environment, capture_output=True, text=True, timeout=400)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
            assert update.run(spark, spec, progress=lambda _: None).succeeded
            for name in TABLES:
                expected = rows_of(spark.read.format("delta").load(str(theirs / "warehouse" / name)))
                assert rows_of(spark.table(f"{schema}.{name}")) == expected, (number, name)
                assert expected
    finally:
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
