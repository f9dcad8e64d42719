"""`lakeflow-local pipelines …`."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakeflow_local import home as homes
from lakeflow_local.commands import pairs, session_of, takes_large
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.pipelines import folder
from lakeflow_local.pipelines.spec import PipelineSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakeflow_local.bundle.load import Bundle


_BUNDLE = "databricks.yml"


def add_commands(commands: argparse._SubParsersAction) -> None:
    pipelines = commands.add_parser("pipelines", help="look at and run declarative pipelines")
    verbs = pipelines.add_subparsers(dest="verb", metavar="VERB", required=True)

    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("pipeline", metavar="FOLDER|FILE|KEY", help="its sources, or its key in the bundle")
    which.add_argument("--schema", help="where unqualified names go; by default the folder's name")
    which.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration of the pipeline")
    which.add_argument("-t", "--target", help="with KEY: the bundle's target")
    which.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="with KEY: a bundle variable")

    graph = verbs.add_parser(
        "graph",
        parents=[which],
        help="show datasets, what they read and their expectations, by the sources alone",
        description="Follows the sources without Spark and without data. Ends with 1 where a file is refused.",
    )
    form = graph.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--mermaid", action="store_true", help="as a Mermaid flowchart")
    graph.set_defaults(run=_graph)

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--master", default="local[*]", help="Spark's master, such as spark://host:7077 (%(default)s)")
    where.add_argument("--warehouse", metavar="URL", help="folder or URL of tables, checkpoints and state")

    run = verbs.add_parser("run", parents=[which, where], help="update a pipeline")
    run.add_argument("--full-refresh-all", action="store_true", help="forget all rows and checkpoints, read all again")
    run.add_argument("--full-refresh", type=_names, default=(), metavar="TABLE,…", help="the same for these, alone")
    run.add_argument("--refresh", type=_names, default=(), metavar="TABLE,…", help="update these tables alone")
    run.add_argument(
        "--reset-checkpoint",
        type=_names,
        default=(),
        metavar="FLOW,…",
        help="forget the checkpoints of these tables or flows and keep the rows",
    )
    run.add_argument("--continuous", action="store_true", help="run the flows again and again, until Ctrl-C")
    takes_large(run)
    run.set_defaults(run=_run)

    dry_run = verbs.add_parser(
        "dry-run",
        parents=[which, where],
        help="find what an update would fail on, and write nothing",
        description="Analyses every query with Spark. Prints one line a fault and ends with 1 where there is one.",
    )
    dry_run.set_defaults(run=_dry_run)

    history = verbs.add_parser("history", parents=[which, where], help="show the pipeline's last updates")
    history.add_argument("-n", "--limit", type=int, default=10, help="how many (%(default)s)")
    history.set_defaults(run=_history)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _bundle_of(args: argparse.Namespace, home: Home) -> Bundle | None:
    """The bundle that has the pipeline, where it is given by its key."""
    if not _is_key(args, home):
        return None
    from lakeflow_local.bundle import load

    return load.load(home.root, args.target, args.var)


def _is_key(args: argparse.Namespace, home: Home) -> bool:
    is_name = re.fullmatch(r"[\w-]+", args.pipeline) and not Path(args.pipeline).exists()
    return bool(is_name) and (home.root / _BUNDLE).is_file()


def _spec(args: argparse.Namespace, home: Home, bundle: Bundle | None) -> PipelineSpec:
    configuration = pairs("--set", args.set)
    if bundle is None:
        spec = folder.spec(Path(args.pipeline), home, schema=args.schema, configuration=configuration)
    else:
        from lakeflow_local.bundle import pipelines

        spec = pipelines.spec(bundle, bundle.find(args.pipeline, "pipelines"), home).with_configuration(configuration)
    if getattr(args, "warehouse", None):
        spec = replace(spec, storage=f"{_url(args.warehouse)}/_pipelines/{Path(spec.storage).name}")
    return spec


def _url(folder: str) -> str:
    return folder.rstrip("/") if "://" in folder else str(Path(folder).resolve())


@contextmanager
def _session(args: argparse.Namespace) -> Iterator[tuple[SparkSession, PipelineSpec]]:
    """The pipeline, and a session that reaches what the bundle's tasks reach."""
    home = homes.find()
    bundle = _bundle_of(args, home)
    spec = _spec(args, home, bundle)
    of_session = {
        "master": args.master,
        "conf": {"spark.sql.warehouse.dir": _url(args.warehouse)} if args.warehouse else {},
        "long_running": getattr(args, "large", False) or getattr(args, "continuous", False),
    }
    with session_of(home, bundle, spec.name, mysql=False, **of_session) as (spark, _):
        yield spark, spec


