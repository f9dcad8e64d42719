"""`lakeflow-local dashboard …`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lakeflow_local import home as homes


def add_commands(commands: argparse._SubParsersAction) -> None:
    dashboard = commands.add_parser("dashboard", help="check and show AI/BI dashboards (.lvdash.json)")
    verbs = dashboard.add_subparsers(dest="verb", metavar="VERB", required=True)

    lint = verbs.add_parser("lint", help="check files; needs neither a workspace nor tables")
    lint.add_argument("files", metavar="FILE", nargs="+", type=Path)
    lint.set_defaults(run=_lint)

    preview = verbs.add_parser("preview", help="write a dashboard as a page that works offline, from local tables")
    preview.add_argument("file", metavar="FILE", type=Path)
    preview.add_argument("-o", "--output", metavar="FILE", type=Path, help="the page; the dashboard's name by default")
    preview.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of datasets")
    preview.add_argument("--schema", help="where tables without a schema are looked for")
    preview.set_defaults(run=_preview)


def _lint(args: argparse.Namespace) -> int:
    from lakeflow_local.dashboard import document
    from lakeflow_local.dashboard.lint import lint

    faults = [f"{file}: {fault}" for file in args.files for fault in lint(document.read(file))]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if not faults:
        print(f"{len(args.files)} checked, no fault found")
    return 1 if faults else 0


def _preview(args: argparse.Namespace) -> int:
    from lakeflow_local.bundle import load
    from lakeflow_local.commands import pairs, session_of
    from lakeflow_local.dashboard import document, preview, rows

    dashboard = document.read(args.file)
    name = args.file.name.removesuffix(".lvdash.json")
    output = args.output or Path(f"{name}.html")
    parameters = pairs("--param", args.param)
    home = homes.find()
    bundle = load.load(home.root, None, []) if (home.root / load.FILE).is_file() else None
    with session_of(home, bundle, "dashboard", mysql=False) as (spark, _):
        found = rows.fetch(spark, dashboard, parameters, args.schema)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(preview.page(dashboard, found, title=name.replace("_", " ").capitalize()), encoding="utf-8")
    for dataset, result in found.items():
        if result.error:
            print(f"{dataset}: {result.error}", file=sys.stderr)
    print(f"{output}: {len(found)} datasets, {sum(len(result.rows) for result in found.values())} rows")
    return 0
