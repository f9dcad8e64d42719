"""What starts a job by itself: files that arrive."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lakeflow_local import files
from lakeflow_local import home as homes
from lakeflow_local.bundle import jobs
from lakeflow_local.bundle.load import Bundle, Resource
from lakeflow_local.bundle.runs import JobRun, Runs
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A file as it was seen: bytes, and milliseconds since 1970 of its last change.
Seen = dict[str, list[int]]
_POLL_SECONDS = 1.0


def listing(spark: SparkSession, url: str) -> Seen:
    """The files under `url` whose path below it has no part that begins with `_` or `.`; none if it is missing.

    Raises:
        LakeflowError: the file system refuses, with its reason.
    """
    from py4j.protocol import Py4JJavaError

    jvm = spark._jvm
    root = jvm.org.apache.hadoop.fs.Path(url)
    found: Seen = {}
    try:
        file_system = root.getFileSystem(spark._jsc.hadoopConfiguration())
        base = file_system.makeQualified(root).toString().rstrip("/")
        statuses = file_system.listFiles(root, True)
        while statuses.hasNext():
            status = statuses.next()
            path = status.getPath().toString()
            parts = path[len(base) :].strip("/").split("/")
            if not any(part.startswith(("_", ".")) for part in parts):
                found[path] = [status.getLen(), status.getModificationTime()]
    except Py4JJavaError as error:
        reason = error.java_exception.toString()
        if reason.startswith("java.io.FileNotFoundException"):
            return {}
        raise LakeflowError(f"{url} cannot be listed: {reason.splitlines()[0]}") from None
    return found


def arrivals(spark: SparkSession, url: str, state: Mapping[str, Any]) -> Seen:
    """The files under `url` that are new or changed since `state` was kept."""
    known = state.get("seen", {}) if state.get("url") == url else {}
    return {path: file for path, file in listing(spark, url).items() if known.get(path) != file}


def fire(
    spark: SparkSession,
    bundle: Bundle,
    *,
    wait: bool = False,
    progress: Callable[[str], None] = print,
    environment: Mapping[str, str] | None = None,
    home: Home | None = None,
) -> list[JobRun]:
    """Runs each job whose file-arrival trigger finds new files, one after the other.

    What a run was started for counts as seen as soon as the run is recorded, so nothing fires twice; if its
    process ends before the run does, the same files fire again, so nothing is missed.

    Args:
        wait: whether the trigger's two waiting times are kept; else a job with new files runs at once.
    """
    home = home or homes.find(bundle.root)
    runs = []
    for job in bundle.of_type("jobs").values():
        if (trigger := _file_arrival(bundle, job)) is None:
            continue
        run = _FileArrival(spark, bundle, job, trigger, home).fire(wait, progress, dict(environment or {}))
        if run is not None:
            runs.append(run)
    return runs


def _file_arrival(bundle: Bundle, job: Resource) -> dict[str, Any] | None:
    settings = job.value.get("trigger")
    if settings is None or "file_arrival" not in settings:
        return None
    paused = settings.plain("pause_status", default="PAUSED" if bundle.paused else "UNPAUSED")
    return settings.plain("file_arrival") if paused == "UNPAUSED" else None


class _FileArrival:
    def __init__(self, spark: SparkSession, bundle: Bundle, job: Resource, trigger: Mapping[str, Any], home: Home):
        self._spark, self._bundle, self._job, self._home = spark, bundle, job, home
        self._url = str(trigger["url"])
        self._between = float(trigger.get("min_time_between_triggers_seconds") or 0)
        self._quiet = float(trigger.get("wait_after_last_change_seconds") or 0)
        self._file = home.jobs / job.key / "file_arrival.json"

    def fire(self, wait: bool, progress: Callable[[str], None], environment: dict[str, str]) -> JobRun | None:
        state = self._state()
        new = arrivals(self._spark, self._url, state)
        if not new:
            return None
        if wait:
            new = self._wait(state, new, progress)
        progress(f"{self._job.key}: {len(new)} new file(s) in {self._url}")

        def started(run: JobRun) -> None:
            before = state.get("seen", {}) if state.get("url") == self._url else {}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            kept = {
                "url": self._url,
                "run_id": run.run_id,
                "fired": time.time(),
                "batch": list(new),
                "seen": {**before, **new},
            }
            files.replace(self._file, json.dumps(kept) + "\n")

        return jobs.run(
            self._spark,
            self._bundle,
            self._job.key,
            progress=progress,
            environment=environment,
            trigger={"type": "FILE_ARRIVAL", "url": self._url, "files": len(new)},
            started=started,
            home=self._home,
        )

    def _state(self) -> dict[str, Any]:
        if not self._file.is_file():
            return {}
        state = json.loads(self._file.read_text(encoding="utf-8"))
        run = Runs(self._home, self._job.key).get(state["run_id"])
        if run is not None and run.state in ("INTERNAL_ERROR", "CANCELED"):
            state["seen"] = {path: file for path, file in state["seen"].items() if path not in set(state["batch"])}
        return state

    def _wait(self, state: Mapping[str, Any], new: Seen, progress: Callable[[str], None]) -> Seen:
        told = False
        while True:
            newest = max(modified for _, modified in new.values()) / 1000
            until = max(newest + self._quiet, state.get("fired", 0.0) + self._between)
            left = until - time.time()
            if left <= 0:
                return new
            if not told:
                progress(f"{self._job.key}: {len(new)} new file(s); starts in {left:.0f} s if no more arrive")
                told = True
            time.sleep(min(left, _POLL_SECONDS))
            new = arrivals(self._spark, self._url, state) or new
