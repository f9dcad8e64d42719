"""Runs the task graph of a job."""

from __future__ import annotations

import json
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakeflow_local import home as homes
from lakeflow_local.bundle import tasks
from lakeflow_local.bundle.load import Bundle, Resource
from lakeflow_local.bundle.runs import JobRun, Runs, TaskRun, now
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.home import Home
from lakeflow_local.pipelines.jvm import make_active

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from rich.table import Table

DYNAMIC = re.compile(r"\{\{\s*((?:job|task|tasks|workspace)\.[\w.-]+)\s*\}\}")
_FAILED = frozenset({"FAILED", "TIMEDOUT", "CANCELED", "UPSTREAM_FAILED"})


class _TimedOut(BaseException):
    """Not an Exception, so that no task takes it for a failure of its own to be handled."""


def run(
    spark: SparkSession,
    bundle: Bundle,
    key: str,
    *,
    parameters: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = print,
    environment: Mapping[str, str] | None = None,
    full_refresh: bool = False,
    trigger: Mapping[str, Any] | None = None,
    started: Callable[[JobRun], None] | None = None,
    home: Home | None = None,
) -> JobRun:
    """Runs the job `key` to its end.

    Args:
        parameters: job parameters that replace the defaults of the definition.
        progress: takes each line of progress.
        environment: variables of the process while tasks run, such as those of the local servers.
        full_refresh: pipeline tasks start anew.
        trigger: what started it, kept with the run.
        started: called once, after the run is recorded and before its first task.

    Returns:
        The run as it was kept; a failed task does not raise.

    Raises:
        LakeflowError: the run could not start.
    """
    job = bundle.find(key, "jobs")
    return _Execution(
        spark, bundle, job, home or homes.find(bundle.root), progress, full_refresh, dict(environment or {}), (key,)
    ).run(parameters or {}, dict(trigger or {"type": "ONE_TIME"}), started)


def ensure_schemas(spark: SparkSession, bundle: Bundle) -> None:
    """Creates the schemas of the bundle that the catalog does not have yet."""
    from pyspark.errors import PySparkException

    existing: dict[str, set[str]] = {}
    for schema in bundle.of_type("schemas").values():
        catalog, name = str(schema.value.plain("catalog_name")), str(schema.value.plain("name"))
        if catalog not in existing:
            try:
                existing[catalog] = {row[0] for row in spark.sql(f"SHOW SCHEMAS IN `{catalog}`").collect()}
            except PySparkException:
                raise schema.value["catalog_name"].error(f"the session has no catalog {catalog}") from None
        if name.lower() in existing[catalog]:
            continue
        statement = f"CREATE SCHEMA IF NOT EXISTS `{catalog}`.`{name}`"
        for clause, field in (("COMMENT", "comment"), ("LOCATION", "storage_root")):
            if text := schema.value.plain(field):
                escaped = str(text).replace("\\", "\\\\").replace("'", "\\'")
                statement += f" {clause} '{escaped}'"
        spark.sql(statement)


def job_parameters(job: Resource, given: Mapping[str, str]) -> dict[str, str]:
    """The job's parameters, defaults replaced by those given.

    Raises:
        LakeflowError: the job has no such parameter.
    """
    known = {
        str(item.plain("name")): str(item.plain("default", default="")) for item in job.value.sequence("parameters")
    }
    for name in given:
        if name not in known:
            raise job.value.error(f"{job.label} has no parameter `{name}`; it has {', '.join(known) or 'none'}")
    return {**known, **given}


