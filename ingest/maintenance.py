"""`maintain-tables`: compacts tables and removes old files, where nothing else does it.

In a workspace predictive optimization does it for managed tables, and pipelines for what they make; both are left
alone. On one's own machine nothing does.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyspark.sql import SparkSession

from ingest import cli
from ingest.errors import explained

log = logging.getLogger("ingest")

_LAYERS = ("bronze", "silver", "gold", "ops")


@dataclass
class Maintained:
    """Tables that were maintained, and those that the platform maintains by itself; full names."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.done)} tables maintained, {len(self.left)} left to the platform"


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Maintained:
    """Maintains the Delta tables of the schemas that the options name.

    Args:
        argv: the options of `maintain-tables`.
        spark: None is the active session, or the one that the environment gives.

    Raises:
        IngestError: with one line for the user; what was done until then stays done.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point; exit code 0, 2 after a wrong option, else those of `cli.command`."""
    cli.main(_parse, _run)


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Maintained:
    spark, found = spark or SparkSession.builder.getOrCreate(), Maintained()
    try:
        for layer in _LAYERS:
            schema = f"{options.catalog}.{getattr(options, f'{layer}_schema')}"
            for row in spark.sql(f"SHOW TABLES IN {schema}").where("NOT isTemporary").orderBy("tableName").collect():
                _maintain(spark, f"{schema}.`{row.tableName}`", options.retain_hours, found)
    except Exception as error:
        raise explained(error) from error
    return found


def _maintain(spark: SparkSession, name: str, retain_hours: int, found: Maintained) -> None:
    described = spark.sql(f"DESCRIBE TABLE EXTENDED {name}").collect()
    facts = {row.col_name: row.data_type for row in described}
    if facts.get("Type") == "VIEW" or facts.get("Provider", "").lower() != "delta":
        return
    if facts.get("Type") not in ("MANAGED", "EXTERNAL") or facts.get("Predictive Optimization", "").startswith(
        "ENABLE"
    ):
        found.left.append(name)
        return
    spark.sql(f"OPTIMIZE {name}").collect()
    spark.sql(f"VACUUM {name} RETAIN {retain_hours} HOURS").collect()
    found.done.append(name)
    log.info("maintained %s", name)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="maintain-tables", description="Compacts tables and removes old files.")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    parser.add_argument("--catalog", required=True)
    for layer in _LAYERS:
        parser.add_argument(f"--{layer}-schema", default=layer, help="(%(default)s)")
    parser.add_argument(
        "--retain-hours",
        type=cli.at_least(168),
        default=168,
        help="files younger than this stay, for readers of older versions (%(default)s)",
    )
    return parser.parse_args(argv)
