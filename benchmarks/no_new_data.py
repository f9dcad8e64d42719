"""What an update costs that finds nothing new: twenty datasets, against the start of the session that it runs in.

    python -m benchmarks.no_new_data [--times 3]

Five chains, each of a streaming table that reads files by Auto Loader, a streaming table with expectations that reads
it, an AUTO CDC target, and a materialized view over that. Every update is the first of a process, as it is on the
command line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.ratios import Seconds, clocks, head, median, show
from lakeflow_local import home as homes
from lakeflow_local.pipelines import folder, update
from lakeflow_local.platform import servers, session

SCHEMA = "benchmark_no_new_data"
CHAINS = 5
CHAIN = """
CREATE OR REFRESH STREAMING TABLE raw_{n} AS
SELECT *, _metadata.file_path AS file FROM STREAM read_files('{landing}/{n}', format => 'json');

CREATE OR REFRESH STREAMING TABLE clean_{n} (
  CONSTRAINT has_id EXPECT (id IS NOT NULL) ON VIOLATION DROP ROW,
  CONSTRAINT positive EXPECT (amount > 0)
) AS SELECT id, day, CAST(amount AS DECIMAL(12, 2)) AS amount, seq FROM STREAM raw_{n};

CREATE OR REFRESH STREAMING TABLE current_{n};
CREATE FLOW into_current_{n} AS AUTO CDC INTO current_{n}
FROM STREAM clean_{n} KEYS (id) SEQUENCE BY seq STORED AS SCD TYPE 1;

CREATE OR REFRESH MATERIALIZED VIEW by_day_{n} AS
SELECT day, sum(amount) AS amount, count(*) AS n FROM current_{n} GROUP BY day;
"""


def made(root: Path) -> Path:
    sources, landing = root / "pipeline", root / "landing"
    sources.mkdir()
    for n in range(CHAINS):
        (sources / f"{n}.sql").write_text(CHAIN.format(n=n, landing=landing))
        (landing / str(n)).mkdir(parents=True)
        rows = [{"id": i, "day": f"2026-01-{i % 28 + 1:02}", "amount": i + 0.5, "seq": 1} for i in range(1000)]
        (landing / str(n) / "1.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sources


def one(sources: Path) -> None:
    """One update in a process of its own; prints how long the session took and how long the update."""
    home = homes.find(Path(__file__).parent)
    endpoints = servers.up(home, mysql=False)
    spec = folder.spec(sources, home, schema=SCHEMA, configuration={})
    with clocks() as started:
        spark = session.start(home, endpoints, app_name="benchmark no new data")
        # A session that has run nothing has not started: its first job loads half of Spark.
        spark.range(10).count()
    with clocks() as updated:
        done = update.run(spark, spec, progress=lambda _: None)
    assert done.succeeded and len(done.flows) == 4 * CHAINS, done.error
    changed = sum(flow.did_something for flow in done.flows)
    print(json.dumps({"start": vars(started), "update": vars(updated), "changed": changed}))


def drop() -> None:
    home = homes.find(Path(__file__).parent)
    spark = session.start(home, servers.up(home, mysql=False), app_name="benchmark no new data")
    spark.sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="updates with nothing new; the medians count")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-no-new-data-") as root:
        command = [sys.executable, "-m", "benchmarks.no_new_data", "--one", str(made(Path(root)))]
        try:
            found = []
            for number in range(options.times + 1):
                told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                run = json.loads(told.splitlines()[-1])
                if (run["changed"] > 0) != (number == 0):
                    raise SystemExit(f"update {number} changed {run['changed']} datasets")
                found.append({name: Seconds(**run[name]) for name in ("start", "update")})
            first, *others = found
            medians = {name: median([run[name] for run in others]) for name in ("start", "update")}
            head(f"{4 * CHAINS} datasets, nothing new")
            show("the update, against the start of its session", medians["update"], medians["start"])
            show("the update with 1,000 rows for each chain", first["update"], first["start"])
        finally:
            drop()


if __name__ == "__main__":
    main()
