"""Spark's ways from the table `members` to Parquet: this project's, and the reader with its driver's defaults.

python -m benchmarks.ingest.ours ingest|incremental|spark_defaults|load FOLDER [ROWS]
"""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path

from benchmarks.ingest.__main__ import ROOT
from ingest.members import bulk, job
from ingest.members.load import load
from ingest.source import Source
from lakeflow_local import home as homes
from lakeflow_local.platform import servers, session


def main(what: str, folder: str, rows: int = 0) -> None:
    home = homes.find(ROOT)
    spark = session.start(home, servers.up(home), app_name="benchmark", master="local[2]", long_running=True)
    if what == "load":
        started = time.monotonic()
        load(bulk.members(spark, rows, seed=1, as_of=date(2026, 11, 1)), Source.of())
        print(f"{rows / (time.monotonic() - started):.0f} rows a second into MySQL", flush=True)
    elif what == "spark_defaults":
        # no partitions and no fetch size, as the plainest call has them
        options = Source.of().jdbc_options() | {"dbtable": "members"}
        del options["fetchsize"]
        spark.read.format("jdbc").options(**options).load().write.option("compression", "zstd").parquet(folder)
    else:
        schema = "ops_" + Path(folder.rstrip("/")).name.replace("-", "_")
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        options = [f"--landing-url={folder}", "--catalog=spark_catalog", f"--ops-schema={schema}"]
        started = time.monotonic()
        print(job.run(options, spark))
        if what == "incremental":
            # a warm session: what a further run costs that finds a thousand changes
            from contextlib import closing

            for _ in range(3):
                with closing(Source.of().connect()) as connection, connection.cursor() as cursor:
                    cursor.execute("UPDATE members SET city = CONCAT(LEFT(city, 90), '.') LIMIT 1000")
                    connection.commit()
                started = time.monotonic()
                job.run([*options, "--overlap-seconds=0"], spark)
                print(f"incremental {time.monotonic() - started:.2f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(n) for n in sys.argv[3:]))
