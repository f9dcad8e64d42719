"""`lakeflow-local bundle …` and `lakeflow-local sql`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakeflow_local import home as homes
from lakeflow_local.bundle import load
from lakeflow_local.commands import pairs, session_of, takes_large
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home

if TYPE_CHECKING:
    from lakeflow_local.bundle.load import Bundle

# What runs, which a summary shows first.
_RUN = ("jobs", "pipelines", "alerts")


def add_commands(commands: argparse._SubParsersAction) -> None:
    target = argparse.ArgumentParser(add_help=False)
    target.add_argument("-t", "--target", help="target of the bundle; `local` if there is one, else the default")
    target.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="a variable of the bundle")

    bundle = commands.add_parser("bundle", help="check, show and run the bundle of this folder")
    verbs = bundle.add_subparsers(dest="verb", metavar="VERB", required=True)

    run = verbs.add_parser("run", parents=[target], help="run a job or a pipeline, or evaluate an alert, by its key")
    run.add_argument("key", metavar="KEY", help="key of the job, the pipeline or the alert in the bundle")
    run.add_argument("--params", action="append", default=[], metavar="NAME=VALUE", help="parameters of the job")
    run.add_argument("--full-refresh-all", action="store_true", help="pipelines start anew from their sources")
    takes_large(run)
    run.set_defaults(run=_run)

    summary = verbs.add_parser("summary", parents=[target], help="show what the bundle has, and its last runs")
    summary.set_defaults(run=_summary)

    watch = verbs.add_parser(
        "watch",
        parents=[target],
        help="start jobs when their schedules and file arrivals say so",
        description="Starts jobs when their schedules and file arrivals say so and evaluates alerts, until Ctrl-C. What"
        " passed while nothing watched is made up for at the next start, up to 48 hours back.",
    )
    watch.set_defaults(run=_watch)

    graph = verbs.add_parser("graph", parents=[target], help="draw the tasks of a job")
    graph.add_argument("key", metavar="KEY", help="key of the job in the bundle")
    form = graph.add_mutually_exclusive_group()
    form.add_argument("--mermaid", action="store_true", help="as a Mermaid flowchart")
    form.add_argument("--svg", action="store_true", help="as an SVG picture")
    graph.set_defaults(run=_graph)

    validate = verbs.add_parser("validate", parents=[target], help="check the bundle; needs no workspace")
    validate.set_defaults(run=_validate)

    sql = commands.add_parser("sql", parents=[target], help="run SQL and show its rows")
    what = sql.add_mutually_exclusive_group(required=True)
    what.add_argument("-f", "--file", type=Path, help="a .sql file")
    what.add_argument("-e", "--execute", metavar="TEXT", help="SQL text")
    sql.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="what :NAME stands for")
    sql.set_defaults(run=_sql)


def _load(args: argparse.Namespace) -> tuple[Home, Bundle]:
    home = homes.find()
    return home, load.load(home.root, args.target, args.var)


def _faults(args: argparse.Namespace) -> tuple[Bundle | None, list[LakeflowError]]:
    """The bundle and what is wrong with its resources; the sources of a pipeline are read when it runs."""
    from lakeflow_local.bundle import validate

    bundle, faults = load.examine(homes.find().root, args.target, args.var)
    if bundle is not None and not faults:
        faults = validate.check_resources(bundle)
    return bundle, faults


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from lakeflow_local.bundle import alerts, jobs, tasks

    bundle, faults = _faults(args)
    if faults or bundle is None:
        return _report(faults)
    home = homes.find(bundle.root)
    resource = bundle.find(args.key, "jobs", "pipelines", "alerts")
    parameters = pairs("--params", args.params)
    if resource.type == "jobs":
        jobs.job_parameters(resource, parameters)
    elif parameters:
        raise resource.value.error(f"{resource.label} is no job; --params are for jobs")
    mysql = resource.type == "jobs"
    with session_of(home, bundle, args.key, mysql=mysql, long_running=args.large) as (spark, environment):
        if resource.type == "alerts":
            print(alerts.evaluate(spark, resource, home))
            return 0
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


def _watch(args: argparse.Namespace) -> int:
    from lakeflow_local.bundle.watch import watch

    bundle, faults = _faults(args)
    if faults or bundle is None:
        return _report(faults)
    home = homes.find(bundle.root)
    with session_of(home, bundle, "watch") as (spark, environment):
        watch(spark, bundle, home, environment=environment, progress=_say_when)
    return 0


def _say_when(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)


def _graph(args: argparse.Namespace) -> int:
    from lakeflow_local.bundle import graph, starts

    _, bundle = _load(args)
    drawn = graph.graph(bundle, bundle.find(args.key, "jobs"))
    if not args.mermaid and not args.svg:
        print(f"{drawn.job.name}: {starts.of(bundle, drawn.job) or 'starts by hand'}")
    print((graph.mermaid if args.mermaid else graph.svg if args.svg else graph.text)(drawn))
    return 0


def _summary(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lakeflow_local.bundle import alerts, starts
    from lakeflow_local.bundle.runs import Runs

    home, bundle = _load(args)
    table = Table(title=f"{bundle.name}, target {bundle.target}", title_justify="left")
    for column in ("type", "key", "starts", "last run", "state"):
        table.add_column(column, overflow="fold", no_wrap=column == "type")
    for type, resources in sorted(bundle.resources.items(), key=lambda entry: entry[0] not in _RUN):
        for resource in resources.values():
            named = resource.key if resource.name == resource.key else f"{resource.key}\n{resource.name}"
            cells = [type.removesuffix("s").replace("_", " "), named]
            if type in ("jobs", "pipelines"):
                run = Runs(home, resource.key).last(bundle.target)
                cells.append(starts.of(bundle, resource))
                if run is None:
                    cells.append("never")
                else:
                    took = f" in {run.seconds:.1f} s" if run.seconds is not None else ""
                    cells += [_minute(run.start), f"{run.state}{took}" + (f": {run.error}" if run.error else "")]
            elif type == "alerts":
                found = alerts.last(resource, home)
                cells += [starts.of(bundle, resource), *((_minute(found.time), str(found)) if found else ("never",))]
            table.add_row(*map(Text, cells))
    # In a file or a pipe no line ends at the 80th column, so that a key is found in one piece.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def _minute(time: str | None) -> str:
    return time[:16].replace("T", " ") if time else ""


def _validate(args: argparse.Namespace) -> int:
    from lakeflow_local.bundle import validate

    bundle, faults = _faults(args)
    if bundle is not None and not faults:
        faults = validate.check_sources(bundle)
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

    parameters = pairs("--param", args.param)
    if args.file is not None and not args.file.is_file():
        raise LakeflowError("there is no such file", file=args.file)
    home = homes.find()
    bundle = load.load(home.root, args.target, args.var) if (home.root / load.FILE).is_file() else None
    with session_of(home, bundle, "sql", mysql=False) as (spark, _):
        if args.file is not None:
            results = sql_files.run(spark, args.file.resolve(), parameters)
        else:
            results = sql_files.run_text(spark, Source(args.execute), parameters)
    for result in results:
        Console().print(result.table())
    return 0
