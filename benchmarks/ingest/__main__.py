"""The whole way from MySQL to Parquet, this project's and its peers', in one run at equal TLS.

    python -m benchmarks.ingest --rows 1000000 --peers PYTHON [--tls on|off] [--times 1] [--only NAME …]

PYTHON is that of an environment with benchmarks/ingest/peers.txt; without it only Spark's ways run. Each is a process
of its own: wall, CPU seconds and peak resident memory of the whole tree, files and bytes, and whether the content is
the source's. Compare ratios within one run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pandas.util import hash_pandas_object

from ingest.members.table import MEMBERS
from ingest.source import Source
from lakeflow_local import home as homes
from lakeflow_local.platform import servers

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "lakehouse_benchmark"
SPARK = ("ingest", "spark_defaults")
PEERS = ("connectorx", "polars", "duckdb", "dlt_connectorx", "dlt_pyarrow")


@dataclass(frozen=True)
class Measured:
    """One way: seconds, megabytes, and what came out; `fault` is the last line of one that failed."""

    name: str
    wall: float
    cpu: float
    peak_mb: float
    files: int = 0
    bytes: int = 0
    sound: bool = False
    fault: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peers", help="Python of the peers' environment")
    parser.add_argument("--tls", choices=("on", "off"), default="on")
    parser.add_argument("--times", type=int, default=1, help="of each the fastest counts")
    parser.add_argument("--only", nargs="*", default=[*SPARK, *PEERS])
    parser.add_argument("--incremental", action="store_true", help="also what 1,000 changes cost in a warm session")
    options = parser.parse_args()
    home = homes.find(ROOT)
    url = _database(servers.up(home).mysql_url, options.tls)
    os.environ["LAKEHOUSE_MYSQL_URL"] = url
    print(
        f"{options.rows:,} rows, TLS {options.tls}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True
    )
    print(_ours("load", "none", str(options.rows)).stdout.strip().splitlines()[-1], flush=True)
    truth = _truth(url)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        found = []
        for name in options.only:
            if name in PEERS and not options.peers:
                continue
            runs = [_measured(name, url, Path(folder, f"{name}_{n}"), options, truth) for n in range(options.times)]
            found.append(min(runs, key=lambda run: run.wall))
            _show(found[-1], found[0])
        if options.incremental:
            told = _ours("incremental", str(Path(folder, "again"))).stdout
            print("\n".join(line for line in told.splitlines() if line.startswith("incremental")))


def _show(run: Measured, first: Measured) -> None:
    if run.fault:
        print(f"{run.name:<16} failed: {run.fault[:150]}", flush=True)
        return
    print(
        f"{run.name:<16} {run.wall:7.1f} s {run.wall / first.wall:5.2f} x  {run.cpu:7.1f} s CPU {run.peak_mb:7.0f} MB  "
        f"{run.files} files {run.bytes} bytes  content {'equal' if run.sound else 'DIFFERS'}",
        flush=True,
    )


def _measured(name: str, url: str, folder: Path, options: argparse.Namespace, truth: tuple[int, int]) -> Measured:
    if name in PEERS:
        folder.mkdir(parents=True)
        command = [options.peers, str(ROOT / "benchmarks/ingest/peers.py"), name, url, "members", str(folder)]
        command.append(options.tls)
    else:
        command = [sys.executable, "-m", "benchmarks.ingest.ours", name, f"file://{folder}"]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=subprocess.STDOUT)
        watch = _Watch(process.pid)
        failed = process.wait() != 0
        wall = time.monotonic() - started
        cpu, peak = watch.end()
        told.seek(0)
        last = (told.read().strip().splitlines() or ["it said nothing"])[-1]
    if failed:
        return Measured(name, wall, cpu, peak, fault=last)
    files = [path for path in folder.rglob("*.parquet") if "_dlt" not in str(path.relative_to(folder))]
    count, size = len(files), sum(path.stat().st_size for path in files)
    sound = _content([pq.read_table(path, columns=list(MEMBERS.columns)) for path in files]) == truth
    shutil.rmtree(folder, ignore_errors=True)
    return Measured(name, wall, cpu, peak, count, size, sound)


class _Watch:
    """Samples a process and all below it."""

    def __init__(self, pid: int):
        self._root = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self._peak = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def end(self) -> tuple[float, float]:
        self._ended.set()
        self._thread.join()
        return sum(self._cpu.values()), self._peak / 1e6

    def _sample(self) -> None:
        while not self._ended.wait(0.1):
            resident = 0
            try:
                for process in (self._root, *self._root.children(recursive=True)):
                    times = process.cpu_times()
                    self._cpu[process.pid] = times.user + times.system
                    resident += process.memory_info().rss
            except psutil.Error:
                continue
            self._peak = max(self._peak, resident)


def _ours(what: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.ingest.ours", what, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)


def _database(url: str, tls: str) -> str:
    with closing(_source(url).connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        cursor.execute(f"CREATE DATABASE {DATABASE}")
    url = url.replace("/lakehouse?", f"/{DATABASE}?")
    return url if tls == "on" else f"{url.split('?')[0]}?ssl_mode=DISABLED"


def _source(url: str) -> Source:
    os.environ["BENCHMARK_URL"] = url
    return Source.of("env:BENCHMARK_URL")


def _truth(url: str) -> tuple[int, int]:
    names = list(MEMBERS.columns)
    with closing(_source(url).connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(names)} FROM members")
        parts = []
        while rows := cursor.fetchmany(50_000):
            parts.append(pa.table({name: [row[n] for row in rows] for n, name in enumerate(names)}))
    return _content(parts)


def _content(tables: list[pa.Table]) -> tuple[int, int]:
    """Rows, and a sum over their hashes that does not depend on order, files and the way text is stored."""
    total = rows = 0
    for table in tables:
        texts = [pc.fill_null(table[name].cast(pa.string()).combine_chunks(), "\x1e") for name in MEMBERS.columns]
        joined = pc.binary_join_element_wise(*texts, "\x1f").to_pandas()
        total += int(hash_pandas_object(joined, index=False).astype(object).sum())
        rows += table.num_rows
    return rows, total


if __name__ == "__main__":
    main()
