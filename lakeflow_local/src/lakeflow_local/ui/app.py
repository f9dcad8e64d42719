"""The pages of `lakeflow-local ui`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, abort, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.exceptions import HTTPException

from lakeflow_local import drawing
from lakeflow_local.bundle import graph, starts
from lakeflow_local.bundle.load import Resource
from lakeflow_local.bundle.runs import ENDED, JobRun
from lakeflow_local.errors import LakeflowError
from lakeflow_local.ui import console, personal, tables
from lakeflow_local.ui.access import Access
from lakeflow_local.ui.console import Console
from lakeflow_local.ui.processes import Processes
from lakeflow_local.ui.project import Outline, Project
from lakeflow_local.ui.updates import EventLogs, Update

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SAMPLE = 50
RUNS = 30
EVENTS = 500
_COMMITS = 20
_TAGS_SECONDS = 10

# State → what it looks like; what is not here is idle.
_LOOKS = {
    **dict.fromkeys(("SUCCESS", "COMPLETED", "DONE", "OK"), "succeeded"),
    **dict.fromkeys(("FAILED", "TIMEDOUT", "INTERNAL_ERROR", "UPSTREAM_FAILED"), "failed"),
    **dict.fromkeys(("SUCCESS_WITH_FAILURES", "CANCELED", "STOPPED"), "warned"),
    **dict.fromkeys(("RUNNING", "STARTING", "INITIALIZING", "SETTING_UP_TABLES", "WAITING", "QUEUED"), "running"),
}


def create_app(
    project: Project,
    *,
    session: Callable[[], AbstractContextManager[SparkSession]],
    access: Access,
    allow_runs: bool = False,
    show_pii: bool = False,
) -> Flask:
    """The application, for whoever serves it.

    Args:
        session: of the page SQL, entered with its first query.
        allow_runs: pages start and cancel runs.
        show_pii: personal columns are shown.
    """
    app = Flask(__name__)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters |= {"look": look, "seconds": seconds, "moment": moment, "number": number}
    access.protect(app)
    pages = _Pages(project, session, allow_runs, show_pii)
    app.extensions["lakeflow_local"] = pages
    app.context_processor(pages.everywhere)
    for rule, view in {
        "/": pages.home,
        "/tables": pages.tables,
        "/tables/<schema>/<name>": pages.table,
        "/sql": pages.sql,
        "/graph.css": graph_style,
    }.items():
        app.add_url_rule(rule, endpoint=view.__name__, view_func=view)
    for rule, content in {
        "/jobs/<key>": pages.job,
        "/jobs/<key>/runs/<int:run_id>": pages.run,
        "/pipelines/<key>": pages.pipeline,
        "/pipelines/<key>/updates/<update_id>": pages.update,
        "/sql/<id>": pages.query,
    }.items():
        # A page, and the part of it that the page itself asks for again while something goes on.
        for name, path in ((content.__name__, rule), (f"{content.__name__}_live", f"{rule}/live")):
            app.add_url_rule(path, endpoint=name, view_func=_rendered(f"{name}.html", content))
    app.add_url_rule("/sql", endpoint="ask", view_func=pages.ask, methods=["POST"])
    app.add_url_rule("/sql/<id>/cancel", endpoint="cancel_query", view_func=pages.cancel_query, methods=["POST"])
    for type in ("jobs", "pipelines"):
        app.add_url_rule(
            f"/{type}/<key>/start",
            endpoint=f"start_{type}",
            view_func=pages.start,
            methods=["POST"],
            defaults={"type": type},
        )
        app.add_url_rule(
            f"/{type}/<key>/cancel",
            endpoint=f"cancel_{type}",
            view_func=pages.cancel,
            methods=["POST"],
            defaults={"type": type},
        )
    app.register_error_handler(HTTPException, _fault)
    app.register_error_handler(
        LakeflowError, lambda error: (render_template("fault.html", code=500, said=str(error)), 500)
    )
    return app


def _rendered(template: str, content: Callable[..., Mapping[str, Any]]) -> Callable[..., str]:
    return lambda **given: render_template(template, **content(**given))


def _fault(error: HTTPException) -> tuple[str, int]:
    code = error.code or 500
    said = (
        "there is no such page" if code == 404 and error.description == type(error).description else error.description
    )
    if code in (400, 403):  # whoever has no access learns nothing of the project
        return f"<!doctype html><title>{code}</title><p>{Markup.escape(said)}</p>", code
    return render_template("fault.html", code=code, said=said), code


def graph_style() -> Response:
    return Response(drawing.style(), mimetype="text/css")


def look(state: str) -> str:
    return _LOOKS.get(state, "idle")


def seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f} s" if value < 60 else f"{int(value) // 60} min {int(value) % 60} s"


def moment(value: str | datetime | None) -> str:
    """A time in UTC for people, to the second."""
    if value is None:
        return ""
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


class _Pages:
    def __init__(
        self,
        project: Project,
        session: Callable[[], AbstractContextManager[SparkSession]],
        allow_runs: bool,
        show_pii: bool,
    ):
        self.project, self.allow_runs, self.show_pii = project, allow_runs, show_pii
        self.processes = Processes(project.home, project.arguments())
        self.queries = Console(session, lambda: None if show_pii else self.personal())
        self.logs = EventLogs(project.home)
        self._personal: tuple[float, personal.Personal] | None = None

    def everywhere(self) -> dict[str, Any]:
        try:
            bundle = self.project.bundle()
        except LakeflowError:  # which the page itself tells
            bundle = None
        return {"bundle": bundle, "allow_runs": self.allow_runs, "show_pii": self.show_pii}

    def personal(self) -> personal.Personal:
        """The tags of columns, read again when they are older than a moment."""
        if self._personal is None or time.monotonic() - self._personal[0] > _TAGS_SECONDS:
            bundle = self.project.bundle()
            self._personal = time.monotonic(), personal.read(bundle.root, bundle.variables)
        return self._personal[1]

    def home(self) -> str:
        bundle = self.project.bundle()
        return render_template(
            "home.html",
            groups=[
                (title, type, [self._summary(resource) for resource in bundle.of_type(type).values()])
                for title, type in (("Jobs", "jobs"), ("Pipelines", "pipelines"))
            ],
        )

    def _summary(self, resource: Resource) -> dict[str, Any]:
        return {
            "resource": resource,
            "starts": starts.of(self.project.bundle(), resource),
            "last": self.project.runs(resource.key).last(self.project.bundle().target),
        }

    def job(self, key: str) -> dict[str, Any]:
        job = self._resource("jobs", key)
        runs, process = self._last_runs(job), self._process(key)
        return {
            "job": job,
            "starts": starts.of(self.project.bundle(), job),
            "runs": runs,
            "picture": self._tasks(job, runs[0] if runs else None),
            "parameters": [
                (str(item.plain("name")), str(item.plain("default", default="")))
                for item in job.value.sequence("parameters")
            ],
            **process,
            "going": any(run.state not in ENDED for run in runs) or process["starting"],
        }

    def _last_runs(self, resource: Resource) -> list[JobRun]:
        found = []
        for run in self.project.runs(resource.key).all():
            if run.target == self.project.bundle().target:
                found.append(run)
            if len(found) == RUNS:
                break
        return found

    def _process(self, key: str) -> dict[str, Any]:
        """What was started from here: whether it goes on, and what it said where it ended badly."""
        started = self.processes.last(key)
        if started is None:
            return {"starting": False, "said": None}
        ended_badly = started.code not in (None, 0)
        return {"starting": started.going, "said": started.last_words() if ended_badly else None}

    def _tasks(self, job: Resource, run: JobRun | None) -> Markup:
        try:
            drawn = graph.graph(self.project.bundle(), job)
        except LakeflowError as error:
            return Markup("<p>{}</p>").format(error.message)
        tasks = {task.key: task for task in run.tasks} if run else {}
        nodes = []
        for node in graph.nodes(drawn):
            task = tasks.get(node.key)
            lines, classes = node.lines, ("idle",)
            if task is not None:
                took = f" in {seconds(task.seconds)}" if task.seconds is not None else ""
                lines, classes = (
                    (*lines, f"{task.state}{took}"),
                    (look(task.state) if task.state != "PENDING" else "idle",),
                )
            nodes.append(drawing.Node(node.key, lines, classes))
        return Markup(drawing.svg(f"tasks of {job.name}", nodes, drawn.edges, alone=False))

    def run(self, key: str, run_id: int) -> dict[str, Any]:
        job = self._resource("jobs", key)
        run = self.project.runs(key).get(run_id)
        if run is None:
            abort(404, f"the job {key} has no run {run_id}")
        log = self.project.runs(key).log(run_id)
        return {
            "job": job,
            "run": run,
            "picture": self._tasks(job, run),
            "log": log.read_text(encoding="utf-8", errors="replace") if log.is_file() else "",
            "going": run.state not in ENDED,
            "updates": {task.key: task.values.get("update_id") for task in run.tasks},
            "pipeline_of": self._pipeline_of(job),
        }

    def _pipeline_of(self, job: Resource) -> dict[str, str]:
        """The keys of the pipelines that the job's tasks update, by the tasks' keys."""
        found = {}
        for task in job.value.sequence("tasks"):
            pipeline = self.project.bundle().by_id("pipelines", task.plain("pipeline_task", "pipeline_id"))
            if pipeline is not None:
                found[str(task.plain("task_key"))] = pipeline.key
        return found

    def pipeline(self, key: str) -> dict[str, Any]:
        pipeline = self._resource("pipelines", key)
        spec = self.project.spec(pipeline)
        updates = self.logs.updates(spec)
        outline = self.project.outline(pipeline)
        latest = updates[0] if updates else None
        process = self._process(key)
        return {
            "pipeline": pipeline,
            "starts": starts.of(self.project.bundle(), pipeline),
            "updates": updates,
            "latest": latest,
            "outline": outline,
            "picture": self._datasets(pipeline, outline, latest),
            "progress": _progress(outline, latest),
            "going": (latest is not None and latest.going) or process["starting"],
            **process,
        }

    def _datasets(self, pipeline: Resource, outline: Outline, update: Update | None) -> Markup:
        known = {dataset["full"] for dataset in outline.datasets}
        kept = {table.full for table in tables.every(self.project.home)}
        outside = sorted({name for dataset in outline.datasets for name in dataset["inputs"] if name not in known})
        nodes = [drawing.Node(name, (name, "outside"), ("outside",), _table_link(name, kept)) for name in outside]
        for dataset in outline.datasets:
            schema, _, name = dataset["name"].rpartition(".")
            kind = dataset["kind"].replace("_", " ")
            lines, classes = [name, f"{schema} · {kind}" if schema else kind], [dataset["kind"]]
            progress = update.datasets.get(dataset["full"]) if update else None
            if progress is not None:
                failed = sum(1 for e in progress.expectations.values() if e.failed)
                rows = progress.written is not None and progress.state == "COMPLETED"
                lines.append(f"{progress.written:,} rows" if rows else progress.state)
                refused = [f"{progress.dropped:,} dropped"] if progress.dropped else []
                refused += [f"{failed} {'rule' if failed == 1 else 'rules'} failing"] if failed else []
                lines += [" · ".join(refused)] if refused else []
                classes.append("warned" if failed and look(progress.state) == "succeeded" else look(progress.state))
            nodes.append(
                drawing.Node(dataset["full"], tuple(lines), tuple(classes), _table_link(dataset["full"], kept))
            )
        edges = [(name, dataset["full"], "") for dataset in outline.datasets for name in dataset["inputs"]]
        return Markup(drawing.svg(f"datasets of {pipeline.name}", nodes, edges, alone=False))

    def update(self, key: str, update_id: str) -> dict[str, Any]:
        pipeline = self._resource("pipelines", key)
        spec = self.project.spec(pipeline)
        update = next((one for one in self.logs.updates(spec) if one.id == update_id), None)
        if update is None:
            abort(404, f"the pipeline {key} has no update {update_id} among its last ones")
        events = self.logs.events(spec, update_id)
        types, levels = ({getattr(event, name) for event in events} for name in ("type", "level"))
        type, level = request.args.get("type", ""), request.args.get("level", "")
        wanted = [e for e in events if type in ("", e.type) and level in ("", e.level)]
        outline = self.project.outline(pipeline)
        return {
            "pipeline": pipeline,
            "update": update,
            "events": wanted[:EVENTS],
            "left_out": max(0, len(wanted) - EVENTS),
            "types": sorted(types),
            "levels": sorted(levels),
            "type": type,
            "level": level,
            "picture": self._datasets(pipeline, outline, update),
            "progress": _progress(outline, update),
            "going": update.going,
        }

    def tables(self) -> str:
        schemas: dict[str, list[tables.Table]] = {}
        for table in tables.every(self.project.home):
            schemas.setdefault(table.schema, []).append(table)
        return render_template("tables.html", schemas=schemas)

    def table(self, schema: str, name: str) -> str:
        found = tables.find(self.project.home, schema, name)
        if found is None:
            abort(404, f"the local warehouse has no table {schema}.{name}")
        delta = tables.opened(found)
        columns = tables.columns(delta)
        tags = self.personal()
        hidden = set() if self.show_pii else tags.of(found.schema, found.name, columns)
        rows, fault = [], None
        try:
            rows = console.masked_rows(tables.rows(delta, f"SELECT * FROM t LIMIT {SAMPLE}"), hidden)
        except LakeflowError as error:
            fault = error.message
        return render_template(
            "table.html",
            table=found,
            comment=delta.metadata().description or "",
            columns=columns,
            personal=tags.of(found.schema, found.name, columns),
            tags={column.name: tags.tags(found.schema, found.name, column.name) for column in columns},
            rows=rows,
            hidden=hidden,
            fault=fault,
            commits=list(tables.history(delta, _COMMITS)),
        )

    def sql(self) -> str:
        return render_template("sql.html", text=request.args.get("text", ""), **self._sql())

    def _sql(self) -> dict[str, Any]:
        return {
            "limits": console.LIMITS,
            "last": self.queries.last(),
            "started": self.queries.started,
            "longest": console.SECONDS,
        }

    def ask(self) -> Response:
        text, limit = request.form.get("text", ""), request.form.get("limit", "", type=str)
        if not text.strip():
            abort(422, "write a query")
        asked = self.queries.ask(text, int(limit) if limit.isdecimal() else console.LIMITS[0])
        return redirect(url_for("query", id=asked.id), 303)

    def query(self, id: str) -> dict[str, Any]:
        asked = self._query(id)
        return {"query": asked, "text": asked.text, **self._sql()}

    def cancel_query(self, id: str) -> Response:
        self._query(id)
        self.queries.cancel(id)
        return redirect(url_for("query", id=id), 303)

    def _query(self, id: str) -> console.Query:
        asked = self.queries.get(id)
        if asked is None:
            abort(404, "this query is no longer kept; ask it again")
        return asked

    def start(self, type: str, key: str) -> Response:
        self._changing()
        resource = self._resource(type, key)
        known = {str(item.plain("name")) for item in resource.value.sequence("parameters")} if type == "jobs" else set()
        given = {name: request.form[f"parameter {name}"] for name in known if f"parameter {name}" in request.form}
        started = self.processes.last(key)
        if started is None or not started.going:
            self.processes.start(key, given)
        return redirect(url_for(type.removesuffix("s"), key=key), 303)

    def cancel(self, type: str, key: str) -> Response:
        self._changing()
        self._resource(type, key)
        self.processes.interrupt(key)
        return redirect(url_for(type.removesuffix("s"), key=key), 303)

    def _changing(self) -> None:
        if not self.allow_runs:
            abort(405, "these pages only read; start `lakeflow-local ui --allow-runs` to start runs")

    def _resource(self, type: str, key: str) -> Resource:
        resource = self.project.resource(type, key)
        if resource is None:
            abort(404, f"the bundle has no {type.removesuffix('s')} {key}")
        return resource


def _table_link(full: str, kept: Collection[str]) -> str | None:
    schema, _, name = full.rpartition(".")
    schema = schema.rpartition(".")[2]
    return url_for("table", schema=schema, name=name) if f"{schema}.{name}" in kept else None


def _progress(outline: Outline, update: Update | None) -> list[tuple[Mapping[str, Any], Any]]:
    """The datasets with what the update did to them, and what it did to others that the sources have no longer."""
    told = dict(update.datasets) if update else {}
    found = [(dataset, told.pop(dataset["full"], None)) for dataset in outline.datasets]
    return found + [
        ({"name": name, "kind": "", "full": name, "expectations": []}, p) for name, p in told.items() if name
    ]
