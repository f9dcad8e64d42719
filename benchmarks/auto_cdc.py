"""What AUTO CDC costs: changes into a large table, against the best MERGE that a person would write for them.

    python -m benchmarks.auto_cdc [--rows 1000000] [--changes 100000] [--times 3] [--grown 3000000]

The hand-written MERGEs take the last change of a key by `row_number` and remember nothing: they are right only while
deletes are never followed by older events. Type 1 is written in three ways, of which the quickest counts: with
deletion vectors, also with a broadcast of the changes, and without, which rewrites files. Type 2 is the way of Delta's
documentation: each change once to close the open row of its key and, where it has one, once more to open another.

`--grown`: the same changes into a table of so many rows besides. All give the same tables, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.ratios import Seconds, clocks, head, in_turn, show
from lakeflow_local import home as homes
from lakeflow_local.pipelines.auto_cdc import TARGET_PROPERTIES, apply_batch, target_schema
from lakeflow_local.pipelines.graph import AutoCdc
from lakeflow_local.platform import servers, session

SCHEMA = "benchmark_auto_cdc"
KEPT = AutoCdc(source="s", keys=("id",), sequence_by="seq", apply_as_deletes="op = 'D'", except_columns=("op",))
HIDDEN = replace(KEPT, except_columns=("op", "seq"))
HISTORY = replace(HIDDEN, scd_type=2)
VARIANTS = {
    "type 1, the target keeps the sequence": KEPT,
    "type 1, the sequence is hidden": HIDDEN,
    "type 2": HISTORY,
}
MERGE = "spark.databricks.delta.merge"
LAST = "SELECT * FROM benchmark_changes QUALIFY row_number() OVER (PARTITION BY id ORDER BY seq DESC) = 1"
VALUES = ("name", "address", "country")


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


def current_by_hand(spark: SparkSession, target: str, *, vectors: bool = True, broadcast: bool = False) -> None:
    columns = ("id", *VALUES, "seq")
    source = f"SELECT /*+ BROADCAST(last) */ * FROM ({LAST}) last" if broadcast else LAST
    spark.conf.set(f"{MERGE}.deletionVectors.persistent", str(vectors).lower())
    spark.sql(f"""
        MERGE INTO {target} t USING ({source}) s ON t.id = s.id
        WHEN MATCHED AND s.seq > t.seq AND s.op = 'D' THEN DELETE
        WHEN MATCHED AND s.seq > t.seq THEN UPDATE SET {", ".join(f"{c} = s.{c}" for c in columns)}
        WHEN NOT MATCHED AND s.op <> 'D' THEN
            INSERT ({", ".join(columns)}) VALUES ({", ".join(f"s.{c}" for c in columns)})
    """).collect()
    spark.conf.unset(f"{MERGE}.deletionVectors.persistent")


def history_by_hand(spark: SparkSession, target: str) -> None:
    content = [f"struct({', '.join(f'{side}.{value}' for value in VALUES)})" for side in "st"]
    differs = f"s.seq > t.__START_AT AND {' IS DISTINCT FROM '.join(content)}"
    spark.sql(f"""
        MERGE INTO {target} t USING (
            WITH last AS ({LAST})
            SELECT id AS merge_id, * FROM last
            UNION ALL
            SELECT NULL AS merge_id, s.* FROM last s JOIN {target} t ON t.id = s.id AND t.__END_AT IS NULL
            WHERE s.op <> 'D' AND {differs}
        ) s ON t.id = s.merge_id AND t.__END_AT IS NULL
        WHEN MATCHED AND (s.op = 'D' AND s.seq > t.__START_AT OR {differs}) THEN UPDATE SET __END_AT = s.seq
        WHEN NOT MATCHED AND s.op <> 'D' THEN
            INSERT (id, {", ".join(VALUES)}, __START_AT, __END_AT)
            VALUES (s.id, {", ".join(f"s.{value}" for value in VALUES)}, s.seq, NULL)
    """).collect()


class Bench:
    def __init__(self, spark: SparkSession, folder: Path, changes: int):
        self.spark, self.folder, self.number = spark, folder, changes
        self.names = itertools.count()
        self.contents: dict[tuple, tuple] = {}
        # A run that was killed leaves its tables.
        spark.sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        spark.sql(f"CREATE SCHEMA {SCHEMA}")

    def changes(self, rows: int) -> DataFrame:
        """One in ten is a new row, the others change one; the keys are spread over the whole table."""
        path = self.folder / f"changes-{rows}"
        if not path.exists():
            step = rows * 10 // (self.number * 9)
            events(self.spark, 0, rows + step * self.number // 10, step, 2).write.parquet(str(path))
        return self.spark.read.parquet(str(path))

    def filled(self, rows: int, cdc: AutoCdc) -> Path:
        """The files of a target and its state, into which each run gets links."""
        folder = self.folder / f"{cdc.scd_type}-{len(cdc.except_columns)}-{rows}"
        if not folder.exists():
            first, name = events(self.spark, 0, rows, 1, 1), f"spark_catalog.{SCHEMA}.filled"
            columns = target_schema(first.schema, cdc, self.spark).toDDL()
            properties = ", ".join(f"'{key}' = '{value}'" for key, value in TARGET_PROPERTIES.items())
            location = f"LOCATION '{folder}/table' TBLPROPERTIES ({properties})"
            self.spark.sql(f"CREATE TABLE {name} ({columns}) USING delta {location}")
            apply_batch(self.spark, first, target=name, state=str(folder / "state"), cdc=cdc)
            self.spark.sql(f"DROP TABLE {name}")
        return folder

    def run(self, rows: int, cdc: AutoCdc, by_hand: Callable[[SparkSession, str], None] | None = None) -> Seconds:
        folder = self.folder / f"run{next(self.names)}"
        shutil.copytree(self.filled(rows, cdc), folder, copy_function=os.link)
        target, changes = f"spark_catalog.{SCHEMA}.{folder.name}", self.changes(rows)
        changes.createOrReplaceTempView("benchmark_changes")
        self.spark.sql(f"CREATE TABLE {target} USING delta LOCATION '{folder}/table'")
        try:
            with clocks() as found:
                if by_hand:
                    by_hand(self.spark, target)
                else:
                    apply_batch(self.spark, changes, target=target, state=str(folder / "state"), cdc=cdc)
            self.check(target, (rows, cdc.scd_type, cdc.except_columns))
        finally:
            self.spark.sql(f"DROP TABLE {target}")
            shutil.rmtree(folder)
        return found

    def check(self, target: str, what: tuple) -> None:
        table = self.spark.table(target)
        content = table.agg(F.count("*"), F.sum(F.xxhash64(*table.columns).cast("decimal(38)"))).first()
        if self.contents.setdefault(what, content) != content:
            raise SystemExit(f"{target} is not what another way made of it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--grown", type=int, help="rows of a larger table that takes the same changes")
    options = parser.parse_args()

    home = homes.find(Path(__file__).parent)
    spark = session.start(home, servers.up(home, mysql=False), app_name="benchmark auto_cdc")
    folder = Path(tempfile.mkdtemp(prefix="benchmark-auto-cdc-"))
    try:
        bench = Bench(spark, folder, options.changes)
        rows = options.rows
        by_hand = {
            "MERGE, deletion vectors": current_by_hand,
            "MERGE, deletion vectors, broadcast": partial(current_by_hand, broadcast=True),
            "MERGE, files rewritten": partial(current_by_hand, vectors=False),
        }
        peers = {name: partial(bench.run, rows, KEPT, way) for name, way in by_hand.items()}
        peers["MERGE, type 2"] = partial(bench.run, rows, HISTORY, history_by_hand)
        peers |= {name: partial(bench.run, rows, cdc) for name, cdc in VARIANTS.items()}
        if options.grown:
            peers |= {f"{name}, grown": partial(bench.run, options.grown, cdc) for name, cdc in VARIANTS.items()}
        found = in_turn(peers, options.times)

        head(f"{options.changes:,} changes into {rows:,} rows")
        best = min(by_hand, key=lambda name: found[name].cpu)
        for name in (*by_hand, "MERGE, type 2"):
            print(f"{name}: {found[name]}" + ", the best" * (name == best))
        for name, cdc in VARIANTS.items():
            show(f"{name}, against MERGE", found[name], found["MERGE, type 2" if cdc.scd_type == 2 else best])
            if options.grown:
                show(f"{name}, {options.grown / rows:g} times the rows", found[f"{name}, grown"], found[name])
    finally:
        spark.sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
