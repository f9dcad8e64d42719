"""`lakeflow-local bundle …` and `lakeflow-local sql`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lakeflow_local import home as homes
from lakeflow_local.bundle import load
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakeflow_local.bundle.load import Bundle


def add_commands(commands: argparse._SubParsersAction) -> None:
    target = argparse.ArgumentParser(add_help=False)
    target.add_argument("-t", "--target", help="target of the bundle; `local` if there is one, else the default")
    target.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="a variable of the bundle")

    bundle = commands.add_parser("bundle", help="check, show and run the bundle of this folder")
    verbs = bundle.add_subparsers(dest="verb", metavar="VERB", required=True)

    run = verbs.add_parser("run", parents=[target], help="run a job or a pipeline by its key")
    run.add_argument("key", metavar="KEY", help="key of the job or the pipeline in the bundle")
    run.add_argument("--params", action="append", default=[], metavar="NAME=VALUE", help="parameters of the job")
    run.add_argument("--full-refresh-all", action="store_true", help="pipelines start anew from their sources")
    run.set_defaults(run=_run)

    summary = verbs.add_parser("summary", parents=[target], help="show what the bundle has, and its last runs")
    summary.set_defaults(run=_summary)

    validate = verbs.add_parser("validate", parents=[target], help="check the bundle; needs no workspace")
    validate.set_defaults(run=_validate)

    sql = commands.add_parser("sql", parents=[target], help="run SQL and show its rows")
    what = sql.add_mutually_exclusive_group(required=True)
    what.add_argument("-f", "--file", type=Path, help="a .sql file")
    what.add_argument("-e", "--execute", metavar="TEXT", help="SQL text")
    sql.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="what :NAME stands for")
    sql.set_defaults(run=_sql)


def _pairs(option: str, assignments: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise LakeflowError(f"{option} {assignment}: write {option} NAME=VALUE")
        pairs[name] = value
    return pairs


def _load(args: argparse.Namespace) -> tuple[Home, Bundle]:
    home = homes.find()
    return home, load.load(home.root, args.target, args.var)


def _faults(args: argparse.Namespace) -> tuple[Bundle | None, list[LakeflowError]]:
    from lakeflow_local.bundle import validate

    bundle, faults = load.examine(homes.find().root, args.target, args.var)
    if bundle is not None and not faults:
        faults = validate.check(bundle)
    return bundle, faults


@contextmanager
def _session(
    home: Home, bundle: Bundle | None, name: str, *, mysql: bool = True
) -> Iterator[tuple[SparkSession, dict[str, str]]]:
    """The servers and a session on them, and what tasks see of them in their environment."""
    from lakeflow_local.bundle import tasks
    from lakeflow_local.platform import servers, session

    buckets = bundle.embedded_buckets if bundle else ()
    endpoints = servers.up(home, mysql=mysql, s3=bool(buckets), buckets=buckets)
    environment = endpoints.environment()
    with tasks.environment(environment):
        yield session.start(home, endpoints, app_name=name), environment


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from lakeflow_local.bundle import jobs, tasks

    bundle, faults = _faults(args)
    if faults or bundle is None:
        return _report(faults)
    home = homes.find(bundle.root)
    resource = bundle.find(args.key, "jobs", "pipelines")
    parameters = _pairs("--params", args.params)
    if resource.type == "jobs":
        jobs.job_parameters(resource, parameters)
    elif parameters:
        raise resource.value.error(f"{resource.label} is a pipeline; --params are for jobs")
    with _session(home, bundle, args.key, mysql=resource.type == "jobs") as (spark, environment):
        if resource.type == "pipelines":
            jobs.ensure_schemas(spark, bundle)
            tasks.run_pipeline(spark, bundle, resource, home, args.full_refresh_all, print)
            return 0
        run = jobs.run(
            spark,
            bundle,
            args.key,
            parameters=parameters,
            environment=environment,
            full_refresh=args.full_refresh_all,
            home=home,
        )
    Console().print(jobs.table(run))
    if not run.succeeded:
        print(f"error: the job {args.key} ended as {run.state}: {run.error}", file=sys.stderr)
    return 0 if run.succeeded else 1


def _summary(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lakeflow_local.bundle.runs import Runs

    home, bundle = _load(args)
    table = Table(title=f"{bundle.name}, target {bundle.target}", title_justify="left")
    for column in ("type", "key", "name", "starts", "last run", "state", "seconds"):
        justify = "right" if column == "seconds" else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column in ("type", "key"))
    for job in bundle.of_type("jobs").values():
        run = Runs(home, job.key).last(bundle.target)
        seconds = f"{run.seconds:.1f}" if run is not None and run.seconds is not None else ""
        state = (run.state + (f": {run.error}" if run.error else "")) if run is not None else ""
        started = (run.start or "")[:19] if run is not None else "never"
        cells = ("job", job.key, job.name, _starts(bundle, job.value), started, state, seconds)
        table.add_row(*map(Text, cells))
    for type in ("pipelines", "schemas"):
        for resource in bundle.of_type(type).values():
            table.add_row(*map(Text, (type.rstrip("s"), resource.key, resource.name)))
    Console().print(table)
    return 0


def _starts(bundle: Bundle, job: load.Value) -> str:
    starts = []
    if schedule := job.get("schedule"):
        starts.append(f"{schedule.plain('quartz_cron_expression')} {schedule.plain('timezone_id')}")
    if url := job.plain("trigger", "file_arrival", "url"):
        starts.append(f"files in {url}")
    return ", ".join(starts) + (" (paused)" if starts and bundle.paused else "")


def _validate(args: argparse.Namespace) -> int:
    bundle, faults = _faults(args)
    if faults or bundle is None:
        return _report(faults)
    count = sum(len(resources) for resources in bundle.resources.values())
    print(f"{bundle.name}, target {bundle.target}: {count} resources, no fault found")
    return 0


def _report(faults: Sequence[LakeflowError]) -> int:
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1


def _sql(args: argparse.Namespace) -> int:
    from rich.console import Console

    from lakeflow_local.bundle import sql_files
    from lakeflow_local.pipelines.sql.tokens import Source

    parameters = _pairs("--param", args.param)
    if args.file is not None and not args.file.is_file():
        raise LakeflowError("there is no such file", file=args.file)
    home = homes.find()
    bundle = load.load(home.root, args.target, args.var) if (home.root / load.FILE).is_file() else None
    with _session(home, bundle, "sql", mysql=False) as (spark, _):
        if args.file is not None:
            results = sql_files.run(spark, args.file.resolve(), parameters)
        else:
            results = sql_files.run_text(spark, Source(args.execute), parameters)
    for result in results:
        Console().print(result.table())
    return 0
