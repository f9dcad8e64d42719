"""The command `lakeflow-local`. Its verbs are those of the `databricks` CLI."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from lakeflow_local.errors import LakeflowError

# Each module offers add_commands(subparsers); a command sets `run`, a function of the parsed arguments
# that returns an exit code. Nothing here imports pyspark, so that --help answers at once.
COMMANDS = (
    "lakeflow_local.platform.commands",
    "lakeflow_local.bundle.commands",
    "lakeflow_local.pipelines.commands",
    "lakeflow_local.dashboard.commands",
    "lakeflow_local.notebook.commands",
    "lakeflow_local.ui.commands",
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lakeflow-local",
        description="Run Databricks bundles, jobs and declarative pipelines on this machine.",
    )
    parser.add_argument("--traceback", action="store_true", help="show the stack trace of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        import_module(module).add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    args = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return args.run(args) or 0
    except LakeflowError as error:
        if args.traceback:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
