"""What AUTO CDC costs: 100,000 changes into 1,000,000 rows, against the best MERGE that a person would write for them.

    python benchmarks/auto_cdc.py [--rows 1000000] [--changes 100000] [--times 1]

Every line is a ratio within one run, since the machine is seldom alone. The hand-written MERGE takes the last change of
a key by `row_number`, compares sequences in the target, and remembers nothing: it is right only while deletes are never
followed by older events. Both write with deletion vectors.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakeflow_local import home as homes
from lakeflow_local.pipelines.auto_cdc import TARGET_PROPERTIES, apply_batch, target_schema
from lakeflow_local.pipelines.graph import AutoCdc
from lakeflow_local.platform import servers, session

SCHEMA = "benchmark_auto_cdc"
CURRENT = AutoCdc(source="s", keys=("id",), sequence_by="seq", apply_as_deletes="op = 'D'", except_columns=("op",))
VARIANTS = {
    "type 1, the target keeps the sequence": CURRENT,
    "type 1, the sequence is hidden": AutoCdc(**{**vars(CURRENT), "except_columns": ("op", "seq")}),
    "type 2": AutoCdc(**{**vars(CURRENT), "except_columns": ("op", "seq"), "scd_type": 2}),
}


def events(spark: SparkSession, low: int, high: int, step: int, sequence: int) -> DataFrame:
    """Rows of about 190 bytes under unordered keys, every `step`-th of a range; one later one in twenty a delete."""
    number = spark.range(low, high, step, 4)
    return number.select(
        F.sha2(F.col("id").cast("string"), 256).substr(1, 36).alias("id"),
        F.sha2(F.concat_ws("/", "id", F.lit(sequence)), 256).alias("name"),
        F.sha2(F.concat_ws("-", "id", F.lit(sequence)), 256).alias("address"),
        (F.col("id") % 50).cast("string").alias("country"),
        F.lit(sequence).cast("long").alias("seq"),
        F.when((F.lit(sequence) > 1) & (F.col("id") % (20 * step) == 0), "D").otherwise("U").alias("op"),
    )


def by_hand(spark: SparkSession, changes: DataFrame, target: str) -> None:
    changes.createOrReplaceTempView("benchmark_changes")
    columns = [column for column in changes.columns if column != "op"]
    spark.sql(f"""
        MERGE INTO {target} t USING (
            SELECT * FROM benchmark_changes QUALIFY row_number() OVER (PARTITION BY id ORDER BY seq DESC) = 1
        ) s ON t.id = s.id
        WHEN MATCHED AND s.seq > t.seq AND s.op = 'D' THEN DELETE
        WHEN MATCHED AND s.seq > t.seq THEN UPDATE SET {", ".join(f"{c} = s.{c}" for c in columns)}
        WHEN NOT MATCHED AND s.op <> 'D' THEN
            INSERT ({", ".join(columns)}) VALUES ({", ".join(f"s.{c}" for c in columns)})
    """).collect()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Bench:
    def __init__(self, spark: SparkSession, folder: Path, changes: int):
        self.spark, self.folder, self.changes = spark, folder, changes
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        self.number = 0

    def landed(self, name: str, frame: DataFrame) -> DataFrame:
        path = str(self.folder / name)
        frame.write.mode("overwrite").parquet(path)
        return self.spark.read.parquet(path)

    def run(self, rows: int, cdc: AutoCdc | None) -> float:
        """Seconds of the changes into a table of so many rows; one in ten is a new row, the others change one."""
        self.number += 1
        target, state = f"spark_catalog.{SCHEMA}.t{self.number}", str(self.folder / f"state{self.number}")
        first = self.landed("first", events(self.spark, 0, rows, 1, 1))
        step = rows * 10 // (self.changes * 9)
        changes = self.landed("changes", events(self.spark, 0, rows + step * self.changes // 10, step, 2))
        schema = target_schema(first.schema, cdc or CURRENT, self.spark)
        properties = ", ".join(f"'{key}' = '{value}'" for key, value in TARGET_PROPERTIES.items())
        self.spark.sql(f"CREATE TABLE {target} ({schema.toDDL()}) USING delta TBLPROPERTIES ({properties})")
        try:
            if cdc:
                apply_batch(self.spark, first, target=target, state=state, cdc=cdc)
                return seconds(lambda: apply_batch(self.spark, changes, target=target, state=state, cdc=cdc))
            first.drop("op").write.format("delta").mode("append").saveAsTable(target)
            return seconds(lambda: by_hand(self.spark, changes, target))
        finally:
            self.spark.sql(f"DROP TABLE {target}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=1, help="runs of each, of which the quickest counts")
    options = parser.parse_args()

    home = homes.find(Path(__file__).parent)
    spark = session.start(home, servers.up(home, mysql=False), app_name="benchmark auto_cdc", long_running=True)
    folder = Path(tempfile.mkdtemp(prefix="benchmark-auto-cdc-"))
    try:
        bench = Bench(spark, folder, options.changes)

        def best(rows: int, cdc: AutoCdc | None) -> float:
            return min(bench.run(rows, cdc) for _ in range(options.times))

        bench.run(options.rows // 10, None)
        hand = best(options.rows, None)
        print(f"{options.changes:,} changes into {options.rows:,} rows; MERGE by hand: 1.00 ({hand:.1f} s)", flush=True)
        for name, cdc in VARIANTS.items():
            large, small = best(options.rows, cdc), best(options.rows // 10, cdc)
            print(f"{name}: {large / hand:.2f}; against a tenth of the rows: {large / small:.2f}", flush=True)
    finally:
        spark.sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
