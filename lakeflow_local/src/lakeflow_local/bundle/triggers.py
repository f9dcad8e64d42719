"""What starts a job by itself: files that arrive, and times of a schedule.

What a trigger has started is kept on disk with the run, before the run's first task: it does not start again, unless
the run's process ended before the run did.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakeflow_local import files
from lakeflow_local import home as homes
from lakeflow_local.bundle import jobs
from lakeflow_local.bundle.cron import Schedule
from lakeflow_local.bundle.load import Bundle, Resource
from lakeflow_local.bundle.runs import JobRun, Runs
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.home import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A file as it was seen: bytes, and milliseconds since 1970 of its last change.
Seen = dict[str, list[int]]
# How long a workspace keeps a queued run.
_QUEUED_FOR = timedelta(hours=48)
_FIRST_RETRY, _LAST_RETRY = timedelta(minutes=1), timedelta(hours=1)
_UNFINISHED = ("INTERNAL_ERROR", "CANCELED")


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


@dataclass(frozen=True)
class Firing:
    """That a resource starts now.

    Attributes:
        trigger: what is kept with the run, such as `{"type": "FILE_ARRIVAL", …}`.
        message: one line for a person.
        keep: takes the id of the run, or None, and keeps on disk that it was started.
    """

    resource: Resource
    trigger: dict[str, Any]
    message: str
    keep: Callable[[int | None], None]

    def started(self, run: JobRun) -> None:
        self.keep(run.run_id)


def fire(
    spark: SparkSession,
    bundle: Bundle,
    *,
    progress: Callable[[str], None] = print,
    environment: Mapping[str, str] | None = None,
    home: Home | None = None,
) -> list[JobRun]:
    """Runs each job whose file-arrival trigger finds new files, one after the other, without the waiting times."""
    home = home or homes.find(bundle.root)
    runs = []
    for job in bundle.of_type("jobs").values():
        if job.value.get("trigger", "file_arrival") is None or is_paused(bundle, job, "trigger"):
            continue
        firing = FileArrival(spark, job, home).due(at_once=True)
        if firing is not None:
            progress(firing.message)
            runs.append(
                jobs.run(
                    spark,
                    bundle,
                    job.key,
                    progress=progress,
                    environment=environment,
                    trigger=firing.trigger,
                    started=firing.started,
                    home=home,
                )
            )
    return runs


def is_paused(bundle: Bundle, resource: Resource, key: str) -> bool:
    """Whether the resource's `schedule` or `trigger` is paused, by itself or by its target."""
    default = "PAUSED" if bundle.paused else "UNPAUSED"
    return bool(resource.value.plain(key, "pause_status", default=default) == "PAUSED")


def all_of(spark: SparkSession, bundle: Bundle, home: Home) -> Iterator[FileArrival | ScheduleTrigger | Continuous]:
    """The triggers of the bundle that are not paused.

    Raises:
        UnsupportedError: a job has a trigger of another kind.
    """
    for type in ("jobs", "alerts"):
        for resource in bundle.of_type(type).values():
            if (schedule := resource.value.get("schedule")) is not None and not is_paused(bundle, resource, "schedule"):
                yield ScheduleTrigger(resource, schedule, home)
            if (trigger := resource.value.get("trigger")) is not None and not is_paused(bundle, resource, "trigger"):
                for kind in trigger.data:
                    if kind not in ("file_arrival", "pause_status"):
                        message = (
                            f"the trigger `{kind}` of {resource.label} is not supported on this machine; pause it, or"
                            " leave it to another target"
                        )
                        raise UnsupportedError(message, file=trigger.place.file, line=trigger.place.line)
                yield FileArrival(spark, resource, home)
            if "continuous" in resource.value and not is_paused(bundle, resource, "continuous"):
                yield Continuous(resource, home)
    for pipeline in bundle.of_type("pipelines").values():
        if pipeline.value.plain("continuous") is True and not bundle.paused:
            yield Continuous(pipeline, home)


