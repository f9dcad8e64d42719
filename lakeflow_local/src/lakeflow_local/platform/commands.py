"""The commands `setup`, `up`, `down` and `status`."""

from __future__ import annotations

import argparse

from lakeflow_local import home as homes


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    for name, run, text in (
        ("setup", _setup, "download and make what the local platform needs"),
        ("up", _up, "start the MySQL-compatible server, the S3 server and the catalog"),
        ("down", _down, "end the servers"),
        ("status", _status, "show the servers"),
    ):
        subparsers.add_parser(name, help=text, description=text.capitalize() + ".").set_defaults(run=run)


def _setup(args: argparse.Namespace) -> None:
    from lakeflow_local.platform import setup

    setup.run(homes.find(), lambda line: print(line, flush=True))


def _up(args: argparse.Namespace) -> None:
    from lakeflow_local.platform import servers

    servers.up(homes.find())
    _status(args)


def _down(args: argparse.Namespace) -> None:
    from lakeflow_local.platform import servers

    ended = servers.down(homes.find())
    print(f"ended: {', '.join(ended)}" if ended else "nothing was running")


def _status(args: argparse.Namespace) -> None:
    from lakeflow_local.platform import servers

    for server in servers.status(homes.find()):
        print(f"{server.name:8} " + (f"127.0.0.1:{server.port}, process {server.pid}" if server.pid else "not running"))
