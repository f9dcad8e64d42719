"""`lakeflow-local notebook …`."""

from __future__ import annotations

import argparse
from pathlib import Path

from lakeflow_local import home as homes


def add_commands(commands: argparse._SubParsersAction) -> None:
    notebook = commands.add_parser("notebook", help="run notebooks on local tables")
    verbs = notebook.add_subparsers(dest="verb", metavar="VERB", required=True)
    run = verbs.add_parser("run", help="run notebooks one after the other, in one session")
    run.add_argument("files", metavar="FILE", nargs="+", type=Path)
    run.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="the value of a widget")
    run.add_argument(
        "-o", "--output", metavar="FOLDER", type=Path, help="write each as a page of Markdown, with outputs"
    )
    run.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from lakeflow_local.bundle import load
    from lakeflow_local.commands import pairs, session_of
    from lakeflow_local.notebook import page, run

    parameters = pairs("--param", args.param)
    home = homes.find()
    bundle = load.load(home.root, None, []) if (home.root / load.FILE).is_file() else None
    with session_of(home, bundle, "notebook") as (spark, _):
        for file in args.files:
            print(f"{file}:")
            if args.output is None:
                run.run(spark, file, parameters)
            else:
                args.output.mkdir(parents=True, exist_ok=True)
                written = page.page(spark, file, parameters)
                (args.output / f"{file.stem}.md").write_text(written, encoding="utf-8")
    return 0
