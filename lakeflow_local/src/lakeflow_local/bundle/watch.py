"""Starts jobs when their schedules and file arrivals say so, and evaluates alerts, until it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakeflow_local.bundle import alerts, jobs, tasks, triggers
from lakeflow_local.bundle.load import Bundle
from lakeflow_local.bundle.runs import try_lock
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A workspace looks about once a minute.
POLL_SECONDS = 2.0


def watch(
    spark: SparkSession,
    bundle: Bundle,
    home: Home,
    *,
    progress: Callable[[str], None] = print,
    environment: Mapping[str, str] | None = None,
    going: Callable[[], bool] = lambda: True,
    poll: float = POLL_SECONDS,
) -> None:
    """Runs what is due, one after the other, for as long as `going` says.

    A run that fails is told and not repeated; what was going on when an earlier watch ended is run again.

    Args:
        poll: seconds between two looks for files.

    Raises:
        LakeflowError: nothing is to be watched, or another process watches it already.
    """
    watched = list(triggers.all_of(spark, bundle, home))
    if not watched:
        message = f"no job or alert of the target {bundle.target} has a schedule or a trigger that is not paused"
        raise LakeflowError(message, file=bundle.root / "databricks.yml")
    with ExitStack() as stack:
        home.jobs.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((home.jobs / "watch.lock").open("w"))
        if not try_lock(lock):
            raise LakeflowError("another `bundle watch` runs on this machine; stop that one first")
        for trigger in watched:
            progress(str(trigger))
        faults: dict[str, str] = {}
        while going():
            started = False
            for trigger in watched:
                try:
                    firing = trigger.due()
                except LakeflowError as error:  # a storage that does not answer now may do so later
                    if faults.get(trigger.key) != str(error):
                        progress(f"{trigger.key}: error: {error}")
                    faults[trigger.key] = str(error)
                    continue
                faults.pop(trigger.key, None)
                if firing is not None:
                    started = True
                    succeeded = _start(spark, bundle, home, firing, progress, environment)
                    if isinstance(trigger, triggers.Continuous):
                        trigger.ended(succeeded)
            if started:
                continue
            following = [moment for trigger in watched if (moment := trigger.next()) is not None]
            left = (min(following) - datetime.now(UTC)).total_seconds() if following else poll
            time.sleep(max(0.0, min(left, poll)))


def _start(
    spark: SparkSession,
    bundle: Bundle,
    home: Home,
    firing: triggers.Firing,
    progress: Callable[[str], None],
    environment: Mapping[str, str] | None,
) -> bool:
    """Whether what was started succeeded."""
    progress(firing.message)
    try:
        if firing.resource.type == "alerts":
            progress(f"{firing.resource.key}: {alerts.evaluate(spark, firing.resource, home)}")
            firing.keep(None)
            return True
        if firing.resource.type == "pipelines":
            with tasks.environment(environment or {}):
                tasks.run_pipeline(spark, bundle, firing.resource, home, False, progress)
            return True
        run = jobs.run(
            spark,
            bundle,
            firing.resource.key,
            progress=progress,
            environment=environment,
            trigger=firing.trigger,
            started=firing.started,
            home=home,
        )
        return run.succeeded
    except LakeflowError as error:
        progress(f"{firing.resource.key}: error: {error}")
        firing.keep(None)
        return False
