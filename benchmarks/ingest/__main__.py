"""The whole way from MySQL to Parquet, this project's and its peers', in one run at equal TLS.

    python -m benchmarks.ingest --rows 1000000 --peers PYTHON [--to s3|disk] [--tls on|off] [--times 1] [--only NAME …]

PYTHON is that of an environment with benchmarks/ingest/peers.txt; without it only Spark's ways run. Each is a process
of its own: wall, CPU seconds and peak resident memory of the whole tree, files and bytes, and whether the content is
the source's. Compare ratios within one run. `--incremental` runs nothing of this, but runs that find 1,000 changes.
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
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.ingest import data
from ingest.source import Source
from lakeflow_local import home as homes
from lakeflow_local.platform import servers
from lakeflow_local.platform.mariadb import make_ready

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "landing"
SPARK = ("arrow", "arrow_one_range", "jdbc", "spark_defaults")
PEERS = ("connectorx", "polars", "duckdb", "dlt_connectorx", "dlt_pyarrow", "parquet_from_memory")
FLOORS = ("wire",)


@dataclass(frozen=True)
class Measured:
    """One way: seconds, megabytes, and what came out; `fault` is the last line of one that failed."""

    name: str
    wall: float
    cpu: float
    peak_mb: float
    files: int = 0
    bytes: int = 0
    sound: bool | None = None
    fault: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peers", help="Python of the peers' environment")
    parser.add_argument("--to", choices=("s3", "disk"), default="s3")
    parser.add_argument("--tls", choices=("on", "off"), default="on")
    parser.add_argument("--times", type=int, default=1, help="of each the fastest counts")
    parser.add_argument("--only", nargs="*", default=[*SPARK, *PEERS, *FLOORS])
    parser.add_argument("--incremental", action="store_true", help="only what 1,000 changes cost in a warm session")
    options = parser.parse_args()
    home = homes.find(ROOT)
    endpoints = servers.up(home, buckets=(BUCKET,))
    os.environ["LAKEHOUSE_MYSQL_URL"] = endpoints.mysql_url
    data.load(Source.of(), options.rows)
    url = endpoints.mysql_url.replace("/lakehouse?", f"/{data.name(options.rows)}?")
    if options.tls == "off":
        url = f"{url.split('?')[0]}?ssl_mode=DISABLED"
    os.environ |= {
        "LAKEHOUSE_MYSQL_URL": url,
        "AWS_ENDPOINT_URL": endpoints.s3_endpoint,
        "AWS_ACCESS_KEY_ID": endpoints.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": endpoints.s3_secret_key,
        "AWS_REGION": servers.S3_REGION,
        "PATH": f"{make_ready(home) / 'bin'}:{os.environ['PATH']}",
    }
    print(
        f"{options.rows:,} rows, to {options.to}, TLS {options.tls}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    if options.incremental:
        command = [sys.executable, "-m", "benchmarks.ingest.ours", "incremental", _target("again", options, home.s3)[0]]
        told = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        print("\n".join(line for line in told.splitlines() if line.startswith("incremental")))
        return
    found: list[tuple[Measured, Path]] = []
    for name in options.only:
        if name in PEERS and not options.peers:
            continue
        runs = [_measured(name, url, options, home.s3) for _ in range(options.times)]
        best = min(runs, key=lambda run: run[0].wall)
        for _, folder in runs:
            if folder != best[1]:
                shutil.rmtree(folder, ignore_errors=True)
        found.append(best)
        _show(best[0], found[0][0])
    expected = data.truth(home, options.rows)
    for run, folder in found:
        if run.files:
            sound = data.content(_files(folder)) == expected
            print(f"{run.name:<20} content {'equal' if sound else 'DIFFERS'}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)


def _show(run: Measured, first: Measured) -> None:
    if run.fault:
        print(f"{run.name:<20} failed: {run.fault[:150]}", flush=True)
        return
    print(
        f"{run.name:<20} {run.wall:7.1f} s {run.wall / first.wall:5.2f} x  {run.cpu:7.1f} s CPU {run.peak_mb:7.0f} MB  "
        f"{run.files} files {run.bytes} bytes",
        flush=True,
    )


def _target(name: str, options: argparse.Namespace, buckets: Path) -> tuple[str, Path]:
    """Where a way writes, as a URL and as the folder that has it then: the S3 server keeps its buckets in folders."""
    own = f"benchmark-{name}-{uuid.uuid4().hex[:8]}"
    if options.to == "s3":
        return f"s3://{BUCKET}/{own}", buckets / BUCKET / own
    folder = Path(tempfile.gettempdir(), own)
    folder.mkdir()
    return f"file://{folder}", folder


def _measured(name: str, url: str, options: argparse.Namespace, buckets: Path) -> tuple[Measured, Path]:
    target, folder = _target(name, options, buckets)
    if name in PEERS:
        command = [options.peers, str(ROOT / "benchmarks/ingest/peers.py"), name, "members", target, options.tls]
    elif name in FLOORS:
        command = _wire(url, options.tls)
    else:
        command = [sys.executable, "-m", "benchmarks.ingest.ours", name, target]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as told:
        output = subprocess.DEVNULL if name in FLOORS else told
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=told)
        watch = _Watch(process.pid)
        failed = process.wait() != 0
        wall = time.monotonic() - started
        cpu, peak = watch.end()
        told.seek(0)
        last = (told.read().strip().splitlines() or ["it said nothing"])[-1]
    run = Measured(name, wall, cpu, peak)
    if failed:
        return replace(run, fault=last), folder
    files = _files(folder)
    return replace(run, files=len(files), bytes=sum(path.stat().st_size for path in files)), folder


def _files(folder: Path) -> list[Path]:
    found = [path.relative_to(folder) for path in folder.rglob("*.parquet")]
    return [folder / path for path in found if "_dlt" not in str(path)]


def _wire(url: str, tls: str) -> list[str]:
    """MariaDB's own client, to nowhere."""
    parts = urlsplit(url)
    os.environ["MYSQL_PWD"] = parts.password
    secured = [f"--ssl-ca={Source.of().ssl_ca}"] if tls == "on" else ["--skip-ssl"]
    server = ["--protocol=tcp", f"--host={parts.hostname}", f"--port={parts.port}", f"--user={parts.username}"]
    return ["mariadb", *server, *secured, "--quick", "--batch", parts.path[1:], "--execute=SELECT * FROM members"]


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


if __name__ == "__main__":
    main()