class _Execution:
    def __init__(
        self,
        spark: SparkSession,
        bundle: Bundle,
        job: Resource,
        home: Home,
        progress: Callable[[str], None],
        full_refresh: bool,
        environment: dict[str, str],
        callers: tuple[str, ...],
    ):
        self._spark, self._bundle, self._job, self._home = spark, bundle, job, home
        self._progress, self._full_refresh, self._environment = progress, full_refresh, environment
        self._callers = callers
        self._runs = Runs(home, job.key)
        # What tasks return stays in memory: rows of data do not belong into the file of the run.
        self._outputs: dict[str, dict[str, Any]] = {}
        self._deadline: float | None = None

    def run(
        self, given: Mapping[str, str], trigger: dict[str, Any], started: Callable[[JobRun], None] | None
    ) -> JobRun:
        definition = self._job.value
        if "git_source" in definition:
            at = definition["git_source"].place
            message = "`git_source` of a job is not supported on this machine; leave it to another target"
            raise UnsupportedError(message, file=at.file, line=at.line)
        self._parameters = job_parameters(self._job, given)
        entries = {str(task.plain("task_key")): task for task in definition.sequence("tasks")}
        order = sorted_tasks(self._job)
        run = self._runs.create(
            self._bundle.target,
            trigger,
            dict(self._parameters),
            [TaskRun(key, tasks.type_of(entries[key])) for key in order],
        )
        self._run = run
        self._progress = self._runs.logged(run, self._progress)
        most = int(definition.plain("max_concurrent_runs", default=1))
        # A bundle's jobs queue unless they say otherwise, as the databricks CLI deploys them.
        queued = bool(definition.plain("queue", "enabled", default=True))
        with self._runs.living(run):
            try:
                with self._runs.slot(most, wait=queued, waiting=lambda: self._say("waits for the run before it")):
                    ensure_schemas(self._spark, self._bundle)
                    run.state, run.start = "RUNNING", now()
                    self._runs.save(run)
                    if started is not None:
                        started(run)
                    self._run_tasks(order, entries)
            except LakeflowError as error:
                run.state = "FAILED" if run.start else "SKIPPED"
                run.error = str(error)
                raise
            except BaseException:
                run.state, run.error = "CANCELED", "interrupted"
                for task in run.tasks:
                    if task.state == "RUNNING":
                        task.state, task.end = "CANCELED", now()
                raise
            finally:
                run.end = now()
                self._runs.save(run)
        self._say(f"{run.state} in {run.seconds:.1f} s")
        return run

    def _run_tasks(self, order: list[str], entries: Mapping[str, Value]) -> None:
        run = self._run
        if seconds := self._job.value.plain("timeout_seconds", default=0):
            self._deadline = time.monotonic() + seconds
        # One task after another in an order in which each finds its dependencies done.
        for key in order:
            task, entry = run.task(key), entries[key]
            state = "DISABLED" if entry.plain("disabled") else verdict(entry, run, self._outputs)
            if state is None:
                self._run_task(task, entry)
            else:
                task.state = state
                self._say(f"{key}: {state}")
            self._runs.save(run)
        leaves = set(order) - {
            str(item.plain("task_key")) for entry in entries.values() for item in entry.sequence("depends_on")
        }
        failed = [task for task in run.tasks if task.state in _FAILED]
        if any(task.key in leaves for task in failed):
            timed_out = self._deadline is not None and time.monotonic() >= self._deadline
            run.state = "TIMEDOUT" if timed_out else "FAILED"
            first = next((task for task in failed if task.error), failed[0])
            run.error = f"{first.key}: {first.error or first.state}"
        else:
            run.state = "SUCCESS_WITH_FAILURES" if failed else "SUCCESS"

    def _run_task(self, task: TaskRun, entry: Value) -> None:
        retries = int(entry.plain("max_retries", default=0))
        pause = int(entry.plain("min_retry_interval_millis", default=0)) / 1000
        self._say(f"{task.key}: started")
        task.start = now()
        while True:
            task.attempts += 1
            task.state, task.error = "RUNNING", None
            self._runs.save(self._run)
            self._attempt(task, entry)
            again = task.state == "FAILED" or (task.state == "TIMEDOUT" and bool(entry.plain("retry_on_timeout")))
            left = retries < 0 or task.attempts <= retries
            if not again or not left or self._out_of_time(pause):
                break
            self._say(f"{task.key}: attempt {task.attempts} failed: {task.error}; again in {pause:g} s")
            time.sleep(pause)
        task.end = now()
        self._say(f"{task.key}: {task.state} in {task.seconds:.1f} s{f': {task.error}' if task.error else ''}")

    def _out_of_time(self, pause: float) -> bool:
        return self._deadline is not None and time.monotonic() + pause >= self._deadline

    def _attempt(self, task: TaskRun, entry: Value) -> None:
        context = tasks.Context(
            spark=self._spark,
            bundle=self._bundle,
            home=self._home,
            job_parameters=self._parameters,
            full_refresh=self._full_refresh,
            earlier=self._outputs,
            progress=lambda line: self._progress(f"  {line}"),
            run_job=self._run_job,
        )
        limits = [float(entry.plain("timeout_seconds", default=0)) or None]
        if self._deadline is not None:
            limits.append(self._deadline - time.monotonic())
        limit = min((value for value in limits if value is not None), default=None)
        try:
            filled = self._fill(entry, task)
            with tasks.environment(self._environment), _time_limit(limit, self._stop_spark):
                values = tasks.run(context, filled)
        except _TimedOut:
            task.state, task.error = "TIMEDOUT", f"it took longer than the {limit:g} s that it has"
        except Exception as error:
            task.state, task.error = "FAILED", str(_as_fault(error, self._bundle.root))
        else:
            task.state = "SUCCESS"
            self._outputs[task.key] = values
            task.values = {key: value for key, value in values.items() if key != "output"}

    def _stop_spark(self) -> None:
        # The interrupted call leaves its answer in the connection, where the next call would wait for it and take
        # it for its own; the next call may be in the clean-up of the code that is interrupted.
        connection = self._spark.sparkContext._gateway._gateway_client.get_thread_connection()
        if connection is not None:
            connection.close()
        make_active(self._spark)
        for query in self._spark.streams.active:
            query.stop()
        self._spark.sparkContext.cancelAllJobs()

    def _run_job(self, job: Resource, parameters: Mapping[str, str]) -> JobRun:
        if job.key in self._callers:
            raise job.value.error(
                f"the jobs {' → '.join((*self._callers, job.key))} run each other in a circle; remove one run_job_task"
            )
        callers = (*self._callers, job.key)
        trigger = {"type": "RUN_JOB_TASK", "run_id": self._run.run_id}
        return _Execution(
            self._spark, self._bundle, job, self._home, self._progress, self._full_refresh, self._environment, callers
        ).run(parameters, trigger, None)

    def _fill(self, value: Value, task: TaskRun) -> Value:
        """Replaces `{{job.…}}`, `{{task.…}}` and `{{tasks.…}}`; other double braces are the task's own."""
        if isinstance(value.data, dict):
            return Value({key: self._fill(item, task) for key, item in value.data.items()}, value.place)
        if isinstance(value.data, list):
            return Value([self._fill(item, task) for item in value.data], value.place)
        if not isinstance(value.data, str):
            return value

        def replacement(match: re.Match[str]) -> str:
            found = self._dynamic(match[1].split("."), task)
            if found is None:
                raise value.error(f"{match[0]} has no value here")
            if isinstance(found, bool):
                return str(found).lower()
            return found if isinstance(found, str) else json.dumps(found, default=str)

        return Value(DYNAMIC.sub(replacement, value.data), value.place)

    def _dynamic(self, path: list[str], task: TaskRun) -> Any:
        start = datetime.fromisoformat(self._run.start or now())
        match path:
            case ["job", "id"]:
                return self._job.id
            case ["job", "name"]:
                return self._job.name
            case ["job", "run_id"]:
                return str(self._run.run_id)
            case ["job", "repair_count"]:
                return "0"
            case ["job", "parameters", name]:
                return self._parameters.get(name)
            case ["job", "start_time", part]:
                return _time_part(start, part)
            case ["job", "trigger", "type"]:
                return self._run.trigger["type"].lower()
            case ["job", "trigger", "time", part] if "time" in self._run.trigger:
                return _time_part(datetime.fromisoformat(self._run.trigger["time"]), part)
            case ["job", "trigger", "file_arrival", "location"]:
                return self._run.trigger.get("url")
            case ["task", "name"]:
                return task.key
            case ["task", "run_id"]:
                return f"{self._run.run_id}{self._run.tasks.index(task):03d}"
            case ["task", "execution_count"]:
                return str(task.attempts)
            case ["tasks", key, "result_state"]:
                return next((other.state.lower() for other in self._run.tasks if other.key == key), None)
            case ["tasks", key, "values", name]:
                return self._outputs.get(key, {}).get(name)
            case ["tasks", key, "output", *names]:
                found: Any = self._outputs.get(key, {}).get("output")
                for name in names:
                    found = found.get(name) if isinstance(found, dict) else None
                return found
        return None

    def _say(self, line: str) -> None:
        self._progress(f"{self._job.key}: {line}")


