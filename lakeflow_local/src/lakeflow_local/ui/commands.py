"""`lakeflow-local ui`."""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakeflow_local import home as homes
from lakeflow_local.errors import LakeflowError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakeflow_local.ui.project import Project

_THREADS = 8


def add_commands(commands: argparse._SubParsersAction) -> None:
    ui = commands.add_parser(
        "ui",
        help="serve a web page with the jobs, pipelines and tables of the bundle",
        description="Serves a web page with the jobs, pipelines and tables of the bundle, on this machine alone and for"
        " whoever has the printed address, until Ctrl-C. It reads; --allow-runs lets it start runs.",
    )
    ui.add_argument("-t", "--target", help="target of the bundle; `local` if there is one, else the default")
    ui.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="a variable of the bundle")
    ui.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; any free one by default")
    ui.add_argument("--allow-runs", action="store_true", help="pages may start and cancel jobs and pipelines")
    ui.add_argument("--show-pii", action="store_true", help="show personal columns, which are masked otherwise")
    ui.set_defaults(run=_ui)


def _ui(args: argparse.Namespace) -> int:
    import waitress

    from lakeflow_local.bundle import load
    from lakeflow_local.ui.access import Access
    from lakeflow_local.ui.app import create_app
    from lakeflow_local.ui.project import Project

    home = homes.find()
    if not (home.root / load.FILE).is_file():
        raise LakeflowError(f"there is no {load.FILE} here or above; go to the folder of a bundle")
    if not home.jars.is_dir():
        raise LakeflowError("the local platform is not set up; run `lakeflow-local setup` first")
    project = Project(home, args.target, args.var)
    listening = _listening(args.port)
    port = listening.getsockname()[1]
    access = Access(cookie=f"lakeflow_local_{port}")
    app = create_app(
        project,
        session=lambda: _session(project),
        access=access,
        allow_runs=args.allow_runs,
        show_pii=args.show_pii,
    )
    threading.Thread(target=project.follow_all, name="outlines", daemon=True).start()
    server = waitress.create_server(app, sockets=[listening], threads=_THREADS, ident=None)
    print(f"http://127.0.0.1:{port}/?token={access.token}\nCtrl-C ends it.", flush=True)
    try:
        server.run()  # returns at Ctrl-C
    finally:
        server.close()
        for key in app.extensions["lakeflow_local"].processes.end():
            print(f"interrupted the run of {key}; the next one continues", file=sys.stderr)
    return 0


def _listening(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OverflowError:
        raise LakeflowError(f"--port {port}: a port is from 1 to 65535") from None
    except OSError as error:
        raise LakeflowError(f"--port {port} cannot be listened on: {error.strerror}; give another") from None
    return listening


@contextmanager
def _session(project: Project) -> Iterator[SparkSession]:
    from lakeflow_local.commands import session_of

    with session_of(project.home, project.bundle(), "ui", mysql=False) as (spark, _):
        yield spark
