"""What `bundle validate` finds: the typed classes' faults, and those that no other validator reports."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlglot import exp

from lakeflow_local.bundle import cron, jobs, pipelines, tasks, typed
from lakeflow_local.bundle.load import Bundle, Resource, path_of
from lakeflow_local.bundle.queries import outlined, parsed, sql_tasks, suggest
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.sql.tokens import Source

# What a trigger accepts; see "Trigger jobs when new files arrive".
LEAST_TRIGGER_SECONDS = 60
PIPELINE_ALERTS = ("on-update-success", "on-update-failure", "on-update-fatal-failure", "on-flow-failure")
CHANNELS = ("CURRENT", "PREVIEW")
EDITIONS = ("CORE", "PRO", "ADVANCED")
_COMPUTE = ("environment_key", "job_cluster_key", "new_cluster", "existing_cluster_id")
_NEEDS_COMPUTE = ("python_wheel_task", "spark_python_task")
# The levels of each type; the typed classes know one list for all types that came after jobs and pipelines.
PERMISSION_LEVELS = {
    "alerts": ("CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"),
    "dashboards": ("CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"),
    "sql_warehouses": ("CAN_VIEW", "CAN_MONITOR", "CAN_USE", "CAN_MANAGE", "IS_OWNER"),
}
# See "What is a dynamic value reference?".
_DYNAMIC = re.compile(
    r"job\.(id|name|run_id|repair_count|parameters\.[\w-]+|start_time\.\w+|trigger\.(type|time\.\w+|file_arrival\.location))"
    r"|task\.(name|run_id|execution_count|notebook_path)"
    r"|tasks\.[\w-]+\.(run_id|result_state|error_code|execution_count|values\.[\w-]+|output\.[\w.-]+)"
    r"|workspace\.(id|url)"
)


def check_sources(bundle: Bundle) -> list[LakeflowError]:
    """What is wrong with the sources of the pipelines, as far as it shows without Spark."""
    faults = []
    for pipeline in bundle.of_type("pipelines").values():
        if not typed.check(pipeline) and (found := outlined(bundle, pipeline)) is not None:
            faults += [LakeflowError(fault.message, file=fault.file, line=fault.line) for fault in found.errors]
    return faults


def check_resources(bundle: Bundle) -> list[LakeflowError]:
    """Every fault of every resource, by file and line."""
    faults: list[LakeflowError] = []
    for resources in bundle.resources.values():
        for resource in resources.values():
            found = typed.check(resource)
            faults += found
            # What is not of the right shape cannot be looked at more closely.
            if not found:
                for rule in (*_RULES.get(resource.type, ()), *_OF_ALL):
                    faults += rule(bundle, resource)
    unique = {str(fault): fault for fault in faults}
    return sorted(unique.values(), key=lambda fault: (str(fault.file or ""), fault.line or 0))


def _graph(bundle: Bundle, job: Resource) -> Iterator[LakeflowError]:
    try:
        jobs.sorted_tasks(job)
    except LakeflowError as error:
        yield error
    for task in job.value.sequence("tasks"):
        try:
            tasks.type_of(task)
        except LakeflowError as error:
            yield error
        for dependency in task.sequence("depends_on"):
            key = dependency.plain("task_key")
            other = next((other for other in job.value.sequence("tasks") if other.plain("task_key") == key), None)
            outcome = dependency.get("outcome")
            if outcome is not None and other is not None and "condition_task" not in other:
                yield outcome.error(f"{job.label}: `outcome` needs a condition_task, and {key} is not one")


def _compute(bundle: Bundle, job: Resource) -> Iterator[LakeflowError]:
    environments = {item.plain("environment_key") for item in job.value.sequence("environments")}
    clusters = {item.plain("job_cluster_key") for item in job.value.sequence("job_clusters")}
    for task in job.value.sequence("tasks"):
        key = task.plain("task_key")
        for name, known in (("environment_key", environments), ("job_cluster_key", clusters)):
            chosen = task.get(name)
            if chosen is not None and chosen.data not in known:
                listed = ", ".join(sorted(map(str, known))) or "none"
                yield chosen.error(f"{job.label}: the task {key} names the {name} {chosen.data}; there is {listed}")
        if any(kind in task for kind in _NEEDS_COMPUTE) and not any(name in task for name in _COMPUTE):
            yield task.error(f"{job.label}: the task {key} needs one of {', '.join(_COMPUTE)}")


def _schedule(bundle: Bundle, resource: Resource) -> Iterator[LakeflowError]:
    for schedule in filter(None, (resource.value.get("schedule"),)):
        expression = schedule.get("quartz_cron_expression") or schedule["quartz_cron_schedule"]
        if fault := cron.check(str(expression.data)):
            yield expression.error(f"{resource.label}: `{expression.data}`: {fault}")
        zone = schedule["timezone_id"]
        try:
            ZoneInfo(str(zone.data))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield zone.error(f"{resource.label}: there is no time zone {zone.data}")


def _times(bundle: Bundle, job: Resource) -> Iterator[LakeflowError]:
    starts = [key for key in ("schedule", "trigger", "continuous") if key in job.value]
    if len(starts) > 1:
        yield job.value[starts[1]].error(f"{job.label} has {' and '.join(starts)}; a job has at most one of them")
    limit = job.value.plain("timeout_seconds")
    for rule in job.value.sequence("health", "rules"):
        if rule.plain("metric") == "RUN_DURATION_SECONDS" and limit and int(rule.plain("value")) >= int(limit):
            yield rule.error(f"{job.label}: a run ends after timeout_seconds {limit}, before this rule of health warns")
    for kind in ("file_arrival", "table_update"):
        for key in ("min_time_between_triggers_seconds", "wait_after_last_change_seconds"):
            seconds = job.value.get("trigger", kind, key)
            if seconds is not None and int(seconds.data) < LEAST_TRIGGER_SECONDS:
                yield seconds.error(f"{job.label}: {key} is at least {LEAST_TRIGGER_SECONDS}, not {seconds.data}")
    url = job.value.get("trigger", "file_arrival", "url")
    if url is not None and not re.match(
        r"(s3|s3a|abfss|gs)://[^/]+|/Volumes/[^/]+/[^/]+/[^/]+|(file:)?/", str(url.data)
    ):
        yield url.error(f"{job.label}: {url.data} is not the URL of an external location or volume")


def _files(bundle: Bundle, job: Resource) -> Iterator[LakeflowError]:
    for task in job.value.sequence("tasks"):
        for path in (
            ("spark_python_task", "python_file"),
            ("notebook_task", "notebook_path"),
            ("sql_task", "file", "path"),
        ):
            value = task.get(*path)
            if value is None or task.plain(path[0], "source") == "GIT" or task.plain(*path[:-1], "source") == "GIT":
                continue
            if str(value.data).startswith(("/", "dbfs:", "s3:", "abfss:", "gs:")):
                continue
            file = path_of(value)
            if not file.is_file() and not (path[0] == "notebook_task" and any(file.parent.glob(file.name + ".*"))):
                yield value.error(f"{job.label}: there is no file {value.data}")


def _entry_points(bundle: Bundle, job: Resource) -> Iterator[LakeflowError]:
    for task in job.value.sequence("tasks"):
        wheel = task.get("python_wheel_task")
        if wheel is None:
            continue
        package, name = wheel["package_name"], wheel["entry_point"]
        distribution, declared = _project(bundle.root)
        if _normal(str(package.data)) != distribution:
            if tasks.find_entry_point(str(package.data), str(name.data)) is None:
                yield package.error(
                    f"{job.label}: {package.data} is neither the distribution of pyproject.toml nor installed here"
                    f" with an entry point {name.data}"
                )
        elif name.data not in declared:
            meant = suggest(str(name.data), declared)
            yield name.error(f"{job.label}: pyproject.toml declares no entry point {name.data}{meant}")


def _project(root: Path) -> tuple[str | None, set[str]]:
    file = root / "pyproject.toml"
    if not file.is_file():
        return None, set()
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise LakeflowError(f"this is not TOML: {error}", file=file) from None
    groups = [project.get("scripts", {}), *project.get("entry-points", {}).values()]
    return _normal(project.get("name", "")), {name for group in groups for name in group}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _dynamic_values(bundle: Bundle, job: Resource) -> Iterator[LakeflowError]:
    parameters = {str(item.plain("name")) for item in job.value.sequence("parameters")}
    keys = {str(task.plain("task_key")) for task in job.value.sequence("tasks")}
    for task in job.value.sequence("tasks"):
        for scalar in task.scalars():
            for match in jobs.DYNAMIC.finditer(scalar.data) if isinstance(scalar.data, str) else ():
                if not _DYNAMIC.fullmatch(match[1]):
                    yield scalar.error(f"{job.label}: {match[0]} is no dynamic value that a job has")
                    continue
                match match[1].split("."):
                    case ["job", "parameters", name] if name not in parameters:
                        yield scalar.error(f"{job.label}: {match[0]}: the job has no parameter {name}")
                    case ["tasks", key, *_] if key not in keys:
                        yield scalar.error(f"{job.label}: {match[0]}: the job has no task {key}")


def _references(bundle: Bundle, job: Resource) -> Iterator[LakeflowError]:
    for task in job.value.sequence("tasks"):
        for path, type in ((("pipeline_task", "pipeline_id"), "pipelines"), (("run_job_task", "job_id"), "jobs")):
            value = task.get(*path)
            if value is not None and bundle.by_id(type, value.data) is None:
                yield value.error(
                    f"{job.label}: {path[1]} is not one of the bundle; write ${{resources.{type}.<key>.id}}"
                )
        called = bundle.by_id("jobs", task.plain("run_job_task", "job_id"))
        if called is not None:
            known = [str(item.plain("name")) for item in called.value.sequence("parameters")]
            for name, item in task.mapping("run_job_task", "job_parameters").items():
                if name not in known:
                    yield item.error(f"{job.label}: the job {called.key} has no parameter {name}{suggest(name, known)}")


def _sql_text(bundle: Bundle, job: Resource) -> Iterator[LakeflowError]:
    for key, path, parameters in sql_tasks(job):
        file = path_of(path)
        try:
            parsed(Source(file.read_text(encoding="utf-8"), file), parameters)
        except LakeflowError as error:
            yield LakeflowError(f"{job.label}, task {key}: {error.message}", file=error.file, line=error.line)


def _alert(bundle: Bundle, alert: Resource) -> Iterator[LakeflowError]:
    query, rules = alert.value["query_text"], alert.value["evaluation"]
    try:
        statements = parsed(Source(str(query.data)), {})
    except LakeflowError as error:
        yield query.error(f"{alert.label}: {error.message}")
        return
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        yield query.error(f"{alert.label}: write one query")
        return
    columns = statements[0].named_selects
    for path in (("source",), ("threshold", "column")):
        name = rules.get(*path, "name")
        if name is not None and "*" not in columns and name.data not in columns:
            yield name.error(
                f"{alert.label}: the query returns no column {name.data}{suggest(str(name.data), columns)}"
            )
    operator = rules.plain("comparison_operator")
    if ("threshold" in rules) == (operator in ("IS_NULL", "IS_NOT_NULL")):
        yield rules.error(f"{alert.label}: {operator} needs {'no' if 'threshold' in rules else 'a'} threshold")
    if not rules.sequence("notification", "subscriptions"):
        yield rules.error(f"{alert.label} tells nobody; give evaluation.notification.subscriptions")


def _dashboard(bundle: Bundle, dashboard: Resource) -> Iterator[LakeflowError]:
    from lakeflow_local.dashboard import document, lint  # which read queries by this package

    path = dashboard.value.get("file_path")
    if path is None:
        return
    try:
        faults = lint.lint(document.read(path_of(path)))
    except LakeflowError as error:
        faults = [error.message]
    for fault in faults:
        yield path.error(f"{dashboard.label}: {path.data}: {fault}")


def _addresses(bundle: Bundle, resource: Resource) -> Iterator[LakeflowError]:
    value = resource.value
    found = [
        *(
            item
            for kind in value.mapping("email_notifications")
            for item in value.sequence("email_notifications", kind)
        ),
        *(item for entry in value.sequence("notifications") for item in entry.sequence("email_recipients")),
        *(
            item["user_email"]
            for item in value.sequence("evaluation", "notification", "subscriptions")
            if "user_email" in item
        ),
    ]
    for item in found:
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", str(item.data)):
            yield item.error(f"{resource.label}: {item.data or 'nothing'} is no e-mail address")


def _permissions(bundle: Bundle, resource: Resource) -> Iterator[LakeflowError]:
    for permission in resource.value.sequence("permissions"):
        whom = [key for key in ("group_name", "service_principal_name", "user_name") if permission.plain(key)]
        if len(whom) != 1:
            yield permission.error(f"{resource.label}: a permission names one group, user or service principal")
        if resource.type in PERMISSION_LEVELS:
            yield from _word(permission["level"], PERMISSION_LEVELS[resource.type], f"{resource.label}: a level")


def _pipeline(bundle: Bundle, pipeline: Resource) -> Iterator[LakeflowError]:
    value, label = pipeline.value, pipeline.label
    for library in value.sequence("libraries"):
        try:
            if not pipelines.files_of(library):
                yield pipelines.no_file(library, label)
        except UnsupportedError:
            pass  # a jar or a Maven coordinate is right in a workspace; running it here refuses
    root = value.get("root_path")
    if root is not None and not path_of(root).is_dir():
        yield root.error(f"{label}: there is no folder {root.data}")
    for notification in value.sequence("notifications"):
        for alert in notification.sequence("alerts"):
            yield from _word(alert, PIPELINE_ALERTS, f"{label}: an alert")
    for key, words in (("channel", CHANNELS), ("edition", EDITIONS)):
        if (word := value.get(key)) is not None:
            yield from _word(word, words, f"{label}: {key}")
    if value.plain("serverless") is True and value.sequence("clusters"):
        yield value["clusters"].error(f"{label}: a serverless pipeline has no clusters; remove one of the two")
    for key in ("catalog", "schema"):
        if not value.plain(key):
            yield value.error(f"{label} needs `{key}`")


def _word(value: Value, words: tuple[str, ...], what: str) -> Iterator[LakeflowError]:
    if str(value.data) not in words:
        yield value.error(f"{what} is one of {', '.join(words)}, not {value.data}")


_RULES: dict[str, tuple[Callable[[Bundle, Resource], Iterator[LakeflowError]], ...]] = {
    "jobs": (_graph, _compute, _schedule, _times, _files, _sql_text, _entry_points, _dynamic_values, _references),
    "pipelines": (_pipeline,),
    "alerts": (_schedule, _alert),
    "dashboards": (_dashboard,),
}
_OF_ALL = (_addresses, _permissions)