def _time_part(time: datetime, part: str) -> str | None:
    parts = {
        "iso_date": time.date().isoformat(),
        "iso_datetime": time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "timestamp_ms": str(int(time.timestamp() * 1000)),
        "iso_weekday": str(time.isoweekday()),
        "is_weekday": str(time.isoweekday() < 6).lower(),
        **{name: str(getattr(time, name)) for name in ("year", "month", "day", "hour", "minute", "second")},
    }
    return parts.get(part)


def sorted_tasks(job: Resource) -> list[str]:
    """The keys of the job's tasks, each after those that it depends on, else in the order of the file.

    Raises:
        LakeflowError: a key is missing or given twice, a dependency does not exist, or there is a circle.
    """
    entries: dict[str, Value] = {}
    for task in job.value.sequence("tasks"):
        key = task.plain("task_key")
        if key is None:
            raise task.error(f"{job.label}: a task needs a task_key")
        if key in entries:
            raise task.error(f"{job.label}: two tasks have the key {key}")
        entries[str(key)] = task
    order: list[str] = []
    opened: list[str] = []

    def visit(key: str) -> None:
        if key in order:
            return
        if key in opened:
            circle = " → ".join([*opened[opened.index(key) :], key])
            raise entries[key].error(
                f"{job.label}: the tasks {circle} depend on each other in a circle; remove one depends_on"
            )
        opened.append(key)
        for dependency in entries[key].sequence("depends_on"):
            other = str(dependency.plain("task_key"))
            if other not in entries:
                raise dependency.error(f"{job.label}: the task {key} depends on {other}, which does not exist")
            visit(other)
        opened.pop()
        order.append(key)

    for key in entries:
        visit(key)
    return order


