"""`lakeflow-local pipelines …`."""

from __future__ import annotations

import argparse
import re
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from lakeflow_local import home as homes
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.pipelines.notebooks import SUFFIXES
from lakeflow_local.pipelines.spec import PipelineSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_CATALOG = "spark_catalog"


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

    run = verbs.add_parser("run", parents=[which], help="update a pipeline")
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
    run.set_defaults(run=_run)

    dry_run = verbs.add_parser(
        "dry-run",
        parents=[which],
        help="find what an update would fail on, and write nothing",
        description="Analyses every query with Spark. Prints one line a fault and ends with 1 where there is one.",
    )
    dry_run.set_defaults(run=_dry_run)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def folder_spec(folder: Path, home: Home, *, schema: str | None = None, configuration: dict[str, str]) -> PipelineSpec:
    """A pipeline that is nothing but a folder of sources, or one file.

    Raises:
        LakeflowError: there is no such folder or file, or no source in it.
    """
    folder = folder.resolve()
    if folder.is_file():
        sources = [folder]
    elif folder.is_dir():
        sources = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix in SUFFIXES
            and not any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)
        )
    else:
        raise LakeflowError(f"there is no {folder}; give the folder that holds the pipeline's .py and .sql files")
    if not sources:
        raise LakeflowError(f"{folder} holds no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    name = re.sub(r"\W+", "_", folder.stem if folder.is_file() else folder.name).strip("_").lower() or "pipeline"
    own = uuid.uuid5(uuid.NAMESPACE_URL, folder.as_uri())
    return PipelineSpec(
        key=name,
        name=folder.name,
        id=str(own),
        catalog=_CATALOG,
        schema=schema or name,
        sources=tuple(sources),
        root_path=folder.parent if folder.is_file() else folder,
        configuration=configuration,
        storage=str(home.pipelines / "folders" / f"{name}-{own.hex[:8]}"),
    )


def _spec(args: argparse.Namespace) -> PipelineSpec:
    home = homes.find()
    path = Path(args.pipeline)
    configuration = {}
    for assignment in args.set:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise LakeflowError(f"--set {assignment}: write --set KEY=VALUE")
        configuration[key] = value
    is_key = not path.exists() and re.fullmatch(r"\w+", args.pipeline) and (home.root / "databricks.yml").is_file()
    if not is_key:
        return folder_spec(path, home, schema=args.schema, configuration=configuration)
    from lakeflow_local.bundle import load, pipelines

    bundle = load.load(home.root, args.target, args.var)
    spec = pipelines.spec(bundle, bundle.find(args.pipeline, "pipelines"), home)
    return spec if not configuration else spec.with_configuration(configuration)


def _graph(args: argparse.Namespace) -> int:
    from lakeflow_local.pipelines import outline
    from lakeflow_local.pipelines.names import Namespace

    spec = _spec(args)
    found = outline.outline(
        spec.sources,
        root=spec.root_path or spec.sources[0].parent,
        configuration=spec.configuration,
        names=Namespace(spec.catalog, spec.schema),
        whole=not Path(args.pipeline).is_file(),
    )
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

    spec = _spec(args)
    result = update.run(
        _session(spec),
        spec,
        refresh=args.refresh,
        full_refresh=args.full_refresh_all or args.full_refresh,
        reset_checkpoint=args.reset_checkpoint,
    )
    print(f"update {result.update_id} {'completed' if result.succeeded else 'failed'} in {result.seconds:.1f} s")
    if not result.succeeded:
        print(f"error: {result.error}", file=sys.stderr)
    return 0 if result.succeeded else 1


def _dry_run(args: argparse.Namespace) -> int:
    from lakeflow_local.pipelines.dry_run import dry_run

    spec = _spec(args)
    problems = dry_run(_session(spec), spec)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{spec.name}: {len(problems) or 'no'} fault{'s' if len(problems) != 1 else ''} found")
    return 1 if problems else 0


def _session(spec: PipelineSpec) -> SparkSession:
    from lakeflow_local.platform import servers, session

    home = homes.find()
    endpoints = servers.up(home, mysql=False, s3=False, buckets=())
    return session.start(home, endpoints, app_name=spec.name)
