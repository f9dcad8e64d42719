"""What an update of the pipelines `members` and `members_gold` costs: the first load, and an increment after it.

    python -m benchmarks.members --rows 500000 5000000 [--changes 50000] [--increments 2] [--plain]

Members are landed as the ingest lands them, without MySQL. Of the changes nine in ten change a member, and the others
are new. The goal is that the increment costs at most 1.5 times as much on ten times the rows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.ratios import Seconds, clocks
from ingest import landing
from ingest.members import bulk
from ingest.members.table import MEMBERS
from lakeflow_local import home as homes
from lakeflow_local.pipelines import update
from lakeflow_local.pipelines.spec import PipelineSpec
from lakeflow_local.platform import servers, session

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "pipelines" / "members"
# In the place of contacts.py: the same columns, by Spark's own expressions.
PLAIN = '''
from pyspark.sql import functions as F

def contact(key):
    return F.expr(f"""named_struct(
        'member_key', sha2(concat('{key}', member_id), 256), 'email_normalised', lower(email),
        'phone_normalised', concat('+', regexp_replace(phone_number, '[^0-9]', '')), 'phone_assigned', true,
        'country_code', upper(left(country, 2)), 'country_name', country)""")
'''
LAYERS = ("bronze", "silver", "gold", "ops")
SEED, AS_OF = 1, date(2024, 3, 31)
FIRST = datetime(2024, 4, 1, tzinfo=UTC)


class Bench:
    """One lakehouse of so many members."""

    def __init__(self, spark: SparkSession, folder: Path, rows: int):
        self.spark, self.folder, self.rows = spark, folder, rows
        self.drop_tables()
        for layer in LAYERS:
            spark.sql(f"CREATE SCHEMA benchmark_{layer}")

    def drop(self) -> None:
        self.drop_tables()
        shutil.rmtree(self.folder)

    def drop_tables(self) -> None:
        for layer in LAYERS:
            self.spark.sql(f"DROP SCHEMA IF EXISTS benchmark_{layer} CASCADE")

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

    def update(self, root: Path = PIPELINE) -> dict[str, Seconds]:
        """What each pipeline took, of sources in `root`."""
        found = {}
        for name, source in (("members", "transformations"), ("members_gold", "gold")):
            with clocks() as found[name]:
                result = update.run(self.spark, self.spec(name, root, source), progress=lambda line: None)
            for flow in sorted(result.flows, key=lambda flow: -flow.seconds):
                print(f"{'':>12}  {flow.dataset.rsplit('.')[-1]:<34} {flow.seconds:7.1f} s", flush=True)
            if not result.succeeded:
                raise SystemExit(f"error: {name}: {result.error}")
        return found

    def plain(self) -> Path:
        """The pipeline without the parsers, which take most of a first load, in proportion to its rows."""
        copy = shutil.copytree(PIPELINE, self.folder / "plain")
        (copy / "contacts.py").write_text(PLAIN)
        return copy

    def spec(self, name: str, root: Path, source: str) -> PipelineSpec:
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
    parser.add_argument("--increments", type=int, default=2, help="one after the other; the last is compared")
    parser.add_argument("--plain", action="store_true", help="first loads leave out the parsers of contacts")
    options = parser.parse_args()

    os.environ["BENCHMARK_KEY"] = "a secret of the benchmark"
    home = homes.find(ROOT)
    spark = session.start(
        home, servers.up(home, mysql=False), app_name="benchmark members", long_running=True, memory=5120
    )
    first: dict[str, Seconds] = {}
    for rows in options.rows:
        bench = Bench(spark, Path(tempfile.mkdtemp(prefix="benchmark-members-")), rows)
        try:
            everyone = bulk.members(spark, rows, seed=SEED, as_of=AS_OF)
            bench.land(everyone, "first", FIRST)
            for name, used in bench.update(bench.plain() if options.plain else PIPELINE).items():
                told(rows, f"{name}, first load", used)
            # The first time the increment's own code is compiled.
            for day in range(1, 1 + options.increments):
                new = options.changes // 10
                moved = everyone.sample(fraction=(options.changes - new) / rows, seed=day).withColumn(
                    "city", F.lit("York")
                )
                joined = bulk.members(spark, new, seed=SEED + day, as_of=AS_OF)
                bench.land(moved.unionByName(joined), f"day-{day}", FIRST + timedelta(day))
                used_by = bench.update()
                for name, used in used_by.items():
                    told(rows, f"{name}, increment {day}", used)
            for name, used in (*used_by.items(), ("both", used_by["members"] + used_by["members_gold"])):
                base = first.setdefault(name, used)
                print(
                    f"{name}: {used.wall / base.wall:.2f} of the first size, CPU {used.cpu / base.cpu:.2f}", flush=True
                )
        finally:
            bench.drop()


def told(rows: int, what: str, used: Seconds) -> None:
    print(
        f"{rows:>12,}  {what:<24} {used.wall:7.1f} s  {used.cpu:7.1f} CPU s  {used.peak:7.0f} MB,"
        f" load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
