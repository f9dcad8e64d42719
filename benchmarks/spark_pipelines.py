"""The same project on Delta by Apache Spark's `spark-pipelines run` and by `lakeflow-local pipelines run`.

    python -m benchmarks.spark_pipelines [--times 3] [--rows 1000]

Both are whole commands, start included, each in a process of its own and in turn. The first run of each makes the five
tables; what counts are the later ones, each of which finds another file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ratios import Seconds, clocks, head, in_turn, show
from lakeflow_local import home as homes
from lakeflow_local.home import Home
from lakeflow_local.platform import java, servers, session
from tests.lakeflow_local.test_oracle import made

SCHEMA = "benchmark_spark_pipelines"


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


class Peer:
    def __init__(self, root: Path, rows: int, command: Sequence[str], environment: dict[str, str]):
        self.root, self.rows, self.command, self.environment = root, rows, command, environment
        self.number = 0

    def run(self) -> Seconds:
        self.number += 1
        rows = (
            {"id": self.number * self.rows + i, "day": f"2026-01-{i % 28 + 1:02}", "amount": i - 10, "note": str(i % 7)}
            for i in range(self.rows)
        )
        file = self.root / "landing" / f"{self.number}.json"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with clocks() as found, open(self.root / "said", "w+") as said:
            done = subprocess.run(self.command, cwd=self.root, env=self.environment, stdout=said, stderr=said)
        if done.returncode:
            sys.exit((self.root / "said").read_text()[-3000:])
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="runs of each; the medians count")
    parser.add_argument("--rows", type=int, default=1000, help="of each new file")
    options = parser.parse_args()
    home = homes.find(Path(__file__).parent)
    servers.up(home, mysql=False)
    lakeflow_local = str(Path(sys.executable).with_name("lakeflow-local"))
    with tempfile.TemporaryDirectory(prefix="benchmark-spark-pipelines-") as folder:
        theirs, ours = made(Path(folder, "theirs"), "default"), made(Path(folder, "ours"), SCHEMA)
        command, environment = command_of_spark(theirs, home)
        own = {**os.environ, "LAKEHOUSE_HOME": str(home.path)}
        try:
            found = in_turn(
                {
                    "spark-pipelines": Peer(theirs, options.rows, command, environment).run,
                    "lakeflow-local": Peer(
                        ours, options.rows, [lakeflow_local, "pipelines", "run", str(ours)], own
                    ).run,
                },
                options.times,
            )
        finally:
            drop = ["sql", "-e", f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"]
            subprocess.run([lakeflow_local, *drop], env=own, stdout=subprocess.DEVNULL)
    head(f"five tables, {options.rows:,} new rows")
    show("lakeflow-local, against spark-pipelines", found["lakeflow-local"], found["spark-pipelines"])


if __name__ == "__main__":
    main()
