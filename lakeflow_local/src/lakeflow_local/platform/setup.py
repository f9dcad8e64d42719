"""What is made once: Java found, jars downloaded, the database unpacked, classes archived."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lakeflow_local.home import Home
from lakeflow_local.platform import archive, jars, java, local_files, mariadb


def run(home: Home, progress: Callable[[str], None]) -> None:
    """Makes what is missing, and says what it makes; a second call makes and says nothing.

    Args:
        home: where it goes.
        progress: gets a line for each step.

    Raises:
        LakeflowError: there is no Java, or Maven Central cannot be reached.
    """
    runtime = java.find(home)
    if not jars.present(home):
        with _timed(progress, "Jars for Spark, the database and S3 (240 MB)"):
            jars.download(home, runtime)
    if not local_files.path(home).exists():
        with _timed(progress, "Classes for files of this machine and for tables, compiled"):
            local_files.make(home, runtime)
    if jars.MYSQL in jars.configurations() and not mariadb.is_ready(home):
        with _timed(progress, "The MySQL-compatible server's data folder"):
            mariadb.make_ready(home)
    if not archive.is_settled(home, runtime):
        with _timed(progress, "An archive of Java classes, which makes sessions start in half the time"):
            archive.make(home, runtime)


@contextmanager
def _timed(progress: Callable[[str], None], what: str) -> Iterator[None]:
    progress(f"{what} ...")
    start = time.monotonic()
    yield
    progress(f"  done in {time.monotonic() - start:.0f} s")
