"""What the commands share: structured logs on stderr, a summary on stdout, one line and an exit code for an error."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ingest.errors import explained

log = logging.getLogger("ingest")


class _Json(logging.Formatter):
    def __init__(self, run_id: str):
        super().__init__()
        self._run_id = run_id

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname,
                "run_id": self._run_id,
                "message": record.getMessage(),
            }
        )


def main(parse: Callable[[Sequence[str]], argparse.Namespace], act: Callable[[argparse.Namespace], object]) -> None:
    """The entry point of a command: does what its options say and prints the result, as `command` does.

    Args:
        parse: makes the options of the arguments; `traceback` is one of them, `run_id` may be.
        act: takes the options.
    """
    options: Any = parse(sys.argv[1:])
    run_id = getattr(options, "run_id", None) or uuid.uuid4().hex
    command(lambda: act(options), run_id=run_id, show_traceback=options.traceback)


def command(action: Callable[[], object], *, run_id: str, show_traceback: bool = False) -> None:
    """Does `action` and prints what it returns.

    Raises:
        SystemExit: after one line on stderr, with code 75 if the same command may succeed later, 130 if it was
            interrupted, else 1. Nothing is raised after success, since
            Databricks takes any SystemExit of a wheel's entry point for a failure.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(run_id))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        print(action())
    except Exception as error:
        if show_traceback:
            traceback.print_exc()
        told = explained(error)
        print(f"error: {told}", file=sys.stderr)
        raise SystemExit(told.exit_code) from None
    except KeyboardInterrupt:
        print("interrupted; the same command may be given again", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        log.removeHandler(handler)
        log.propagate = True


def add_common(parser: argparse.ArgumentParser, default_source: str) -> None:
    """The options of every command."""
    parser.add_argument(
        "--source", default=default_source, help="env:NAME, secret:SCOPE/KEY or file:PATH that holds the MySQL URL"
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")


def at_least(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number that is not smaller."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number