def _to_draw(args: argparse.Namespace, home: Home) -> tuple[list[PipelineSpec], list[LakeflowError]]:
    """The pipeline, or those of the bundle in a folder; and what of the bundle does not matter to a graph."""
    path, key = Path(args.pipeline), _is_key(args, home)
    if not key and not (path / _BUNDLE).is_file():
        return [_spec(args, home, None)], []
    from lakeflow_local.bundle import pipelines

    specs, passed_over = pipelines.to_draw(
        home.root if key else path, home, args.pipeline if key else None, target=args.target, variables=args.var
    )
    configuration = pairs("--set", args.set)
    specs = [spec.with_configuration(configuration) for spec in specs]
    # A bundle may leave its pipelines to Python, which nobody runs here.
    return specs or [_spec(args, home, None)], passed_over


def _graph(args: argparse.Namespace) -> int:
    from lakeflow_local.pipelines import outline
    from lakeflow_local.pipelines.names import Namespace

    specs, passed_over = _to_draw(args, homes.find())
    found = outline.Outline(notes=[str(fault) for fault in passed_over])
    for spec in specs:
        part = outline.outline(
            spec.sources,
            root=spec.root_path or spec.sources[0].parent,
            configuration=spec.configuration,
            names=Namespace(spec.catalog, spec.schema),
            whole=not Path(args.pipeline).is_file(),
        )
        found.datasets += part.datasets
        found.errors += part.errors
        found.notes += part.notes
    if args.json:
        print(outline.as_json(found))
    elif args.mermaid:
        print(outline.as_mermaid(found))
    elif text := outline.as_text(found):
        print(text)
    for fault in found.errors:
        print(f"error: {LakeflowError(fault.message, file=fault.file, line=fault.line)}", file=sys.stderr)
    return 1 if found.errors else 0


def _run(args: argparse.Namespace) -> int:
    from lakeflow_local.pipelines import update

    with _session(args) as (spark, spec), _until_interrupted() if args.continuous else nullcontext() as until:
        result = update.run(
            spark,
            spec,
            refresh=args.refresh,
            full_refresh=args.full_refresh_all or args.full_refresh,
            reset_checkpoint=args.reset_checkpoint,
            until=until,
        )
    print(f"update {result.update_id} {'completed' if result.succeeded else 'failed'} in {result.seconds:.1f} s")
    if not result.succeeded:
        print(f"error: {result.error}", file=sys.stderr)
    return 0 if result.succeeded else 1


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C, after which what runs ends by itself; the second interrupts it."""
    until = threading.Event()

    def stop(*_: object) -> None:
        if until.is_set():
            raise KeyboardInterrupt
        until.set()
        print("stopping when the flows that run have ended; Ctrl-C once more interrupts them", file=sys.stderr)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield until
    finally:
        signal.signal(signal.SIGINT, before)


def _dry_run(args: argparse.Namespace) -> int:
    from lakeflow_local.pipelines.dry_run import dry_run

    with _session(args) as (spark, spec):
        problems = dry_run(spark, spec)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{spec.name}: {len(problems) or 'no'} fault{'s' if len(problems) != 1 else ''} found")
    return 1 if problems else 0


def _history(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from lakeflow_local.pipelines.history import history

    with _session(args) as (spark, spec):
        updates = history(spark, spec, args.limit)
    table = Table(title=f"{spec.name}: the last {len(updates)} updates", title_justify="left")
    for column in ("started (UTC)", "update", "state", "seconds", "rows", "dropped", "failed expectations", "error"):
        table.add_column(column, justify="right" if column in ("seconds", "rows", "dropped") else "left")
    for one in updates:
        table.add_row(
            f"{one.started:%Y-%m-%d %H:%M:%S}",
            one.update_id[:8],
            one.state,
            "" if one.seconds is None else f"{one.seconds:.1f}",
            f"{one.rows:,}",
            f"{one.dropped:,}",
            ", ".join(one.failed_expectations),
            one.error or "",
        )
    Console().print(table)
    return 0
