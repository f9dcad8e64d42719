"""`make demo`: servers, members in two rounds, invoices, the three questions, and a summary in `demo.json`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark import SparkContext
from rich.console import Console

from demo import figures
from ingest.errors import IngestError
from lakeflow_local import files
from lakeflow_local import home as homes
from lakeflow_local.bundle import jobs, load, tasks
from lakeflow_local.errors import LakeflowError
from lakeflow_local.platform import servers, session

ROOT = Path(__file__).resolve().parents[1]
SEED, AS_OF = 1, "2024-03-31"
REAL_INVOICE = ROOT / "tests" / "fixtures" / "invoices" / "hk-00001.json"


class Demo:
    """One run of the demonstration."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.console = Console(highlight=False)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """Announces a step and notes how long it took, in seconds."""
        self.console.print(f"\n[bold]{title}[/bold]")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)
        self.console.print(f"[dim]{self.seconds[name]:.1f} s[/dim]")

    def say(self, line: str) -> None:
        self.console.print(f"  {line}", markup=False, soft_wrap=True)

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        home = homes.find(ROOT)
        bundle = load.load(ROOT, None, [])
        with self.step("servers", "MySQL and S3 on this machine"):
            endpoints = servers.up(home, buckets=bundle.embedded_buckets)
            for server in servers.status(home):
                if server.pid:
                    self.say(f"{server.name} on 127.0.0.1:{server.port}")
        with self.step("session", "Spark"):
            spark = session.start(home, endpoints, app_name="demo")
            jobs.ensure_schemas(spark, bundle)
        with tasks.environment(endpoints.environment()):
            lakehouse = Lakehouse(self, spark, bundle, home, endpoints.environment())
            lakehouse.members()
            lakehouse.invoices()
            with self.step("summary", "Summary"):
                result = figures.collect(spark, bundle, lakehouse.updates)
        result["seconds"] = {**self.seconds, "total": round(time.monotonic() - started, 1)}
        figures.show(self.console, result)
        files.replace(home.path / "demo.json", json.dumps(result, indent=2) + "\n")
        self.console.print(
            f"\nwritten to {home.path.relative_to(ROOT) if home.path.is_relative_to(ROOT) else home.path}/demo.json"
        )
        return result


class Lakehouse:
    """The steps on one session."""

    def __init__(self, demo: Demo, spark: Any, bundle: load.Bundle, home: homes.Home, environment: dict[str, str]):
        self.demo, self.spark, self.bundle, self.home, self.environment = demo, spark, bundle, home, environment
        self.updates: list[str] = []

    def members(self) -> None:
        from ingest.members import generate

        rows = self.demo.options.members
        made = ["--rows", str(rows), "--seed", str(SEED), "--as-of", AS_OF, "--source", self.variable("source")]
        with self.demo.step("generate", f"{rows:,} members by Faker, loaded into MySQL"):
            self.demo.say(str(generate.run(made, self.spark)))
        self.ingest("ingest", "Job members_ingest: MySQL to S3", "incremental")
        self.refresh("refresh", "Files arrived: job members_refresh updates the pipeline members")
        changed, added, deleted = rows // 20, rows // 50, rows // 200
        title = (
            f"Second round in MySQL: {changed} change, {added} join, {deleted} leave, and every known defect is planted"
        )
        with self.demo.step("changes", title):
            counts = ["--changed", str(changed), "--added", str(added), "--deleted", str(deleted)]
            self.demo.say(str(generate.run([*made, "--round", "2", *counts], self.spark)))
        self.ingest("ingest_again", "Job members_ingest, comparing all keys to find the deletes", "reconcile")
        self.refresh("refresh_again", "Files arrived: job members_refresh")

    def ingest(self, name: str, title: str, mode: str) -> None:
        with self.demo.step(name, title):
            self.succeeded(
                jobs.run(
                    self.spark,
                    self.bundle,
                    "members_ingest",
                    parameters={"mode": mode},
                    environment=self.environment,
                    progress=self.demo.say,
                    home=self.home,
                )
            )

    def refresh(self, name: str, title: str) -> None:
        from lakeflow_local.bundle import triggers

        with self.demo.step(name, title):
            fired = triggers.fire(
                self.spark, self.bundle, environment=self.environment, progress=self.demo.say, home=self.home
            )
            for run in fired:
                self.succeeded(run)
            if not fired:
                self.demo.say("no new files")

    def succeeded(self, run: Any) -> None:
        if not run.succeeded:
            raise LakeflowError(f"job {run.job} ended as {run.state}: {run.error}")
        self.updates += [task.values["update_id"] for task in run.tasks if "update_id" in task.values]

    def invoices(self) -> None:
        from ingest.invoices import land

        count = self.demo.options.invoices
        with self.demo.step("land_invoices", f"The real invoice and {count:,} generated ones, landed as JSON"):
            options = ["--landing-url", self.variable("landing_url"), "--fixture", str(REAL_INVOICE)]
            if count:
                options += ["--generate", str(count), "--seed", str(SEED)]
            for landed in land.run([*options, "--as-of", AS_OF], self.spark):
                self.demo.say(str(landed))
        self.refresh("invoices", "Files arrived: job invoices_refresh updates the pipeline invoices, SQL to the facts")

    def variable(self, name: str) -> str:
        return str(self.bundle.variables[name])


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--members", type=int, default=10_000, help="members to generate (%(default)s)")
    parser.add_argument("--invoices", type=int, default=2_000, help="invoices to generate (%(default)s)")
    parser.add_argument("--traceback", action="store_true", help="show the stack trace of an error")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = Demo(options).run()
    except (LakeflowError, IngestError) as error:
        if options.traceback:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if SparkContext._gateway is not None:
            session.end(SparkContext._gateway.proc)
        servers.down(homes.find(ROOT))
        print("interrupted, and everything stopped; run `make demo` again to continue", file=sys.stderr)
        return 130
    sound = result["members"]["silver_equals_mysql"] and result["invoices"]["reconciled"]
    if not sound:
        print("error: the figures do not agree; see the summary above", file=sys.stderr)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
