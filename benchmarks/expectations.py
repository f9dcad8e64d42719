"""What expectations cost: a streaming table with ten of them against the same query without, and against two passes.

    python -m benchmarks.expectations [--rows 3000000] [--times 3]

Each run is a whole update of a pipeline with one streaming table, which reads a Delta table from its beginning. In two
passes the rules are counted by a query of their own, before a query that drops the rows which violate some.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.ratios import Seconds, clocks, head, in_turn, show
from lakeflow_local import home as homes
from lakeflow_local.pipelines import update
from lakeflow_local.pipelines.spec import PipelineSpec
from lakeflow_local.platform import servers, session

SCHEMA = "benchmark_expectations"
RULES = {
    "has_id": "id IS NOT NULL",
    "has_name": "name IS NOT NULL AND length(trim(name)) > 0",
    "email": "email RLIKE '^[^@ ]+@[^@ ]+[.][a-z]+$'",
    "country": "country IN ('AT', 'BE', 'CH', 'DE', 'DK', 'ES', 'FI', 'FR', 'GB', 'IT', 'NL', 'SE')",
    "positive": "amount > 0",
    "not_too_much": "amount <= quantity * 1000",
    "day": "day BETWEEN DATE '2000-01-01' AND DATE '2030-12-31'",
    "status": "status IN ('open', 'paid') OR status LIKE 'void%'",
    "paid_has_day": "status <> 'paid' OR paid_day >= day",
    "quantity": "quantity BETWEEN 1 AND 100",
}
DROPPING = ("has_id", "email", "positive")


def rows(spark: SparkSession, number: int):
    n = F.col("id")
    return spark.range(0, number, 1, 4).select(
        F.sha2(n.cast("string"), 256).substr(1, 36).alias("id"),
        F.concat(F.lit("name "), n).alias("name"),
        F.concat(
            F.lit("user"), n, F.when(n % 100 == 0, F.lit(" at")).otherwise(F.lit("@")), F.lit("example.org")
        ).alias("email"),
        F.element_at(F.array(*map(F.lit, ("AT", "DE", "FR", "SE", "XX"))), (n % 5 + 1).cast("int")).alias("country"),
        ((n % 5000) / 10).cast("decimal(12,2)").alias("amount"),
        (n % 120).cast("int").alias("quantity"),
        F.expr("date_add(DATE '2020-01-01', cast(id % 2000 AS INT))").alias("day"),
        F.expr("CASE WHEN id % 7 = 0 THEN NULL ELSE date_add(DATE '2021-01-01', cast(id % 2000 AS INT)) END").alias(
            "paid_day"
        ),
        F.element_at(F.array(*map(F.lit, ("open", "paid", "voided"))), (n % 3 + 1).cast("int")).alias("status"),
    )


class Bench:
    def __init__(self, spark: SparkSession, folder: Path, number: int):
        self.spark, self.folder = spark, folder
        # A run that was killed leaves its tables.
        spark.sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        spark.sql(f"CREATE SCHEMA {SCHEMA}")
        rows(spark, number).write.mode("overwrite").saveAsTable(f"{SCHEMA}.source")

    def pipeline(self, name: str, rules: Mapping[str, str], where: str = "TRUE") -> PipelineSpec:
        constraints = ", ".join(
            f"CONSTRAINT {rule} EXPECT ({predicate})" + " ON VIOLATION DROP ROW" * (rule in DROPPING)
            for rule, predicate in rules.items()
        )
        root = self.folder / name
        root.mkdir()
        source = root / "t.sql"
        listed = f"({constraints})" if rules else ""
        source.write_text(
            f"CREATE OR REFRESH STREAMING TABLE {name} {listed} AS SELECT * FROM STREAM {SCHEMA}.source WHERE {where};"
        )
        return PipelineSpec(
            key=name,
            name=name,
            id=name,
            catalog="spark_catalog",
            schema=SCHEMA,
            sources=(source,),
            storage=str(root / "storage"),
        )

    def run(self, spec: PipelineSpec) -> Seconds:
        with clocks() as found:
            done = update.run(self.spark, spec, full_refresh=True, progress=lambda _: None)
        assert done.succeeded, done.error
        return found

    def two_passes(self, spec: PipelineSpec) -> Seconds:
        source = self.spark.table(f"{SCHEMA}.source")
        with clocks() as counted:
            source.agg(*(F.count_if(~F.coalesce(F.expr(p), F.lit(True))) for p in RULES.values())).collect()
        written = self.run(spec)
        return Seconds(counted.wall + written.wall, counted.cpu + written.cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--times", type=int, default=3, help="runs of each; the median counts")
    options = parser.parse_args()
    home = homes.find(Path(__file__).parent)
    spark = session.start(home, servers.up(home, mysql=False), app_name="benchmark expectations")
    folder = Path(tempfile.mkdtemp(prefix="benchmark-expectations-"))
    try:
        bench = Bench(spark, folder, options.rows)
        kept = [f"coalesce({RULES[rule]}, TRUE)" for rule in DROPPING]
        without = bench.pipeline("without", {})
        same_rows = bench.pipeline("same_rows", {}, " AND ".join(kept))
        ten = bench.pipeline("ten", RULES)
        found = in_turn(
            {
                "without": lambda: bench.run(without),
                "ten": lambda: bench.run(ten),
                "two passes": lambda: bench.two_passes(same_rows),
            },
            options.times,
        )
        head(f"{options.rows:,} rows, ten expectations, three of which drop rows")
        show("with them, against without", found["ten"], found["without"])
        show("with them, against two passes", found["ten"], found["two passes"])
    finally:
        spark.sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
