"""What an update of the pipelines `members` and `members_gold` costs: the first load, and an increment after it.

    python -m benchmarks.members --rows 500000 5000000 [--changes 50000]

Members are landed as the ingest lands them, without MySQL. Of the changes nine in ten change a member, and the others
are new. The goal is that the increment costs at most 1.5 times as much on ten times the rows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.ingest.__main__ import _Watch as Watch
from ingest import landing
from ingest.members import bulk
from ingest.members.table import MEMBERS
from lakeflow_local import home as homes
from lakeflow_local.pipelines import update
from lakeflow_local.pipelines.spec import PipelineSpec
from lakeflow_local.platform import servers, session

ROOT = Path(__file__).parents[1]
LAYERS = ("bronze", "silver", "gold", "ops")
SEED, AS_OF = 1, date(2024, 3, 31)
FIRST = datetime(2024, 4, 1, tzinfo=UTC)


class Bench:
    """One lakehouse of so many members."""

    def __init__(self, spark: SparkSession, folder: Path, rows: int):
        self.spark, self.folder, self.rows = spark, folder, rows
        for layer in LAYERS:
            spark.sql(f"CREATE SCHEMA benchmark_{layer}")

    def drop(self) -> None:
        for layer in LAYERS:
            self.spark.sql(f"DROP SCHEMA IF EXISTS benchmark_{layer} CASCADE")
        shutil.rmtree(self.folder)

    def land(self, frame: DataFrame, name: str, at: datetime) -> None:
        changed = F.lit(at)
        rows = frame.select(
            *(name for name in MEMBERS.columns if name in frame.columns),
            changed.alias("updated_at"),
            F.lit("U").alias("_op"),
            changed.alias("_changed_at"),
            F.md5(F.concat_ws("|", *MEMBERS.columns)).alias("_row_hash"),
            changed.alias("_extracted_at"),
            F.lit(name).alias("_run_id"),
        )
        landing.write(rows, str(self.folder / "landing" / "members" / f"ingest_date={at:%Y-%m-%d}" / name))

    def update(self) -> dict[str, tuple[float, float, float]]:
        """Seconds, CPU seconds and peak MB of each pipeline."""
        found = {}
        for name, source in (("members", "transformations"), ("members_gold", "gold")):
            watch, start = Watch(os.getpid()), time.perf_counter()
            result = update.run(self.spark, self.spec(name, source), progress=lambda line: None)
            seconds = time.perf_counter() - start
            found[name] = (seconds, *watch.end())
            if not result.succeeded:
                raise SystemExit(f"error: {name}: {result.error}")
        return found

    def spec(self, name: str, source: str) -> PipelineSpec:
        root = ROOT / "pipelines" / "members"
        return PipelineSpec(
            key=name,
            name=name,
            id=f"benchmark-{name}-{self.rows}",
            catalog="spark_catalog",
            schema="benchmark_silver",
            sources=tuple(sorted((root / source).glob("*.py"))),
            root_path=root,
            configuration={
                **{f"{layer}_schema": f"benchmark_{layer}" for layer in LAYERS[:3]},
                "landing_url": str(self.folder / "landing"),
                "pseudonym_key": "env:BENCHMARK_KEY",
            },
            storage=str(self.folder / "storage" / name),
            event_log=f"spark_catalog.benchmark_ops.{name}_event_log",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[500_000, 5_000_000])
    parser.add_argument("--changes", type=int, default=50_000)
    options = parser.parse_args()

    os.environ["BENCHMARK_KEY"] = "a secret of the benchmark"
    home = homes.find(ROOT)
    spark = session.start(home, servers.up(home, mysql=False), app_name="benchmark members", long_running=True)
    first: dict[str, float] = {}
    for rows in options.rows:
        bench = Bench(spark, Path(tempfile.mkdtemp(prefix="benchmark-members-")), rows)
        try:
            everyone = bulk.members(spark, rows, seed=SEED, as_of=AS_OF)
            bench.land(everyone, "first", FIRST)
            for name, used in bench.update().items():
                told(rows, f"{name}, first load", used)
            # Twice: the first time the increment's own code is compiled.
            for day in (1, 2):
                new = options.changes // 10
                moved = everyone.sample(fraction=(options.changes - new) / rows, seed=day).withColumn(
                    "city", F.lit("York")
                )
                joined = bulk.members(spark, new, seed=SEED + day, as_of=AS_OF)
                bench.land(moved.unionByName(joined), f"day-{day}", FIRST + timedelta(day))
                used_by = bench.update()
            for name, used in used_by.items():
                told(rows, f"{name}, increment", used)
                print(f"{'':>12}  against the first size: {used[0] / first.setdefault(name, used[0]):.2f}", flush=True)
        finally:
            bench.drop()


def told(rows: int, what: str, used: tuple[float, float, float]) -> None:
    seconds, cpu, peak = used
    print(f"{rows:>12,}  {what:<24} {seconds:7.1f} s  {cpu:7.1f} CPU s  {peak:7.0f} MB", flush=True)


if __name__ == "__main__":
    main()
