"""How far a read is: rows, bytes written and an estimate of the rest, logged as it goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

log = logging.getLogger("ingest")


@contextmanager
def progress(spark: SparkSession, rows: int, every: float = 10.0) -> Iterator[None]:
    """Logs the progress of Spark's active stages while the body runs.

    Args:
        rows: how many are expected.
        every: seconds between two lines; Spark's tasks report every ten seconds.
    """
    ended = threading.Event()

    def tell() -> None:
        started = time.monotonic()
        while not ended.wait(every):
            try:
                read, written = _so_far(spark)
            except Exception:
                return  # the session ended, or it is one that does not show its stages
            log.info(line(rows, read, written, time.monotonic() - started))

    thread = threading.Thread(target=tell, daemon=True, name="ingest-progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def line(rows: int, read: int, written: int, seconds: float) -> str:
    """One line of progress.

    Args:
        rows, read: rows that are expected, and those read in so many seconds.
        written: bytes.
    """
    share = min(1.0, read / rows) if rows else 1.0
    left = f"about {seconds * (1 - share) / share:.0f} s left" if read else "no estimate yet"
    return f"{read} of {rows} rows read ({share:.0%}), {written} bytes written, {left}"


def _so_far(spark: SparkSession) -> tuple[int, int]:
    stages = spark.sparkContext._jsc.sc().statusStore().activeStages()
    found = [stages.apply(n) for n in range(stages.size())]
    return sum(stage.inputRecords() for stage in found), sum(stage.outputBytes() for stage in found)
