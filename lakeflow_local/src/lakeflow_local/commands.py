"""What the commands of several packages share."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakeflow_local.bundle.load import Bundle


def pairs(option: str, assignments: Sequence[str]) -> dict[str, str]:
    """The values of an option that is given as `NAME=VALUE`, as often as wanted."""
    found = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise LakeflowError(f"{option} {assignment}: write {option} NAME=VALUE")
        found[name] = value
    return found


def takes_large(parser: ArgumentParser) -> None:
    """Gives a command the option `--large`."""
    parser.add_argument(
        "--large",
        action="store_true",
        help="for work of minutes: Java optimises its code, which costs seconds at the start and halves what follows",
    )


@contextmanager
def session_of(
    home: Home,
    bundle: Bundle | None,
    name: str,
    *,
    mysql: bool = True,
    master: str = "local[*]",
    conf: Mapping[str, str] | None = None,
    long_running: bool = False,
) -> Iterator[tuple[SparkSession, dict[str, str]]]:
    """The servers and a session on them, and what tasks see of them in their environment.

    Args:
        mysql: start that server too.
        master: as Spark's own.
        conf: further settings of the session.
        long_running: as in `session.start`.
    """
    from lakeflow_local.bundle import tasks
    from lakeflow_local.platform import servers, session

    buckets = bundle.embedded_buckets if bundle else ()
    endpoints = servers.up(home, mysql=mysql, s3=bool(buckets), buckets=buckets)
    environment = endpoints.environment()
    with tasks.environment(environment):
        spark = session.start(home, endpoints, app_name=name, master=master, conf=conf, long_running=long_running)
        yield spark, environment
