"""`lakehouse-ops`: what the one on call does in a workspace beside deploying, which is the bundle's."""

from __future__ import annotations

import argparse
import getpass
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from rich.console import Console

from ops import follow, queries
from ops.errors import FAILED, INTERRUPTED, REFUSED, OpsError, readable

_RETRY_SECONDS = 300


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--profile", help="of ~/.databrickscfg; else the default chain: variables, profile, CLI login")
    common.add_argument("--poll", type=float, default=5.0, metavar="SECONDS", help="between two looks (%(default)s)")
    rows = argparse.ArgumentParser(add_help=False)
    rows.add_argument("--warehouse", metavar="NAME", help=f"name or id (the one that ends in {queries.WAREHOUSE!r})")
    rows.add_argument("--save", type=Path, metavar="FILE", help="the rows as .csv or .json too")
    tables = argparse.ArgumentParser(add_help=False)
    tables.add_argument("--catalog", default="lakehouse", help="where the tables are (%(default)s)")
    tables.add_argument("--ops-schema", default="ops", help="of logs (%(default)s)")

    parser = argparse.ArgumentParser(
        prog="lakehouse-ops",
        description="Looks after the lakehouse in a workspace. Exits with 0 done, 1 failed or stale, 2 wrong usage,"
        " 3 refused by the workspace, 4 workspace not reached.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    update = commands.add_parser("update", parents=[common], help="update a pipeline and follow it to its end")
    update.add_argument("pipeline", metavar="PIPELINE", help="name or id")
    update.add_argument("--full-refresh", default="", metavar="TABLE,…", help="tables that start anew")
    update.add_argument("--full-refresh-all", action="store_true", help="all tables start anew; see docs/operations.md")
    update.set_defaults(run=_update)

    job = commands.add_parser("run", parents=[common], help="run a job and follow it to its end")
    job.add_argument("job", metavar="JOB", help="name or id")
    job.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the job")
    job.set_defaults(run=_run)

    expectations = commands.add_parser(
        "expectations", parents=[common, rows, tables], help="what each rule of a pipeline passed and refused"
    )
    expectations.add_argument("pipeline", metavar="PIPELINE", help="its key, such as members")
    expectations.add_argument("--update", default="", metavar="ID", help="of an update; the last one by default")
    expectations.set_defaults(run=_expectations)

    sql = commands.add_parser("sql", parents=[common, rows], help="run a file of one SQL statement on a warehouse")
    sql.add_argument("file", type=Path, metavar="FILE")
    sql.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="what :NAME stands for")
    sql.set_defaults(run=_sql)

    fresh = commands.add_parser("freshness", parents=[common, rows, tables], help="age of the data; exits 1 if stale")
    fresh.set_defaults(run=_freshness)

    secret = commands.add_parser("put-secret", parents=[common], help="put a secret, read from standard input")
    secret.add_argument("scope", metavar="SCOPE")
    secret.add_argument("key", metavar="KEY")
    secret.set_defaults(run=_put_secret)

    cost = commands.add_parser("cost", parents=[common, rows], help="list price of what ran, from the system tables")
    cost.add_argument("--days", type=int, default=30, help="so many days back (%(default)s)")
    cost.set_defaults(run=_cost)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    args = parser().parse_args(argv)
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)  # its warnings are for programmers
    try:
        client = _connect(args.profile)
        with readable():
            return args.run(client, args)
    except OpsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted; what was started goes on in the workspace", file=sys.stderr)
        return INTERRUPTED


def _connect(profile: str | None) -> WorkspaceClient:
    try:
        return WorkspaceClient(config=Config(profile=profile, retry_timeout_seconds=_RETRY_SECONDS))
    except ValueError as error:  # the SDK's, where it finds no login
        reason = str(error).partition(", please check")[0]
        hint = "run `databricks auth login`, or set DATABRICKS_HOST and what its kind of login wants"
        raise OpsError(f"{reason}; {hint}", REFUSED) from None


def _update(client: WorkspaceClient, args: argparse.Namespace) -> int:
    tables = [name.strip() for name in args.full_refresh.split(",") if name.strip()]
    pipeline = follow.pipeline_id(client, args.pipeline)
    follow.update(client, pipeline, full_refresh=args.full_refresh_all or tables, say=_say, poll=args.poll)
    return 0


def _run(client: WorkspaceClient, args: argparse.Namespace) -> int:
    job = follow.job_id(client, args.job)
    follow.run(client, job, parameters=_pairs(args.param), say=_say, poll=args.poll)
    return 0


def _expectations(client: WorkspaceClient, args: argparse.Namespace) -> int:
    log = f"{args.catalog}.{args.ops_schema}.{args.pipeline}_event_log"
    _show(args, _query(client, args, queries.named("expectations"), {"event_log": log, "update_id": args.update}))
    return 0


def _sql(client: WorkspaceClient, args: argparse.Namespace) -> int:
    try:
        statement = args.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(f"{args.file} cannot be read: {error}") from None
    _show(args, _query(client, args, statement, _pairs(args.param)))
    return 0


def _freshness(client: WorkspaceClient, args: argparse.Namespace) -> int:
    places = {"catalog": args.catalog, "ops_schema": args.ops_schema}
    found = _query(client, args, queries.named("freshness"), places)
    _show(args, found)
    stale = [row["what"] for row in found.dicts() if row["state"] != "fresh"]
    if stale:
        print(f"error: stale: {', '.join(map(str, stale))}; see docs/operations.md", file=sys.stderr)
    return FAILED if stale else 0


def _put_secret(client: WorkspaceClient, args: argparse.Namespace) -> int:
    value = getpass.getpass("value: ") if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    if not value:
        raise OpsError("standard input is empty; pipe the value in, or type it where the prompt asks")
    client.secrets.put_secret(args.scope, args.key, string_value=value)
    _say(f"{args.scope}/{args.key} is put")
    return 0


def _cost(client: WorkspaceClient, args: argparse.Namespace) -> int:
    _show(args, _query(client, args, queries.named("cost"), {"days": str(args.days)}))
    return 0


def _query(client: WorkspaceClient, args: argparse.Namespace, text: str, parameters: dict[str, str]) -> queries.Rows:
    return queries.run(client, queries.warehouse_id(client, args.warehouse), text, parameters, poll=args.poll)


def _show(args: argparse.Namespace, rows: queries.Rows) -> None:
    if args.save:
        rows.save(args.save)
        _say(f"{len(rows.rows)} rows saved in {args.save}")
    else:
        Console().print(rows.table())


def _pairs(assignments: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise OpsError(f"--param {assignment}: write --param NAME=VALUE")
        pairs[name] = value
    return pairs


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
