"""`lakeflow-local pipelines …`."""

from __future__ import annotations

import argparse
import re
import sys
import uuid
from pathlib import Path

from lakeflow_local import home as homes
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.pipelines.spec import PipelineSpec

_CATALOG = "spark_catalog"


def add_commands(commands: argparse._SubParsersAction) -> None:
    pipelines = commands.add_parser("pipelines", help="run declarative pipelines")
    verbs = pipelines.add_subparsers(dest="verb", metavar="VERB", required=True)
    run = verbs.add_parser("run", help="update the pipeline of a folder of sources, without a bundle")
    run.add_argument("folder", type=Path, metavar="FOLDER", help="its .py and .sql files, at any depth")
    run.add_argument("--schema", help="where unqualified names go; by default the folder's name")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration of the pipeline")
    run.add_argument("--full-refresh-all", action="store_true", help="forget all rows and checkpoints, read all again")
    run.add_argument("--full-refresh", default="", metavar="TABLE,…", help="the same for some tables")
    run.set_defaults(run=_run)


def folder_spec(folder: Path, home: Home, *, schema: str | None = None, configuration: dict[str, str]) -> PipelineSpec:
    """A pipeline that is nothing but a folder of sources.

    Raises:
        LakeflowError: there is no such folder, or no source in it.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise LakeflowError(f"there is no folder {folder}; give the one that holds the pipeline's .py and .sql files")
    sources = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix in (".py", ".sql") and not any(p.startswith(("_", ".")) for p in file.relative_to(folder).parts)
    )
    if not sources:
        raise LakeflowError(f"{folder} holds no .py or .sql file")
    name = re.sub(r"\W+", "_", folder.name).strip("_").lower() or "pipeline"
    return PipelineSpec(
        key=name,
        name=folder.name,
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, folder.as_uri())),
        catalog=_CATALOG,
        schema=schema or name,
        sources=tuple(sources),
        root_path=folder,
        configuration=configuration,
        storage=str(home.pipelines / "folders" / f"{name}-{uuid.uuid5(uuid.NAMESPACE_URL, folder.as_uri()).hex[:8]}"),
    )


def _run(args: argparse.Namespace) -> int:
    from lakeflow_local.pipelines import update
    from lakeflow_local.platform import servers, session

    home = homes.find()
    configuration = {}
    for assignment in args.set:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise LakeflowError(f"--set {assignment}: write --set KEY=VALUE")
        configuration[key] = value
    spec = folder_spec(args.folder, home, schema=args.schema, configuration=configuration)
    selected = [name.strip() for name in args.full_refresh.split(",") if name.strip()]
    endpoints = servers.up(home, mysql=False, s3=False, buckets=())
    spark = session.start(home, endpoints, app_name=spec.name)
    result = update.run(spark, spec, full_refresh=args.full_refresh_all or selected)
    print(f"update {result.update_id} {'completed' if result.succeeded else 'failed'} in {result.seconds:.1f} s")
    if not result.succeeded:
        print(f"error: {result.error}", file=sys.stderr)
    return 0 if result.succeeded else 1
