"""`members-generate`: makes members, or the changes of a second round, and loads them into MySQL."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date

from pyspark.sql import SparkSession

from ingest import cli
from ingest.errors import IngestError
from ingest.members import bulk, generator
from ingest.members.load import Loaded, load
from ingest.source import DEFAULT_REFERENCE, Source


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Loaded:
    """Loads what the options say.

    Args:
        argv: the options of `members-generate`.
        spark: None is the active session, or the one that the environment gives.

    Raises:
        IngestError: with one line for the user.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point; exit code 0, 2 after a wrong option, else those of `cli.command`."""
    cli.main(_parse, _run)


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Loaded:
    source = Source.of(options.source)
    spark = spark or SparkSession.builder.getOrCreate()
    if options.round == 1:
        rates = {"bad_emails": options.bad_emails, "bad_phones": options.bad_phones}
        make = bulk.members if options.form == "bulk" else generator.members
        return load(make(spark, options.rows, seed=options.seed, as_of=options.as_of, **rates), source)
    try:
        changes = generator.changes(
            spark,
            options.rows,
            seed=options.seed,
            as_of=options.as_of,
            changed=options.changed,
            added=options.added,
            deleted=options.deleted,
        )
    except ValueError as error:
        raise IngestError(f"{error}; give smaller numbers") from None
    return load(changes, source)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="members-generate",
        description="Makes members with Faker and loads them into MySQL; a repeat changes nothing.",
    )
    cli.add_common(parser, DEFAULT_REFERENCE)
    parser.add_argument("--rows", type=cli.at_least(1), default=10_000, help="members of the first round (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another one gives other members (%(default)s)")
    parser.add_argument("--as-of", type=date.fromisoformat, required=True, help="last registration date, YYYY-MM-DD")
    parser.add_argument(
        "--form",
        choices=("faker", "bulk"),
        default="faker",
        help="round 1: each row by Faker, or combined from its words, which is some thirty times as fast (%(default)s)",
    )
    for what in ("emails", "phones"):
        parser.add_argument(
            f"--bad-{what}", type=_share, default=0.0, help="round 1: share of rows with a defect in it (%(default)s)"
        )
    parser.add_argument("--round", type=int, choices=(1, 2), default=1, help="2: the changes that follow round 1")
    parser.add_argument(
        "--changed", type=cli.at_least(0), default=500, help="round 2: members that change (%(default)s)"
    )
    parser.add_argument("--added", type=cli.at_least(0), default=200, help="round 2: members that join (%(default)s)")
    parser.add_argument("--deleted", type=cli.at_least(0), default=50, help="round 2: members that leave (%(default)s)")
    options = parser.parse_args(argv)
    if options.round == 2 and options.form == "bulk":
        parser.error("--round 2 changes members of --form faker")
    return options


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 1")
    return value
