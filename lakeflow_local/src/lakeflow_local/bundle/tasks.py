"""The types of tasks that run here; each is the same code that the task runs on Databricks."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from lakeflow_local.bundle import alerts, dbutils, pipelines, sql_files
from lakeflow_local.bundle.load import Bundle, Resource, path_of
from lakeflow_local.bundle.runs import JobRun, Runs
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.home import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What the command line's handler of SIGTERM exits with: the end of the whole run.
TERMINATED = 143
_INPUT = re.compile(r"\{\{\s*input((?:\.[\w-]+)*)\s*\}\}")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUAL_TO": lambda left, right: left == right,
    "NOT_EQUAL": lambda left, right: left != right,
    "GREATER_THAN": lambda left, right: left > right,
    "GREATER_THAN_OR_EQUAL": lambda left, right: left >= right,
    "LESS_THAN": lambda left, right: left < right,
    "LESS_THAN_OR_EQUAL": lambda left, right: left <= right,
}


@dataclass(frozen=True)
class Context:
    """What a task may use.

    Attributes:
        job_parameters: those of the job; they win over a task's own parameter of the same name.
        full_refresh: a pipeline task starts anew, whatever its definition says.
        earlier: what the tasks before left, by task key.
        progress: takes one line of text.
        run_job: runs another job of the bundle by its resource.
    """

    spark: SparkSession
    bundle: Bundle
    home: Home
    job_parameters: Mapping[str, str]
    full_refresh: bool
    earlier: Mapping[str, Mapping[str, Any]]
    progress: Callable[[str], None]
    run_job: Callable[[Resource, Mapping[str, str]], JobRun]


def type_of(task: Value) -> str:
    """The key of the task's type, such as `sql_task`.

    Raises:
        LakeflowError: the task has none or several.
    """
    types = [key for key in task.data if key.endswith("_task")]
    if len(types) != 1:
        found = " and ".join(types) or "none"
        raise task.error(f"the task {task.plain('task_key')} needs exactly one type such as sql_task; it has {found}")
    return types[0]


def run(context: Context, task: Value) -> dict[str, Any]:
    """Runs one task, whose dynamic values are filled in, and returns the values that it leaves for later ones.

    Raises:
        LakeflowError: it failed, with the reason in one line.
        UnsupportedError: this type of task does not run here.
    """
    kind = type_of(task)
    runner = _RUNNERS.get(kind)
    if runner is None:
        raise _unsupported(task[kind], f"a {kind} does not run on this machine")
    from lakeflow_local.pipelines import databricks_sql

    with databricks_sql.understood():
        return runner(context, task[kind])


def _unsupported(value: Value, message: str) -> UnsupportedError:
    return UnsupportedError(message, file=value.place.file, line=value.place.line)


def _parameters(context: Context, value: Value, key: str) -> dict[str, str]:
    return {name: str(item) for name, item in {**value.plain(key, default={}), **context.job_parameters}.items()}


def _python_wheel(context: Context, value: Value) -> dict[str, Any]:
    package, name = str(value.plain("package_name")), str(value.plain("entry_point"))
    entry_point = find_entry_point(package, name)
    if entry_point is None:
        raise value.error(
            f"the entry point {name} of {package} is not installed in this environment; install the project"
            " (pip install -e .) after adding it to [project.scripts]"
        )
    if "named_parameters" in value:
        arguments = [f"--{key}={item}" for key, item in _parameters(context, value, "named_parameters").items()]
    else:
        arguments = [str(item) for item in value.plain("parameters", default=[])]
    left: dict[str, Any] = {}
    with _arguments([name, *arguments]), _exit_is_failure(name), dbutils.installed(context.earlier, left):
        returned = entry_point.load()()
    if isinstance(returned, int) and returned:
        raise LakeflowError(
            f"{name} returned {returned}, which a workspace ignores; let it raise an exception or call sys.exit"
        )
    return left


def find_entry_point(package: str, name: str) -> metadata.EntryPoint | None:
    """The entry point of an installed distribution, in whatever group it is; None if it is not installed."""
    try:
        return next(iter(metadata.distribution(package).entry_points.select(name=name)), None)
    except metadata.PackageNotFoundError:
        return None


def _spark_python(context: Context, value: Value) -> dict[str, Any]:
    if value.plain("source") == "GIT":
        raise _unsupported(value, "`source: GIT` is not supported on this machine; use the bundle's own files")
    file = path_of(value["python_file"])
    if not file.is_file():
        raise value["python_file"].error(f"there is no file {value['python_file'].data}")
    arguments = [str(item) for item in value.plain("parameters", default=[])]
    left: dict[str, Any] = {}
    sys.path.insert(0, str(file.parent))
    try:
        with (
            _arguments([str(file), *arguments]),
            _exit_is_failure(file.name),
            dbutils.installed(context.earlier, left) as utils,
        ):
            # A workspace gives a file these two names as well.
            runpy.run_path(str(file), {"spark": context.spark, "dbutils": utils}, run_name="__main__")
    finally:
        sys.path.remove(str(file.parent))
    return left


def _pipeline(context: Context, value: Value) -> dict[str, Any]:
    if value.plain("refresh_flow_selection"):
        raise _unsupported(
            value["refresh_flow_selection"],
            "`refresh_flow_selection` of a pipeline task is not supported on this machine; select datasets",
        )
    pipeline = context.bundle.by_id("pipelines", value.plain("pipeline_id"))
    if pipeline is None:
        raise value["pipeline_id"].error(
            "this pipeline is not one of the bundle; write ${resources.pipelines.<key>.id}"
        )
    full_refresh = (
        context.full_refresh or bool(value.plain("full_refresh")) or value.plain("full_refresh_selection", default=[])
    )
    return run_pipeline(
        context.spark,
        context.bundle,
        pipeline,
        context.home,
        full_refresh,
        context.progress,
        refresh=value.plain("refresh_selection", default=[]),
        reset_checkpoint=value.plain("reset_checkpoint_selection", default=[]),
    )


def run_pipeline(
    spark: SparkSession,
    bundle: Bundle,
    pipeline: Resource,
    home: Home,
    full_refresh: bool | Collection[str],
    progress: Callable[[str], None],
    *,
    refresh: Collection[str] = (),
    reset_checkpoint: Collection[str] = (),
) -> dict[str, Any]:
    """Runs one triggered update and returns its `update_id`.

    Args:
        full_refresh, refresh, reset_checkpoint: as of `pipelines.update.run`.

    Raises:
        LakeflowError: the update failed.
    """
    from lakeflow_local.pipelines import update

    spec = pipelines.spec(bundle, pipeline, home)
    runs = Runs(home, pipeline.key)
    with runs.recorded(bundle.target) as run:
        result = update.run(
            spark,
            spec,
            refresh=refresh,
            full_refresh=full_refresh,
            reset_checkpoint=reset_checkpoint,
            progress=runs.logged(run, progress),
        )
        run.trigger["update_id"] = result.update_id
        if not result.succeeded:
            raise LakeflowError(f"the update {result.update_id} of {pipeline.name} failed: {result.error}")
    return {"update_id": result.update_id}


def _alert(context: Context, value: Value) -> dict[str, Any]:
    alert = context.bundle.by_id("alerts", value.plain("alert_id"))
    if alert is None:
        raise value.error("this alert is not one of the bundle; write alert_id: ${resources.alerts.<key>.id}")
    found = alerts.evaluate(context.spark, alert, context.home)
    context.progress(str(found))
    return {"output": {"alert_state": found.state}}


def _sql(context: Context, value: Value) -> dict[str, Any]:
    path = value.get("file", "path")
    if path is None:
        kind = next((key for key in ("query", "alert", "dashboard") if key in value), "sql_task without `file`")
        raise _unsupported(value, f"{kind} in a SQL task does not run on this machine; only `file` does")
    if value.plain("file", "source") == "GIT":
        raise _unsupported(value, "`source: GIT` is not supported on this machine; use the bundle's own files")
    results = sql_files.run(context.spark, path_of(path), _parameters(context, value, "parameters"))
    if not results:
        return {}
    # As on Databricks, later tasks see what the last statement returned.
    rows = [row.asDict(recursive=True) for row in results[-1].rows]
    return {"output": {"rows": rows, "first_row": rows[0] if rows else {}}}


def _condition(context: Context, value: Value) -> dict[str, Any]:
    operator = str(value.plain("op"))
    left, right = str(value.plain("left", default="")), str(value.plain("right", default=""))
    if operator in ("EQUAL_TO", "NOT_EQUAL"):
        outcome = _COMPARISONS[operator](left, right)
    else:
        try:
            outcome = _COMPARISONS[operator](float(left), float(right))
        except ValueError:
            raise value.error(f"{operator} compares numbers, not `{left}` and `{right}`") from None
    context.progress(f"{left} {operator} {right}: {str(outcome).lower()}")
    return {"outcome": str(outcome).lower()}


def _run_job(context: Context, value: Value) -> dict[str, Any]:
    job = context.bundle.by_id("jobs", value.plain("job_id"))
    if job is None:
        raise value["job_id"].error("this job is not one of the bundle; write ${resources.jobs.<key>.id}")
    parameters = {name: str(item) for name, item in value.plain("job_parameters", default={}).items()}
    run = context.run_job(job, parameters)
    if not run.succeeded:
        raise LakeflowError(f"the job {job.key} ended as {run.state}: {run.error or 'see its run'}")
    return {"run_id": run.run_id}


def _for_each(context: Context, value: Value) -> dict[str, Any]:
    """Runs the nested task once for each input, one after the other, and the rest also after one has failed."""
    given = value.plain("inputs")
    try:
        inputs = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        inputs = None
    if not isinstance(inputs, list):
        raise value["inputs"].error(f"inputs is not a JSON array: {given}")
    failed = []
    for number, item in enumerate(inputs, start=1):
        try:
            run(context, _with_input(value["task"], item))
        except Exception as error:
            failed.append(f"input {number}: {error}")
            context.progress(failed[-1])
    if failed:
        raise LakeflowError(f"{len(failed)} of {len(inputs)} inputs failed; {failed[0]}")
    return {}


def _with_input(value: Value, item: Any) -> Value:
    """`value` with what `{{input}}` and `{{input.name}}` stand for."""
    if isinstance(value.data, dict):
        return Value({key: _with_input(part, item) for key, part in value.data.items()}, value.place)
    if isinstance(value.data, list):
        return Value([_with_input(part, item) for part in value.data], value.place)
    if not isinstance(value.data, str):
        return value

    def text(match: re.Match[str]) -> str:
        found = item
        for name in filter(None, match[1].split(".")):
            if not isinstance(found, dict) or name not in found:
                raise value.error(f"{match[0]}: the input {json.dumps(item)} has no {name}")
            found = found[name]
        return found if isinstance(found, str) else json.dumps(found)

    return Value(_INPUT.sub(text, value.data), value.place)


_RUNNERS: dict[str, Callable[[Context, Value], dict[str, Any]]] = {
    "python_wheel_task": _python_wheel,
    "spark_python_task": _spark_python,
    "pipeline_task": _pipeline,
    "sql_task": _sql,
    "condition_task": _condition,
    "run_job_task": _run_job,
    "alert_task": _alert,
    "for_each_task": _for_each,
}


@contextmanager
def _arguments(arguments: Sequence[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, list(arguments)
    try:
        yield
    finally:
        sys.argv = before
        sys.stdout.flush()


@contextmanager
def _exit_is_failure(name: str) -> Iterator[None]:
    """`sys.exit` ends the task, not the run."""
    try:
        yield
    except SystemExit as error:
        if error.code == TERMINATED:
            raise
        if error.code not in (None, 0):
            reason = error.code if isinstance(error.code, str) else f"it exited with {error.code}"
            raise LakeflowError(f"{name}: {reason}") from error


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """The process's environment with `values`, put back at the end."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
