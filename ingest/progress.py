"""How far a read is: rows and bytes so far in the log, at intervals, with an estimate of what is left."""

from __future__ import annotations

import logging
import re
import threading
import time
from types import TracebackType
from typing import Any

from pyspark.sql import SparkSession

SECONDS = 10.0
"""Between two lines. Executors tell the driver what they have read at the same interval."""

# What Spark calls the two readers among the steps of a query.
_READERS = re.compile(r"Scan JDBC|\w*MapInArrow")
log = logging.getLogger("ingest")


class Progress:
    """Logs the progress of what is read within the block, if that takes longer than `SECONDS`.

    Args:
        rows: how many there are to read.
        row_bytes: of one, as MySQL estimates it.
        rows_of_one: how many were read where a reader tells Spark of one.
    """

    def __init__(self, spark: SparkSession, rows: int, row_bytes: int, rows_of_one: int = 1):
        self._spark, self._rows, self._row_bytes, self._rows_of_one = spark, rows, row_bytes, rows_of_one
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(SECONDS):
            try:
                done = min(self._rows, rows_read(self._spark) * self._rows_of_one)
            except Exception:
                # What Spark tells of itself is not everywhere allowed, and a run does not need it.
                log.debug("no progress is told", exc_info=True)
                return
            if done:
                log.info("%s", line(done, self._rows, self._row_bytes, time.monotonic() - started))


def line(done: int, rows: int, row_bytes: int, seconds: float) -> str:
    """`done` of `rows` after so many seconds, such as `25 of 100 rows (25 %) …, about 30 s left`."""
    left = max(0, rows - done) * seconds / done
    return (
        f"{done} of {rows} rows ({100 * done // max(1, rows)} %), about {done * row_bytes} of {rows * row_bytes} "
        f"bytes, {done / seconds:.0f} rows/s, about {left:.0f} s left"
    )


def rows_read(spark: SparkSession) -> int:
    """What the running queries of the session have read of MySQL so far."""
    store = spark._jsparkSession.sharedState().statusStore()
    executions = store.executionsList()
    running = [e for e in map(executions.apply, range(executions.size())) if e.completionTime().isEmpty()]
    return sum(_rows_of(store, execution.executionId()) for execution in running)


def _rows_of(store: Any, execution: int) -> int:
    values = store.executionMetrics(execution)
    nodes, rows = store.planGraph(execution).allNodes(), 0
    for node in map(nodes.apply, range(nodes.size())):
        metrics = node.metrics()
        for metric in map(metrics.apply, range(metrics.size())):
            if metric.name() == "number of output rows" and _READERS.match(node.name()):
                value = values.get(metric.accumulatorId())
                rows += int(value.get().replace(",", "")) if value.isDefined() else 0
    return rows