class FileArrival:
    """The file-arrival trigger of a job."""

    def __init__(self, spark: SparkSession, job: Resource, home: Home):
        self._spark, self._job, self._runs = spark, job, Runs(home, job.key)
        settings = job.value["trigger"]["file_arrival"]
        self._url = str(settings.plain("url"))
        self._between = float(settings.plain("min_time_between_triggers_seconds", default=0))
        self._quiet = float(settings.plain("wait_after_last_change_seconds", default=0))
        self._file = self._runs.folder / "file_arrival.json"

    @property
    def key(self) -> str:
        return self._job.key

    def __str__(self) -> str:
        waits = [f"{self._quiet:g} s after the last"] if self._quiet else []
        waits += [f"{self._between:g} s between runs"] if self._between else []
        return f"{self._job.key}: files in {self._url}" + (f" ({', '.join(waits)})" if waits else "")

    def due(self, *, at_once: bool = False) -> Firing | None:
        """The firing for files that are new, once both waiting times have passed, unless `at_once`."""
        state = self._state()
        new = arrivals(self._spark, self._url, state)
        now = time.time()
        if not new or (not at_once and now < self._ready(state, new, now)):
            return None

        def keep(run_id: int | None) -> None:
            before = state.get("seen", {}) if state.get("url") == self._url else {}
            kept = {"url": self._url, "run_id": run_id, "fired": now, "batch": list(new), "seen": {**before, **new}}
            _write(self._file, kept)

        trigger = {"type": "FILE_ARRIVAL", "url": self._url, "files": len(new)}
        return Firing(self._job, trigger, f"{self._job.key}: {len(new)} new file(s) in {self._url}", keep)

    def next(self) -> datetime | None:
        """None: only a look tells whether files have arrived."""
        return None

    def _ready(self, state: Mapping[str, Any], new: Seen, now: float) -> float:
        # A server whose clock is ahead must not keep the files waiting.
        changed = max(min(modified / 1000, now) for _, modified in new.values())
        return max(changed + self._quiet, state.get("fired", 0.0) + self._between)

    def _state(self) -> dict[str, Any]:
        state = _read(self._file)
        if _unfinished(self._runs, state):
            state["seen"] = {path: file for path, file in state["seen"].items() if path not in set(state["batch"])}
        return state


class ScheduleTrigger:
    """The schedule of a job or of an alert.

    Times that pass while nothing watches, or while other work runs, are made up for in their order, as far back as a
    workspace keeps queued runs; where the job does not queue, by one run for all of them.
    """

    def __init__(self, resource: Resource, schedule: Value, home: Home):
        self._resource, self._runs = resource, Runs(home, resource.key)
        expression = schedule.plain("quartz_cron_expression", default=schedule.plain("quartz_cron_schedule"))
        self._written = {"expression": str(expression), "zone": str(schedule.plain("timezone_id"))}
        self._schedule = Schedule(**self._written)
        self._queued = resource.type == "jobs" and bool(resource.value.plain("queue", "enabled", default=True))
        self._file = self._runs.folder / "schedule.json"

    @property
    def key(self) -> str:
        return self._resource.key

    def __str__(self) -> str:
        following = self.next()
        return f"{self._resource.key}: next {following:%Y-%m-%d %H:%M:%S} UTC" if following else self._resource.key

    def due(self) -> Firing | None:
        """The firing for the first time of the schedule that has passed and was not run."""
        now = datetime.now(UTC)
        since = self._since(now)
        moment = self._schedule.after(max(since, now - _QUEUED_FOR))
        if moment is None or moment > now:
            return None
        until = moment if self._queued else now

        def keep(run_id: int | None) -> None:
            kept = {**self._written, "before": since.isoformat(), "until": until.isoformat(), "run_id": run_id}
            _write(self._file, kept)

        trigger = {"type": "PERIODIC", "time": moment.isoformat()}
        message = f"{self._resource.key}: scheduled for {moment:%Y-%m-%d %H:%M:%S} UTC"
        return Firing(self._resource, trigger, message, keep)

    def next(self) -> datetime | None:
        return self._schedule.after(datetime.now(UTC))

    def _since(self, now: datetime) -> datetime:
        state = _read(self._file)
        if {key: state.get(key) for key in self._written} != self._written:
            # A schedule counts from when it is first seen; so does one that was changed.
            _write(self._file, {**self._written, "before": None, "until": now.isoformat(), "run_id": None})
            return now
        return datetime.fromisoformat(state["before"] if _unfinished(self._runs, state) else state["until"])


class Continuous:
    """A job or a pipeline that runs again as soon as its run has ended.

    After failures it waits a minute, then twice as long each time, up to an hour, as a workspace puts off retries.
    """

    def __init__(self, resource: Resource, home: Home):
        self._resource, self._runs = resource, Runs(home, resource.key)
        self._failures = 0
        self._next = datetime.now(UTC)

    @property
    def key(self) -> str:
        return self._resource.key

    def __str__(self) -> str:
        return f"{self._resource.key}: without end"

    def due(self) -> Firing | None:
        """The firing for the next run, unless the last one failed a moment ago."""
        if datetime.now(UTC) < self._next:
            return None
        return Firing(self._resource, {"type": "CONTINUOUS"}, f"{self._resource.key}: again", lambda run_id: None)

    def ended(self, succeeded: bool) -> None:
        """Takes how the run ended."""
        self._failures = 0 if succeeded else self._failures + 1
        wait = min(_FIRST_RETRY * 2 ** min(self._failures - 1, 6), _LAST_RETRY) if self._failures else timedelta()
        self._next = datetime.now(UTC) + wait

    def next(self) -> datetime | None:
        return self._next


def _unfinished(runs: Runs, state: Mapping[str, Any]) -> bool:
    """Whether what was started last came to no end of its own."""
    run = runs.get(state["run_id"]) if state.get("run_id") is not None else None
    return run is not None and run.state in _UNFINISHED


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _write(file: Path, state: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    files.replace(file, json.dumps(state) + "\n")
