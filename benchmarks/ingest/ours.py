"""Spark's ways from the table `members` to Parquet: this project's, and the reader with its driver's defaults.

python -m benchmarks.ingest.ours arrow|arrow_one_range|jdbc|spark_defaults URL
python -m benchmarks.ingest.ours incremental URL
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

from ingest import extract
from ingest.members import job
from ingest.run_log import Run, RunLog
from ingest.source import Source
from lakeflow_local import home as homes
from lakeflow_local.platform import servers, session

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 1024
READERS = {
    "arrow": ["--reader=arrow"],
    # where the server stands on the same two cores, a second range costs both sides CPU
    "arrow_one_range": ["--reader=arrow", "--partitions=1"],
    "jdbc": ["--reader=jdbc"],
}
CHANGED = "UPDATE members SET updated_at = CURRENT_TIMESTAMP(6) WHERE member_id >= '{:08x}' LIMIT 1000"


def main(what: str, url: str) -> None:
    home = homes.find(ROOT)
    memory = None if what == "spark_defaults" else MEMORY
    # where Python's tasks do the work, Java's optimising compiler does not pay
    compiles = not what.startswith("arrow")
    spark = session.start(
        home, servers.up(home), app_name="benchmark", master="local[2]", long_running=compiles, memory=memory
    )
    if what == "spark_defaults":
        # no partitions and no fetch size, as the plainest call has them
        options = Source.of().jdbc_options() | {"dbtable": "members"}
        del options["fetchsize"]
        rows = spark.read.format("jdbc").options(**options).load()
        rows.write.mode("append").option("compression", "zstd").parquet(url)  # the folder may be there
        return
    schema = "ops_" + Path(url.rstrip("/")).name.replace("-", "_")
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    options = [f"--landing-url={url}", "--catalog=spark_catalog", f"--ops-schema={schema}"]
    if what != "incremental":
        print(job.run([*options, *READERS[what]], spark))
        return
    # What a further run costs in a warm session: of the first one, only the mark is needed.
    with closing(Source.of().connect()) as connection:
        now = extract.clock(connection, Source.of())
    first = Run("first", f"{Source.of().database}.members", "incremental", now, "succeeded", high=now, ended_at=now)
    RunLog(spark, "spark_catalog", schema).append(first)
    for number in range(6):
        with closing(Source.of().connect()) as connection, connection.cursor() as cursor:
            cursor.execute(CHANGED.format(number * 2**28))
            connection.commit()
        started = time.monotonic()
        landed = job.run(options, spark).rows_landed
        print(f"incremental {landed} rows {time.monotonic() - started:.2f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