def verdict(entry: Value, run: JobRun, outputs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The state of a task that does not run, or None if it runs.

    Source: "Configure task dependencies", "Disabled tasks" and "If/else" of the Lakeflow Jobs documentation.
    """
    states: list[str] = []
    for dependency in entry.sequence("depends_on"):
        key = str(dependency.plain("task_key"))
        state, outcome = run.task(key).state, dependency.plain("outcome")
        if state == "SUCCESS" and outcome is not None:
            state = "SUCCESS" if str(outcome).lower() == outputs.get(key, {}).get("outcome") else "EXCLUDED"
            if state == "EXCLUDED" and entry.plain("run_if", default="ALL_SUCCESS") == "ALL_SUCCESS":
                return "EXCLUDED"
        states.append(state)
    if not states:
        return None
    if all(state == "EXCLUDED" for state in states):
        return "EXCLUDED"
    succeeded = [state in ("SUCCESS", "EXCLUDED") for state in states]
    failed = [state in _FAILED for state in states]
    unmet = "DISABLED" if "DISABLED" in states and not any(failed) else "UPSTREAM_FAILED"
    match entry.plain("run_if", default="ALL_SUCCESS"):
        case "ALL_SUCCESS":
            return None if all(succeeded) else unmet
        case "AT_LEAST_ONE_SUCCESS":
            return None if "SUCCESS" in states else unmet
        case "NONE_FAILED":
            return None if not any(failed) and "SUCCESS" in states else unmet
        case "ALL_DONE":
            return None
        case "AT_LEAST_ONE_FAILED":
            return None if any(failed) else "EXCLUDED"
        case "ALL_FAILED":
            return None if all(failed) else "EXCLUDED"
        case other:
            raise entry["run_if"].error(f"run_if has no condition {other}")


@contextmanager
def _time_limit(seconds: float | None, stop: Callable[[], None]) -> Iterator[None]:
    """After `seconds`, calls `stop` and interrupts what runs in the main thread, wherever it waits."""
    if seconds is None:
        yield
        return

    def expired(*_: object) -> None:
        stop()
        raise _TimedOut

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _as_fault(error: Exception, root: Path) -> LakeflowError:
    """An exception of a task as one line, with the line of the bundle's own code that it came through."""
    if isinstance(error, LakeflowError):
        return error
    from lakeflow_local.pipelines.sources import describe

    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(root) and not {".venv", "site-packages"} & set(file.parts):
            return LakeflowError(describe(error), file=file, line=frame.lineno)
    return LakeflowError(describe(error))


def table(run: JobRun) -> Table:
    """The tasks of a run for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{run.job} {run.run_id}: {run.state}", title_justify="left")
    for column in ("task", "type", "state", "seconds", "attempts", "error"):
        table.add_column(column, justify="right" if column in ("seconds", "attempts") else "left", overflow="fold")
    for task in run.tasks:
        seconds = f"{task.seconds:.1f}" if task.seconds is not None else ""
        cells = (task.key, task.type, task.state, seconds, str(task.attempts or ""), task.error or "")
        table.add_row(*map(Text, cells))
    return table
